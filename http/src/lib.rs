//! The blocking HTTP client of what asks a server now and then.
//!
//! ```text
//!   models (MLflow)   sinks (webhooks, a search index)   dataflow (top, traces)
//!          └─────────────────────┬─────────────────────────────┘
//!                       agent, agent_for ─▶ ureq ─▶ OpenSSL (feature `tls`)
//! ```
//!
//! One place says what holds for all of them: an exchange ends in time, no redirect is followed, for what a server is trusted with
//! goes to nobody else, and whatever the status is, the caller judges it. Of TLS the client takes neither OpenSSL nor the roots of
//! the system unless it is told to.

use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// A server that does not take a connection for this long is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("this program was built without TLS")]
    WithoutTls,
    #[error("{}: {found}", file.display())]
    Authorities { file: PathBuf, found: String },
}

impl Unusable {
    /// What to do; `setting` names the file of the authorities.
    pub fn advice(&self, setting: &str) -> String {
        match self {
            Unusable::WithoutTls => "build it with --features tls, or use an http:// URL".into(),
            Unusable::Authorities { .. } => {
                format!("let {setting} name a PEM file of certificate authorities")
            }
        }
    }
}

/// A client whose every exchange ends within `patience`, and which believes whom the system believes.
pub fn agent(patience: Duration) -> Agent {
    let config = config(patience);
    #[cfg(feature = "tls")]
    let config = config.tls_config(tls::by_openssl(ureq::tls::RootCerts::PlatformVerifier));
    config.build().into()
}

/// A client of the server at `url`. `authorities`: a PEM file of who may vouch for it, in the place of those that the system
/// knows.
///
/// # Errors
/// https without the feature `tls`; authorities that cannot be read. Both only for an https server.
pub fn agent_for(url: &str, patience: Duration, authorities: Option<&Path>) -> Result<Agent, Unusable> {
    let config = config(patience).timeout_connect(Some(CONNECT_TIMEOUT.min(patience)));
    let config = match url.starts_with("https://") {
        true => tls::believing(config, authorities)?,
        false => config,
    };
    Ok(config.build().into())
}

type Builder = ConfigBuilder<AgentScope>;

fn config(patience: Duration) -> Builder {
    Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("smartlog/", env!("CARGO_PKG_VERSION")))
}

#[cfg(feature = "tls")]
mod tls {
    use super::{Builder, Unusable};
    use openssl::error::ErrorStack;
    use openssl::x509::X509;
    use std::path::Path;
    use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

    pub fn by_openssl(roots: RootCerts) -> TlsConfig {
        TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build()
    }

    pub fn believing(config: Builder, authorities: Option<&Path>) -> Result<Builder, Unusable> {
        Ok(config.tls_config(of(authorities)?))
    }

    fn of(authorities: Option<&Path>) -> Result<TlsConfig, Unusable> {
        let Some(file) = authorities else { return Ok(by_openssl(RootCerts::PlatformVerifier)) };
        let unread = |found: String| Unusable::Authorities { file: file.to_owned(), found };
        let text = std::fs::read(file).map_err(|fault| unread(fault.to_string()))?;
        let read = certificates(&text).map_err(|fault| unread(fault.to_string()))?;
        if read.is_empty() {
            return Err(unread("expected certificates, found none".into()));
        }
        Ok(by_openssl(read.into()))
    }

    fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, ErrorStack> {
        let read = X509::stack_from_pem(pem)?;
        read.iter().map(|one| Ok(Certificate::from_der(&one.to_der()?).to_owned())).collect()
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    use super::{Builder, Unusable};
    use std::path::Path;

    pub fn believing(_: Builder, _: Option<&Path>) -> Result<Builder, Unusable> {
        Err(Unusable::WithoutTls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Answers one request, and gives what was asked.
    fn answering(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
            while !asked.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut buffer).expect("a request");
                asked.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).expect("it listens");
            String::from_utf8(asked).expect("text")
        });
        (url, served)
    }

    #[test]
    fn a_redirect_is_an_answer_like_any_other_and_followed_by_none() {
        for agent in [Ok(agent(PATIENCE)), agent_for("http://127.0.0.1", PATIENCE, None)] {
            let (url, served) = answering(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            );
            let answer = agent.expect("a client").get(&url).call().expect("an answer, not an error");
            assert_eq!(answer.status(), 307);
            let asked = served.join().expect("it answered").to_lowercase();
            assert!(asked.contains("user-agent: smartlog/"), "{asked}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn authorities_that_cannot_be_read_are_named_with_what_to_do() {
        let refused = |file: &Path| {
            agent_for("https://localhost", PATIENCE, Some(file)).expect_err("no authorities are there")
        };
        let missing = refused(Path::new("/no/such/file"));
        assert!(missing.to_string().starts_with("/no/such/file: "), "{missing}");
        assert_eq!(
            missing.advice("search.ca_file"),
            "let search.ca_file name a PEM file of certificate authorities"
        );
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"no certificate").expect("written");
        assert!(refused(file.path()).to_string().ends_with("expected certificates, found none"));
        // Who speaks http needs none of it.
        assert!(agent_for("http://localhost", PATIENCE, Some(file.path())).is_ok());
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_is_refused_where_it_was_not_built() {
        let refused = agent_for("https://localhost", PATIENCE, None).expect_err("it cannot be had");
        assert_eq!(refused, Unusable::WithoutTls);
    }
}
