//! `[store]`: where results are kept.

use super::{Config, MINUTE};
use crate::config::secret::{Secret, redact_url};
use crate::config::units::HumanDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smartlog_sinks::StoreConfig;
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The state store that [`Store::url`] names.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Nothing is kept: a restart begins anew.
    None,
    /// A file on this host.
    Sqlite(PathBuf),
    /// The URL as it was given, which may hold a password.
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(StoreUrl::None);
        }
        if let Some(path) = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path))
            && !path.is_empty()
        {
            return Ok(StoreUrl::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(StoreUrl::Postgres(text.into()));
        }
        // The text may hold a password: tell only what stands before its first colon.
        let found = match text.split_once(':') {
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                format!("`{scheme}:...`")
            }
            _ => "something else".to_string(),
        };
        Err(format!("expected postgres://USER@HOST/DATABASE, sqlite:FILE or none, found {found}"))
    }
}

impl fmt::Display for StoreUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::None => f.write_str("none"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Postgres(url) => f.write_str(&redact_url(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for StoreUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StoreUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-form": "URL" })
    }
}

/// Where results are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// postgres://USER@HOST/DATABASE, sqlite:FILE, or none.
    ///
    /// With `none` nothing survives a restart. SQLite serves one process on a local disk; a network file system
    /// breaks its locks. Keep the password out of the URL: see `store.password_file`.
    #[schemars(extend("x-flag" = "store"))]
    pub url: StoreUrl,
    /// Name of this pipeline, under which its lease is taken and its state stored.
    ///
    /// A store serves one pipeline: a set with another name is refused, one with the same waits for the first to end.
    /// In PostgreSQL a schema of its own makes room for another (`?options=-csearch_path%3DNAME`).
    pub pipeline: String,
    /// Keep every log in the table `logs`.
    ///
    /// Off: windows, episodes and dead letters only. The logs of the time it was off are not filled in later.
    pub raw_logs: bool,
    /// File with the password for PostgreSQL.
    ///
    /// Read once, at the start; a line break at the end of the file is cut off.
    #[schemars(extend("x-form" = "FILE"))]
    pub password_file: Option<PathBuf>,
    /// After this long without an answer an attempt is given up and made anew on a new connection.
    #[serde(with = "HumanDuration")]
    pub attempt_timeout: Duration,
    /// What `password_file` holds, once loaded.
    #[serde(skip)]
    pub password: Option<Secret>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            url: StoreUrl::Sqlite("smartlog.db".into()),
            pipeline: "default".into(),
            raw_logs: true,
            password_file: None,
            attempt_timeout: MINUTE,
            password: None,
        }
    }
}

impl Store {
    /// The URL to connect by, the password in it; `None` for no store. Never to be printed.
    pub fn connect_url(&self) -> Option<Secret> {
        match (&self.url, &self.password) {
            (StoreUrl::None, _) => None,
            (StoreUrl::Sqlite(path), _) => Some(Secret::new(format!("sqlite:{}", path.display()))),
            (StoreUrl::Postgres(url), None) => Some(Secret::new(url)),
            (StoreUrl::Postgres(url), Some(password)) => {
                let mark = if url.contains('?') { '&' } else { '?' };
                Some(Secret::new(format!("{url}{mark}password={}", percent_encode(password.expose()))))
            }
        }
    }
}

impl Config {
    /// What the sinks are handed; `None` for no store.
    pub fn store_config(&self) -> Option<StoreConfig> {
        Some(StoreConfig {
            url: self.store.connect_url()?.expose().into(),
            pipeline: self.store.pipeline.clone(),
            retention: self.time.retention,
            max_lateness: self.time.max_lateness,
            attempt_timeout: self.store.attempt_timeout,
        })
    }
}

/// So that no byte of a password means anything in a URL.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}
