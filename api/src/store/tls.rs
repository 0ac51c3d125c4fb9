//! TLS towards PostgreSQL by OpenSSL.

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use smartlog_schema::ssl::SslOptions;

/// # Errors
/// When the certificates named by `sslrootcert` cannot be read.
pub fn connector(ssl: &SslOptions) -> Result<MakeTlsConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    builder.set_verify(if ssl.verifies_authority() { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    if let Some(authorities) = &ssl.root_cert {
        builder.set_ca_file(authorities)?;
    }
    let verifies_host = ssl.verifies_host();
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |session, _| {
        session.set_verify_hostname(verifies_host);
        Ok(())
    });
    Ok(connector)
}
