//! What the environment says.

use aws_credential_types::Credentials;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::store::Store;

/// Settings, complete.
pub struct Config {
    /// Before every key; ends with `/` or is empty.
    pub prefix: String,
    pub function: String,
    pub memory_mb: f64,
    summaries: String,
    contributions: String,
    region: String,
    credentials: Credentials,
    s3_endpoint: Option<String>,
    dynamodb_endpoint: Option<String>,
}

impl Config {
    /// Reads the variables.
    ///
    /// # Errors
    /// The name of the variable that is missing, and who sets it.
    pub fn from_environment() -> Result<Self, String> {
        Self::read(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let needed = |name: &str| {
            variable(name).ok_or_else(|| {
                format!("expected the variable {name}, which is not set: terraform/modules/function sets the tables, Lambda the rest")
            })
        };
        let endpoint = |name: &str| variable(name).or_else(|| variable("AWS_ENDPOINT_URL"));
        let memory = needed("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?;
        Ok(Self {
            prefix: variable("SMARTLOG_EXPORT_PREFIX").unwrap_or_default(),
            function: needed("AWS_LAMBDA_FUNCTION_NAME")?,
            memory_mb: memory.parse().map_err(|_| {
                format!("expected AWS_LAMBDA_FUNCTION_MEMORY_SIZE to be a number, found '{memory}'")
            })?,
            summaries: needed("SMARTLOG_SUMMARIES_TABLE")?,
            contributions: needed("SMARTLOG_CONTRIBUTIONS_TABLE")?,
            region: needed("AWS_REGION")?,
            credentials: Credentials::new(
                needed("AWS_ACCESS_KEY_ID")?,
                needed("AWS_SECRET_ACCESS_KEY")?,
                variable("AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
            s3_endpoint: endpoint("AWS_ENDPOINT_URL_S3"),
            dynamodb_endpoint: endpoint("AWS_ENDPOINT_URL_DYNAMODB"),
        })
    }

    /// A client of S3, or of the server that `AWS_ENDPOINT_URL_S3` names, with the bucket in the path there.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let mut config = aws_sdk_s3::Config::builder()
            .region(aws_sdk_s3::config::Region::new(self.region.clone()))
            .credentials_provider(self.credentials.clone())
            .http_client(https())
            .force_path_style(self.s3_endpoint.is_some());
        config.set_endpoint_url(self.s3_endpoint.clone());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// The tables, in DynamoDB or the server that `AWS_ENDPOINT_URL_DYNAMODB` names.
    pub fn store(&self) -> Store {
        let mut config = aws_sdk_dynamodb::Config::builder()
            .region(aws_sdk_dynamodb::config::Region::new(self.region.clone()))
            .credentials_provider(self.credentials.clone())
            .http_client(https());
        config.set_endpoint_url(self.dynamodb_endpoint.clone());
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        Store::new(client, self.summaries.clone(), self.contributions.clone())
    }
}

/// TLS by `ring`: it builds for the function's arm64 without more tools than the compiler, and starts quickly.
fn https() -> aws_sdk_s3::config::SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_is_named() {
        let error = Config::read(|name| (name != "SMARTLOG_SUMMARIES_TABLE").then(|| "1".to_owned())).err();
        let error = error.expect("refused");
        assert!(
            error.starts_with("expected the variable SMARTLOG_SUMMARIES_TABLE, which is not set"),
            "{error}"
        );
    }

    #[test]
    fn the_endpoint_of_one_service_goes_before_that_of_all() {
        let config = Config::read(|name| match name {
            "AWS_ENDPOINT_URL_S3" => Some("http://s3".to_owned()),
            "AWS_ENDPOINT_URL" => Some("http://all".to_owned()),
            "AWS_ENDPOINT_URL_DYNAMODB" => None,
            _ => Some("256".to_owned()),
        });
        let config = config.expect("complete");
        assert_eq!(config.s3_endpoint.as_deref(), Some("http://s3"));
        assert_eq!(config.dynamodb_endpoint.as_deref(), Some("http://all"));
    }
}
