//! Requests to the server: who we are, whom we believe, how long we wait. What goes wrong never shows a password.

use super::SearchConfig;
use crate::error::{Fault, SinkError};
use base64::Engine as _;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use smartlog_http::agent_for;
use std::path::Path;
use ureq::http::{Method, Request, StatusCode};

/// An answer is not read beyond this, bytes: one to a bulk request has some forty bytes a document.
const ANSWER_MAX: u64 = 64 << 20;
/// What is shown of an answer, characters.
const SHOWN_MAX: usize = 300;

/// What the server said.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Answer {
    /// As one line for people.
    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let words: Vec<&str> = text.split_whitespace().collect();
        let line: String = words.join(" ").chars().take(SHOWN_MAX).collect();
        format!("{} {line}", self.status).trim_end().to_owned()
    }
}

/// A client of one server. Clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    /// Without a login, and without a slash at its end. Also the name that messages show.
    base: String,
    authorization: Option<String>,
}

impl Client {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] for https without the feature `tls`, and for a login or authorities that cannot be read.
    pub fn new(config: &SearchConfig) -> Result<Self, SinkError> {
        let (base, login) = split(config.url.trim_end_matches('/'));
        let refused = |(found, advice): (String, String)| {
            let (store, doing) = (base.clone(), "prepare requests".to_owned());
            SinkError::Fatal(Fault { store, doing, found, advice })
        };
        let authorization = match &config.login_file {
            Some(file) => Some(read_login(file).map_err(refused)?),
            None => login,
        };
        let agent = agent_for(&base, config.timeout, config.authorities.as_deref())
            .map_err(|unusable| refused((unusable.to_string(), unusable.advice("search.ca_file"))))?;
        Ok(Client { agent, base, authorization })
    }

    pub fn name(&self) -> &str {
        &self.base
    }

    /// The answer, whatever its status. `path` is from the root, with its query.
    ///
    /// # Errors
    /// [`SinkError::Transient`] when there was no answer.
    pub async fn ask(
        &self,
        doing: &str,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, SinkError> {
        let (client, url) = (self.clone(), format!("{}{path}", self.base));
        let asked = tokio::task::spawn_blocking(move || client.ask_blocking(method, &url, body)).await;
        let asked = asked.unwrap_or_else(|ended| Err(format!("the attempt ended early: {ended}")));
        asked.map_err(|found| {
            let advice =
                "start it, or look at the way to it; its logs wait in Kafka, and nothing else waits for it";
            self.trouble(doing, found, advice)
        })
    }

    /// Something that waiting may mend.
    pub fn trouble(&self, doing: &str, found: String, advice: &str) -> SinkError {
        let (store, doing) = (self.base.clone(), doing.to_owned());
        SinkError::Transient(Fault { store, doing, found, advice: advice.into() })
    }

    fn ask_blocking(&self, method: Method, url: &str, body: Option<Bytes>) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(&body[..]);
                self.agent.run(request.map_err(|fault| fault.to_string())?)
            }
            None => self.agent.run(request.body(()).map_err(|fault| fault.to_string())?),
        };
        let mut answer = answer.map_err(|fault| fault.to_string())?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        Ok(Answer { status, body: body.map_err(|fault| fault.to_string())? })
    }
}

/// A URL without its login, and that as the value of a header.
fn split(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let Some((login, host)) = rest.rsplit_once('@') else { return (url.to_owned(), None) };
    let decoded = percent_decode_str(login).decode_utf8_lossy();
    (format!("{scheme}://{host}"), Some(basic(&decoded)))
}

fn basic(login: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// `USER:PASSWORD`, or what stands behind `Authorization:`, which has a space behind its first word. `Err`: what was found,
/// what to do.
fn read_login(file: &Path) -> Result<String, (String, String)> {
    let refused = |found: &dyn std::fmt::Display| {
        let advice = "let search.login_file name a file that holds USER:PASSWORD, or a header's value such as `ApiKey …`";
        (format!("{}: {found}", file.display()), advice.to_owned())
    };
    let text = std::fs::read_to_string(file).map_err(|fault| refused(&fault))?;
    let login = text.trim_end_matches(['\r', '\n']);
    let is_header = ["ApiKey ", "Bearer ", "Basic "].iter().any(|scheme| login.starts_with(scheme));
    match (is_header, login.contains(':')) {
        (true, _) => Ok(login.to_owned()),
        (false, true) => Ok(basic(login)),
        (false, false) => Err(refused(&"neither of both is in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_login_in_the_url_becomes_a_header_and_is_never_shown() {
        let (base, login) = split("https://Aladdin:open%20sesame@search.example:9200/base");
        assert_eq!(base, "https://search.example:9200/base");
        assert_eq!(login.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(split("http://h:1"), ("http://h:1".into(), None));
    }

    #[test]
    fn a_login_file_holds_a_password_or_a_header() {
        let login = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            read_login(file.path())
        };
        assert_eq!(login("Aladdin:open sesame\n"), Ok("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into()));
        assert_eq!(login("ApiKey abc==\r\n"), Ok("ApiKey abc==".into()));
        let (found, advice) = login("s3cr3tcanary").expect_err("neither");
        assert!(!found.contains("canary") && advice.contains("search.login_file"), "{found}; {advice}");
        let (found, _) = read_login(Path::new("/no/such/file")).expect_err("no file");
        assert!(found.contains("/no/such/file"), "{found}");
    }
}
