//! `[redis]`: what is shared between processes, where there is a Redis.

use crate::config::secret::redact_url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smartlog_sinks::RedisConfig;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Where Redis is; shown without the password that it may hold.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL to connect by. Never to be printed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("redis" | "redis+unix", rest)) if !rest.is_empty() => Ok(RedisUrl(text.to_owned())),
            Some(("rediss", _)) => Err("TLS towards Redis is not built in: go through a tunnel to \
                                        redis://127.0.0.1:PORT"
                .to_owned()),
            _ => Err("expected redis://USER:PASSWORD@HOST:PORT/DATABASE, found something else".to_owned()),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for RedisUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RedisUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What processes share, where there is a Redis: nothing rests on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// redis://HOST:PORT, which several API processes read changes from and share rate limits in; unset: the store alone.
    ///
    /// `smartlog run` publishes to it, `smartlog api` reads it. When it is away, both go on without it.
    #[schemars(extend("x-form" = "URL"))]
    pub url: Option<RedisUrl>,
    /// What the names of all its keys begin with.
    pub prefix: String,
    /// Changes of anomalies that it keeps; older ones are read from the store.
    pub max_events: NonZeroU32,
}

impl Default for Redis {
    fn default() -> Self {
        Redis { url: None, prefix: "smartlog".into(), max_events: NonZeroU32::MIN.saturating_add(999) }
    }
}

impl Redis {
    /// What publishes is handed; `None` without a Redis.
    pub fn sink_config(&self) -> Option<RedisConfig> {
        let url = self.url.as_ref()?.expose().to_owned();
        Some(RedisConfig { url, prefix: self.prefix.clone(), max_events: self.max_events.get() })
    }
}
