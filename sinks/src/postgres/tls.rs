//! TLS by OpenSSL, with libpq's meaning of `sslmode`.

use crate::config::PostgresUrl;
use crate::error::{Fault, SinkError};
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;

/// # Errors
/// [`SinkError::Fatal`] when the certificates named by `sslrootcert` cannot be read.
pub(crate) fn connector(url: &PostgresUrl) -> Result<MakeTlsConnector, SinkError> {
    build(url).map_err(|error| {
        SinkError::Fatal(Fault {
            store: url.name.clone(),
            doing: "prepare TLS".into(),
            found: error.to_string(),
            advice: "name a readable PEM file of certificate authorities in the URL's sslrootcert".into(),
        })
    })
}

fn build(url: &PostgresUrl) -> Result<MakeTlsConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    if let Some(file) = &url.ssl.root_cert {
        builder.set_ca_file(file)?;
    }
    let verifies = url.ssl.verifies_authority();
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    let mut connector = MakeTlsConnector::new(builder.build());
    let verifies_host = url.ssl.verifies_host();
    connector.set_callback(move |config, _| {
        config.set_verify_hostname(verifies_host);
        Ok(())
    });
    Ok(connector)
}
