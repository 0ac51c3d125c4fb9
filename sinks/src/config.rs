//! What can be set, and which store a URL means.

use crate::error::{Fault, SinkError};
use serde::Deserialize;
use smartlog_schema::ssl::{SslMode, SslOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Where the results go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS` or `sqlite:FILE`.
    pub url: String,
    /// Name of the pipeline: only one set of processes of that name runs on a store at a time, and a store serves
    /// one pipeline.
    #[serde(default = "default_pipeline")]
    pub pipeline: String,
    /// How long logs are kept, by event time.
    #[serde(
        default = "default_retention",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    pub retention: Duration,
    /// How long after its end a closed episode can still be changed by late logs, hence must be in the snapshot.
    #[serde(
        default = "default_max_lateness",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    pub max_lateness: Duration,
    /// After this long without an answer an attempt is given up and made anew on a new connection.
    #[serde(
        default = "default_attempt_timeout",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    pub attempt_timeout: Duration,
}

fn default_pipeline() -> String {
    "smartlog".into()
}

const fn default_retention() -> Duration {
    Duration::from_secs(30 * DAY.as_secs())
}

const fn default_max_lateness() -> Duration {
    Duration::from_secs(600)
}

const fn default_attempt_timeout() -> Duration {
    Duration::from_secs(60)
}

impl StoreConfig {
    /// The defaults for the store at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        StoreConfig {
            url: url.into(),
            pipeline: default_pipeline(),
            retention: default_retention(),
            max_lateness: default_max_lateness(),
            attempt_timeout: default_attempt_timeout(),
        }
    }
}

/// Which store a URL means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Postgres(Box<PostgresUrl>),
    Sqlite(PathBuf),
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, SinkError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Target::Postgres(Box::new(PostgresUrl::parse(url)?))),
            Some(("sqlite", file)) if !file.is_empty() => {
                Ok(Target::Sqlite(PathBuf::from(file.strip_prefix("//").unwrap_or(file))))
            }
            // The text may hold a password: name only what comes before its first colon.
            _ => Err(bad_url(&scheme_of(url), "its kind is not known")),
        }
    }
}

/// The name under which messages show a SQLite file.
pub(crate) fn sqlite_name(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

fn scheme_of(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => format!("{scheme}:…"),
        _ => "store".into(),
    }
}

fn bad_url(store: &str, found: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: store.into(),
        doing: "read the store's URL".into(),
        found: found.into(),
        advice: "write postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:FILE".into(),
    })
}

/// A PostgreSQL URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PostgresUrl {
    pub config: tokio_postgres::Config,
    pub ssl: SslOptions,
    /// Without secrets.
    pub name: String,
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl PostgresUrl {
    fn parse(url: &str) -> Result<Self, SinkError> {
        const HIDDEN: &str = "postgres://… (not shown: it may hold a password)";
        let (plain, ssl) = SslOptions::take(url).map_err(|found| bad_url(HIDDEN, found))?;
        let mut config: tokio_postgres::Config = plain.parse().map_err(|_| {
            bad_url(HIDDEN, "the driver cannot read it (a reserved character must be %-encoded)")
        })?;
        if config.get_hosts().is_empty() {
            return Err(bad_url(HIDDEN, "it names no host"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(bad_url(HIDDEN, "it names no user"));
        }
        set_timeouts(&mut config);
        config.ssl_mode(match ssl.mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                tokio_postgres::config::SslMode::Require
            }
        });
        let name = name_of(&config);
        Ok(PostgresUrl { config, ssl, name })
    }
}

/// A server that is gone must be noticed within seconds, also when nothing tells us so.
fn set_timeouts(config: &mut tokio_postgres::Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    config
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(20));
    if config.get_application_name().is_none() {
        config.application_name("smartlog");
    }
}

fn name_of(config: &tokio_postgres::Config) -> String {
    let host = |host: &tokio_postgres::config::Host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<String> =
        config.get_hosts().iter().enumerate().map(|(at, h)| format!("{}:{}", host(h), port(at))).collect();
    let user = config.get_user().unwrap_or_default();
    format!("postgres://{user}@{}/{}", hosts.join(","), config.get_dbname().unwrap_or(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "s3cr3t-canary";

    fn postgres(url: &str) -> PostgresUrl {
        match Target::parse(url) {
            Ok(Target::Postgres(url)) => *url,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_names_its_store_without_the_password() {
        let url = postgres(&format!("postgres://me:{CANARY}@db.example:6543/logs?application_name=x"));
        assert_eq!(url.name, "postgres://me@db.example:6543/logs");
        assert_eq!(format!("{url:?}"), url.name);
        let url = postgres(&format!("postgresql://me@h1,h2:7000/logs?password={CANARY}"));
        assert!(!url.name.contains(CANARY), "{}", url.name);
    }

    #[test]
    fn no_error_about_a_url_shows_its_secrets() {
        let broken = [
            format!("postgres://me:{CANARY}@host:port/db"),
            format!("postgres://me:{CANARY}@host/db?sslmode=sometimes"),
            format!("postgres://me:{CANARY}@host/db?nonsense=1"),
            format!("postgres://me:{CANARY}@/db"),
            format!("postgres://:{CANARY}@host/db"),
            format!("mysql://me:{CANARY}@host/db"),
            CANARY.to_owned(),
            format!("host=h password={CANARY}"),
            "sqlite:".into(),
        ];
        for url in broken {
            let error = Target::parse(&url).expect_err(&url).to_string();
            assert!(!error.contains(CANARY), "{error}");
            assert!(error.contains("write postgres://"), "{error}");
        }
    }

    #[test]
    fn sqlite_urls_come_with_and_without_slashes() {
        for (url, file) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:/tmp/a.db", "/tmp/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///tmp/a.db", "/tmp/a.db"),
        ] {
            assert_eq!(Target::parse(url), Ok(Target::Sqlite(PathBuf::from(file))), "{url}");
        }
    }

    #[test]
    fn the_driver_is_told_what_it_understands_of_tls() {
        use tokio_postgres::config::SslMode as Driver;
        for (mode, told) in
            [("disable", Driver::Disable), ("prefer", Driver::Prefer), ("verify-ca", Driver::Require)]
        {
            let url =
                postgres(&format!("postgres://u@h/d?sslmode={mode}&sslrootcert=/ca.pem&connect_timeout=3"));
            assert_eq!(url.config.get_ssl_mode(), told, "{mode}");
            assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        }
    }

    #[test]
    fn a_configuration_needs_only_its_url() {
        let config: StoreConfig = serde_json::from_str(r#"{"url": "sqlite:a.db"}"#).expect("valid");
        assert_eq!(config, StoreConfig::new("sqlite:a.db"));
        let config: StoreConfig =
            serde_json::from_str(r#"{"url": "sqlite:a.db", "retention": "72h"}"#).expect("valid");
        assert_eq!(config.retention, 3 * DAY);
        serde_json::from_str::<StoreConfig>(r#"{"url": "sqlite:a.db", "retenton": "72h"}"#)
            .expect_err("a typo");
    }
}
