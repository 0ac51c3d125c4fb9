//! What every client of AWS here has in common: credentials by the SDK's chain (environment, profile, web identity,
//! container, instance), time limits, retries, and the workspace's one TLS.

mod survey;

pub use survey::{Expected, Finding, Verdict, survey};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use std::time::Duration;

/// The beginning of a client's configuration: it retries twice by itself and gives up on a connection that brings nothing
/// for a minute. `region`: `None`: as the environment and the profile say.
pub(crate) fn loader(region: Option<&str>) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(60));
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https)
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())),
        None => loader,
    }
}
