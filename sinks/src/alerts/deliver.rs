//! From `alert_outbox` to a receiver, one task a hook. A message is fixed in the outbox, with its key, before it is sent for
//! the first time: whatever happens in between, every attempt says the same under the same key.
//!
//! ```text
//!   pending ── due, not quiet, within the rate ─▶ keyed ── POST ─▶ sent
//!                                                   ▲       │ Retry-After, or back-off
//!                                                   └───────┘          refused ─▶ dropped
//! ```

use super::config::{AlertsConfig, HookConfig};
use super::lines::lines;
use super::message::{Message, Notice, Phase};
use super::policy::{RateLimit, after, back_off};
use super::post::{Outcome, post};
use crate::config::StoreConfig;
use crate::database::{Row, Step, Tables, values};
use crate::error::SinkError;
use crate::retry::Patience;
use jiff::Timestamp;
use smartlog_schema::anomaly::Severity;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Alerts that are looked at in one pass.
const LOOK: i64 = 200;
/// Without news, the outbox is looked at again after this.
const IDLE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(20);

/// A hook, as seen from outside.
#[derive(Debug)]
pub struct HookState {
    pub name: String,
    /// Alerts that wait, and since when the oldest does (microseconds; 0: none).
    pub pending: AtomicI64,
    pub oldest_us: AtomicI64,
    /// Messages that were taken, attempts that failed, alerts that were dropped.
    pub sent: AtomicU64,
    pub failures: AtomicU64,
    pub dropped: AtomicU64,
    /// Whether the last attempt worked.
    pub is_up: AtomicBool,
}

impl HookState {
    pub(super) fn new(name: &str) -> Self {
        HookState {
            name: name.to_owned(),
            pending: AtomicI64::new(0),
            oldest_us: AtomicI64::new(0),
            sent: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            is_up: AtomicBool::new(true),
        }
    }
}

/// Delivers until the process stops.
pub(super) async fn run(
    hook: HookConfig,
    config: Arc<AlertsConfig>,
    store: StoreConfig,
    patience: Patience,
    state: Arc<HookState>,
    news: Arc<Notify>,
) {
    let cancel = patience.cancel.clone();
    let mut deliverer = match Tables::new(&store, patience) {
        Ok(tables) => Deliverer {
            limit: RateLimit::new(config.rate_per_minute, Timestamp::now()),
            // A header takes no other characters.
            pipeline: store.pipeline.replace(|c: char| !c.is_ascii_graphic(), "_"),
            tables,
            hook,
            config,
            state,
            failures: 0,
            not_before: Timestamp::UNIX_EPOCH,
        },
        Err(error) => {
            tracing::error!(%error, "alerts are not delivered");
            return;
        }
    };
    while !cancel.is_cancelled() {
        let pause = match deliverer.pass().await {
            Ok(pause) => pause,
            Err(error) => {
                if !cancel.is_cancelled() {
                    tracing::warn!(%error, "alerts are delivered later");
                }
                IDLE
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = news.notified() => {}
            () = tokio::time::sleep(pause.clamp(SOON, IDLE)) => {}
        }
    }
}

struct Deliverer {
    tables: Tables,
    pipeline: String,
    hook: HookConfig,
    config: Arc<AlertsConfig>,
    state: Arc<HookState>,
    limit: RateLimit,
    /// Failures in a row, and until when nothing is tried.
    failures: u32,
    not_before: Timestamp,
}

/// One row of the outbox that is pending.
#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    id: i64,
    due_us: i64,
    severity: Severity,
    phase: String,
    anomaly_id: i64,
    notice: Notice,
    key: Option<String>,
    /// The receiver's name of the message that it changes. Empty: none is changed, although that could be.
    edits: Option<String>,
}

impl Waiting {
    const COLUMNS: &str = "id, due_us, severity, phase, anomaly_id, notice, message_key, external_ref";

    /// `None`: not written by this version; it stays where it is.
    fn read(row: &Row) -> Option<Self> {
        Some(Waiting {
            id: row.int(0),
            due_us: row.int(1),
            severity: Severity::parse(row.text(2)).unwrap_or(Severity::Low),
            phase: row.text(3).to_owned(),
            anomaly_id: row.int(4),
            notice: serde_json::from_str(row.text(5)).ok()?,
            key: row.maybe_text(6).map(str::to_owned),
            edits: row.maybe_text(7).map(str::to_owned),
        })
    }
}

impl Deliverer {
    /// Sends one message, if one is to be sent; gives how long to wait before the next look.
    async fn pass(&mut self) -> Result<Duration, SinkError> {
        let waiting = self.waiting().await?;
        let now = Timestamp::now();
        if now < self.not_before {
            return Ok(Duration::try_from(self.not_before.duration_since(now)).unwrap_or(IDLE));
        }
        let batch = match under_way(&waiting) {
            Some(batch) => batch,
            None => {
                let batch = match eligible(&waiting, &self.config, now) {
                    Ok(batch) => self.one_message(batch).await?,
                    Err(wait) => return Ok(wait),
                };
                if let Err(wait) = self.limit.take(now) {
                    return Ok(wait);
                }
                match self.fix(batch).await? {
                    Some(batch) => batch,
                    None => return Ok(SOON),
                }
            }
        };
        self.send(&batch).await?;
        Ok(SOON)
    }

    async fn waiting(&mut self) -> Result<Vec<Waiting>, SinkError> {
        let sql = "SELECT count(*), coalesce(min(created_us), 0) FROM alert_outbox WHERE hook = $1 AND status = 'pending'";
        let counted = self.tables.query(sql, values![self.hook.name.as_str()]).await?;
        if let Some(row) = counted.first() {
            self.state.pending.store(row.int(0), Ordering::Relaxed);
            self.state.oldest_us.store(row.int(1), Ordering::Relaxed);
            if row.int(0) == 0 {
                return Ok(Vec::new());
            }
        }
        // What is under way comes first, however much waits before it.
        let sql = format!(
            "SELECT {} FROM alert_outbox WHERE hook = $1 AND status = 'pending' \
             ORDER BY CASE WHEN message_key IS NULL THEN 1 ELSE 0 END, id LIMIT $2",
            Waiting::COLUMNS
        );
        let rows = self.tables.query(&sql, values![self.hook.name.as_str(), LOOK]).await?;
        Ok(rows.iter().filter_map(Waiting::read).collect())
    }

    /// Of what may be told, what fits into one message.
    async fn one_message(&mut self, mut eligible: Vec<Waiting>) -> Result<Vec<Waiting>, SinkError> {
        if self.hook.format.message_ref.is_some() {
            for row in
                eligible.iter_mut().filter(|row| row.phase != Phase::Firing.as_str() && row.edits.is_none())
            {
                row.edits = self.beginning(row.anomaly_id).await?;
            }
        }
        let edits = |row: &Waiting| row.edits.clone().filter(|name| !name.is_empty());
        let first = eligible.first().and_then(edits);
        eligible.retain(|row| edits(row) == first);
        eligible.truncate(self.hook.format.most);
        Ok(eligible)
    }

    /// The message that told of an episode's beginning.
    async fn beginning(&mut self, anomaly_id: i64) -> Result<Option<String>, SinkError> {
        let sql = "SELECT external_ref FROM alert_outbox WHERE hook = $1 AND anomaly_id = $2 AND status = 'sent' \
                   AND external_ref IS NOT NULL ORDER BY id DESC LIMIT 1";
        let rows = self.tables.query(sql, values![self.hook.name.as_str(), anomaly_id]).await?;
        Ok(rows.first().and_then(|row| row.maybe_text(0)).map(str::to_owned))
    }

    /// Makes `batch` one message; `None`: somebody changed it meanwhile.
    async fn fix(&mut self, mut batch: Vec<Waiting>) -> Result<Option<Vec<Waiting>>, SinkError> {
        let Some(first) = batch.first() else { return Ok(None) };
        // One that could not be changed and is told anew is another message.
        let anew = if first.edits.as_deref() == Some("") { "-anew" } else { "" };
        let key = format!("smartlog-{}-{}-{}{anew}", self.pipeline, self.hook.name, first.id);
        for row in &mut batch {
            row.notice.samples = lines(&mut self.tables, &row.notice).await?;
        }
        let sql = "UPDATE alert_outbox SET message_key = $2, external_ref = $3, notice = $4 \
                   WHERE id = $1 AND status = 'pending' AND message_key IS NULL";
        let step = |row: &Waiting| {
            let notice = serde_json::to_string(&row.notice).unwrap_or_default();
            Step::one(sql, values![row.id, key.as_str(), row.edits.as_deref(), notice])
        };
        let steps: Vec<Step> = batch.iter().map(step).collect();
        if !self.tables.apply(&steps).await? {
            return Ok(None);
        }
        batch.iter_mut().for_each(|row| row.key = Some(key.clone()));
        Ok(Some(batch))
    }

    async fn send(&mut self, batch: &[Waiting]) -> Result<(), SinkError> {
        let Some(key) = batch.first().and_then(|row| row.key.clone()) else { return Ok(()) };
        let edits = batch.first().and_then(|row| row.edits.clone()).filter(|name| !name.is_empty());
        let notices = self.notices(batch, edits.as_deref()).await?;
        let message = Message { key: key.clone(), notices, edits, at: Timestamp::now() };
        let request = (self.hook.format.render)(self.hook.url.expose(), &message);
        let name = &self.hook.name;
        match post(request, &key, self.config.timeout).await {
            Outcome::Taken { answer } => {
                self.recovered();
                self.state.sent.fetch_add(1, Ordering::Relaxed);
                let named = self.hook.format.message_ref.and_then(|name| name(&answer));
                self.taken(batch, named.or(message.edits)).await
            }
            Outcome::Later { found, .. } if message.edits.is_some() && found.starts_with("404") => {
                tracing::info!("hook {name}: the message that was to be changed is gone; a new one is sent");
                self.told_anew(batch).await
            }
            Outcome::Refused(found) => {
                tracing::error!("hook {name}: {} alerts were refused and are given up: {found}", batch.len());
                self.state.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.state.is_up.store(false, Ordering::Relaxed);
                self.given_up(batch, &found).await
            }
            Outcome::Later { wait, found } => {
                self.failures = self.failures.saturating_add(1);
                let wait = wait.unwrap_or_else(|| back_off(self.failures, rand::random()));
                self.not_before = after(Timestamp::now(), wait);
                self.state.failures.fetch_add(1, Ordering::Relaxed);
                self.state.is_up.store(false, Ordering::Relaxed);
                tracing::warn!("hook {name}: {found}; tried again in {:.0?}, nothing is lost", wait);
                self.noted(batch, &found).await
            }
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("hook {} takes alerts again", self.hook.name);
        }
        self.state.is_up.store(true, Ordering::Relaxed);
    }

    /// What the message says: of a message that is changed also what it said of other episodes.
    async fn notices(&mut self, batch: &[Waiting], edits: Option<&str>) -> Result<Vec<Notice>, SinkError> {
        let mut newest: BTreeMap<i64, Notice> = BTreeMap::new();
        if let Some(edits) = edits {
            let sql = "SELECT notice FROM alert_outbox WHERE hook = $1 AND external_ref = $2 AND status = 'sent' ORDER BY id";
            let rows = self.tables.query(sql, values![self.hook.name.as_str(), edits]).await?;
            let notices = rows.iter().filter_map(|row| serde_json::from_str::<Notice>(row.text(0)).ok());
            newest.extend(notices.map(|notice| (notice.id, notice)));
        }
        if edits.is_none() {
            return Ok(batch.iter().map(|row| row.notice.clone()).collect());
        }
        newest.extend(batch.iter().map(|row| (row.anomaly_id, row.notice.clone())));
        Ok(newest.into_values().collect())
    }

    // ------------------------------------------------------------------------------------------ what became of it

    async fn taken(&mut self, batch: &[Waiting], named: Option<String>) -> Result<(), SinkError> {
        let sql = "UPDATE alert_outbox SET status = 'sent', sent_us = $2, attempts = attempts + 1, external_ref = $3, \
                   last_error = NULL WHERE id = $1";
        let now = Timestamp::now().as_microsecond();
        self.each(batch, |row| Step::new(sql, values![row.id, now, named.as_deref()])).await
    }

    async fn told_anew(&mut self, batch: &[Waiting]) -> Result<(), SinkError> {
        let sql = "UPDATE alert_outbox SET message_key = NULL, external_ref = '', attempts = attempts + 1 WHERE id = $1";
        self.each(batch, |row| Step::new(sql, values![row.id])).await
    }

    async fn given_up(&mut self, batch: &[Waiting], found: &str) -> Result<(), SinkError> {
        let sql = "UPDATE alert_outbox SET status = 'dropped', attempts = attempts + 1, last_error = $2 WHERE id = $1";
        self.each(batch, |row| Step::new(sql, values![row.id, found])).await
    }

    async fn noted(&mut self, batch: &[Waiting], found: &str) -> Result<(), SinkError> {
        let sql = "UPDATE alert_outbox SET attempts = attempts + 1, last_error = $2 WHERE id = $1";
        self.each(batch, |row| Step::new(sql, values![row.id, found])).await
    }

    async fn each(&mut self, batch: &[Waiting], step: impl Fn(&Waiting) -> Step) -> Result<(), SinkError> {
        let steps: Vec<Step> = batch.iter().map(step).collect();
        self.tables.apply(&steps).await.map(drop)
    }
}

/// The rows of the message that was fixed and not taken yet.
fn under_way(waiting: &[Waiting]) -> Option<Vec<Waiting>> {
    let key = waiting.iter().find_map(|row| row.key.clone())?;
    Some(waiting.iter().filter(|row| row.key.as_ref() == Some(&key)).cloned().collect())
}

/// What may be told at `now`: once one alert has waited long enough, all that quiet hours let pass; else how long to wait.
fn eligible(waiting: &[Waiting], config: &AlertsConfig, now: Timestamp) -> Result<Vec<Waiting>, Duration> {
    let passes =
        |row: &&Waiting| config.quiet.as_ref().is_none_or(|quiet| quiet.lets_pass(row.severity, now));
    let eligible: Vec<Waiting> = waiting.iter().filter(passes).cloned().collect();
    let Some(due_us) = eligible.iter().map(|row| row.due_us).min() else { return Err(IDLE) };
    match u64::try_from(due_us - now.as_microsecond()) {
        Ok(wait) if wait > 0 => Err(Duration::from_micros(wait)),
        _ => Ok(eligible),
    }
}
