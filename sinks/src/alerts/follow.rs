//! From `anomaly_events` to `alert_outbox`: which change is told to whom. A change enters the outbox in the transaction that
//! moves the position past it, so that it is there exactly once.

use super::config::{AlertsConfig, HookConfig};
use super::deliver::HookState;
use super::message::{Notice, Phase};
use super::policy::after;
use crate::config::StoreConfig;
use crate::database::{Row, Step, Tables, values};
use crate::error::SinkError;
use crate::retry::Patience;
use jiff::Timestamp;
use serde_json::Value;
use smartlog_schema::anomaly::Severity;
use smartlog_schema::explanation::Explanation;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// The name under which the position, a `seq` of `anomaly_events`, is stored.
const SINK: &str = "alerts";
const SOURCE: &str = "anomaly_events";
/// Changes of one pass at most.
const EVENTS_A_PASS: i64 = 500;
/// Commits that tell of episodes wake the follower; this is for those that another process made.
const PAUSE: Duration = Duration::from_secs(2);
/// Alerts that may wait for one hook; what comes beyond is dropped, and counted.
pub const MOST_PENDING: i64 = 10_000;
/// How long an alert that was told is kept, microseconds: its end may refer to it.
const KEPT_US: i64 = 30 * 86_400 * 1_000_000;

/// Where following begins: at the stored position, or now.
///
/// # Errors
/// As any question to the store.
pub(super) async fn begin(store: &StoreConfig, patience: Patience) -> Result<(), SinkError> {
    let mut tables = Tables::new(store, patience)?;
    let newest = tables.query("SELECT max(seq) FROM anomaly_events", Vec::new()).await?;
    let next = newest.first().and_then(|row| row.maybe_int(0)).unwrap_or(0) + 1;
    let sql = "INSERT INTO sink_positions (sink, topic, partition, next_offset) VALUES ($1, $2, 0, $3) \
               ON CONFLICT (sink, topic, partition) DO NOTHING";
    tables.apply(&[Step::new(sql, values![SINK, SOURCE, next])]).await.map(drop)
}

/// Follows until the process stops.
pub(super) async fn run(
    config: Arc<AlertsConfig>,
    store: StoreConfig,
    patience: Patience,
    states: Vec<Arc<HookState>>,
    wake: Arc<Notify>,
    news: Arc<Notify>,
) {
    let cancel = patience.cancel.clone();
    let mut follower = match Tables::new(&store, patience) {
        Ok(tables) => Follower { tables, config, states },
        Err(error) => {
            tracing::error!(%error, "alerts are not followed");
            return;
        }
    };
    while !cancel.is_cancelled() {
        match follower.pass().await {
            Ok(0) => {}
            Ok(_) => news.notify_waiters(),
            Err(error) if cancel.is_cancelled() => {
                tracing::debug!(%error, "alerts are followed at the next start")
            }
            Err(error) => tracing::warn!(%error, "alerts are followed later"),
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

struct Follower {
    tables: Tables,
    config: Arc<AlertsConfig>,
    states: Vec<Arc<HookState>>,
}

/// One row of `anomaly_events`.
struct Change {
    seq: i64,
    anomaly_id: i64,
    kind: String,
    reason: Option<String>,
    episode: Value,
}

/// What a hook was last told of an episode.
struct Told {
    id: i64,
    phase: String,
    status: String,
    severity: String,
    /// It is on its way, or was.
    is_keyed: bool,
}

impl Told {
    /// Nobody has seen it yet.
    fn is_waiting(&self) -> bool {
        self.status == "pending" && !self.is_keyed
    }
}

/// What a change means for a hook.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Tell,
    /// In place of what is waiting.
    Replace,
    /// What is waiting is not told at all.
    Withdraw,
    Nothing,
}

impl Follower {
    /// Takes what is new; gives how many alerts that made.
    async fn pass(&mut self) -> Result<u64, SinkError> {
        let Some(mut position) = self.position().await? else { return Ok(0) };
        let sql = "SELECT seq, anomaly_id, kind, reason, CAST(episode AS TEXT) FROM anomaly_events WHERE seq >= $1 \
                   ORDER BY seq LIMIT $2";
        let rows = self.tables.query(sql, values![position, EVENTS_A_PASS]).await?;
        let mut made = 0;
        for change in rows.iter().map(Change::read) {
            if let Some(phase) = change.phase() {
                made += self.take(&change, phase, position).await?;
                position = change.seq + 1;
            }
        }
        if let Some(last) = rows.last().map(|row| row.int(0)).filter(|last| *last >= position) {
            let moved = self.moved(position, last + 1);
            self.tables.apply(&[moved]).await?;
        }
        if made > 0 {
            let sql = "DELETE FROM alert_outbox WHERE status <> 'pending' AND created_us < $1";
            let before = Timestamp::now().as_microsecond() - KEPT_US;
            self.tables.apply(&[Step::new(sql, values![before])]).await?;
        }
        Ok(made)
    }

    async fn position(&mut self) -> Result<Option<i64>, SinkError> {
        let sql = "SELECT next_offset FROM sink_positions WHERE sink = $1 AND topic = $2 AND partition = 0";
        let rows = self.tables.query(sql, values![SINK, SOURCE]).await?;
        Ok(rows.first().and_then(|row| row.maybe_int(0)))
    }

    /// Only whoever reads from `from` may move it.
    fn moved(&self, from: i64, to: i64) -> Step {
        let sql = format!(
            "UPDATE sink_positions SET next_offset = $1, updated_at = {} WHERE sink = $2 AND topic = $3 AND partition = 0 \
             AND next_offset = $4",
            self.tables.now()
        );
        Step::one(sql, values![to, SINK, SOURCE, from])
    }

    /// Puts what one change tells into the outbox, and moves past it.
    async fn take(&mut self, change: &Change, phase: Phase, position: i64) -> Result<u64, SinkError> {
        let config = Arc::clone(&self.config);
        let told_by_route = config.told(change.service(), change.severity());
        let mut notice = None;
        // A hook may send what is waiting at the very moment: then it is looked at again.
        loop {
            let (last, mut steps, mut made) = (self.told(change.anomaly_id).await?, Vec::new(), 0);
            for hook in &config.hooks {
                let last = last.get(&hook.name);
                let is_routed = told_by_route.iter().any(|routed| routed.name == hook.name);
                let verdict = verdict(phase, last, is_routed);
                if let (Verdict::Replace | Verdict::Withdraw, Some(last)) = (&verdict, last) {
                    steps.push(withdrawn(last.id));
                }
                if matches!(verdict, Verdict::Tell | Verdict::Replace) {
                    if notice.is_none() {
                        notice = Some(self.notice(change, phase));
                    }
                    // Receivers that know an alert by what it says must know it again at its end.
                    let severity = last
                        .map_or_else(|| change.severity().as_str().to_owned(), |last| last.severity.clone());
                    let notice = notice.clone().map(|notice| Notice { severity, ..notice });
                    steps.extend(self.row(hook, notice).await?);
                    made += 1;
                }
            }
            steps.push(self.moved(position, change.seq + 1));
            if self.tables.apply(&steps).await? {
                return Ok(made);
            }
            if self.position().await? != Some(position) {
                return Ok(0); // Another one follows, or the answer to this was lost.
            }
        }
    }

    /// What each hook was told last of an episode.
    async fn told(&mut self, anomaly_id: i64) -> Result<BTreeMap<String, Told>, SinkError> {
        let sql = "SELECT hook, id, phase, status, severity, CASE WHEN message_key IS NULL THEN 0 ELSE 1 END \
                   FROM alert_outbox WHERE anomaly_id = $1 ORDER BY id";
        let rows = self.tables.query(sql, values![anomaly_id]).await?;
        let told = |row: &Row| {
            let text = |at: usize| row.text(at).to_owned();
            let told = Told {
                id: row.int(1),
                phase: text(2),
                status: text(3),
                severity: text(4),
                is_keyed: row.int(5) == 1,
            };
            (text(0), told)
        };
        Ok(rows.iter().map(told).collect())
    }

    async fn row(&mut self, hook: &HookConfig, notice: Option<Notice>) -> Result<Option<Step>, SinkError> {
        let Some(notice) = notice else { return Ok(None) };
        let sql = "SELECT count(*) FROM alert_outbox WHERE hook = $1 AND status = 'pending'";
        let waiting = self.tables.query(sql, values![hook.name.as_str()]).await?;
        let is_full = waiting.first().is_some_and(|row| row.int(0) >= MOST_PENDING);
        let (status, error) =
            if is_full { ("dropped", Some("the outbox is full")) } else { ("pending", None) };
        if is_full {
            tracing::error!("hook {}: {MOST_PENDING} alerts wait already; one more is dropped", hook.name);
            let state = self.states.iter().find(|state| state.name == hook.name);
            if let Some(state) = state {
                state.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        let now = Timestamp::now();
        let due_us = after(now, self.config.group_wait).as_microsecond();
        let text = serde_json::to_string(&notice).unwrap_or_default();
        let sql = "INSERT INTO alert_outbox (hook, event_seq, anomaly_id, phase, severity, status, due_us, notice, last_error, \
                   created_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let values = values![
            hook.name.as_str(),
            notice.seq,
            notice.id,
            notice.status.as_str(),
            notice.severity.as_str(),
            status,
            due_us,
            text,
            error,
            now.as_microsecond(),
        ];
        Ok(Some(Step::one(sql, values)))
    }

    /// What is told of a change.
    fn notice(&self, change: &Change, phase: Phase) -> Notice {
        let episode = &change.episode;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // Written by this program; what cannot be read of it is not told.
        let explanation: Explanation =
            serde_json::from_str(episode["explanation"].as_str().unwrap_or("{}")).unwrap_or_default();
        let is_told = !explanation.metric.is_empty();
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let time = |name: &str| Timestamp::from_second(episode[name].as_i64()?).ok();
        let id = change.anomaly_id;
        Notice {
            id,
            seq: change.seq,
            status: phase,
            anomaly_type: change.anomaly_type().to_owned(),
            service: change.service().map(str::to_owned),
            severity: change.severity().as_str().to_owned(),
            started_at: time("started_at").unwrap_or(Timestamp::UNIX_EPOCH),
            ended_at: time("ended_at"),
            typical: is_told.then_some(explanation.typical),
            actual: is_told.then_some(explanation.actual),
            metric: named(explanation.metric),
            unit: named(explanation.unit),
            why: explanation.summary.into_iter().skip(1).collect(),
            cited: explanation.samples,
            description: text(&episode["description"]).unwrap_or_default(),
            reason: change.reason.clone(),
            samples: Vec::new(),
            url: self
                .config
                .page_url
                .as_ref()
                .map(|page| format!("{}/?anomaly={id}", page.trim_end_matches('/'))),
        }
    }
}

fn withdrawn(id: i64) -> Step {
    let sql = "UPDATE alert_outbox SET status = 'dropped', last_error = 'over before it was told' \
               WHERE id = $1 AND status = 'pending' AND message_key IS NULL";
    Step::one(sql, values![id])
}

/// What a change to `phase` means for a hook that was told `last` of the episode.
fn verdict(phase: Phase, last: Option<&Told>, is_routed: bool) -> Verdict {
    let last = last.filter(|last| last.status != "dropped");
    match (phase, last) {
        // Never told that it began: nothing is to be taken back.
        (Phase::Retracted, None) => Verdict::Nothing,
        (_, None) if is_routed => Verdict::Tell,
        (_, None) => Verdict::Nothing,
        (_, Some(last)) if last.phase == phase.as_str() => Verdict::Nothing,
        (Phase::Retracted, Some(last)) if last.is_waiting() && last.phase == "firing" => Verdict::Withdraw,
        (Phase::Resolved | Phase::Expired | Phase::Retracted, Some(last)) if last.is_waiting() => {
            Verdict::Replace
        }
        (_, Some(_)) => Verdict::Tell,
    }
}

impl Change {
    fn read(row: &Row) -> Self {
        Change {
            seq: row.int(0),
            anomaly_id: row.int(1),
            kind: row.text(2).to_owned(),
            reason: row.maybe_text(3).map(str::to_owned),
            // Written by this program; should it ever not be readable, the alert tells what it can.
            episode: serde_json::from_str(row.text(4)).unwrap_or_default(),
        }
    }

    /// What is told of it; `None`: nothing, for it is provisional or only its numbers changed.
    fn phase(&self) -> Option<Phase> {
        if self.kind == "updated" || self.kind == "raised" {
            return None;
        }
        match self.episode["status"].as_str()? {
            "open" => Some(Phase::Firing),
            "resolved" => Some(Phase::Resolved),
            "expired" => Some(Phase::Expired),
            "retracted" => Some(Phase::Retracted),
            _ => None,
        }
    }

    fn service(&self) -> Option<&str> {
        self.episode["key"]["service"].as_str()
    }

    fn anomaly_type(&self) -> &str {
        self.episode["key"]["anomaly_type"].as_str().unwrap_or_default()
    }

    fn severity(&self) -> Severity {
        self.episode["severity"].as_str().and_then(Severity::parse).unwrap_or(Severity::Low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(phase: Phase, status: &str, is_keyed: bool) -> Told {
        Told { id: 1, phase: phase.as_str().into(), status: status.into(), severity: "high".into(), is_keyed }
    }

    #[test]
    fn nothing_is_told_twice_and_nothing_is_taken_back_that_was_not_told() {
        use Phase::{Expired, Firing, Resolved, Retracted};
        let (waiting, sent, on_its_way) = (("pending", false), ("sent", true), ("pending", true));
        for (phase, last, expected) in [
            (Firing, None, Verdict::Tell),
            (Resolved, None, Verdict::Tell),
            (Retracted, None, Verdict::Nothing),
            (Firing, Some((Firing, sent)), Verdict::Nothing),
            (Firing, Some((Resolved, sent)), Verdict::Tell),
            (Resolved, Some((Firing, waiting)), Verdict::Replace),
            (Resolved, Some((Firing, on_its_way)), Verdict::Tell),
            (Resolved, Some((Firing, sent)), Verdict::Tell),
            (Expired, Some((Firing, sent)), Verdict::Tell),
            (Retracted, Some((Firing, waiting)), Verdict::Withdraw),
            (Retracted, Some((Firing, on_its_way)), Verdict::Tell),
            (Retracted, Some((Firing, sent)), Verdict::Tell),
            (Retracted, Some((Resolved, sent)), Verdict::Tell),
            (Retracted, Some((Resolved, waiting)), Verdict::Replace),
            (Retracted, Some((Firing, ("dropped", false))), Verdict::Nothing),
            (Firing, Some((Firing, ("dropped", false))), Verdict::Tell),
        ] {
            let last = last.map(|(phase, (status, keyed))| told(phase, status, keyed));
            assert_eq!(verdict(phase, last.as_ref(), true), expected, "{phase:?}");
        }
        assert_eq!(verdict(Firing, None, false), Verdict::Nothing, "not routed to this hook");
        let told = told(Firing, "sent", true);
        assert_eq!(
            verdict(Resolved, Some(&told), false),
            Verdict::Tell,
            "who knows of the beginning is told the end"
        );
    }
}
