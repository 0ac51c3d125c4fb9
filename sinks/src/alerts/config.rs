//! Whom to tell, and how often.

use super::formats::{FORMATS, Format};
use super::policy::QuietHours;
use smartlog_schema::anomaly::Severity;
use std::fmt;
use std::time::Duration;

/// A URL that holds a secret: whoever knows it can post.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(String);

impl HookUrl {
    /// For the request alone.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One webhook.
#[derive(Debug, Clone)]
pub struct HookConfig {
    /// What it is called in settings, logs and metrics.
    pub name: String,
    pub format: &'static Format,
    pub url: HookUrl,
}

impl HookConfig {
    /// # Errors
    /// When the name is no word, the format is not known, or the URL is none.
    pub fn new(name: &str, format: &str, url: &str) -> Result<Self, InvalidAlerts> {
        // It becomes part of a header and of labels.
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_word) {
            let message =
                format!("`{name}` is no name for a hook: letters, digits, `-`, `_` and `.` make one");
            return Err(InvalidAlerts(message));
        }
        let known = FORMATS.iter().find(|known| known.name == format);
        let format = known.ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
            InvalidAlerts(format!("the hook `{name}` is to speak `{format}`; there are {}", names.join(", ")))
        })?;
        // The URL is a secret: what is wrong with it is told without it.
        let is_url = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if is_url.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
            return Err(InvalidAlerts(format!(
                "the URL of the hook `{name}` is none: it begins with https://"
            )));
        }
        if url.starts_with("https://") && cfg!(not(feature = "tls")) {
            let message =
                format!("the URL of the hook `{name}` is https, which is in builds with --features tls");
            return Err(InvalidAlerts(message));
        }
        Ok(HookConfig { name: name.to_owned(), format, url: HookUrl(url.trim_end_matches('/').to_owned()) })
    }
}

/// Which hooks are told of which episodes: `SERVICE[:SEVERITY]=HOOK[+HOOK]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// With `*` for any characters; `*` alone is every service, and the stream as a whole.
    service: String,
    /// And above.
    severity: Severity,
    /// None: told to nobody.
    hooks: Vec<String>,
}

impl Route {
    /// # Errors
    /// When it is no route, or names a hook that is not among `hooks`.
    pub fn parse(text: &str, hooks: &[HookConfig]) -> Result<Self, InvalidAlerts> {
        let fault = |found: String| InvalidAlerts(format!("`{text}`: {found}"));
        let (who, told) =
            text.split_once('=').ok_or_else(|| fault("expected SERVICE[:SEVERITY]=HOOK".into()))?;
        let (service, severity) = who.rsplit_once(':').unwrap_or((who, "low"));
        let severity = Severity::parse(severity.trim())
            .ok_or_else(|| fault(format!("`{severity}` is no severity: low, medium, high or critical")))?;
        let names: Vec<String> = told.split('+').map(|name| name.trim().to_owned()).collect();
        let names = if names == ["none"] { Vec::new() } else { names };
        if let Some(unknown) = names.iter().find(|name| hooks.iter().all(|hook| hook.name != **name)) {
            return Err(fault(format!("there is no hook `{unknown}` in alerts.hooks")));
        }
        if service.trim().is_empty() {
            return Err(fault("the service is missing; * is every one".into()));
        }
        Ok(Route { service: service.trim().to_owned(), severity, hooks: names })
    }

    fn covers(&self, service: Option<&str>, severity: Severity) -> bool {
        severity >= self.severity && matches(&self.service, service.unwrap_or_default())
    }
}

/// Whether `text` is what `pattern` says, `*` standing for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// All of it.
#[derive(Debug, Clone)]
pub struct AlertsConfig {
    pub hooks: Vec<HookConfig>,
    /// The first that covers an episode counts; none at all: every hook is told of everything.
    pub routes: Vec<Route>,
    /// Where the page is, for links.
    pub page_url: Option<String>,
    /// How long an alert waits for others, to become one message with them.
    pub group_wait: Duration,
    /// Messages that one hook is sent in a minute at most.
    pub rate_per_minute: u32,
    pub quiet: Option<QuietHours>,
    /// How long a hook may take to answer.
    pub timeout: Duration,
}

impl AlertsConfig {
    /// The hooks that are told of an episode.
    pub(super) fn told(&self, service: Option<&str>, severity: Severity) -> Vec<&HookConfig> {
        let route = self.routes.iter().find(|route| route.covers(service, severity));
        let is_told = |hook: &&HookConfig| match route {
            Some(route) => route.hooks.contains(&hook.name),
            None => self.routes.is_empty(),
        };
        self.hooks.iter().filter(is_told).collect()
    }
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAlerts(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(routes: &[&str]) -> AlertsConfig {
        let hooks: Vec<HookConfig> = ["oncall", "audit"]
            .iter()
            .map(|name| HookConfig::new(name, "json", "http://h/s3cr3t-canary").expect("a hook"))
            .collect();
        AlertsConfig {
            routes: routes.iter().map(|route| Route::parse(route, &hooks).expect("a route")).collect(),
            hooks,
            page_url: None,
            group_wait: Duration::ZERO,
            rate_per_minute: 20,
            quiet: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn told(config: &AlertsConfig, service: Option<&str>, severity: Severity) -> Vec<String> {
        config.told(service, severity).into_iter().map(|hook| hook.name.clone()).collect()
    }

    #[test]
    fn the_first_route_that_covers_counts() {
        let routes = config(&["noise-*=none", "pay*:high=oncall+audit", "*:medium=audit"]);
        assert_eq!(told(&routes, Some("payment"), Severity::Critical), ["oncall", "audit"]);
        assert_eq!(told(&routes, Some("payment"), Severity::Medium), ["audit"]);
        assert_eq!(told(&routes, Some("search"), Severity::Low), [""; 0]);
        assert_eq!(told(&routes, Some("noise-maker"), Severity::Critical), [""; 0]);
        assert_eq!(told(&routes, None, Severity::High), ["audit"], "the whole stream");
        assert_eq!(told(&config(&[]), None, Severity::Low), ["oncall", "audit"], "no routes: all");
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text) in
            [("*", ""), ("*", "a"), ("a*", "a"), ("*b", "ab"), ("a*c*e", "abcde"), ("a", "a"), ("**", "x")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", ""), ("a", "ab"), ("a*", "ba"), ("*b", "ba"), ("a*a", "a"), ("a*c*e", "aec")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_refused_says_why_and_never_shows_a_url() {
        let hooks = config(&[]).hooks;
        assert!(!format!("{hooks:?}").contains("canary"));
        for (route, words) in [
            ("payment", "expected SERVICE"),
            ("payment:loud=oncall", "no severity"),
            ("payment=nobody", "no hook `nobody`"),
            ("=oncall", "the service is missing"),
        ] {
            let refused = Route::parse(route, &hooks).expect_err(route).to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let refused = HookConfig::new("a", "pager", "http://h/").expect_err("no such format").to_string();
        assert!(refused.contains("slack") && refused.contains("alertmanager"), "{refused}");
        for name in ["", "on call", "ü", "a\nb"] {
            let refused = HookConfig::new(name, "json", "http://h/").expect_err(name).to_string();
            assert!(refused.contains("no name for a hook"), "{refused}");
        }
        let refused = HookConfig::new("a", "json", "canary").expect_err("no URL").to_string();
        assert!(!refused.contains("canary"), "{refused}");
    }
}
