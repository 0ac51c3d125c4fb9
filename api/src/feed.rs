//! The anomaly stream: one poller of `anomaly_events` for any number of subscribers.
//!
//! ```text
//!   anomaly_events ──▶ run(): every 250 ms, only while somebody listens ──▶ broadcast (bounded) ──▶ subscriber
//!         ▲                                                                                            │
//!         └──────── replay after `Last-Event-ID`, or when a subscriber fell behind the broadcast ◀─────┘
//! ```
//! `seq` is gapless and in commit order, so a subscriber that knows its last `seq` misses nothing and sees nothing twice.

use crate::app::App;
use crate::routes::anomalies::Anomaly;
use crate::store::{Arg, Row, Sql, StoreError};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
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
    let change = Change {
        seq: row.get(0)?,
        kind: row.get(1)?,
        reason: row.get(2)?,
        clock: row.get(3)?,
        anomaly_id,
        revision: row.get(5)?,
        status: row.get(6)?,
        anomaly: Anomaly::from_event(anomaly_id, episode.get(), row.get(8)?, row.get(9)?),
    };
    let data = serde_json::to_vec(&change).map_err(|e| StoreError::Mismatch(e.to_string()))?;
    let (service, anomaly_type, severity) =
        change.anomaly.map_or((None, None, None), |a| (a.service, Some(a.anomaly_type), a.severity));
    Ok(Rendered { seq: change.seq, service, anomaly_type, severity, data: data.into() })
}

/// Polls while somebody listens, until `stop`.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    stop.run_until_cancelled(poll(&app)).await;
}

async fn poll(app: &App) {
    loop {
        app.feed.joined.notified().await;
        let clock_told = tokio::time::Instant::now();
        let mut poller = Poller { app, seq: None, told: None, clock: None, clock_told };
        while app.feed.is_heard() {
            // Failures are noted where they happen; subscribers learn that what they see may be stale.
            if poller.step().await.is_err() {
                let _ = app.feed.sender.send(Message::Stale);
                tokio::time::sleep(CLOCK_INTERVAL).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
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
    clock_told: tokio::time::Instant,
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
            for change in changes {
                last = change.seq;
                self.send(Message::Change(change));
            }
            self.seq = Some(last);
            if is_all {
                break;
            }
        }
        self.tell_clock().await
    }

    async fn find_place(&self) -> Result<i64, StoreError> {
        let newest = newest_seq(self.app).await?;
        self.send(Message::Newest(newest));
        Ok(newest)
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
        self.clock_told = tokio::time::Instant::now();
        if self.clock.as_ref() != Some(&json) {
            self.clock = Some(json.clone());
            self.send(Message::Clock(json));
        }
        Ok(())
    }
}
