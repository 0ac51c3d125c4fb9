//! `[redis]`: what is shared between processes, where there is a Redis.

use super::login_url::{Kind, LoginUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_sinks::RedisConfig;
use std::num::NonZeroU32;

/// Where Redis is; shown without the password that it may hold.
pub type RedisUrl = LoginUrl<OfRedis>;

/// Redis without TLS.
#[derive(Debug)]
pub struct OfRedis;

impl Kind for OfRedis {
    const NAME: &'static str = "RedisUrl";

    fn check(text: &str) -> Result<(), String> {
        match text.split_once("://") {
            Some(("redis" | "redis+unix", rest)) if !rest.is_empty() => Ok(()),
            Some(("rediss", _)) => Err("TLS towards Redis is not built in: go through a tunnel to \
                                        redis://127.0.0.1:PORT"
                .to_owned()),
            _ => Err("expected redis://USER:PASSWORD@HOST:PORT/DATABASE, found something else".to_owned()),
        }
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
