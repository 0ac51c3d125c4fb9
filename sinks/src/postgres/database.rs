//! Tables beside the store's own, in PostgreSQL.

use super::session::{Session, bounded, classify, migrate};
use crate::config::PostgresUrl;
use crate::database::{Database, Row, Step, Value};
use crate::error::SinkError;
use crate::retry::Patience;
use async_trait::async_trait;
use bytes::BytesMut;
use std::time::Duration;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error};

const DOING: &str = "keep what was exported";

/// [`Database`] on a session of its own.
pub(crate) struct PostgresDatabase {
    url: PostgresUrl,
    attempt_timeout: Duration,
    patience: Patience,
    migrated: bool,
    session: Option<Session>,
}

impl PostgresDatabase {
    pub fn new(url: PostgresUrl, attempt_timeout: Duration, patience: Patience) -> Self {
        PostgresDatabase { url, attempt_timeout, patience, migrated: false, session: None }
    }

    /// The session of an attempt, which gives it back by [`Self::settle`].
    async fn take(&mut self) -> Result<Session, SinkError> {
        if !self.migrated {
            migrate(&self.url, self.attempt_timeout).await?;
            self.migrated = true;
        }
        match self.session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => Session::connect(&self.url, self.attempt_timeout).await,
        }
    }

    /// A session whose attempt failed is not used again.
    fn settle<T>(&mut self, session: Session, result: Result<T, SinkError>) -> Result<T, SinkError> {
        match &result {
            Ok(_) => self.session = Some(session),
            Err(_) => session.kill(),
        }
        result
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, SinkError> {
        let store = &self.url.name;
        let work = async { work.await.map_err(|error| classify(store, DOING, &error)) };
        bounded(&self.patience, self.attempt_timeout, store, DOING, work).await
    }
}

#[async_trait]
impl Database for PostgresDatabase {
    fn name(&self) -> &str {
        &self.url.name
    }

    fn now(&self) -> &'static str {
        "now()"
    }

    fn micros(&self, column: &str) -> String {
        format!("CAST(extract(epoch FROM {column}) * 1000000 AS BIGINT)")
    }

    fn moment(&self, parameter: &str) -> String {
        // A double holds every microsecond until the year 2255.
        format!("(TIMESTAMPTZ 'epoch' + {parameter} * INTERVAL '1 microsecond')")
    }

    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SinkError> {
        let session = self.take().await?;
        let answer = self.bounded(async { session.client.query(sql, &parameters(values)).await }).await;
        let rows = self.settle(session, answer)?;
        let read = |row: &tokio_postgres::Row| {
            (0..row.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>().map(Row)
        };
        let rows: Result<Vec<Row>, Error> = rows.iter().map(read).collect();
        rows.map_err(|error| classify(&self.url.name, DOING, &error))
    }

    async fn apply(&mut self, steps: &[Step]) -> Result<bool, SinkError> {
        let session = self.take().await?;
        let done = self.bounded(transaction(&session.client, steps)).await;
        self.settle(session, done)
    }
}

async fn transaction(client: &Client, steps: &[Step]) -> Result<bool, Error> {
    client.batch_execute("BEGIN").await?;
    for step in steps {
        let changed = client.execute(&step.sql, &parameters(&step.values)).await?;
        if step.expect.is_some_and(|expected| changed != expected) {
            client.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(true)
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

type Trouble = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Trouble> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) if *kind == Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
            Value::Int(value) if *kind == Type::FLOAT8 => (*value as f64).to_sql(kind, out),
            Value::Int(value) => value.to_sql(kind, out),
            Value::Real(value) => value.to_sql(kind, out),
            Value::Text(value) => value.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT4 | Type::INT8 | Type::FLOAT8 | Type::TEXT | Type::VARCHAR)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Trouble> {
        Ok(match *kind {
            Type::INT4 => Value::Int(i64::from(i32::from_sql(kind, raw)?)),
            Type::INT8 => Value::Int(i64::from_sql(kind, raw)?),
            Type::FLOAT8 => Value::Real(f64::from_sql(kind, raw)?),
            _ => Value::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Trouble> {
        Ok(Value::Null)
    }

    fn accepts(kind: &Type) -> bool {
        <Value as ToSql>::accepts(kind)
    }
}
