//! One connection, what can be wrong with it, and who must act.

use super::lock_key;
use super::migrations;
use crate::config::PostgresUrl;
use crate::error::{Fault, SinkError};
use crate::retry::Patience;
use futures_util::future::join_all;
use smartlog_schema::ssl::SslMode;
use std::error::Error as _;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

/// A connection and the task that drives it.
pub(crate) struct Session {
    pub client: Client,
    driver: JoinHandle<()>,
}

impl Session {
    /// Connects, bounded by the URL's `connect_timeout` for each host.
    pub async fn connect(url: &PostgresUrl, give_up_after: Duration) -> Result<Self, SinkError> {
        let session = connect(url).await?;
        let settings = server_timeouts(give_up_after);
        session
            .client
            .batch_execute(&settings)
            .await
            .map_err(|error| classify(&url.name, "connect", &error))?;
        Ok(session)
    }

    /// Ends the connection at once, whatever it is doing. (Merely dropped, it says good-bye first.)
    pub fn kill(self) {
        self.driver.abort();
    }
}

/// The server must notice as soon as we do when the network between us is gone: until then it holds our locks.
fn server_timeouts(give_up_after: Duration) -> String {
    format!(
        "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
         SET tcp_user_timeout = '20s'; SET idle_in_transaction_session_timeout = '{}ms';
         SET client_min_messages = warning",
        give_up_after.as_millis().clamp(1, i32::MAX as u128)
    )
}

#[cfg(not(feature = "tls"))]
async fn connect(url: &PostgresUrl) -> Result<Session, SinkError> {
    if url.ssl.requires() {
        return Err(SinkError::Fatal(Fault {
            store: url.name.clone(),
            doing: "connect".into(),
            found: "its sslmode asks for TLS, which this program was built without".into(),
            advice: "build it with --features tls, or set sslmode=prefer".into(),
        }));
    }
    let connected = url.config.connect(tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| cannot_connect(url, &error))?;
    Ok(Session { client, driver: drive(url.name.clone(), connection) })
}

#[cfg(feature = "tls")]
async fn connect(url: &PostgresUrl) -> Result<Session, SinkError> {
    let connector = super::tls::connector(url)?;
    let connected = url.config.connect(connector).await;
    let (client, connection) = connected.map_err(|error| cannot_connect(url, &error))?;
    Ok(Session { client, driver: drive(url.name.clone(), connection) })
}

fn drive(
    store: String,
    connection: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%store, error = %describe(&error), "connection ended");
        }
    })
}

/// A server that cannot be reached may come; one that refuses us must be talked to by a person.
fn cannot_connect(url: &PostgresUrl, error: &Error) -> SinkError {
    let mut causes = std::iter::successors(error.source(), |e| (*e).source());
    let io = causes.any(|e| e.is::<std::io::Error>());
    let tls = url.ssl.mode != SslMode::Disable && error.to_string().contains("TLS");
    if error.as_db_error().is_some() || (!tls && (io || error.is_closed())) {
        return classify(&url.name, "connect", error);
    }
    SinkError::Fatal(Fault {
        store: url.name.clone(),
        doing: "connect".into(),
        found: describe(error),
        advice: "set the URL's user, password, sslmode and sslrootcert as the server wants them".into(),
    })
}

/// Brings the tables up to date, all of it or nothing. Two processes may try at once: the second waits.
/// Versions of the migrations that this program brings.
pub(super) fn known_migrations() -> Vec<i32> {
    migrations::migrations::runner().get_migrations().iter().map(|migration| migration.version()).collect()
}

pub(super) async fn migrate(url: &PostgresUrl, give_up_after: Duration) -> Result<(), SinkError> {
    const DOING: &str = "bring the tables up to date";
    let mut session = Session::connect(url, give_up_after).await?;
    let lock = concat!("SELECT pg_advisory_lock(", lock_key!("'migrations'"), ")");
    // The lock goes with the session.
    session.client.batch_execute(lock).await.map_err(|error| classify(&url.name, DOING, &error))?;
    let ran = migrations::migrations::runner().set_grouped(true).run_async(&mut session.client).await;
    let Err(error) = ran else { return Ok(()) };
    match error
        .source()
        .and_then(|e| e.downcast_ref::<Error>())
        .map(|cause| classify(&url.name, DOING, cause))
    {
        Some(error @ SinkError::Transient(_)) => Err(error),
        _ => Err(SinkError::Fatal(Fault {
            store: url.name.clone(),
            doing: DOING.into(),
            found: error.source().and_then(|e| e.downcast_ref::<Error>()).map_or(error.to_string(), describe),
            advice:
                "give the user the right to create tables in its schema, or run the version that wrote them, \
                     or a later one"
                    .into(),
        })),
    }
}

/// The error with its cause, on one line. Holds no password; may quote a value that the server refused.
pub(crate) fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => match error.source() {
            Some(cause) if !error.to_string().contains(&cause.to_string()) => format!("{error}: {cause}"),
            _ => error.to_string(),
        },
    }
}

/// Sorts an error of PostgreSQL by who must act.
pub(crate) fn classify(store: &str, doing: &str, error: &Error) -> SinkError {
    let (kind, advice) = error.code().map_or((SinkError::Transient as Kind, WAITING), verdict);
    kind(Fault {
        store: store.to_owned(),
        doing: doing.to_owned(),
        found: describe(error),
        advice: advice.to_owned(),
    })
}

type Kind = fn(Fault) -> SinkError;

const WAITING: &str = "waiting for the server, then trying again";

/// What an SQLSTATE means for us, and what to do.
fn verdict(state: &SqlState) -> (Kind, &'static str) {
    match (state, &state.code()[..2]) {
        (&SqlState::DISK_FULL, _) => {
            (SinkError::Transient, "its disk is full: make room there, writing goes on by itself")
        }
        (&SqlState::TOO_MANY_CONNECTIONS, _) => {
            (SinkError::Transient, "raise its max_connections or use fewer workers; trying again")
        }
        (&SqlState::INSUFFICIENT_PRIVILEGE, _) => {
            (SinkError::Fatal, "give this user the rights on the schema and its tables")
        }
        // Refused rows: bad values, broken constraints, limits of the server.
        (_, "22" | "23" | "54") => (SinkError::Poison, "the row is refused"),
        (_, "28") => {
            (SinkError::Fatal, "set the right user and password in the URL, or let it in (pg_hba.conf)")
        }
        (_, "3D") => (SinkError::Fatal, "create the database, or name another"),
        (_, "3F") => (SinkError::Fatal, "create the schema that the URL's search_path names"),
        (_, "42") => (SinkError::Fatal, "run `smartlog migrate`; if that does not help, please report it"),
        // Connections lost, shut down, failed over or read-only; resources; serialisation; I/O; stale statements.
        _ => (SinkError::Transient, WAITING),
    }
}

/// Of answers to statements that were sent together, the error that made the others fail.
pub(crate) fn root_cause(errors: Vec<Error>) -> Option<Error> {
    let is_echo = |error: &Error| error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION);
    let mut echo = None;
    for error in errors {
        if !is_echo(&error) {
            return Some(error);
        }
        echo = Some(error);
    }
    echo
}

/// A statement that was sent, or will be when it is first polled; gives how many rows it changed.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

pub(crate) fn begin(client: &Client) -> Answer<'_> {
    Box::pin(async { client.batch_execute("BEGIN").await.map(|()| 0) })
}

pub(crate) fn execute<'a>(
    client: &'a Client,
    statement: &'a Statement,
    values: Vec<&'a (dyn ToSql + Sync)>,
) -> Answer<'a> {
    Box::pin(async move { client.execute(statement, &values).await })
}

/// Sends statements in one go and waits for all answers: one round trip.
pub(crate) async fn send_together(answers: Vec<Answer<'_>>) -> Result<Vec<u64>, Error> {
    let (mut counts, mut errors) = (Vec::new(), Vec::new());
    for answer in join_all(answers).await {
        match answer {
            Ok(count) => counts.push(count),
            Err(error) => errors.push(error),
        }
    }
    root_cause(errors).map_or(Ok(counts), Err)
}

/// Runs an attempt for at most `limit`, and once the process shuts down for a grace period.
pub(crate) async fn bounded<T>(
    patience: &Patience,
    limit: Duration,
    store: &str,
    doing: &str,
    attempt: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    match patience.within_grace(tokio::time::timeout(limit, attempt)).await {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(no_answer(store, doing, format!("no answer for {limit:?}"))),
        None => Err(no_answer(store, doing, "no answer before the shutdown".into())),
    }
}

/// For an attempt that was given up.
pub(crate) fn no_answer(store: &str, doing: &str, found: String) -> SinkError {
    SinkError::Transient(Fault {
        store: store.to_owned(),
        doing: doing.to_owned(),
        found,
        advice: "look at the server's load and locks, and at the network; trying again".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_errors_has_someone_to_act() {
        let word = |state: &str| {
            let text = |t: &str| t.to_owned();
            let (kind, advice) = verdict(&SqlState::from_code(state));
            match kind(Fault { store: text(""), doing: text(""), found: text(""), advice: text(advice) }) {
                SinkError::Transient(_) => "wait",
                SinkError::Poison(_) => "row",
                SinkError::Fatal(_) => "stop",
                SinkError::Fenced { .. } => "fenced",
            }
        };
        // Lost, refused, shut down, crashed, starting; serialisation, deadlock; memory, connections; read-only
        // standby; cancelled; I/O; internal.
        for state in [
            "08006", "08001", "57P01", "57P02", "57P03", "40001", "40P01", "53200", "53300", "53100",
            "25006", "57014", "58030", "XX000", "55P03", "0A000", "26000",
        ] {
            assert_eq!(word(state), "wait", "{state}");
        }
        for state in ["22021", "22P02", "22P05", "22001", "22008", "23502", "23514", "54000", "54001"] {
            assert_eq!(word(state), "row", "{state}");
        }
        for state in ["28P01", "28000", "3D000", "3F000", "42501", "42P01"] {
            assert_eq!(word(state), "stop", "{state}");
        }
        assert!(verdict(&SqlState::DISK_FULL).1.contains("disk is full"));
    }
}
