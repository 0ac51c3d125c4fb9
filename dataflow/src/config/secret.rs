//! Values that must never be printed, and the rule by which they are known.

use std::fmt;

/// What is printed in place of a secret.
pub const REDACTED: &str = "***";

/// A value that `Debug` and logs never show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself. Hand it to the client that needs it, never to a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Whether the librdkafka property `name` holds a secret.
pub fn is_secret_property(name: &str) -> bool {
    const MARKS: [&str; 7] =
        ["password", "secret", "key.pem", "passphrase", "private.key", "credential", "oauthbearer.config"];
    MARKS.iter().any(|mark| name.contains(mark)) && !name.ends_with(".location") && !name.ends_with(".file")
}

/// `url` without the password that it may carry, in its authority or its query.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    // The last `@`: a password that was not percent-encoded may hold `@`, `/` or `?` itself.
    let (user, tail) = match rest.rsplit_once('@') {
        Some((user, tail)) => (format!("{}@", redact_user(user)), tail),
        None => (String::new(), rest),
    };
    match tail.split_once('?') {
        Some((host, query)) => format!("{scheme}://{user}{host}?{}", redact_query(query)),
        None => format!("{scheme}://{user}{tail}"),
    }
}

fn redact_user(user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{REDACTED}"),
        None => user.to_string(),
    }
}

fn redact_query(query: &str) -> String {
    let redact = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}={REDACTED}"),
        _ => pair.to_string(),
    };
    query.split('&').map(redact).collect::<Vec<_>>().join("&")
}
