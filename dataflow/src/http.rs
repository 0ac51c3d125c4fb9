//! The client for small questions over HTTP that commands ask: blocking, bounded in time, with TLS where that is built in.

use std::time::Duration;

/// A client whose every exchange ends within `patience`. It follows no redirects: what it is trusted with goes to nobody else.
pub fn agent(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("smartlog/", env!("CARGO_PKG_VERSION")));
    // The client takes neither OpenSSL nor the roots of the system unless it is told to.
    #[cfg(feature = "tls")]
    let config = config.tls_config(
        ureq::tls::TlsConfig::builder()
            .provider(ureq::tls::TlsProvider::NativeTls)
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .build(),
    );
    config.build().into()
}
