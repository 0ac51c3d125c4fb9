//! The client, and what its errors mean.

use crate::error::{Fault, SinkError};
use crate::parquet::config::{ExportConfig, Precondition};
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// A client of the service that `config` names.
pub(super) async fn client(config: &ExportConfig) -> Client {
    s3_client(config, &crate::aws::loader(config.s3.region.as_deref()).load().await)
}

/// As [`client`], on top of what several clients share.
pub(crate) fn s3_client(config: &ExportConfig, shared: &SdkConfig) -> Client {
    let mut settings = aws_sdk_s3::config::Builder::from(shared).force_path_style(config.s3.path_style);
    if let Some(endpoint) = &config.s3.endpoint {
        settings = settings.endpoint_url(endpoint);
    }
    if config.s3.precondition == Precondition::Gcs {
        settings = settings
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Client::from_conf(settings.build())
}

/// Sorts an error by who must act. `worked`: a request went through before, so that a refusal may pass.
pub(super) fn failed<E>(url: &str, worked: bool, doing: &str, error: &SdkError<E>) -> SinkError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (code, status) = (error.code().unwrap_or_default(), status(error));
    let found = match error {
        SdkError::ServiceError(_) => {
            format!("{} {code}: {}", status.unwrap_or_default(), error.message().unwrap_or("no reason given"))
        }
        error => DisplayErrorContext(error).to_string(),
    };
    let fault = |advice: &str| Fault {
        store: url.to_owned(),
        doing: doing.to_owned(),
        found: found.trim_end().to_owned(),
        advice: advice.to_owned(),
    };
    let (refused, advice) = match (code, status) {
        ("NoSuchBucket", _) => (true, "make the bucket, or name another in export.target"),
        (_, Some(301 | 307)) => (true, "set export.s3_region to the bucket's region"),
        (_, Some(401 | 403)) => {
            (true, "check the credentials and what they allow: smartlog doctor tells more")
        }
        (_, Some(400 | 404 | 405 | 501)) => {
            (true, "check export.target, export.s3_endpoint and export.s3_region")
        }
        _ => (
            matches!(error, SdkError::ConstructionFailure(_)),
            "look at the network and the service; trying again",
        ),
    };
    if refused && !worked {
        return SinkError::Fatal(fault(advice));
    }
    SinkError::Transient(fault(advice))
}

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
