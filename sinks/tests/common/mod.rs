//! One bench for both stores: a database of its own for each test, and plain SQL to look at what is in it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use smartlog_sinks::{CancellationToken, Health, LogSink, StateStore, StoreConfig};
use std::time::Duration;

/// Bounds every wait of a test: a hang is a failure with a name.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub config: StoreConfig,
    kind: Kind,
}

enum Kind {
    Sqlite(tempfile::TempDir),
    Postgres { admin: String, database: String },
}

impl Bench {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = StoreConfig::new(format!("sqlite:{}", folder.path().join("store.db").display()));
        Bench { config, kind: Kind::Sqlite(folder) }
    }

    /// A new database on the server of `SMARTLOG_TEST_POSTGRES`; `None` when the user said to go without.
    pub async fn postgres() -> Option<Self> {
        let admin = postgres_url()?;
        let database = format!("smartlog_{:016x}", rand::random::<u64>());
        let client = connect(&admin).await;
        client.batch_execute(&format!("CREATE DATABASE {database}")).await.expect("a database is made");
        let (server, options) = admin.split_once('?').map_or((admin.as_str(), ""), |(s, o)| (s, o));
        let slash = server.rfind('/').expect("a URL with a path");
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        let config = StoreConfig::new(format!("{}/{database}{options}", &server[..slash]));
        Some(Bench { config, kind: Kind::Postgres { admin, database } })
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres { .. })
    }

    pub fn state(&self) -> Box<dyn StateStore> {
        self.state_with(Health::new(), CancellationToken::new())
    }

    pub fn state_with(&self, health: Health, cancel: CancellationToken) -> Box<dyn StateStore> {
        smartlog_sinks::state_store(&self.config, health, cancel).expect("a store")
    }

    pub fn logs(&self) -> Box<dyn LogSink> {
        self.logs_with(Health::new(), CancellationToken::new())
    }

    pub fn logs_with(&self, health: Health, cancel: CancellationToken) -> Box<dyn LogSink> {
        smartlog_sinks::log_sink(&self.config, health, cancel).expect("a sink")
    }

    /// The SQL for a time column as microseconds.
    pub fn micros(&self, column: &str) -> String {
        match self.kind {
            Kind::Sqlite(_) => column.to_owned(),
            Kind::Postgres { .. } => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
        }
    }

    /// Runs `sql` and gives every value as text; `None` is NULL.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match &self.kind {
            Kind::Sqlite(folder) => query_sqlite(&folder.path().join("store.db"), sql),
            Kind::Postgres { .. } => query_postgres(&connect(&self.config.url).await, sql).await,
        }
    }

    /// Runs `sql` for its effect.
    pub async fn execute(&self, sql: &str) {
        match &self.kind {
            Kind::Sqlite(folder) => {
                let connection =
                    rusqlite::Connection::open(folder.path().join("store.db")).expect("the file");
                connection.busy_timeout(PATIENCE).expect("a timeout");
                connection.execute_batch(sql).expect(sql);
            }
            Kind::Postgres { .. } => connect(&self.config.url).await.batch_execute(sql).await.expect(sql),
        }
    }

    /// The one number that `sql` asks for.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql).await;
        rows[0][0].as_deref().expect("a value").parse().expect("a number")
    }

    /// Drops the database. Not in `Drop`: a failed test leaves it behind to be looked at.
    pub async fn drop_it(self) {
        if let Kind::Postgres { admin, database } = self.kind {
            let sql = format!("DROP DATABASE {database} WITH (FORCE)");
            connect(&admin).await.batch_execute(&sql).await.expect("the database goes");
        }
    }
}

/// The server for tests. Absent, that is a failure, unless the user said that there are no services.
pub fn postgres_url() -> Option<String> {
    if let Ok(url) = std::env::var("SMARTLOG_TEST_POSTGRES") {
        return Some(url);
    }
    if std::env::var("SMARTLOG_SERVICES").as_deref() == Ok("none") {
        println!("SKIPPED: no PostgreSQL (SMARTLOG_SERVICES=none)");
        return None;
    }
    panic!(
        "this test needs PostgreSQL: run `make test`, or `make services` and set SMARTLOG_TEST_POSTGRES to \
         postgres://USER@HOST:PORT/DATABASE (SMARTLOG_SERVICES=none skips it)"
    );
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

async fn query_postgres(client: &tokio_postgres::Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.expect(sql);
    let read = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(read).collect()
}

fn query_sqlite(file: &std::path::Path, sql: &str) -> Vec<Vec<Option<String>>> {
    use rusqlite::types::ValueRef;
    let connection = rusqlite::Connection::open(file).expect("the file");
    connection.busy_timeout(PATIENCE).expect("a timeout");
    let mut statement = connection.prepare(sql).expect(sql);
    let columns = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        // As PostgreSQL writes bytes.
        ValueRef::Blob(bytes) => {
            Some(format!("\\x{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()))
        }
    };
    let rows = statement
        .query_map([], |row| Ok((0..columns).map(|i| text(row.get_ref(i).expect("a column"))).collect()));
    rows.expect(sql).collect::<Result<_, _>>().expect(sql)
}

/// Declares each test twice: for SQLite and for PostgreSQL.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = super::$name($crate::common::Bench::sqlite());
                tokio::time::timeout($crate::common::PATIENCE, test).await.expect("the test ends in time");
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(bench) = $crate::common::Bench::postgres().await else { return };
                tokio::time::timeout($crate::common::PATIENCE, super::$name(bench)).await.expect("the test ends in time");
            })*
        }
    };
}
