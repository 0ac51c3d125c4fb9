//! The anomaly stream: one poller of `anomaly_events` for any number of subscribers.
//!
//! ```text
//!   anomaly_events ──▶ run(): every 250 ms, only while somebody listens ──▶ broadcast (bounded) ──▶ subscriber
//!         ▲               ▲                                                                            │
//!         │               └ Redis, where there is one: at once, and the store is asked once a second   │
//!         └──────── replay after `Last-Event-ID`, or when a subscriber fell behind the broadcast ◀─────┘
//! ```
//! What Redis leaves out, or brings late or not at all, comes from the store.
//! `seq` is gapless and in commit order, so a subscriber that knows its last `seq` misses nothing and sees nothing twice.

use crate::app::App;
use crate::routes::anomalies::Anomaly;
use crate::serving::http_metrics::Source;
use crate::shared::Tail;
use crate::store::{Arg, Row, Sql, StoreError};
use bytes::Bytes;
use jiff::Timestamp;
use redis::streams::StreamId;
use serde::Serialize;
use serde_json::value::RawValue;
use smartlog_schema::live::{Field, seq_of};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How often the store is asked while somebody listens.
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often the clock is told while no anomaly changes.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that a subscriber may be behind before it must go back to the store.
const BACKLOG: usize = 1_024;
/// Events read at once.
pub const BATCH: i64 = 500;
/// So often in a row the store knows what Redis has not told, before Redis is left out of account, and for how long.
const STRIKES: u32 = 2;
const LEFT_OUT: Duration = Duration::from_secs(10);

/// The data of one event of the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    /// The place in the stream; also the SSE event's `id`.
    #[schema(example = 42)]
    pub seq: i64,
    /// `raised`, `opened`, `updated`, `resolved`, `expired`, `retracted` or `reopened`.
    #[schema(example = "raised")]
    pub kind: String,
    /// Why, where that is not plain from the kind.
    pub reason: Option<String>,
    /// The clock when it happened.
    #[schema(value_type = String, format = DateTime)]
    pub clock: Timestamp,
    #[schema(example = 7)]
    pub anomaly_id: i64,
    #[schema(example = 1)]
    pub revision: i64,
    #[schema(example = "provisional")]
    pub status: String,
    /// The episode as this change left it; null when it was kept in a form that this version cannot read.
    pub anomaly: Option<Anomaly>,
}

/// The data of an event `feedback`.
#[derive(Debug, Serialize)]
struct Told {
    anomaly_id: i64,
    feedback: Option<String>,
}

/// One message to subscribers.
#[derive(Debug, Clone)]
pub enum Message {
    Change(Arc<Rendered>),
    /// The newest change when the poller began, or when the store was replaced: those before it are in the store only.
    Newest(i64),
    /// How far the numbers are: JSON of [`crate::routes::ClockNow`].
    Clock(Bytes),
    /// What a user just said of an anomaly; no change of the episode, and so without a place in the stream.
    Feedback(Arc<Rendered>),
    /// The store cannot be read: what is shown may be stale.
    Stale,
}

/// A change, ready to send, with what filters look at.
#[derive(Debug)]
pub struct Rendered {
    pub seq: i64,
    pub service: Option<String>,
    pub anomaly_type: Option<String>,
    pub severity: Option<String>,
    pub data: Bytes,
}

/// The broadcast that subscribers join.
pub struct Feed {
    sender: broadcast::Sender<Message>,
    joined: Notify,
}

impl Feed {
    pub fn new() -> Self {
        Feed { sender: broadcast::Sender::new(BACKLOG), joined: Notify::new() }
    }

    /// Joins; what was sent before is read from the store with [`changes_after`].
    pub fn subscribe(&self) -> broadcast::Receiver<Message> {
        let receiver = self.sender.subscribe();
        self.joined.notify_one();
        receiver
    }

    fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}

/// The changes after `seq`, oldest first, at most [`BATCH`].
pub async fn changes_after(app: &App, seq: i64) -> Result<Vec<Arc<Rendered>>, StoreError> {
    let rows = app.fetch(changes_sql(app, seq)).await?;
    rows.iter().map(|row| rendered(row).map(Arc::new)).collect()
}

/// The newest `seq`; 0 while nothing ever happened.
pub async fn newest_seq(app: &App) -> Result<i64, StoreError> {
    let rows = app.fetch(app.store.sql("select coalesce(max(seq), 0) from anomaly_events")).await?;
    rows.first().map_or(Ok(0), |row| row.get(0))
}

fn changes_sql(app: &App, seq: i64) -> Sql {
    let mut sql = app.store.sql(
        "select seq, kind, reason, clock, anomaly_id, revision, status, episode, created_at, \
         (select feedback from anomalies where id = anomaly_id) from anomaly_events where seq > ",
    );
    sql.arg(Arg::Int(seq)).push(" order by seq limit ").arg(Arg::Int(BATCH));
    sql
}

fn rendered(row: &Row) -> Result<Rendered, StoreError> {
    let anomaly_id = row.get(4)?;
    let episode: Box<RawValue> = row.get(7)?;
    render(Change {
        seq: row.get(0)?,
        kind: row.get(1)?,
        reason: row.get(2)?,
        clock: row.get(3)?,
        anomaly_id,
        revision: row.get(5)?,
        status: row.get(6)?,
        anomaly: Anomaly::from_event(anomaly_id, episode.get(), row.get(8)?, row.get(9)?),
    })
}

/// The change that an entry in Redis holds; `None` for what this version cannot read, which the store is asked for.
fn published(entry: &StreamId) -> Option<Rendered> {
    let text = |field: Field| entry.get::<String>(field.as_str());
    let number = |field: Field| entry.get::<i64>(field.as_str());
    let time = |field: Field| number(field).and_then(crate::time::from_micros);
    let anomaly_id = number(Field::AnomalyId)?;
    let (episode, feedback) = (text(Field::Episode)?, text(Field::Feedback));
    render(Change {
        seq: seq_of(&entry.id)?,
        kind: text(Field::Kind)?,
        reason: text(Field::Reason),
        clock: time(Field::Clock)?,
        anomaly_id,
        revision: number(Field::Revision)?,
        status: text(Field::Status)?,
        anomaly: Anomaly::from_event(anomaly_id, &episode, time(Field::CreatedAt)?, feedback),
    })
    .ok()
}

fn render(change: Change) -> Result<Rendered, StoreError> {
    let data = serde_json::to_vec(&change).map_err(|e| StoreError::Mismatch(e.to_string()))?;
    let (service, anomaly_type, severity) =
        change.anomaly.map_or((None, None, None), |a| (a.service, Some(a.anomaly_type), a.severity));
    Ok(Rendered { seq: change.seq, service, anomaly_type, severity, data: data.into() })
}

/// A change, when it is the one that is expected.
fn in_place((change, expected): (Rendered, i64)) -> Option<Rendered> {
    (change.seq == expected).then_some(change)
}

/// Polls while somebody listens, until `stop`.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    stop.run_until_cancelled(poll(&app)).await;
}

async fn poll(app: &App) {
    loop {
        app.feed.joined.notified().await;
        let mut poller = Poller {
            app,
            seq: None,
            told: None,
            clock: None,
            clock_told: Instant::now(),
            tail: None,
            has_heard_redis: false,
            strikes: 0,
            left_out_until: None,
        };
        while app.feed.is_heard() {
            // Failures are noted where they happen; subscribers learn that what they see may be stale.
            if poller.step().await.is_err() {
                let _ = app.feed.sender.send(Message::Stale);
                tokio::time::sleep(CLOCK_INTERVAL).await;
            }
            poller.wait().await;
        }
    }
}

struct Poller<'a> {
    app: &'a App,
    /// The newest change that was sent; `None` before the first look.
    seq: Option<i64>,
    /// The newest feedback that was sent; `None` before the first look.
    told: Option<i64>,
    clock: Option<Bytes>,
    clock_told: Instant,
    /// Redis, once the store has told which store it is.
    tail: Option<Tail>,
    /// Whether Redis was listened to for as long as it was to be, before this look at the store.
    has_heard_redis: bool,
    /// How often in a row the store knew what Redis had not told.
    strikes: u32,
    left_out_until: Option<Instant>,
}

impl Poller<'_> {
    async fn step(&mut self) -> Result<(), StoreError> {
        let mut last = match self.seq {
            Some(seq) => seq,
            None => self.find_place().await?,
        };
        loop {
            let changes = changes_after(self.app, last).await?;
            let is_all = (changes.len() as i64) < BATCH;
            if std::mem::take(&mut self.has_heard_redis) && !changes.is_empty() {
                self.strike();
            }
            for change in changes {
                last = change.seq;
                self.tell(change, "store");
            }
            self.seq = Some(last);
            if is_all {
                break;
            }
        }
        self.tell_clock().await
    }

    async fn find_place(&mut self) -> Result<i64, StoreError> {
        let newest = newest_seq(self.app).await?;
        self.tail = None;
        if let Some(shared) = &self.app.shared {
            let sql = "select identity from pipeline_state order by pipeline limit 1";
            let rows = self.app.fetch(self.app.store.sql(sql)).await?;
            let identity: Option<String> = rows.first().map(|row| row.get(0)).transpose()?;
            self.tail = identity.map(|identity| Tail::new(Arc::clone(shared), &identity));
        }
        self.send(Message::Newest(newest));
        Ok(newest)
    }

    /// Until the store is to be asked again; what Redis tells meanwhile is told at once.
    async fn wait(&mut self) {
        let is_left_out = self.left_out_until.is_some_and(|until| until > Instant::now());
        let tail = if is_left_out { None } else { self.tail.take() };
        let (Some(mut tail), Some(last)) = (tail, self.seq) else {
            return tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.has_heard_redis = self.listen(&mut tail, last).await;
        self.tail = Some(tail);
        if !self.has_heard_redis {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Tells what Redis has behind `last`, until it is time to look at the clock; `false` when it is away, or when what comes next
    /// is not in it: that has the store.
    async fn listen(&mut self, tail: &mut Tail, mut last: i64) -> bool {
        let until = self.clock_told + CLOCK_INTERVAL;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Some(entries) = tail.behind(last, left).await else { return false };
            let next: Vec<Rendered> =
                entries.iter().map_while(published).zip(last + 1..).map_while(in_place).collect();
            let is_all = next.len() == entries.len();
            for change in next {
                last = change.seq;
                self.strikes = 0;
                self.tell(Arc::new(change), "redis");
            }
            self.seq = Some(last);
            if !is_all {
                return false;
            }
        }
        true
    }

    fn strike(&mut self) {
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.strikes = 0;
            self.left_out_until = Some(Instant::now() + LEFT_OUT);
        }
    }

    fn tell(&self, change: Arc<Rendered>, source: &'static str) {
        self.app.metrics.changes.get_or_create(&Source { source }).inc();
        self.send(Message::Change(change));
    }

    /// That nobody listens is no fault: the loop around ends.
    fn send(&self, message: Message) {
        let _ = self.app.feed.sender.send(message);
    }

    /// Feedback is rare and its reader is a person: a look a second will do, also for what another API process took.
    async fn tell_feedback(&mut self) -> Result<(), StoreError> {
        let Some(told) = self.told else {
            let rows =
                self.app.fetch(self.app.store.sql("select coalesce(max(seq), 0) from feedback")).await?;
            self.told = Some(rows.first().map_or(Ok(0), |row| row.get(0))?);
            return Ok(());
        };
        let mut sql = self.app.store.sql(
            "select f.seq, a.id, a.feedback, a.service, a.anomaly_type, a.severity \
             from feedback f join anomalies a on a.id = f.anomaly_id where f.seq > ",
        );
        sql.arg(Arg::Int(told)).push(" order by f.seq limit ").arg(Arg::Int(BATCH));
        for row in self.app.fetch(sql).await? {
            let said = Told { anomaly_id: row.get(1)?, feedback: row.get(2)? };
            let data = serde_json::to_vec(&said).map_err(|e| StoreError::Mismatch(e.to_string()))?;
            let (service, anomaly_type, severity) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let seq = row.get(0)?;
            self.told = Some(seq);
            let rendered = Rendered { seq, service, anomaly_type, severity, data: data.into() };
            self.send(Message::Feedback(Arc::new(rendered)));
        }
        Ok(())
    }

    async fn tell_clock(&mut self) -> Result<(), StoreError> {
        if self.clock.is_some() && self.clock_told.elapsed() < CLOCK_INTERVAL {
            return Ok(());
        }
        self.tell_feedback().await?;
        let now = crate::routes::ClockNow::read(self.app).await?;
        // A store that was replaced by an emptier one would stay silent until it caught up with the old one.
        if newest_seq(self.app).await? < self.seq.unwrap_or(0) {
            self.seq = None;
        }
        let json = Bytes::from(serde_json::to_vec(&now).map_err(|e| StoreError::Mismatch(e.to_string()))?);
        self.clock_told = Instant::now();
        if self.clock.as_ref() != Some(&json) {
            self.clock = Some(json.clone());
            self.send(Message::Clock(json));
        }
        Ok(())
    }
}
