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

use super::lock_key;
use super::session::{Answer, Session, begin, bounded, classify, execute, migrate, no_answer, send_together};
use super::types::Micros;
use crate::config::{PostgresUrl, StoreConfig};
use crate::episode::{
    EpisodeRow, MODEL_VERSION_CHARS, SERVICE_CHARS, event_json, json_or_string, micros, seconds, storable,
};
use crate::error::{Fault, SinkError};
use crate::plan::{
    Held, Move, StatePlan, another_pipeline, fenced_position, never_poison, not_open, read_partition_clocks,
    write_partition_clocks,
};
use crate::retry::Patience;
use crate::{AGGREGATES, StateStore};
use async_trait::async_trait;
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use smartlog_schema::commit::{ClockState, EpochCommit, Fingerprint, Snapshot};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::HOUR;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

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

// ---------------------------------------------------------------------------------------------------- opening

/// Makes this process the holder and reads what is there. The row locks wait for a commit that is under way.
async fn take_over(
    client: &Client,
    store: &str,
    pipeline: &str,
    max_lateness_us: i64,
) -> Result<(Held, Snapshot), SinkError> {
    let failed = |error: Error| classify(store, "read the stored state", &error);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let owner = client
        .query_opt("SELECT pipeline FROM pipeline_state WHERE pipeline <> $1 LIMIT 1", &[&pipeline])
        .await
        .map_err(failed)?;
    if let Some(owner) = owner {
        return Err(another_pipeline(store, pipeline, owner.get(0)));
    }
    let holder: i64 = rand::random();
    let state = client
        .query_one(
            "INSERT INTO pipeline_state AS p (pipeline, sequence, holder, event_seq, epoch) VALUES ($1, 1, $2, 0, 0)
             ON CONFLICT (pipeline) DO UPDATE SET sequence = p.sequence + 1, holder = excluded.holder
             RETURNING sequence, event_seq, clock_us, watermark_us, wall_us, partition_clocks::text",
            &[&pipeline, &holder],
        )
        .await
        .map_err(failed)?;
    let clock = match (state.get(2), state.get(3), state.get(4)) {
        (Some(clock_us), Some(watermark_us), Some(wall_us)) => {
            let partitions = read_partition_clocks(store, state.get(5))?;
            Some(ClockState { clock_us, watermark_us, wall_us, partitions })
        }
        _ => None,
    };
    let settled_before = clock.as_ref().map_or(i64::MIN, |c| c.clock_us.saturating_sub(max_lateness_us));
    let (positions, fingerprints) = read_positions(client).await.map_err(failed)?;
    let snapshot = Snapshot {
        positions: positions.clone(),
        fingerprints,
        clock,
        seconds: read_seconds(client).await.map_err(failed)?,
        detectors: read_detectors(client).await.map_err(failed)?,
        episodes: read_episodes(client, store, settled_before).await?,
    };
    client.batch_execute("COMMIT").await.map_err(failed)?;
    let (sequence, event_seq) = (state.get(0), state.get(1));
    Ok((Held { holder, sequence, event_seq, positions, forgotten_before: i64::MIN }, snapshot))
}

async fn read_positions(
    client: &Client,
) -> Result<(Positions, BTreeMap<TopicPartition, Fingerprint>), Error> {
    let rows = client
        .query(
            "SELECT topic, partition, next_offset, record_time_ms, payload_hash FROM sink_positions
             WHERE sink = $1 AND next_offset IS NOT NULL ORDER BY topic, partition FOR UPDATE",
            &[&AGGREGATES],
        )
        .await?;
    let (mut positions, mut fingerprints) = (Positions::new(), BTreeMap::new());
    for row in rows {
        let partition = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
        if let (Some(record_time_ms), Some(payload_hash)) = (row.get(3), row.get(4)) {
            fingerprints.insert(partition.clone(), Fingerprint { record_time_ms, payload_hash });
        }
        positions.insert(partition, row.get(2));
    }
    Ok((positions, fingerprints))
}

async fn read_seconds(client: &Client) -> Result<Vec<(compact_str::CompactString, i64, Sums)>, Error> {
    let rows = client
        .query(
            "SELECT service, second, logs, errors, message_chars FROM window_state
             ORDER BY service COLLATE \"C\", second",
            &[],
        )
        .await?;
    let read = |row: &Row| {
        let sums = Sums { logs: row.get(2), errors: row.get(3), message_chars: row.get(4) };
        (row.get::<_, &str>(0).into(), row.get(1), sums)
    };
    Ok(rows.iter().map(read).collect())
}

async fn read_detectors(client: &Client) -> Result<Vec<(compact_str::CompactString, Vec<u8>)>, Error> {
    let rows =
        client.query("SELECT service, state FROM baseline_state ORDER BY service COLLATE \"C\"", &[]).await?;
    Ok(rows.iter().map(|row| (row.get::<_, &str>(0).into(), row.get(1))).collect())
}

/// Episodes that are not closed, and closed ones that ended at or after `settled_before` (microseconds).
async fn read_episodes(client: &Client, store: &str, settled_before: i64) -> Result<Vec<Episode>, SinkError> {
    let rows = client
        .query(
            "SELECT service, anomaly_type, first_raised_at, status, severity, revision, detected_at, started_at,
                    last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
                    description, explanation::text, provenance::text
             FROM anomalies
             WHERE status IN ('provisional', 'open') OR coalesce(ended_at, last_seen) >= $1
             ORDER BY coalesce(service, '') COLLATE \"C\", anomaly_type COLLATE \"C\", first_raised_at",
            &[&Micros(settled_before)],
        )
        .await
        .map_err(|error| classify(store, "read the open episodes", &error))?;
    let time = |row: &Row, column: usize| row.get::<_, Micros>(column).0;
    let read = |row: Row| {
        EpisodeRow {
            first_raised_at: time(&row, 2),
            detected_at: time(&row, 6),
            started_at: time(&row, 7),
            last_seen: time(&row, 8),
            ended_at: row.get::<_, Option<Micros>>(9).map(|m| m.0),
            service: row.get(0),
            anomaly_type: row.get(1),
            status: row.get(3),
            severity: row.get(4),
            revision: row.get(5),
            metric_value: row.get(10),
            threshold: row.get(11),
            baseline: row.get(12),
            peak_value: row.get(13),
            score: row.get(14),
            model_version: row.get(15),
            description: row.get(16),
            explanation: row.get(17),
            provenance: row.get(18),
        }
        .read(store)
    };
    rows.into_iter().map(read).collect()
}

/// Sequence and holder; waits for a commit that is under way.
async fn stored_sequence(client: &Client, pipeline: &str) -> Result<Option<(i64, Option<i64>)>, Error> {
    let sql = "SELECT sequence, holder FROM pipeline_state WHERE pipeline = $1 FOR UPDATE";
    Ok(client.query_opt(sql, &[&pipeline]).await?.map(|row| (row.get(0), row.get(1))))
}

async fn stored_positions(client: &Client) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
    let sql = "SELECT topic, partition, next_offset FROM sink_positions WHERE sink = $1";
    let rows = client.query(sql, &[&AGGREGATES]).await?;
    Ok(rows.iter().map(|row| (TopicPartition::new(row.get::<_, &str>(0), row.get(1)), row.get(2))).collect())
}

// ------------------------------------------------------------------------------------------------- committing

struct Statements {
    fence: Statement,
    grow: Statement,
    begin_partition: Statement,
    add_seconds: Statement,
    drop_empty: Statement,
    forget: Statement,
    add_hourly: Statement,
    drop_empty_hours: Statement,
    keep_detectors: Statement,
    give_up_detectors: Statement,
    stored_episodes: Statement,
    write_episode: Statement,
    append_events: Statement,
    recount: Statement,
}

impl Statements {
    /// Sent together, for a reconnect must be quick.
    async fn prepare(client: &Client) -> Result<Self, Error> {
        let (fence, grow, begin_partition, add_seconds, drop_empty, forget, add_hourly) = tokio::try_join!(
            client.prepare(FENCE),
            client.prepare(GROW),
            client.prepare(BEGIN_PARTITION),
            client.prepare(ADD_SECONDS),
            client.prepare(DROP_EMPTY),
            client.prepare(FORGET),
            client.prepare(ADD_HOURLY),
        )?;
        let (
            drop_empty_hours,
            keep_detectors,
            give_up_detectors,
            stored_episodes,
            write_episode,
            append_events,
            recount,
        ) = tokio::try_join!(
            client.prepare(DROP_EMPTY_HOURS),
            client.prepare(KEEP_DETECTORS),
            client.prepare(GIVE_UP_DETECTORS),
            client.prepare(STORED_EPISODES),
            client.prepare(WRITE_EPISODE),
            client.prepare(APPEND_EVENTS),
            client.prepare(RECOUNT),
        )?;
        Ok(Statements {
            fence,
            grow,
            begin_partition,
            add_seconds,
            drop_empty,
            forget,
            add_hourly,
            drop_empty_hours,
            keep_detectors,
            give_up_detectors,
            stored_episodes,
            write_episode,
            append_events,
            recount,
        })
    }
}

const FENCE: &str = "UPDATE pipeline_state SET sequence = $1, event_seq = $2, epoch = $3, clock_us = $4,
                            watermark_us = $5, wall_us = $6, partition_clocks = $7::text::json, updated_at = now()
                     WHERE pipeline = $8 AND sequence = $9 AND holder = $10";
const GROW: &str = "UPDATE sink_positions AS p SET next_offset = m.next,
                            record_time_ms = coalesce(m.record_time_ms, p.record_time_ms),
                            payload_hash = coalesce(m.payload_hash, p.payload_hash), updated_at = now()
                     FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
                          AS m (topic, partition, next, record_time_ms, payload_hash, expected)
                     WHERE p.sink = $1 AND p.topic = m.topic AND p.partition = m.partition
                       AND p.next_offset = m.expected";
const BEGIN_PARTITION: &str =
    "INSERT INTO sink_positions (sink, topic, partition, next_offset, record_time_ms, payload_hash)
                     SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
                     ON CONFLICT DO NOTHING";
const ADD_SECONDS: &str = "INSERT INTO window_state AS w (service, second, logs, errors, message_chars)
                     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                     ON CONFLICT (second, service) DO UPDATE SET logs = w.logs + excluded.logs,
                            errors = w.errors + excluded.errors,
                            message_chars = w.message_chars + excluded.message_chars";
const DROP_EMPTY: &str =
    "DELETE FROM window_state AS w USING unnest($1::text[], $2::bigint[]) AS c (service, second)
                     WHERE w.second = c.second AND w.service = c.service
                       AND w.logs = 0 AND w.errors = 0 AND w.message_chars = 0";
const FORGET: &str = "DELETE FROM window_state WHERE second < $1";
const ADD_HOURLY: &str = "INSERT INTO hourly_metrics AS h (hour, service, log_count, error_count)
                     SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[])
                     ON CONFLICT (hour, service) DO UPDATE SET log_count = h.log_count + excluded.log_count,
                            error_count = h.error_count + excluded.error_count";
const DROP_EMPTY_HOURS: &str =
    "DELETE FROM hourly_metrics AS h USING unnest($1::timestamptz[], $2::text[]) AS c (hour, service)
                     WHERE h.hour = c.hour AND h.service = c.service
                       AND h.log_count = 0 AND h.error_count = 0 AND h.anomaly_count = 0";
const KEEP_DETECTORS: &str =
    "INSERT INTO baseline_state (service, state) SELECT * FROM unnest($1::text[], $2::bytea[])
                     ON CONFLICT (service) DO UPDATE SET state = excluded.state";
const GIVE_UP_DETECTORS: &str = "DELETE FROM baseline_state WHERE service = ANY ($1::text[])";
const STORED_EPISODES: &str = "SELECT c.at, a.id, a.started_at
                     FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
                          AS c (service, anomaly_type, first_raised_at, at)
                     JOIN anomalies AS a ON coalesce(a.service, '') = c.service
                      AND a.anomaly_type = c.anomaly_type AND a.first_raised_at = c.first_raised_at";
const APPEND_EVENTS: &str = "INSERT INTO anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode)
                     SELECT c.seq, c.anomaly_id, c.kind, c.revision, c.status, c.reason, $7, c.episode::json
                     FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $8::text[])
                          AS c (seq, anomaly_id, kind, revision, status, reason, episode)";
const RECOUNT: &str = "INSERT INTO hourly_metrics AS h (hour, service, anomaly_count)
                     SELECT c.hour, c.service, (
                         SELECT count(*) FROM anomalies AS a
                         WHERE a.service = c.service AND a.started_at >= c.hour AND a.started_at < c.until
                           AND a.status <> 'retracted')
                     FROM unnest($1::timestamptz[], $2::text[], $3::timestamptz[]) AS c (hour, service, until)
                     ON CONFLICT (hour, service) DO UPDATE SET anomaly_count = excluded.anomaly_count";

/// With an id ($1) the row is there and is changed; without, it is made. So ids are spent on new episodes only.
const WRITE_EPISODE: &str = "
    WITH changed AS (
        UPDATE anomalies SET status = $5, severity = $6, revision = $7, detected_at = $8, started_at = $9,
               last_seen = $10, ended_at = $11, metric_value = $12, threshold = $13, baseline = $14, peak_value = $15,
               score = $16, model_version = $17, description = $18, explanation = $19::text::json,
               provenance = $20::text::json, updated_at = now()
        WHERE id = $1::bigint RETURNING id
    ), made AS (
        INSERT INTO anomalies (service, anomaly_type, first_raised_at, status, severity, revision, detected_at,
               started_at, last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
               description, explanation, provenance)
        SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text::json,
               $20::text::json
        WHERE $1::bigint IS NULL RETURNING id
    )
    SELECT id FROM changed UNION ALL SELECT id FROM made";

/// How many rows the guarded statements changed.
struct Changed {
    state: u64,
    grown: u64,
    new: u64,
}

/// The columns of moved positions.
#[derive(Default)]
struct MoveColumns<'a> {
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    next: Vec<i64>,
    times: Vec<Option<i64>>,
    hashes: Vec<Option<i64>>,
    expected: Vec<i64>,
}

impl<'a> MoveColumns<'a> {
    fn of(moves: impl Iterator<Item = &'a Move>) -> Self {
        let mut columns = MoveColumns::default();
        for step in moves {
            columns.topics.push(step.partition.topic.as_str());
            columns.partitions.push(step.partition.partition);
            columns.next.push(step.next);
            columns.times.push(step.fingerprint.map(|f| f.record_time_ms));
            columns.hashes.push(step.fingerprint.map(|f| f.payload_hash));
            columns.expected.extend(step.expected);
        }
        columns
    }
}

impl MoveColumns<'_> {
    /// As the statements take them; `expected` only where there is one.
    fn values(&self, expected: bool) -> Vec<&(dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> =
            vec![&AGGREGATES, &self.topics, &self.partitions, &self.next, &self.times, &self.hashes];
        if expected {
            values.push(&self.expected);
        }
        values
    }
}

/// The columns of sums.
#[derive(Default)]
struct SumColumns<'a> {
    services: Vec<&'a str>,
    seconds: Vec<i64>,
    logs: Vec<i64>,
    errors: Vec<i64>,
    chars: Vec<i64>,
}

impl<'a> SumColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = SumColumns::default();
        for (service, second, sums) in &plan.seconds {
            columns.services.push(service);
            columns.seconds.push(*second);
            columns.logs.push(sums.logs);
            columns.errors.push(sums.errors);
            columns.chars.push(sums.message_chars);
        }
        columns
    }
}

/// The columns of hourly numbers.
#[derive(Default)]
struct HourColumns<'a> {
    hours: Vec<Micros>,
    services: Vec<&'a str>,
    logs: Vec<i64>,
    errors: Vec<i64>,
    may_empty: bool,
}

impl<'a> HourColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = HourColumns::default();
        for delta in &plan.hourly {
            columns.hours.push(Micros(micros(delta.hour)));
            columns.services.push(&delta.service);
            columns.logs.push(delta.logs);
            columns.errors.push(delta.errors);
            columns.may_empty |= delta.logs < 0;
        }
        columns
    }
}

/// The columns of detector states.
#[derive(Default)]
struct DetectorColumns<'a> {
    kept: Vec<&'a str>,
    states: Vec<&'a [u8]>,
    given_up: Vec<&'a str>,
}

impl<'a> DetectorColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = DetectorColumns::default();
        for (service, state) in &plan.detectors {
            match state {
                Some(state) => {
                    columns.kept.push(service);
                    columns.states.push(state);
                }
                None => columns.given_up.push(service),
            }
        }
        columns
    }
}

/// Begins the transaction and writes all but the episodes, in one round trip.
async fn write_aggregates(
    client: &Client,
    statements: &Statements,
    pipeline: &str,
    plan: &StatePlan,
) -> Result<Changed, Error> {
    let clocks = write_partition_clocks(&plan.clock);
    let grown = MoveColumns::of(plan.moves.iter().filter(|m| m.expected.is_some()));
    let new = MoveColumns::of(plan.moves.iter().filter(|m| m.expected.is_none()));
    let sums = SumColumns::of(plan);
    let hours = HourColumns::of(plan);
    let detectors = DetectorColumns::of(plan);
    let mut answers = vec![begin(client), fence(client, statements, &pipeline, plan, &clocks)];
    let mut add = |statement, values| answers.push(execute(client, statement, values));
    if !grown.topics.is_empty() {
        add(&statements.grow, grown.values(true));
    }
    if !new.topics.is_empty() {
        add(&statements.begin_partition, new.values(false));
    }
    if !sums.services.is_empty() {
        add(
            &statements.add_seconds,
            vec![&sums.services, &sums.seconds, &sums.logs, &sums.errors, &sums.chars],
        );
    }
    if plan.may_empty {
        add(&statements.drop_empty, vec![&sums.services, &sums.seconds]);
    }
    if let Some(before) = &plan.forget_seconds_before {
        add(&statements.forget, vec![before]);
    }
    if !hours.hours.is_empty() {
        add(&statements.add_hourly, vec![&hours.hours, &hours.services, &hours.logs, &hours.errors]);
    }
    if hours.may_empty {
        add(&statements.drop_empty_hours, vec![&hours.hours, &hours.services]);
    }
    if !detectors.kept.is_empty() {
        add(&statements.keep_detectors, vec![&detectors.kept, &detectors.states]);
    }
    if !detectors.given_up.is_empty() {
        add(&statements.give_up_detectors, vec![&detectors.given_up]);
    }
    let mut counts = send_together(answers).await?.into_iter().skip(1);
    let state = counts.next().unwrap_or(0);
    let mut next_if = |sent: bool| if sent { counts.next().unwrap_or(0) } else { 0 };
    Ok(Changed { state, grown: next_if(!grown.topics.is_empty()), new: next_if(!new.topics.is_empty()) })
}

/// Compare-and-set of the commit sequence.
fn fence<'a>(
    client: &'a Client,
    statements: &'a Statements,
    pipeline: &'a &'a str,
    plan: &'a StatePlan,
    clocks: &'a String,
) -> Answer<'a> {
    let (before, after, clock) = (&plan.before, &plan.after, &plan.clock);
    execute(
        client,
        &statements.fence,
        vec![
            &after.sequence,
            &after.event_seq,
            &plan.epoch,
            &clock.clock_us,
            &clock.watermark_us,
            &clock.wall_us,
            clocks,
            pipeline,
            &before.sequence,
            &before.holder,
        ],
    )
}

// --------------------------------------------------------------------------------------------------- episodes

/// Rare beside the sums, hence one statement an episode; but sent together.
async fn write_episodes(client: &Client, statements: &Statements, plan: &StatePlan) -> Result<(), Error> {
    let episodes = plan.episodes();
    let stored = stored_episodes(client, statements, &episodes).await?;
    let rows: Vec<EpisodeColumns<'_>> =
        episodes.iter().map(|(key, e)| EpisodeColumns::of(stored.get(key).map(|s| s.0), e)).collect();
    let written = futures_util::future::join_all(
        rows.iter().map(|row| async { client.query_one(&statements.write_episode, &row.values()).await }),
    )
    .await;
    let mut ids: BTreeMap<&EpisodeKey, i64> = BTreeMap::new();
    let mut errors = Vec::new();
    for (key, answer) in episodes.keys().zip(written) {
        match answer {
            Ok(row) => drop(ids.insert(key, row.get(0))),
            Err(error) => errors.push(error),
        }
    }
    if let Some(error) = super::session::root_cause(errors) {
        return Err(error);
    }
    let started_before: Vec<(EpisodeKey, i64)> =
        stored.iter().map(|(key, (_, started_at))| ((*key).clone(), *started_at)).collect();
    append_events(client, statements, plan, &ids).await?;
    recount_hours(client, statements, plan, &started_before).await
}

/// Id and `started_at` (seconds) of those that are stored already.
async fn stored_episodes<'a>(
    client: &Client,
    statements: &Statements,
    episodes: &BTreeMap<&'a EpisodeKey, &Episode>,
) -> Result<BTreeMap<&'a EpisodeKey, (i64, i64)>, Error> {
    let keys: Vec<&EpisodeKey> = episodes.keys().copied().collect();
    let services: Vec<_> =
        keys.iter().map(|k| storable(k.service.as_deref().unwrap_or_default(), SERVICE_CHARS)).collect();
    let types: Vec<&str> = keys.iter().map(|k| k.anomaly_type.as_str()).collect();
    let raised: Vec<Micros> = keys.iter().map(|k| Micros(micros(k.first_raised_at))).collect();
    let rows = client.query(&statements.stored_episodes, &[&services, &types, &raised]).await?;
    let read = |row: &Row| {
        let at = usize::try_from(row.get::<_, i64>(0) - 1).ok()?;
        Some((*keys.get(at)?, (row.get(1), seconds(row.get::<_, Micros>(2).0))))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// The values of [`WRITE_EPISODE`].
struct EpisodeColumns<'a> {
    id: Option<i64>,
    service: Option<Cow<'a, str>>,
    model_version: Option<Cow<'a, str>>,
    words: [&'static str; 3],
    revision: i32,
    first_raised_at: Micros,
    times: [Micros; 3],
    ended_at: Option<Micros>,
    numbers: [f64; 4],
    score: Option<f64>,
    texts: [Cow<'a, str>; 3],
}

impl<'a> EpisodeColumns<'a> {
    fn of(id: Option<i64>, episode: &'a Episode) -> Self {
        let key = &episode.key;
        let at = |second| Micros(micros(second));
        EpisodeColumns {
            id,
            service: key.service.as_deref().map(|s| storable(s, SERVICE_CHARS)),
            model_version: episode.model_version.as_deref().map(|v| storable(v, MODEL_VERSION_CHARS)),
            words: [key.anomaly_type.as_str(), episode.status.as_str(), episode.severity.as_str()],
            revision: episode.revision,
            first_raised_at: at(key.first_raised_at),
            times: [Micros(episode.detected_at_us), at(episode.started_at), at(episode.last_seen)],
            ended_at: episode.ended_at.map(at),
            numbers: [episode.metric_value, episode.threshold, episode.baseline, episode.peak_value],
            score: episode.score,
            texts: [
                storable(&episode.description, usize::MAX),
                json_or_string(&episode.explanation),
                json_or_string(&episode.provenance),
            ],
        }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 20] {
        let [anomaly_type, status, severity] = &self.words;
        let [detected_at, started_at, last_seen] = &self.times;
        let [metric_value, threshold, baseline, peak_value] = &self.numbers;
        let [description, explanation, provenance] = &self.texts;
        [
            &self.id,
            &self.service,
            anomaly_type,
            &self.first_raised_at,
            status,
            severity,
            &self.revision,
            detected_at,
            started_at,
            last_seen,
            &self.ended_at,
            metric_value,
            threshold,
            baseline,
            peak_value,
            &self.score,
            &self.model_version,
            description,
            explanation,
            provenance,
        ]
    }
}

async fn append_events(
    client: &Client,
    statements: &Statements,
    plan: &StatePlan,
    ids: &BTreeMap<&EpisodeKey, i64>,
) -> Result<(), Error> {
    let changes = &plan.changes;
    let seqs: Vec<i64> = (plan.before.event_seq + 1..).take(changes.len()).collect();
    let anomalies: Vec<i64> = changes.iter().map(|c| ids[&c.episode.key]).collect();
    let kinds: Vec<&str> = changes.iter().map(|c| c.kind.as_str()).collect();
    let revisions: Vec<i32> = changes.iter().map(|c| c.episode.revision).collect();
    let statuses: Vec<&str> = changes.iter().map(|c| c.episode.status.as_str()).collect();
    let reasons: Vec<_> =
        changes.iter().map(|c| c.reason.as_deref().map(|r| storable(r, usize::MAX))).collect();
    let episodes: Vec<String> = changes.iter().map(event_json).collect();
    let clock = Micros(plan.clock.clock_us);
    client
        .execute(
            &statements.append_events,
            &[&seqs, &anomalies, &kinds, &revisions, &statuses, &reasons, &clock, &episodes],
        )
        .await?;
    Ok(())
}

async fn recount_hours(
    client: &Client,
    statements: &Statements,
    plan: &StatePlan,
    started_before: &[(EpisodeKey, i64)],
) -> Result<(), Error> {
    let affected = plan.recounts(started_before);
    if affected.is_empty() {
        return Ok(());
    }
    let hours: Vec<Micros> = affected.iter().map(|(hour, _)| Micros(micros(*hour))).collect();
    let ends: Vec<Micros> = affected.iter().map(|(hour, _)| Micros(micros(hour + HOUR))).collect();
    let services: Vec<_> = affected.iter().map(|(_, service)| storable(service, SERVICE_CHARS)).collect();
    client.execute(&statements.recount, &[&hours, &services, &ends]).await?;
    client.execute(&statements.drop_empty_hours, &[&hours, &services]).await?;
    Ok(())
}
