//! Tables beside the store's own, in SQLite.

use super::classify;
use super::state::begin;
use super::writer::{Turn, Writer};
use crate::config::sqlite_name;
use crate::database::{Database, Row, Step, Value};
use crate::error::SinkError;
use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use std::path::PathBuf;
use std::sync::Arc;

/// [`Database`] on the file's writer thread.
pub(crate) struct SqliteDatabase {
    file: PathBuf,
    store: String,
    writer: Option<Arc<Writer>>,
}

impl SqliteDatabase {
    pub fn new(file: PathBuf) -> Self {
        SqliteDatabase { store: sqlite_name(&file), file, writer: None }
    }

    async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let writer = match &self.writer {
            Some(writer) => writer,
            none => {
                let writer = Writer::of(&self.file).await?;
                debug_assert!(none.is_none());
                self.writer.insert(writer)
            }
        };
        let store = self.store.clone();
        let job = move |connection: &mut Connection| {
            job(connection).map_err(|error| classify(&store, "keep what was exported", &error))
        };
        writer.run(Turn::Plain, job).await
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    fn name(&self) -> &str {
        &self.store
    }

    fn now(&self) -> &'static str {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    }

    fn micros(&self, column: &str) -> String {
        column.to_owned()
    }

    fn moment(&self, parameter: &str) -> String {
        parameter.to_owned()
    }

    async fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, SinkError> {
        let (sql, values) = (numbered(sql), values.to_vec());
        self.run(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let columns = statement.column_count();
            let rows = statement.query_map(params_from_iter(&values), |row| {
                (0..columns).map(|at| value_of(row.get_ref(at)?)).collect::<rusqlite::Result<_>>().map(Row)
            })?;
            rows.collect()
        })
        .await
    }

    async fn apply(&mut self, steps: &[Step]) -> Result<bool, SinkError> {
        let steps = steps.to_vec();
        self.run(move |connection| {
            let transaction = begin(connection)?;
            for step in &steps {
                let changed = transaction
                    .prepare_cached(&numbered(&step.sql))?
                    .execute(params_from_iter(&step.values))?;
                if step.expect.is_some_and(|expected| changed as u64 != expected) {
                    return Ok(false);
                }
            }
            transaction.commit()?;
            Ok(true)
        })
        .await
    }
}

/// `$1` is a name in SQLite, `?1` the first parameter.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

fn value_of(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) | ValueRef::Blob(value) => {
            Value::Text(String::from_utf8_lossy(value).into_owned())
        }
    })
}
