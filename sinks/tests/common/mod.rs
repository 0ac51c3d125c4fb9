//! One bench for both stores: a database of its own for each test, and plain SQL to look at what is in it.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod redis;
pub mod search;

use smartlog_sinks::{CancellationToken, Health, LogSink, StateStore, StoreConfig};
use smartlog_test_services::database::Database;
pub use smartlog_test_services::database::{PATIENCE, connect};

pub struct Bench {
    pub config: StoreConfig,
    kind: Kind,
}

enum Kind {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Bench {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = StoreConfig::new(format!("sqlite:{}", folder.path().join("store.db").display()));
        Bench { config, kind: Kind::Sqlite(folder) }
    }

    /// A new database on the server of `SMARTLOG_TEST_POSTGRES`; `None` when the user said to go without.
    pub async fn postgres() -> Option<Self> {
        let database = Database::create().await?;
        let config = StoreConfig::new(database.url.clone());
        Some(Bench { config, kind: Kind::Postgres(database) })
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres(_))
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
            Kind::Postgres(_) => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
        }
    }

    /// Runs `sql` and gives every value as text; `None` is NULL.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match &self.kind {
            Kind::Sqlite(folder) => query_sqlite(&folder.path().join("store.db"), sql),
            Kind::Postgres(_) => query_postgres(&connect(&self.config.url).await, sql).await,
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
            Kind::Postgres(_) => connect(&self.config.url).await.batch_execute(sql).await.expect(sql),
        }
    }

    /// The one number that `sql` asks for.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql).await;
        rows[0][0].as_deref().expect("a value").parse().expect("a number")
    }

    /// Drops the database. Not in `Drop`: a failed test leaves it behind to be looked at.
    pub async fn drop_it(self) {
        if let Kind::Postgres(database) = self.kind {
            database.remove().await;
        }
    }
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
