//! The writer thread of one SQLite file.

use super::{classify, migrations};
use crate::config::sqlite_name;
use crate::error::{Fault, SinkError};
use rusqlite::Connection;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long another process may hold the file before an attempt fails (and is made again).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept; more than this crate has.
const STATEMENTS: usize = 128;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// What waits for the thread. Bounded by its users: each waits for its answer before it asks again.
#[derive(Default)]
struct Queue {
    urgent: VecDeque<Job>,
    plain: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    woken: Condvar,
}

/// Who goes first when several wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Detection waits for it: before any log that is not yet being written.
    Urgent,
    Plain,
}

/// A handle on the writer thread of one file; the thread ends with the last handle.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    pub store: String,
    /// Spelt the one way that all spellings lead to.
    pub file: PathBuf,
}

static WRITERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Writer>>>> = LazyLock::new(Mutex::default);

impl Writer {
    /// The writer of `file`, which is made and migrated when it is not there.
    pub async fn of(file: &Path) -> Result<Arc<Self>, SinkError> {
        let file = file.to_owned();
        let name = sqlite_name(&file);
        // Opening and migrating wait for the disk, and for other processes.
        let opened = tokio::task::spawn_blocking(move || Self::find_or_start(&file)).await;
        opened.unwrap_or_else(|error| Err(broken(&name, &error.to_string())))
    }

    fn find_or_start(file: &Path) -> Result<Arc<Self>, SinkError> {
        let file = absolute(file)?;
        let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writers.get(&file).and_then(Weak::upgrade) {
            return Ok(writer);
        }
        let writer = Arc::new(Self::start(&file)?);
        writers.retain(|_, writer| writer.strong_count() > 0);
        writers.insert(file, Arc::downgrade(&writer));
        Ok(writer)
    }

    fn start(file: &Path) -> Result<Self, SinkError> {
        let store = sqlite_name(file);
        let connection = open(file).map_err(|error| classify(&store, "open the file", &error))?;
        let connection = migrate(connection, &store)?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || serve(&for_thread, connection))
            .map_err(|error| broken(&store, &error.to_string()))?;
        Ok(Writer { shared, store, file: file.to_owned() })
    }

    /// Runs `job` on the writer's connection.
    pub async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        job: impl FnOnce(&mut Connection) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let (answer, answered) = oneshot::channel();
        // An asker that went away meanwhile (shutdown) wants no answer.
        let job: Job = Box::new(move |connection| drop(answer.send(job(connection))));
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            match turn {
                Turn::Urgent => queue.urgent.push_back(job),
                Turn::Plain => queue.plain.push_back(job),
            }
        }
        self.shared.woken.notify_one();
        answered.await.unwrap_or_else(|_| Err(broken(&self.store, "the writer thread ended")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.woken.notify_one();
    }
}

fn serve(shared: &Shared, mut connection: Connection) {
    while let Some(job) = next(shared) {
        job(&mut connection);
    }
}

/// The next job; `None` once the writer is closed and nothing waits.
fn next(shared: &Shared) -> Option<Job> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(job) = queue.urgent.pop_front() {
            return Some(job);
        }
        if let Some(job) = queue.plain.pop_front() {
            return Some(job);
        }
        if queue.closed {
            return None;
        }
        queue = shared.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// One spelling for each file, and its folder made.
fn absolute(file: &Path) -> Result<PathBuf, SinkError> {
    let refuse = |error: std::io::Error| {
        SinkError::Fatal(Fault {
            store: sqlite_name(file),
            doing: "open the file".into(),
            found: error.to_string(),
            advice: "name a file in a folder that this user may write to".into(),
        })
    };
    let name = file.file_name().ok_or_else(|| refuse(std::io::Error::other("the path names no file")))?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(refuse)?;
    Ok(folder.canonicalize().map_err(refuse)?.join(name))
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Safe against the death of the process; at a power failure the newest commits may be lost, never the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "journal_size_limit", 67_108_864)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Brings the tables up to date, all of it or nothing.
fn migrate(mut connection: Connection, store: &str) -> Result<Connection, SinkError> {
    const DOING: &str = "bring the tables up to date";
    let mut run = || migrations::migrations::runner().set_grouped(true).run(&mut connection);
    // Two processes may try at once: the second fails, looks again, and finds it done.
    let Err(error) = run().or_else(|_| run()) else { return Ok(connection) };
    let cause = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<rusqlite::Error>());
    match cause.map(|cause| classify(store, DOING, cause)) {
        Some(error @ SinkError::Transient(_)) => Err(error),
        _ => Err(SinkError::Fatal(Fault {
            store: store.to_owned(),
            doing: DOING.into(),
            found: error.to_string(),
            advice: "run the version that wrote the file, or a later one; or name another file".into(),
        })),
    }
}

fn broken(store: &str, found: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: store.to_owned(),
        doing: "use the writer thread".into(),
        found: found.to_owned(),
        advice: "this is a fault of the program: please report it with the log before".into(),
    })
}
