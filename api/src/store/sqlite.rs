//! Reads a SQLite file that another process writes (WAL): read-only connections, short transactions, blocking threads.

use super::{Arg, KEEP_OPINION, Opinion, Revision, Row, Sql, StoreError};
use crate::config::{ApiConfig, StoreUrl};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, ErrorCode, OpenFlags, types::ToSqlOutput};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// How long a statement waits for a lock; readers of a WAL hardly ever meet one.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool of read-only connections to one file.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    file: PathBuf,
    timeout: Duration,
    /// As many permits as queries may run at once.
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
    /// Kept for [`Sqlite::revision`] alone: `data_version` compares only with itself on the same connection.
    watcher: tokio::sync::Mutex<Watcher>,
    /// Watching connections so far. Outside the watcher, which is lost when a request is given up.
    generations: AtomicU64,
}

/// A connection and the file that it was opened on: a file that was replaced is not this one any more.
struct Open {
    connection: Connection,
    identity: Identity,
}

type Identity = (u64, u64);

#[derive(Default)]
struct Watcher {
    open: Option<Open>,
    /// Which of the watching connections this is: `data_version` begins anew with each.
    generation: u64,
}

impl Sqlite {
    pub fn new(file: PathBuf, config: &ApiConfig) -> Self {
        Sqlite(Arc::new(Inner {
            file,
            timeout: config.statement_timeout,
            slots: Arc::new(Semaphore::new(config.store_connections.max(1))),
            idle: Mutex::new(Vec::new()),
            watcher: tokio::sync::Mutex::default(),
            generations: AtomicU64::new(0),
        }))
    }

    pub async fn fetch_all<const N: usize>(&self, sqls: [Sql; N]) -> Result<[Vec<Row>; N], StoreError> {
        let slot = tokio::time::timeout(self.0.timeout, Arc::clone(&self.0.slots).acquire_owned())
            .await
            .map_err(|_| self.0.timed_out())?
            .map_err(|e| self.0.unavailable(e))?;
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || inner.run(sqls, slot)).await.map_err(|e| self.0.unavailable(e))?
    }

    /// On a connection of its own that may do nothing else, made for the one statement: opinions are rare.
    pub async fn keep_opinion(&self, opinion: Opinion) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || inner.keep_opinion(&opinion)).await.map_err(|e| self.0.unavailable(e))?
    }

    pub async fn revision(&self) -> Result<Revision, StoreError> {
        let inner = Arc::clone(&self.0);
        let mut watcher = tokio::time::timeout(self.0.timeout, self.0.watcher.lock())
            .await
            .map_err(|_| self.0.timed_out())?;
        let mut taken = std::mem::take(&mut *watcher);
        let watch = move || {
            let revision = inner.watch(&mut taken);
            (taken, revision)
        };
        let (taken, revision) = spawn_blocking(watch).await.map_err(|e| self.0.unavailable(e))?;
        *watcher = taken;
        revision
    }
}

impl Inner {
    /// Runs statements in one read transaction, so that they see one state; interrupts them when they are late.
    fn run<const N: usize>(
        &self,
        sqls: [Sql; N],
        slot: OwnedSemaphorePermit,
    ) -> Result<[Vec<Row>; N], StoreError> {
        let mut open = self.checkout()?;
        let answer = self.read(&mut open.connection, sqls);
        if answer.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        }
        drop(slot);
        answer
    }

    fn read<const N: usize>(
        &self,
        connection: &mut Connection,
        sqls: [Sql; N],
    ) -> Result<[Vec<Row>; N], StoreError> {
        let deadline = std::time::Instant::now() + self.timeout;
        connection
            .progress_handler(10_000, Some(move || std::time::Instant::now() > deadline))
            .map_err(|e| self.failed(e))?;
        let transaction = connection.transaction().map_err(|e| self.failed(e))?;
        let mut answers = [const { Vec::new() }; N];
        for (answer, sql) in answers.iter_mut().zip(sqls) {
            *answer = rows(&transaction, &sql).map_err(|e| self.failed(e))?;
        }
        transaction.finish().map_err(|e| self.failed(e))?;
        Ok(answers)
    }

    fn checkout(&self) -> Result<Open, StoreError> {
        let identity = self.identity()?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|open| open.identity == identity);
        match idle.pop() {
            Some(open) => Ok(open),
            None => {
                drop(idle);
                self.open(identity)
            }
        }
    }

    fn open(&self, identity: Identity) -> Result<Open, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags).map_err(|e| self.failed(e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| self.failed(e))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "query_only", true).map_err(|e| self.failed(e))?;
        Ok(Open { connection, identity })
    }

    fn keep_opinion(&self, opinion: &Opinion) -> Result<(), StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.file, flags).map_err(|e| self.failed(e))?;
        // The dataflow's commits come first; between them there is room.
        connection.busy_timeout(self.timeout).map_err(|e| self.failed(e))?;
        connection.authorizer(Some(is_feedback)).map_err(|e| self.failed(e))?;
        let Opinion { anomaly_id, event, verdict, applies, note, author } = opinion;
        let values = rusqlite::params![anomaly_id, event, verdict, applies, note, author];
        let kept = connection.execute(KEEP_OPINION, values);
        kept.map(drop).map_err(|e| self.failed(e))
    }

    fn identity(&self) -> Result<Identity, StoreError> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(&self.file).map_err(|e| self.unavailable(e))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Whether another connection has committed since: `data_version` tells without reading a table.
    fn watch(&self, watcher: &mut Watcher) -> Result<Revision, StoreError> {
        let identity = self.identity()?;
        if watcher.open.as_ref().is_none_or(|open| open.identity != identity) {
            watcher.open = Some(self.open(identity)?);
            watcher.generation = self.generations.fetch_add(1, Ordering::Relaxed);
        }
        let version = watcher
            .open
            .as_ref()
            .map(|open| open.connection.query_row("pragma data_version", [], |row| row.get::<_, i64>(0)));
        match version {
            Some(Ok(version)) => Ok(Revision::new(format!("{}.{version}", watcher.generation))),
            Some(Err(error)) => {
                watcher.open = None;
                Err(self.failed(error))
            }
            None => Err(self.unavailable("no connection")),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => self.timed_out(),
            _ => self.unavailable(error),
        }
    }

    fn timed_out(&self) -> StoreError {
        StoreError::TimedOut { limit_ms: self.timeout.as_millis() }
    }

    fn unavailable(&self, cause: impl std::fmt::Display) -> StoreError {
        let store = StoreUrl::Sqlite(self.file.clone()).to_string();
        StoreError::Unavailable { store, cause: cause.to_string() }
    }
}

fn rows(connection: &Connection, sql: &Sql) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&sql.text)?;
    let columns = statement.column_count();
    for (place, arg) in sql.args.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, bound(arg))?;
    }
    let mut found = statement.raw_query();
    let mut out = Vec::new();
    while let Some(row) = found.next()? {
        out.push(Row::Sqlite((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?));
    }
    Ok(out)
}

/// Allows what keeping an opinion takes, its trigger and its reference to the anomaly included, and nothing else.
fn is_feedback(asked: AuthContext<'_>) -> Authorization {
    let allowed = match asked.action {
        AuthAction::Insert { table_name } => table_name == "feedback",
        AuthAction::Update { table_name, column_name } => {
            (table_name, column_name) == ("anomalies", "feedback")
        }
        AuthAction::Read { .. }
        | AuthAction::Select
        | AuthAction::Function { .. }
        | AuthAction::Transaction { .. } => true,
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

fn bound(arg: &Arg) -> ToSqlOutput<'_> {
    match arg {
        Arg::Int(number) => (*number).into(),
        Arg::Text(text) => text.as_str().into(),
        Arg::Time(time) => time.as_microsecond().into(),
        Arg::Words(words) => serde_json::json!(words).to_string().into(),
    }
}
