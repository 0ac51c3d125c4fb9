//! `[alerts]`: who is told of episodes, by webhooks.

use super::{Config, MINUTE, SECOND};
use crate::config::secret::{REDACTED, Secret};
use crate::config::units::HumanDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smartlog_schema::anomaly::Severity;
use smartlog_sinks::alerts::{AlertsConfig, HookConfig, QuietHours, Route};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Who is told of episodes, by webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Webhooks by name, and what each understands: json, slack, discord or alertmanager.
    ///
    /// Each needs an address, in `alerts.url_files` or `alerts.urls`. Only what complete windows say is told: that an
    /// episode is there, and that it is over or was disproved.
    pub hooks: BTreeMap<String, String>,
    /// Files that hold the addresses of webhooks, one each.
    ///
    /// Whoever knows the address can post, so it is a secret. Read once, at the start; a line break at its end is cut off.
    #[schemars(extend("x-form" = "NAME=FILE"))]
    pub url_files: BTreeMap<String, PathBuf>,
    /// Addresses of webhooks. Never printed; for the variable of the environment rather than for the file.
    pub urls: HookUrls,
    /// Which hooks are told of which services, as `SERVICE[:SEVERITY]=HOOK[+HOOK]`, the first that fits; none: all of everything.
    ///
    /// SERVICE may hold `*`; SEVERITY means that and above; HOOK `none` tells nobody. Such as
    /// `["noise-*=none", "pay*:high=oncall+audit", "*=audit"]`.
    pub routes: Vec<String>,
    /// Where people reach the page, for links in messages, such as `https://logs.example.org`; unset: no links.
    #[schemars(extend("x-form" = "URL"))]
    pub page_url: Option<String>,
    /// How long an alert waits for others, to become one message with them.
    #[serde(with = "HumanDuration")]
    pub group_wait: Duration,
    /// Messages that one hook is sent in a minute at most; what is more waits, and is grouped.
    pub rate_per_minute: NonZeroU32,
    /// Hours of the day in which only the severe is told, such as `22:00-07:00`; the rest waits for their end. Unset: none.
    #[schemars(extend("x-form" = "FROM-TO"))]
    pub quiet_hours: Option<String>,
    /// Time zone of the quiet hours, such as `Europe/Berlin`.
    #[schemars(extend("x-form" = "ZONE"))]
    pub quiet_zone: String,
    /// Severity that is told in quiet hours too, and above.
    pub quiet_unless: Loudness,
    /// How long a hook may take to answer.
    #[serde(with = "HumanDuration")]
    pub timeout: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts {
            hooks: BTreeMap::new(),
            url_files: BTreeMap::new(),
            urls: HookUrls::default(),
            routes: Vec::new(),
            page_url: None,
            group_wait: 5 * SECOND,
            rate_per_minute: NonZeroU32::MIN.saturating_add(19),
            quiet_hours: None,
            quiet_zone: "UTC".into(),
            quiet_unless: Loudness::Critical,
            timeout: 10 * SECOND,
        }
    }
}

/// What is told in quiet hours too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Loudness {
    Critical,
    High,
    Medium,
    Low,
}

impl Loudness {
    fn severity(self) -> Severity {
        match self {
            Loudness::Low => Severity::Low,
            Loudness::Medium => Severity::Medium,
            Loudness::High => Severity::High,
            Loudness::Critical => Severity::Critical,
        }
    }
}

/// Addresses by the hook's name; never printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookUrls(BTreeMap<String, Secret>);

impl HookUrls {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    pub fn set(&mut self, name: impl Into<String>, url: impl Into<String>) {
        self.0.insert(name.into(), Secret::new(url));
    }

    /// The hooks that have one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Serialize for HookUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.keys().map(|name| (name, REDACTED)))
    }
}

impl<'de> Deserialize<'de> for HookUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let urls = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(HookUrls(urls.into_iter().map(|(name, url)| (name, Secret::new(url))).collect()))
    }
}

impl JsonSchema for HookUrls {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HookUrls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

impl Alerts {
    /// What the sinks are handed; `None`: nobody is told. Addresses must have been read.
    ///
    /// # Errors
    /// The setting that cannot work, and why.
    pub fn config(&self) -> Result<Option<AlertsConfig>, (&'static str, String)> {
        let mut hooks = Vec::new();
        for (name, format) in &self.hooks {
            let url = self.urls.get(name).ok_or_else(|| {
                (
                    "alerts.hooks",
                    format!("`{name}` has no address: name a file that holds it in alerts.url_files"),
                )
            })?;
            let hook = HookConfig::new(name, format, url);
            hooks.push(hook.map_err(|fault| ("alerts.hooks", fault.to_string()))?);
        }
        if hooks.is_empty() {
            return Ok(None);
        }
        let route =
            |text: &String| Route::parse(text, &hooks).map_err(|fault| ("alerts.routes", fault.to_string()));
        let quiet = |hours: &String| {
            QuietHours::parse(hours, &self.quiet_zone, self.quiet_unless.severity())
                .map_err(|fault| ("alerts.quiet_hours", fault))
        };
        Ok(Some(AlertsConfig {
            routes: self.routes.iter().map(route).collect::<Result<_, _>>()?,
            quiet: self.quiet_hours.as_ref().map(quiet).transpose()?,
            hooks,
            page_url: self.page_url.clone(),
            group_wait: self.group_wait.min(10 * MINUTE),
            rate_per_minute: self.rate_per_minute.get(),
            timeout: self.timeout,
        }))
    }
}

impl Config {
    /// Whom the pipeline tells of episodes.
    ///
    /// # Errors
    /// What validation would have refused.
    pub fn alerts_config(&self) -> anyhow::Result<Option<AlertsConfig>> {
        self.alerts.config().map_err(|(key, fault)| anyhow::anyhow!("{key}: {fault}"))
    }
}
