//! The state store as the API sees it: statements in, rows out, read-only, bounded in time and connections.
//!
//! ```text
//!  route ── Sql ──▶ Store ──▶ sqlite.rs     pool of read-only connections on blocking threads, interrupted when late
//!    ◀── Vec<Row> ──┘   └───▶ postgres.rs   deadpool, prepared statements, statement_timeout
//! ```
//! One SQL text serves both stores; [`Sql`] writes what differs (placeholders, sets of words).

mod postgres;
mod revision;
mod sqlite;
#[cfg(feature = "tls")]
mod tls;

pub use revision::{Revision, RevisionGate};

use crate::config::{ApiConfig, StoreUrl};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::fmt::Write;
use tokio_postgres::types::{Json, Type};

/// A store that cannot answer, and whose fault that is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It is away, or not set up yet. Trying again may help.
    #[error("the store at {store} is unavailable: {cause}")]
    Unavailable { store: String, cause: String },
    /// The statement took too long.
    #[error("the store took longer than {limit_ms} ms over a statement")]
    TimedOut { limit_ms: u128 },
    /// The store answered with something that this version does not understand.
    #[error("the store and this version of the API disagree: {0}")]
    Mismatch(String),
}

impl From<StoreError> for crate::problem::Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::store_unavailable(
                "the store cannot be reached; /health says more, the API goes on by itself when it is back",
            ),
            StoreError::TimedOut { limit_ms } => Self::store_unavailable(format!(
                "the store took longer than {limit_ms} ms; ask for less (a shorter time range, a smaller page)"
            )),
            StoreError::Mismatch(_) => {
                Self::internal("the store holds what this version cannot read; the server's log says what")
            }
        }
    }
}

/// Keeps an [`Opinion`]; one text for both stores but for the placeholders.
const KEEP_OPINION: &str = "insert into feedback (anomaly_id, event, verdict, applies, note, author) \
                            values ($1, $2, $3, $4, $5, $6)";

/// The SQL dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// A value bound to a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    Int(i64),
    Text(String),
    Time(Timestamp),
    /// A set of words, for [`Sql::one_of`].
    Words(Vec<&'static str>),
}

/// A statement under construction. Text never comes from a request; values do, as [`Arg`]s.
#[derive(Debug, Clone)]
pub struct Sql {
    dialect: Dialect,
    text: String,
    args: Vec<Arg>,
}

impl Sql {
    pub fn new(dialect: Dialect, text: &str) -> Self {
        Sql { dialect, text: text.to_owned(), args: Vec::new() }
    }

    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a placeholder for `arg`.
    pub fn arg(&mut self, arg: Arg) -> &mut Self {
        self.args.push(arg);
        let mark = if self.dialect == Dialect::Sqlite { '?' } else { '$' };
        let _ = write!(self.text, "{mark}{}", self.args.len());
        self
    }

    /// Appends `and COLUMN OPERATOR value` when there is a value.
    pub fn and(&mut self, comparison: &str, arg: Option<Arg>) -> &mut Self {
        match arg {
            Some(arg) => self.push(" and ").push(comparison).push(" ").arg(arg),
            None => self,
        }
    }

    /// Appends `and COLUMN` contains the text, in any case.
    pub fn contains(&mut self, column: &str, text: &str) -> &mut Self {
        let (before, between, after) = match self.dialect {
            Dialect::Sqlite => (" and 0 < instr(lower(", "), lower(", "))"),
            Dialect::Postgres => (" and 0 < strpos(lower(", "), lower(", "::text))"),
        };
        self.push(before).push(column).push(between).arg(Arg::Text(text.into())).push(after)
    }

    /// Appends `and COLUMN` is one of the words. The text is the same for any number of words, so that it is
    /// prepared once.
    pub fn one_of(&mut self, column: &str, words: Option<&[&'static str]>) -> &mut Self {
        let Some(words) = words else { return self };
        let (before, after) = match self.dialect {
            Dialect::Sqlite => (" in (select value from json_each(", "))"),
            Dialect::Postgres => (" = any(", "::text[])"),
        };
        self.push(" and ").push(column).push(before).arg(Arg::Words(words.to_vec())).push(after)
    }
}

/// What a user says: of an anomaly, or that an event is to come.
#[derive(Debug, Clone, Default)]
pub struct Opinion {
    pub anomaly_id: Option<i64>,
    /// The event that an `undo` takes back.
    pub event: Option<i64>,
    /// `expected`, `confirmed`, `undo` or `event`.
    pub verdict: &'static str,
    /// What is expected from now on, as JSON ([`smartlog_schema::feedback::Applies`]).
    pub applies: Option<String>,
    pub note: Option<String>,
    pub author: Option<String>,
}

/// One row of an answer.
pub enum Row {
    Sqlite(Vec<rusqlite::types::Value>),
    Postgres(tokio_postgres::Row),
}

impl Row {
    /// The value of a column, by place.
    pub fn get<T: Field>(&self, column: usize) -> Result<T, StoreError> {
        let mismatch = |cause: String| StoreError::Mismatch(format!("column {column}: {cause}"));
        match self {
            Row::Sqlite(values) => {
                let value = values.get(column).ok_or_else(|| mismatch("missing".into()))?;
                T::from_sqlite(value).ok_or_else(|| mismatch(format!("unexpected {}", value.data_type())))
            }
            Row::Postgres(row) => T::from_postgres(row, column).map_err(|e| mismatch(e.to_string())),
        }
    }
}

/// A type that a column can be read as.
pub trait Field: Sized {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self>;
    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error>;
}

impl Field for i64 {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        match value {
            rusqlite::types::Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        let is_narrow = row.columns().get(column).is_some_and(|c| *c.type_() == Type::INT4);
        if is_narrow { row.try_get::<_, i32>(column).map(i64::from) } else { row.try_get(column) }
    }
}

impl Field for f64 {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        match value {
            rusqlite::types::Value::Real(number) => Some(*number),
            _ => None,
        }
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        row.try_get(column)
    }
}

impl Field for String {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        match value {
            rusqlite::types::Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        row.try_get(column)
    }
}

impl Field for Vec<u8> {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        match value {
            rusqlite::types::Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        row.try_get(column)
    }
}

impl Field for Timestamp {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        i64::from_sqlite(value).and_then(crate::time::from_micros)
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        row.try_get(column)
    }
}

impl Field for Box<RawValue> {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        String::from_sqlite(value).and_then(|text| RawValue::from_string(text).ok())
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        row.try_get::<_, Json<Box<RawValue>>>(column).map(|Json(value)| value)
    }
}

impl<T: Field> Field for Option<T> {
    fn from_sqlite(value: &rusqlite::types::Value) -> Option<Self> {
        match value {
            rusqlite::types::Value::Null => Some(None),
            other => T::from_sqlite(other).map(Some),
        }
    }

    fn from_postgres(row: &tokio_postgres::Row, column: usize) -> Result<Self, tokio_postgres::Error> {
        // Any type reads as text-or-null only if it is that type, so the null is looked for in the raw bytes.
        match row.try_get::<_, Option<Anything>>(column)? {
            None => Ok(None),
            Some(Anything) => T::from_postgres(row, column).map(Some),
        }
    }
}

/// Accepts a value of any type without looking at it.
struct Anything;

impl<'a> tokio_postgres::types::FromSql<'a> for Anything {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Anything)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A connection pool to either store.
#[derive(Clone)]
pub enum Store {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Store {
    /// Prepares the pool; connects with the first statement, so that the API starts while the store is away.
    pub fn new(config: &ApiConfig) -> Result<Store, StoreError> {
        match &config.store {
            StoreUrl::Sqlite(file) => Ok(Store::Sqlite(sqlite::Sqlite::new(file.clone(), config))),
            StoreUrl::Postgres(url) => postgres::Postgres::new(url, config).map(Store::Postgres),
        }
    }

    /// What `/health` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Store::Sqlite(_) => "sqlite",
            Store::Postgres(_) => "postgres",
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Store::Sqlite(_) => Dialect::Sqlite,
            Store::Postgres(_) => Dialect::Postgres,
        }
    }

    /// A statement in this store's dialect.
    pub fn sql(&self, text: &str) -> Sql {
        Sql::new(self.dialect(), text)
    }

    /// Runs one statement and reads all of its rows; a statement bounds their number itself.
    pub async fn fetch(&self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let [rows] = self.fetch_all([sql]).await?;
        Ok(rows)
    }

    /// Runs statements in order on one connection.
    pub async fn fetch_all<const N: usize>(&self, sqls: [Sql; N]) -> Result<[Vec<Row>; N], StoreError> {
        match self {
            Store::Sqlite(store) => store.fetch_all(sqls).await,
            Store::Postgres(store) => store.fetch_all(sqls).await,
        }
    }

    /// Keeps what a user says; the store's triggers number it and show it on the anomaly.
    pub async fn keep_opinion(&self, opinion: Opinion) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(store) => store.keep_opinion(opinion).await,
            Store::Postgres(store) => store.keep_opinion(opinion).await,
        }
    }

    /// What the store held when this was called; equal revisions mean equal data.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        match self {
            Store::Sqlite(store) => store.revision().await,
            Store::Postgres(store) => store.revision().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(dialect: Dialect) -> Sql {
        let mut sql = Sql::new(dialect, "select id from logs where true");
        sql.and("service =", Some(Arg::Text("a".into())))
            .and("host =", None)
            .one_of("level", Some(&["WARN", "ERROR"]))
            .one_of("kind", None);
        sql
    }

    #[test]
    fn each_dialect_gets_its_placeholders() {
        let sqlite = statement(Dialect::Sqlite);
        assert_eq!(
            sqlite.text,
            "select id from logs where true and service = ?1 and level in (select value from json_each(?2))"
        );
        let postgres = statement(Dialect::Postgres);
        assert_eq!(
            postgres.text,
            "select id from logs where true and service = $1 and level = any($2::text[])"
        );
        assert_eq!(sqlite.args, postgres.args);
    }
}
