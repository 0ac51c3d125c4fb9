//! Logs and dead letters in PostgreSQL.
//!
//! ```text
//!   write:  BEGIN, positions, COPY ─▶ pieces … ─▶ dead letters ─▶ COMMIT
//!              │                        │                           └ the answer lost? the stored positions tell
//!              │                        └ a row refused: again, halving under savepoints, that row dead-lettered
//!              └ compare-and-set: not ours any more? fenced
//! ```

use super::copy::{COPY, Encoder};
use super::days::{Day, ensure};
use super::log_positions::{claim, stored};
use super::session::{
    Session, begin, bounded, classify, describe, execute, migrate, no_answer, send_together,
};
use crate::config::{PostgresUrl, StoreConfig};
use crate::dead_letter::refused;
use crate::error::SinkError;
use crate::plan::{LogPlan, Move, check_claimed, fenced_position, not_open};
use crate::retry::Patience;
use crate::{LOGS, LogSink};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt;
use smartlog_schema::dead_letter::DeadLetter;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, CopyInSink, Error, Statement};

/// Dead letters of one statement, by payload bytes: a parameter is bounded by 1 GB.
const LETTER_BYTES: usize = 8 * 1024 * 1024;

/// [`LogSink`] into the tables `logs` and `dead_letters`.
pub(crate) struct PostgresLogs {
    url: PostgresUrl,
    attempt_timeout: Duration,
    patience: Patience,
    holder: i64,
    claimed: BTreeSet<TopicPartition>,
    positions: Positions,
    watermark_us: i64,
    /// Days whose partition is there.
    days: BTreeSet<Day>,
    migrated: bool,
    session: Option<Ready>,
}

struct Ready {
    session: Session,
    statements: Statements,
}

struct Statements {
    advance: Statement,
    note_watermark: Statement,
    copy: Statement,
    dead_letters: Statement,
}

/// What a write is about.
struct Work<'a> {
    plan: LogPlan,
    batches: &'a [LogBatch],
    /// The logs to write, as (batch, row); those on no day of our calendar left out.
    rows: Vec<(u32, u32)>,
    days: BTreeSet<Day>,
    /// The logs left out.
    undated: Vec<(u32, u32)>,
    watermark_us: i64,
}

impl<'a> Work<'a> {
    fn new(plan: LogPlan, batches: &'a [LogBatch], watermark_us: i64) -> Self {
        let (mut rows, mut days, mut undated) =
            (Vec::with_capacity(plan.rows()), BTreeSet::new(), Vec::new());
        let mut last = None;
        for stretch in &plan.stretches {
            for row in stretch.rows.clone() {
                let day = Day::of(batches[stretch.batch].get(row).timestamp_us);
                let at = (stretch.batch as u32, row as u32);
                match day {
                    Some(day) if last == Some(day) => rows.push(at),
                    Some(day) => {
                        days.insert(day);
                        rows.push(at);
                        last = Some(day);
                    }
                    None => undated.push(at),
                }
            }
        }
        Work { plan, batches, rows, days, undated, watermark_us }
    }

    fn log(&self, (batch, row): (u32, u32)) -> (&'a TopicPartition, LogRef<'a>) {
        let batch = &self.batches[batch as usize];
        (&batch.source, batch.get(row as usize))
    }

    fn refused(&self, at: (u32, u32), why: &str) -> (TopicPartition, DeadLetter) {
        let (source, log) = self.log(at);
        (source.clone(), refused(source.partition, &log, why))
    }
}

/// Why a transaction did not begin.
enum NotBegun {
    /// Some position is not where we left it, or not ours.
    NotOurs,
    Failed(Error),
}

/// What one write made of its logs.
struct Written {
    rows: u64,
    dead_letters: u64,
}

impl PostgresLogs {
    pub fn new(url: PostgresUrl, config: &StoreConfig, patience: Patience) -> Self {
        PostgresLogs {
            url,
            attempt_timeout: config.attempt_timeout,
            patience,
            holder: rand::random(),
            claimed: BTreeSet::new(),
            positions: Positions::new(),
            watermark_us: i64::MIN,
            days: BTreeSet::new(),
            migrated: false,
            session: None,
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(Error) -> SinkError + use<> {
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

    async fn connect(&self) -> Result<Ready, SinkError> {
        let session = Session::connect(&self.url, self.attempt_timeout).await?;
        let statements =
            Statements::prepare(&session.client).await.map_err(self.failed("prepare statements"))?;
        Ok(Ready { session, statements })
    }

    async fn try_resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        if !self.migrated {
            migrate(&self.url, self.attempt_timeout).await?;
            self.migrated = true;
        }
        if self.session.is_none() {
            self.session = Some(self.connect().await?);
        }
        let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "claim partitions")) };
        claim(&ready.session.client, self.holder, partitions).await.map_err(self.failed("claim partitions"))
    }

    /// Makes sure of a session; tells whether the write went through already and only its answer was lost.
    async fn reconnect(&mut self, plan: &LogPlan) -> Result<bool, SinkError> {
        if self.session.is_some() {
            return Ok(false);
        }
        let ready = self.connect().await?;
        let stored = stored(&ready.session.client, plan).await.map_err(self.failed("write logs"))?;
        self.session = Some(ready);
        let ours = Some(self.holder);
        let stands_at = |step: &Move, next| stored.get(&step.partition) == Some(&(next, ours));
        if !plan.moves.is_empty() && plan.moves.iter().all(|step| stands_at(step, Some(step.next))) {
            return Ok(true);
        }
        match plan.moves.iter().find(|step| !stands_at(step, step.expected)) {
            None => Ok(false),
            Some(lost) => {
                let found = stored.get(&lost.partition).map(|(next, _)| *next);
                Err(fenced_position(&self.url.name, LOGS, lost, found))
            }
        }
    }

    async fn try_write(&mut self, work: &Work<'_>) -> Result<Written, SinkError> {
        if self.reconnect(&work.plan).await? {
            return Ok(Written {
                rows: work.rows.len() as u64,
                dead_letters: work.plan.dead_letters() as u64,
            });
        }
        self.ensure_days(work).await?;
        match self.write_whole(work).await {
            Err(SinkError::Poison(_)) => {}
            result => return result,
        }
        // A partition may have been dropped meanwhile, which looks like a refused row: make sure once more.
        self.days.clear();
        let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "write logs")) };
        ready.session.client.batch_execute("ROLLBACK").await.map_err(self.failed("write logs"))?;
        self.ensure_days(work).await?;
        self.write_by_halves(work).await
    }

    async fn ensure_days(&mut self, work: &Work<'_>) -> Result<(), SinkError> {
        for day in work.days.difference(&self.days.clone()) {
            let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "write logs")) };
            ensure(&ready.session.client, *day).await.map_err(self.failed("make the partition of a day"))?;
            self.days.insert(*day);
        }
        Ok(())
    }

    /// The common case: one COPY.
    async fn write_whole(&self, work: &Work<'_>) -> Result<Written, SinkError> {
        let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "write logs")) };
        let (client, failed) = (&ready.session.client, self.failed("write logs"));
        if work.rows.is_empty() {
            self.begin_alone(ready, work).await?;
        } else {
            let (begun, sink) = tokio::join!(self.begin(ready, work), client.copy_in(&ready.statements.copy));
            if let Err(error) = begun {
                // The COPY must end before anything else can be said on this session.
                drop(sink);
                return Err(self.why_not_begun(ready, work, error).await);
            }
            copy(sink.map_err(&failed)?, work, &work.rows).await.map_err(&failed)?;
        }
        self.finish(ready, work, Vec::new()).await
    }

    /// Some row is refused: finds each such row by halving, and writes the others.
    async fn write_by_halves(&self, work: &Work<'_>) -> Result<Written, SinkError> {
        let Some(ready) = &self.session else { return Err(not_open(&self.url.name, "write logs")) };
        let (client, failed) = (&ready.session.client, self.failed("write logs"));
        self.begin_alone(ready, work).await?;
        let mut refused = Vec::new();
        let mut waiting = vec![&work.rows[..]];
        while let Some(rows) = waiting.pop() {
            client.batch_execute("SAVEPOINT half").await.map_err(&failed)?;
            let error = match copy_rows(client, &ready.statements.copy, work, rows).await {
                Ok(()) => {
                    client.batch_execute("RELEASE half").await.map_err(&failed)?;
                    continue;
                }
                Err(error) => error,
            };
            match classify(&self.url.name, "write logs", &error) {
                SinkError::Poison(_) => {}
                error => return Err(error),
            }
            client.batch_execute("ROLLBACK TO half; RELEASE half").await.map_err(&failed)?;
            match rows {
                [at] => refused.push(work.refused(*at, &refusal(&error))),
                rows => {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    waiting.extend([right, left]);
                }
            }
        }
        self.finish(ready, work, refused).await
    }

    /// Begins the transaction and moves the positions: from here on a successor waits for us.
    async fn begin(&self, ready: &Ready, work: &Work<'_>) -> Result<(), NotBegun> {
        let (client, statements) = (&ready.session.client, &ready.statements);
        let moves = &work.plan.moves;
        let topics: Vec<&str> = moves.iter().map(|m| m.partition.topic.as_str()).collect();
        let partitions: Vec<i32> = moves.iter().map(|m| m.partition.partition).collect();
        let next: Vec<i64> = moves.iter().map(|m| m.next).collect();
        let expected: Vec<Option<i64>> = moves.iter().map(|m| m.expected).collect();
        let mut answers = vec![
            begin(client),
            execute(
                client,
                &statements.advance,
                vec![&LOGS, &self.holder, &topics, &partitions, &next, &expected],
            ),
        ];
        if work.watermark_us != i64::MIN {
            let values: Vec<&(dyn ToSql + Sync)> = vec![&LOGS, &self.holder, &work.watermark_us];
            answers.push(execute(client, &statements.note_watermark, values));
        }
        match send_together(answers).await {
            Ok(counts) if counts[1] == moves.len() as u64 => Ok(()),
            Ok(_) => Err(NotBegun::NotOurs),
            Err(error) => Err(NotBegun::Failed(error)),
        }
    }

    async fn begin_alone(&self, ready: &Ready, work: &Work<'_>) -> Result<(), SinkError> {
        match self.begin(ready, work).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_begun(ready, work, error).await),
        }
    }

    async fn why_not_begun(&self, ready: &Ready, work: &Work<'_>, error: NotBegun) -> SinkError {
        let failed = self.failed("write logs");
        let client = &ready.session.client;
        if let NotBegun::Failed(error) = error {
            return failed(error);
        }
        // Our own changes must not be taken for another's.
        if let Err(error) = client.batch_execute("ROLLBACK").await {
            return failed(error);
        }
        let stored = match stored(client, &work.plan).await {
            Ok(stored) => stored,
            Err(error) => return failed(error),
        };
        let is_lost = |m: &&Move| stored.get(&m.partition) != Some(&(m.expected, Some(self.holder)));
        match work.plan.moves.iter().find(is_lost) {
            Some(lost) => {
                let found = stored.get(&lost.partition).map(|(next, _)| *next);
                fenced_position(&self.url.name, LOGS, lost, found)
            }
            None => no_answer(&self.url.name, "write logs", "a position changed and changed back".into()),
        }
    }

    async fn finish(
        &self,
        ready: &Ready,
        work: &Work<'_>,
        refused: Vec<(TopicPartition, DeadLetter)>,
    ) -> Result<Written, SinkError> {
        let (client, failed) = (&ready.session.client, self.failed("write logs"));
        let undated: Vec<_> = work
            .undated
            .iter()
            .map(|at| work.refused(*at, "its time is not of the years 1 to 9999"))
            .collect();
        let given = work.plan.stretches.iter().flat_map(|stretch| {
            let batch = &work.batches[stretch.batch];
            batch.dead_letters[stretch.dead_letters.clone()].iter().map(|letter| (&batch.source, letter))
        });
        let ours = refused.iter().chain(&undated).map(|(source, letter)| (source, letter));
        let letters: Vec<(&TopicPartition, &DeadLetter)> = given.chain(ours).collect();
        write_dead_letters(client, &ready.statements.dead_letters, &letters).await.map_err(&failed)?;
        client.batch_execute("COMMIT").await.map_err(&failed)?;
        Ok(Written { rows: (work.rows.len() - refused.len()) as u64, dead_letters: letters.len() as u64 })
    }
}

#[async_trait]
impl LogSink for PostgresLogs {
    fn name(&self) -> &str {
        LOGS
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        let (patience, limit, store) = (self.patience.clone(), self.attempt_timeout, self.url.name.clone());
        let mut attempts = patience.attempts();
        loop {
            let result =
                bounded(&patience, limit, &store, "claim partitions", self.try_resume(partitions)).await;
            match self.settle(result) {
                Ok(positions) => {
                    self.claimed.extend(partitions.iter().cloned());
                    self.positions.extend(positions.clone());
                    patience.health.recovered();
                    return Ok(positions);
                }
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError> {
        check_claimed(&self.url.name, &self.claimed, batches)?;
        let plan = LogPlan::new(batches, &self.positions);
        if plan.moves.is_empty() && (watermark_us <= self.watermark_us || self.claimed.is_empty()) {
            return Ok(());
        }
        let begun = Instant::now();
        let work = Work::new(plan, batches, watermark_us);
        let (patience, limit, store) = (self.patience.clone(), self.attempt_timeout, self.url.name.clone());
        let mut attempts = patience.attempts();
        let written = loop {
            let result = bounded(&patience, limit, &store, "write logs", self.try_write(&work)).await;
            match self.settle(result) {
                Ok(written) => break written,
                Err(error) => attempts.after(error).await?,
            }
        };
        self.positions.extend(work.plan.moves.iter().map(|m| (m.partition.clone(), m.next)));
        self.watermark_us = self.watermark_us.max(watermark_us);
        patience.health.committed(begun.elapsed(), written.rows, written.dead_letters);
        Ok(())
    }
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Statements {
            advance: client
                .prepare(
                    "UPDATE sink_positions AS p SET next_offset = m.next, updated_at = now()
                     FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[])
                          AS m (topic, partition, next, expected)
                     WHERE p.sink = $1 AND p.holder = $2 AND p.topic = m.topic AND p.partition = m.partition
                       AND p.next_offset IS NOT DISTINCT FROM m.expected",
                )
                .await?,
            note_watermark: client
                .prepare(
                    "UPDATE sink_positions SET watermark_us = $3
                     WHERE sink = $1 AND holder = $2 AND coalesce(watermark_us < $3, true)",
                )
                .await?,
            copy: client.prepare(COPY).await?,
            dead_letters: client
                .prepare(
                    "INSERT INTO dead_letters (kafka_topic, kafka_partition, kafka_offset, reason, detail, payload)
                     SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])
                     ON CONFLICT (kafka_topic, kafka_partition, kafka_offset) DO UPDATE
                     SET reason = excluded.reason, detail = excluded.detail, payload = excluded.payload,
                         created_at = now()",
                )
                .await?,
        })
    }
}

async fn copy_rows(
    client: &Client,
    copy_in: &Statement,
    work: &Work<'_>,
    rows: &[(u32, u32)],
) -> Result<(), Error> {
    copy(client.copy_in(copy_in).await?, work, rows).await
}

async fn copy(sink: CopyInSink<Bytes>, work: &Work<'_>, rows: &[(u32, u32)]) -> Result<(), Error> {
    let mut sink = pin!(sink);
    let mut encoder = Encoder::new();
    for at in rows {
        let (source, log) = work.log(*at);
        encoder.push(source, &log);
        if let Some(piece) = encoder.piece() {
            sink.send(piece).await?;
        }
    }
    sink.send(encoder.finish()).await?;
    sink.finish().await?;
    Ok(())
}

/// Why PostgreSQL refused a row, by code: its message may quote the row.
fn refusal(error: &Error) -> String {
    match error.code() {
        Some(state) => format!("PostgreSQL SQLSTATE {}", state.code()),
        None => describe(error),
    }
}

/// A re-created topic counts its offsets anew: the newer dead letter takes the place of the older.
async fn write_dead_letters(
    client: &Client,
    statement: &Statement,
    letters: &[(&TopicPartition, &DeadLetter)],
) -> Result<(), Error> {
    let mut rest = letters;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, letter)| {
            bytes += letter.payload.len() + letter.detail.len() + 64;
            bytes <= LETTER_BYTES
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        let topics: Vec<&str> = now.iter().map(|(source, _)| source.topic.as_str()).collect();
        let partitions: Vec<i32> = now.iter().map(|(source, _)| source.partition).collect();
        let offsets: Vec<i64> = now.iter().map(|(_, letter)| letter.offset).collect();
        let reasons: Vec<&str> = now.iter().map(|(_, letter)| letter.reason.as_str()).collect();
        let details: Vec<_> =
            now.iter().map(|(_, letter)| crate::episode::storable(&letter.detail, usize::MAX)).collect();
        let payloads: Vec<&[u8]> = now.iter().map(|(_, letter)| letter.payload.as_slice()).collect();
        client.execute(statement, &[&topics, &partitions, &offsets, &reasons, &details, &payloads]).await?;
        rest = later;
    }
    Ok(())
}
