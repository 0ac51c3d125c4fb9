//! One attempt at one request. What it says of a failure never shows the URL, which is a secret.

use super::formats::Request;
use super::policy::retry_after;
use jiff::Timestamp;
use smartlog_http::agent;
use std::time::Duration;

/// An answer is not read beyond this, bytes.
const ANSWER_MAX: u64 = 64 << 10;
/// What is shown of an answer, characters.
const SHOWN_MAX: usize = 200;
/// Parts of a URL that are shorter than this are no secrets.
const SECRET_MIN: usize = 6;
/// `Retry-After` beyond this is not believed.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Taken { answer: String },
    /// It will never be taken as it is.
    Refused(String),
    /// To be tried again: when the receiver says, or by and by.
    Later { wait: Option<Duration>, found: String },
}

/// Sends `request`, which every attempt at the same message names by `key`.
pub(super) async fn post(request: Request, key: &str, timeout: Duration) -> Outcome {
    let key = key.to_owned();
    let sent = tokio::task::spawn_blocking(move || attempt(&request, &key, timeout));
    sent.await.unwrap_or_else(|_| Outcome::Later { wait: None, found: "the attempt ended early".into() })
}

fn attempt(request: &Request, key: &str, timeout: Duration) -> Outcome {
    let built = ureq::http::Request::builder()
        .method(request.method)
        .uri(&request.url)
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(request.body.to_string());
    let Ok(built) = built else { return Outcome::Refused("its URL cannot be read".into()) };
    match agent(timeout).run(built) {
        Ok(mut answer) => {
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let wait = header.and_then(|value| retry_after(value, Timestamp::now())).map(|w| w.min(PATIENCE));
            let status = answer.status().as_u16();
            // The status tells what became of it; the text is for people.
            let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().unwrap_or_default();
            judge(status, text, wait, &request.url)
        }
        Err(fault) => Outcome::Later { wait: None, found: in_words(&fault, timeout) },
    }
}

fn judge(status: u16, answer: String, wait: Option<Duration>, url: &str) -> Outcome {
    let found = format!("{status} {}", shown(&answer, url)).trim_end().to_owned();
    match status {
        200..=299 => Outcome::Taken { answer },
        // The message itself is not understood: saying it again will not help.
        400 | 413 | 415 | 422 => Outcome::Refused(found),
        // Overload, faults, and hooks that are gone or not allowed, which somebody can mend meanwhile.
        _ => Outcome::Later { wait, found },
    }
}

/// `answer` on one line, without what stands in the URL.
fn shown(answer: &str, url: &str) -> String {
    let line: Vec<&str> = answer.split_whitespace().collect();
    let mut line = line.join(" ");
    for part in url.split(['/', '?', '&', '=', ':', '@']).filter(|part| part.len() >= SECRET_MIN) {
        line = line.replace(part, "***");
    }
    line.chars().take(SHOWN_MAX).collect()
}

fn in_words(fault: &ureq::Error, timeout: Duration) -> String {
    match fault {
        ureq::Error::Timeout(_) => format!("no answer within {timeout:?}"),
        ureq::Error::HostNotFound => "its host is not known".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::Io(io) => io.to_string(),
        ureq::Error::Tls(text) => format!("TLS: {text}"),
        // The others may quote the URL.
        _ => "the request failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_says_is_shown_without_the_secrets_of_the_url() {
        let url = "https://hooks.example/services/T0001/B0002/s3cr3tcanary?token=othercanary";
        let answer = "Cannot POST\n /services/T0001/B0002/s3cr3tcanary (othercanary)";
        let Outcome::Later { found, .. } = judge(404, answer.into(), None, url) else { panic!("not later") };
        assert!(found.starts_with("404 Cannot POST") && !found.contains("canary"), "{found}");
    }

    #[test]
    fn only_what_cannot_be_understood_is_given_up() {
        for status in [400, 413, 422] {
            assert!(matches!(judge(status, String::new(), None, ""), Outcome::Refused(_)), "{status}");
        }
        for status in [301, 401, 403, 404, 408, 410, 429, 500, 502, 503] {
            assert!(matches!(judge(status, String::new(), None, ""), Outcome::Later { .. }), "{status}");
        }
        assert_eq!(judge(204, "a".into(), None, ""), Outcome::Taken { answer: "a".into() });
    }
}
