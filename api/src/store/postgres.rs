//! Reads PostgreSQL: a pool of read-only sessions, prepared statements, a timeout that the server keeps.

use super::{Arg, KEEP_OPINION, Opinion, Revision, Row, Sql, StoreError};
use crate::config::{ApiConfig, StoreUrl};
use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::try_join_all;
use smartlog_schema::ssl::{SslMode, SslOptions};
use std::time::Duration;
use tokio_postgres::config::SslMode as DriverMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// How long a connection may take to be made. Shorter than `/health` may take to say that there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// A session is used again without a question whether it still works: a request finds out.
const RECYCLING: ManagerConfig = ManagerConfig { recycling_method: RecyclingMethod::Fast };

/// Sessions that keep what users say.
const FEEDBACK_CONNECTIONS: usize = 2;

/// A pool of read-only sessions, and one that may insert feedback, as another role where one is configured.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    feedback: Pool,
    timeout: Duration,
    /// For messages, without the password.
    place: String,
}

impl Postgres {
    pub fn new(url: &str, config: &ApiConfig) -> Result<Self, StoreError> {
        let feedback_url = match &config.feedback_store {
            Some(StoreUrl::Postgres(url)) => url,
            _ => url,
        };
        Ok(Postgres {
            pool: pool(url, config, "on", config.store_connections.max(1))?,
            feedback: pool(feedback_url, config, "off", FEEDBACK_CONNECTIONS)?,
            timeout: config.statement_timeout,
            place: StoreUrl::Postgres(url.to_owned()).to_string(),
        })
    }

    /// The triggers of `feedback` number it and show it.
    pub async fn keep_opinion(&self, opinion: Opinion) -> Result<(), StoreError> {
        let client = self.client(&self.feedback).await?;
        let Opinion { anomaly_id, event, verdict, applies, note, author } = opinion;
        let kept = async {
            let statement = client.prepare_cached(KEEP_OPINION).await?;
            client.execute(&statement, &[&anomaly_id, &event, &verdict, &applies, &note, &author]).await
        };
        match tokio::time::timeout(self.timeout * 2, kept).await {
            Ok(kept) => kept.map(drop).map_err(|e| self.failed(e)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Sends all statements at once and awaits the answers in order: one round trip.
    pub async fn fetch_all<const N: usize>(&self, sqls: [Sql; N]) -> Result<[Vec<Row>; N], StoreError> {
        let client = self.client(&self.pool).await?;
        let answers = try_join_all(sqls.iter().map(|sql| rows(&client, sql)));
        // The server keeps the time; this is for a network that swallows its answer.
        let answers = match tokio::time::timeout(self.timeout * 2, answers).await {
            Ok(answers) => answers.map_err(|e| self.failed(e))?,
            Err(_) => return Err(self.timed_out()),
        };
        answers.try_into().map_err(|_| StoreError::Mismatch("an answer is missing".into()))
    }

    /// The transactions that a snapshot sees tell all that it can see, whoever wrote it.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        let sql = Sql::new(super::Dialect::Postgres, "select cast(pg_current_snapshot() as text)");
        let [rows] = self.fetch_all([sql]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Mismatch("no snapshot".into()))?;
        row.get::<String>(0).map(Revision::new)
    }

    async fn client(&self, pool: &Pool) -> Result<Client, StoreError> {
        pool.get().await.map_err(|error| match error {
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => self.timed_out(),
            PoolError::Backend(error) => self.failed(error),
            other => self.unavailable(other),
        })
    }

    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => self.timed_out(),
            Some(&(SqlState::UNDEFINED_COLUMN | SqlState::SYNTAX_ERROR | SqlState::UNDEFINED_FUNCTION)) => {
                StoreError::Mismatch(cause(&error))
            }
            _ => self.unavailable(cause(&error)),
        }
    }

    fn timed_out(&self) -> StoreError {
        StoreError::TimedOut { limit_ms: self.timeout.as_millis() }
    }

    fn unavailable(&self, cause: impl std::fmt::Display) -> StoreError {
        StoreError::Unavailable { store: self.place.clone(), cause: cause.to_string() }
    }
}

fn pool(url: &str, config: &ApiConfig, read_only: &str, connections: usize) -> Result<Pool, StoreError> {
    let place = StoreUrl::Postgres(url.to_owned()).to_string();
    let unavailable = |cause: String| StoreError::Unavailable { store: place.clone(), cause };
    let (plain, ssl) =
        SslOptions::take(url).map_err(|found| unavailable(format!("the URL cannot be read: {found}")))?;
    let mut session: tokio_postgres::Config = plain
        .parse()
        .map_err(|e: tokio_postgres::Error| unavailable(format!("the URL cannot be read: {e}")))?;
    let given = session.get_options().unwrap_or_default();
    let timeout_ms = config.statement_timeout.as_millis();
    session.options(format!(
        "{given} -c default_transaction_read_only={read_only} -c statement_timeout={timeout_ms} -c timezone=UTC"
    ));
    session.application_name("smartlog-api").connect_timeout(CONNECT_TIMEOUT);
    session.ssl_mode(match ssl.mode {
        SslMode::Disable => DriverMode::Disable,
        SslMode::Prefer => DriverMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverMode::Require,
    });
    let manager = manager(session, &ssl).map_err(unavailable)?;
    let timeouts = Timeouts {
        wait: Some(config.statement_timeout),
        create: Some(CONNECT_TIMEOUT),
        recycle: Some(CONNECT_TIMEOUT),
    };
    Pool::builder(manager)
        .max_size(connections)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| unavailable(e.to_string()))
}

#[cfg(feature = "tls")]
fn manager(session: tokio_postgres::Config, ssl: &SslOptions) -> Result<Manager, String> {
    let connector = super::tls::connector(ssl).map_err(|error| {
        format!("the URL's sslrootcert does not name a readable PEM file of certificate authorities: {error}")
    })?;
    Ok(Manager::from_config(session, connector, RECYCLING))
}

#[cfg(not(feature = "tls"))]
fn manager(session: tokio_postgres::Config, ssl: &SslOptions) -> Result<Manager, String> {
    if ssl.requires() {
        return Err(
            "its sslmode asks for TLS, which this program was built without: build it with --features tls, \
                    or set sslmode=prefer"
                .into(),
        );
    }
    Ok(Manager::from_config(session, tokio_postgres::NoTls, RECYCLING))
}

/// tokio-postgres prints its own level only ("db error"); the reason is one below.
fn cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn rows(client: &Client, sql: &Sql) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(&sql.text).await?;
    let args: Vec<Box<dyn ToSql + Sync + Send>> = sql.args.iter().map(bound).collect();
    let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| arg.as_ref() as &(dyn ToSql + Sync)).collect();
    let found = client.query(&statement, &args).await?;
    Ok(found.into_iter().map(Row::Postgres).collect())
}

fn bound(arg: &Arg) -> Box<dyn ToSql + Sync + Send> {
    match arg {
        Arg::Int(number) => Box::new(*number),
        Arg::Text(text) => Box::new(text.clone()),
        Arg::Time(time) => Box::new(*time),
        Arg::Words(words) => Box::new(words.clone()),
    }
}
