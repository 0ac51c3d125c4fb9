//! The little that tables beside the stores' own need of a database: questions, and changes that happen together.
//!
//! Statements are written once for both stores: `$1` for a parameter, `IS NOT DISTINCT FROM`, `ON CONFLICT`; no `$` elsewhere.
//! What differs, [`Database::now`] and [`Database::micros`] say.

use crate::config::{StoreConfig, Target};
use crate::error::{Fault, SinkError};
use crate::retry::{Patience, until_done};
use crate::{postgres, sqlite};
use async_trait::async_trait;

/// A value of a column or parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::database::Value::from($value)),*] };
}
pub(crate) use values;

/// One row of an answer; columns are asked for by place and must be of the kind that they are asked for as.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row(pub Vec<Value>);

impl Row {
    pub fn int(&self, at: usize) -> i64 {
        self.maybe_int(at).unwrap_or_default()
    }

    pub fn maybe_int(&self, at: usize) -> Option<i64> {
        match self.0.get(at) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn real(&self, at: usize) -> Option<f64> {
        match self.0.get(at) {
            Some(Value::Real(value)) => Some(*value),
            Some(Value::Int(value)) => Some(*value as f64),
            _ => None,
        }
    }

    pub fn text(&self, at: usize) -> &str {
        self.maybe_text(at).unwrap_or_default()
    }

    pub fn maybe_text(&self, at: usize) -> Option<&str> {
        match self.0.get(at) {
            Some(Value::Text(value)) => Some(value),
            _ => None,
        }
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub sql: String,
    pub values: Vec<Value>,
    /// How many rows must change, or none of the transaction happens.
    pub expect: Option<u64>,
}

impl Step {
    pub fn new(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Step { sql: sql.into(), values, expect: None }
    }

    /// A step that must change exactly one row.
    pub fn one(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Step { expect: Some(1), ..Self::new(sql, values) }
    }
}

/// A connection to a store, made anew after any trouble.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// The store without its secrets.
    fn name(&self) -> &str;

    /// SQL for the present moment as the tables keep it in `updated_at`.
    fn now(&self) -> &'static str;

    /// SQL for a time column as microseconds since 1970.
    fn micros(&self, column: &str) -> String;

    /// SQL for the value of a time column, from a parameter in microseconds since 1970.
    fn moment(&self, parameter: &str) -> String;

    /// The answer to one statement, which is a transaction of its own.
    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SinkError>;

    /// All steps in one transaction, or none of them: `false` when a step did not change as many rows as it must.
    async fn apply(&mut self, steps: &[Step]) -> Result<bool, SinkError>;
}

/// A [`Database`] that waits for a store that is away.
pub(crate) struct Tables {
    database: Box<dyn Database>,
    patience: Patience,
}

impl Tables {
    /// Nothing is connected before the first question.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when the URL cannot be understood.
    pub fn new(config: &StoreConfig, patience: Patience) -> Result<Self, SinkError> {
        let database: Box<dyn Database> = match Target::parse(&config.url)? {
            Target::Postgres(url) => {
                Box::new(postgres::PostgresDatabase::new(*url, config.attempt_timeout, patience.clone()))
            }
            Target::Sqlite(file) => Box::new(sqlite::SqliteDatabase::new(file)),
        };
        Ok(Tables { database, patience })
    }

    pub fn name(&self) -> &str {
        self.database.name()
    }

    pub fn now(&self) -> &'static str {
        self.database.now()
    }

    pub fn micros(&self, column: &str) -> String {
        self.database.micros(column)
    }

    pub fn moment(&self, parameter: &str) -> String {
        self.database.moment(parameter)
    }

    pub async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, SinkError> {
        let Tables { database, patience } = self;
        until_done!(patience, database.query(sql, &values))
    }

    /// As [`Database::apply`]. When an answer was lost the steps are tried again: what was applied already is then
    /// `false` too, and the caller looks at what is stored.
    pub async fn apply(&mut self, steps: &[Step]) -> Result<bool, SinkError> {
        let Tables { database, patience } = self;
        until_done!(patience, database.apply(steps))
    }

    /// For what the tables hold and cannot hold.
    pub fn broken(&self, doing: &str, found: impl Into<String>) -> SinkError {
        SinkError::Fatal(Fault {
            store: self.name().to_owned(),
            doing: doing.to_owned(),
            found: found.into(),
            advice: "run the version that wrote it, or a later one".into(),
        })
    }
}
