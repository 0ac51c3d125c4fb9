//! The aggregates of one pipeline in PostgreSQL.
//!
//! One session holds the lease and writes: when it dies, its transaction and its lease end together, so a successor
//! that has the lease knows that nothing of its predecessor is under way any more.
//!
//! ```text
//!   commit:  BEGIN, fence, positions, sums, hours, detectors ─▶   all sent at once
//!            episodes and their events                       ─▶   only when there are any
//!            COMMIT                                          ─▶   the answer lost? the stored sequence tells
//! ```

use super::aggregates::{Changed, write_aggregates};
use super::episodes::write_episodes;
use super::lock_key;
use super::session::{Session, bounded, classify, migrate, no_answer};
use super::snapshot::{stored_positions, stored_sequence, take_over};
use super::statements::Statements;
use crate::config::{PostgresUrl, StoreConfig};
use crate::error::{Fault, SinkError};
use crate::plan::{Held, Move, StatePlan, fenced_position, never_poison, not_open};
use crate::retry::Patience;
use crate::{AGGREGATES, StateStore};
use async_trait::async_trait;
use smartlog_schema::commit::{EpochCommit, Snapshot};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error};

/// [`StateStore`] in PostgreSQL. The lease is an advisory lock.
pub(crate) struct PostgresState {
    url: PostgresUrl,
    pipeline: String,
    max_lateness_us: i64,
    attempt_timeout: Duration,
    patience: Patience,
    migrated: bool,
    session: Option<Ready>,
    held: Option<Held>,
    /// Server process of our last session: it may hold the lease on when the network cut us off from it.
    last_pid: Option<i32>,
}

struct Ready {
    session: Session,
    statements: Statements,
}

/// What became of an attempt to reconnect.
enum Found {
    /// The state is as before the commit that is being tried.
    Before,
    /// The commit that is being tried went through: only its answer was lost.
    Applied,
}

impl PostgresState {
    pub fn new(url: PostgresUrl, config: &StoreConfig, patience: Patience) -> Self {
        PostgresState {
            url,
            pipeline: config.pipeline.clone(),
            max_lateness_us: i64::try_from(config.max_lateness.as_micros()).unwrap_or(i64::MAX),
            attempt_timeout: config.attempt_timeout,
            patience,
            migrated: false,
            session: None,
            held: None,
            last_pid: None,
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(Error) -> SinkError {
        let store = self.url.name.clone();
        move |error| classify(&store, doing, &error)
    }

    /// A session whose attempt failed is not used again.
    fn settle<T>(&mut self, result: Result<T, SinkError>) -> Result<T, SinkError> {
        if result.is_err()
            && let Some(broken) = self.session.take()
        {
            broken.session.kill();
        }
        result
    }

    async fn try_open(&mut self) -> Result<(Held, Snapshot), SinkError> {
        if !self.migrated {
            migrate(&self.url, self.attempt_timeout).await?;
            self.migrated = true;
        }
        let session = self.connect().await?;
        let taken = take_over(&session.client, &self.url.name, &self.pipeline, self.max_lateness_us).await?;
        let statements =
            Statements::prepare(&session.client).await.map_err(self.failed("prepare statements"))?;
        self.session = Some(Ready { session, statements });
        Ok(taken)
    }

    /// A new session that holds the lease.
    async fn connect(&mut self) -> Result<Session, SinkError> {
        let session = Session::connect(&self.url, self.attempt_timeout).await?;
        let row = session
            .client
            .query_one(
                concat!(
                    "SELECT pg_try_advisory_lock(k), pg_backend_pid(), k FROM ",
                    lock_key!("$1::text"),
                    " AS k"
                ),
                &[&self.pipeline],
            )
            .await
            .map_err(self.failed("take the lease"))?;
        if !row.get::<_, bool>(0) {
            return Err(self.lease_is_held(&session.client, row.get(2)).await?);
        }
        self.last_pid = Some(row.get(1));
        Ok(session)
    }

    /// Who holds the lease. When it is a session of ours that we lost, it is ended.
    async fn lease_is_held(&self, client: &Client, key: i64) -> Result<SinkError, SinkError> {
        let holder = client
            .query_opt(
                "SELECT l.pid, coalesce(host(a.client_addr), 'local'),
                        CASE WHEN a.pid = $2 THEN pg_terminate_backend(a.pid) ELSE false END
                 FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND (l.classid::bigint << 32) | l.objid::bigint = $1",
                &[&key, &self.last_pid],
            )
            .await
            .map_err(self.failed("take the lease"))?;
        let found = match holder {
            Some(row) => {
                let (pid, host): (i32, String) = (row.get(0), row.get(1));
                format!("another process holds it (server process {pid}, from {host})")
            }
            None => "another process held it a moment ago".into(),
        };
        Ok(SinkError::Transient(Fault {
            store: self.url.name.clone(),
            doing: format!("take the lease of pipeline {:?}", self.pipeline),
            found,
            advice: "waiting for it to end".into(),
        }))
    }

    /// Makes sure of a session that holds the lease, and of where the stored state stands.
    async fn reconnect(&mut self, plan: &StatePlan) -> Result<Found, SinkError> {
        if self.session.is_some() {
            return Ok(Found::Before);
        }
        let session = self.connect().await?;
        let found =
            stored_sequence(&session.client, &self.pipeline).await.map_err(self.failed("commit an epoch"))?;
        let ours = Some(plan.before.holder);
        let statements =
            Statements::prepare(&session.client).await.map_err(self.failed("prepare statements"))?;
        self.session = Some(Ready { session, statements });
        match found {
            Some((sequence, holder)) if holder == ours && sequence == plan.before.sequence => {
                Ok(Found::Before)
            }
            Some((sequence, holder)) if holder == ours && sequence == plan.after.sequence => {
                Ok(Found::Applied)
            }
            found => Err(plan.fenced(&self.url.name, &self.pipeline, found)),
        }
    }

    async fn try_commit(&mut self, plan: &StatePlan) -> Result<(), SinkError> {
        if let Found::Applied = self.reconnect(plan).await? {
            return Ok(());
        }
        let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "commit an epoch")) };
        let (client, statements) = (&ready.session.client, &ready.statements);
        let failed = self.failed("commit an epoch");
        let changed = write_aggregates(client, statements, &self.pipeline, plan).await.map_err(&failed)?;
        self.check_fence(client, plan, changed).await?;
        if !plan.changes.is_empty() {
            write_episodes(client, statements, plan).await.map_err(&failed)?;
        }
        client.batch_execute("COMMIT").await.map_err(&failed)
    }

    async fn check_fence(
        &self,
        client: &Client,
        plan: &StatePlan,
        changed: Changed,
    ) -> Result<(), SinkError> {
        let new = plan.moves.iter().filter(|m| m.expected.is_none()).count() as u64;
        let grown = plan.moves.len() as u64 - new;
        if (changed.state, changed.grown, changed.new) == (1, grown, new) {
            return Ok(());
        }
        // Our own changes must not be taken for another's.
        let failed = self.failed("commit an epoch");
        client.batch_execute("ROLLBACK").await.map_err(&failed)?;
        if changed.state != 1 {
            let found = stored_sequence(client, &self.pipeline).await.map_err(failed)?;
            return Err(plan.fenced(&self.url.name, &self.pipeline, found));
        }
        let stored = stored_positions(client).await.map_err(failed)?;
        let is_lost = |m: &&Move| stored.get(&m.partition).copied().flatten() != m.expected;
        match plan.moves.iter().find(is_lost) {
            Some(lost) => {
                let found = stored.get(&lost.partition).copied();
                Err(fenced_position(&self.url.name, AGGREGATES, lost, found))
            }
            // Put back meanwhile: look again.
            None => Err(no_answer(
                &self.url.name,
                "commit an epoch",
                "a position changed and changed back".into(),
            )),
        }
    }
}

#[async_trait]
impl StateStore for PostgresState {
    async fn open(&mut self) -> Result<Snapshot, SinkError> {
        self.session = None;
        let (patience, limit, store) = (self.patience.clone(), self.attempt_timeout, self.url.name.clone());
        let mut attempts = patience.attempts();
        loop {
            let result = bounded(&patience, limit, &store, "open the store", self.try_open()).await;
            match self.settle(result) {
                Ok((held, snapshot)) => {
                    self.held = Some(held);
                    patience.health.recovered();
                    return Ok(snapshot);
                }
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let Some(held) = &self.held else { return Err(not_open(&self.url.name, "commit an epoch")) };
        let begun = Instant::now();
        let plan = StatePlan::new(commit, held);
        let (patience, limit, store) = (self.patience.clone(), self.attempt_timeout, self.url.name.clone());
        let mut attempts = patience.attempts();
        loop {
            let result = bounded(&patience, limit, &store, "commit an epoch", self.try_commit(&plan)).await;
            match self.settle(result) {
                Ok(()) => break,
                Err(error) => attempts.after(never_poison(error)).await?,
            }
        }
        patience.health.committed(begun.elapsed(), plan.seconds.len() as u64, 0);
        self.held = Some(plan.after);
        Ok(())
    }
}
