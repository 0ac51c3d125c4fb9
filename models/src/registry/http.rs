//! Requests to an MLflow server: login, patience, and errors that name the URL and the step.

use super::RegistryError;
use backon::{BlockingRetryable, ExponentialBuilder};
use base64::Engine as _;
use serde_json::Value;
use smartlog_http::agent_for;
use std::path::Path;
use std::time::Duration;
use ureq::http::{Method, Request, StatusCode};

/// A request that takes longer is given up. Uploads of some megabytes are the longest.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Tries after the first, at growing intervals from [`FIRST_PAUSE`].
const RETRIES: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// An answer is not read beyond this, bytes.
const ANSWER_MAX: u64 = 1 << 30;
/// What is shown of an answer that is no JSON, characters.
const SHOWN_MAX: usize = 200;

/// How a client says who it is.
#[derive(Clone, Default)]
pub struct Login {
    header: Option<String>,
}

impl Login {
    /// As MLflow's own client: `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and `…_PASSWORD`.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (variable("MLFLOW_TRACKING_USERNAME"), variable("MLFLOW_TRACKING_PASSWORD")) {
            (Some(user), password) => Login::basic(&user, &password.unwrap_or_default()),
            (None, _) => variable("MLFLOW_TRACKING_TOKEN").map_or_else(Login::default, |t| Login::bearer(&t)),
        }
    }

    pub fn basic(user: &str, password: &str) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Login { header: Some(format!("Basic {encoded}")) }
    }

    pub fn bearer(token: &str) -> Self {
        Login { header: Some(format!("Bearer {token}")) }
    }
}

/// A client of one server.
pub struct Client {
    agent: ureq::Agent,
    /// Without a slash at its end.
    base: String,
    login: Login,
}

/// One request.
pub struct Ask<'a> {
    pub step: &'a str,
    pub method: Method,
    /// From the server's root, with its query.
    pub path: String,
    pub body: Option<Vec<u8>>,
    pub content_type: &'static str,
    /// Asking twice does no harm.
    pub repeatable: bool,
}

/// What went wrong with one try.
enum Fault {
    /// Nobody was reached: nothing happened there.
    Unreached(String),
    /// What happened there is not known.
    Lost(String),
    /// The server is overloaded or restarting.
    Busy(StatusCode, String),
    Refused(StatusCode, Vec<u8>),
}

impl Client {
    /// `authorities`: a PEM file of who may vouch for the server, in the place of those that the system knows.
    ///
    /// # Errors
    /// https without the feature `tls`; authorities that cannot be read.
    pub fn new(url: &str, login: Login, authorities: Option<&Path>) -> Result<Self, RegistryError> {
        let base = url.trim_end_matches('/').to_owned();
        let agent = agent_for(&base, TIMEOUT, authorities).map_err(|unusable| RegistryError {
            step: "opening the MLflow server".into(),
            place: without_secrets(&base),
            found: unusable.to_string(),
            advice: unusable.advice("MLFLOW_TRACKING_SERVER_CERT_PATH"),
            away: false,
        })?;
        Ok(Client { agent, base, login })
    }

    /// The server, without what may be secret in its URL.
    pub fn place(&self) -> String {
        without_secrets(&self.base)
    }

    /// The answer's bytes; `Ok(Err(…))`: the code and message of an API error.
    pub fn ask(&self, ask: &Ask<'_>) -> Result<Result<Vec<u8>, ApiError>, RegistryError> {
        let try_once = || self.try_once(ask);
        let pauses =
            ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_times(RETRIES).with_jitter();
        let answer = try_once.retry(pauses).when(|fault| may_retry(fault, ask.repeatable)).call();
        match answer {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(Fault::Refused(status, body)) => match ApiError::read(&body) {
                Some(error) if !is_login(status) => Ok(Err(error)),
                _ => Err(self.error(ask, format!("{status} {}", shown(&body)), login_advice(status), false)),
            },
            Err(Fault::Busy(status, body)) => {
                Err(self.error(ask, format!("{status} {body}"), "the server is overloaded or broken", true))
            }
            Err(Fault::Unreached(found) | Fault::Lost(found)) => {
                let advice = "check that the MLflow server runs and can be reached; smartlog models push completes later what was kept in the folder";
                Err(self.error(ask, found, advice, true))
            }
        }
    }

    /// An error of `ask`.
    pub fn error(&self, ask: &Ask<'_>, found: String, advice: &str, away: bool) -> RegistryError {
        RegistryError {
            step: ask.step.to_owned(),
            place: format!("{} {}{}", ask.method, self.place(), ask.path),
            found,
            advice: advice.to_owned(),
            away,
        }
    }

    fn try_once(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Fault> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", self.base, ask.path))
            .header("content-type", ask.content_type);
        if let Some(login) = &self.login.header {
            request = request.header("authorization", login);
        }
        let unsendable =
            |fault: ureq::http::Error| Fault::Refused(StatusCode::BAD_REQUEST, fault.to_string().into());
        let answer = match &ask.body {
            Some(body) => self.agent.run(request.body(&body[..]).map_err(unsendable)?),
            None => self.agent.run(request.body(()).map_err(unsendable)?),
        };
        let mut answer = answer.map_err(fault_of)?;
        let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec().map_err(fault_of)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(body);
        }
        let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        Err(if busy { Fault::Busy(status, shown(&body)) } else { Fault::Refused(status, body) })
    }
}

fn without_secrets(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://{rest}"),
        None => url.to_owned(),
    }
}

fn fault_of(fault: ureq::Error) -> Fault {
    match fault {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Fault::Unreached(fault.to_string()),
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            Fault::Unreached("connection refused".into())
        }
        ureq::Error::BadUri(_) | ureq::Error::TlsRequired => {
            Fault::Refused(StatusCode::BAD_REQUEST, fault.to_string().into())
        }
        other => Fault::Lost(other.to_string()),
    }
}

/// What was not reached may be asked again; what may have happened only when that does no harm.
fn may_retry(fault: &Fault, repeatable: bool) -> bool {
    match fault {
        Fault::Unreached(_) => true,
        Fault::Busy(status, _) => {
            repeatable || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        }
        Fault::Lost(_) => repeatable,
        Fault::Refused(..) => false,
    }
}

fn is_login(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn login_advice(status: StatusCode) -> &'static str {
    if is_login(status) {
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    } else {
        "check that the URL is that of an MLflow server (version 2.9 or later)"
    }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_MAX).collect()
}

/// What MLflow says when it refuses something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub code: String,
    pub message: String,
}

impl ApiError {
    fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(ApiError { code: text("error_code")?, message: text("message").unwrap_or_default() })
    }
}

/// A value in a query or a path.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_never_shown() {
        let client =
            Client::new("http://user:secret@mlflow.example/base/", Login::default(), None).expect("a client");
        assert_eq!(client.place(), "http://mlflow.example/base");
    }

    #[test]
    fn what_may_have_happened_is_asked_again_only_when_that_does_no_harm() {
        let lost = Fault::Lost("timeout".into());
        assert!(may_retry(&lost, true) && !may_retry(&lost, false));
        assert!(may_retry(&Fault::Unreached(String::new()), false));
        assert!(!may_retry(&Fault::Busy(StatusCode::INTERNAL_SERVER_ERROR, String::new()), false));
        assert!(!may_retry(&Fault::Refused(StatusCode::NOT_FOUND, Vec::new()), true));
    }
}
