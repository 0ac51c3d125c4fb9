//! What people say, read from the store in the order in which they said it: rows of `feedback`, and the episodes that
//! each of them may change.

use crate::config::StoreConfig;
use crate::database::{Row, Step, Tables, Value, values};
use crate::episode::{EpisodeRow, micros};
use crate::error::SinkError;
use crate::health::Health;
use crate::retry::Patience;
use smartlog_schema::anomaly::Episode;
use smartlog_schema::feedback::{Applies, Expectation, MOST_IN_FORCE, Said};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// Rows taken in at once.
const ROWS_A_PASS: i64 = 1_000;
/// Episodes of the past that one word changes at most, the newest first.
const MOST_EPISODES: usize = 10_000;
/// TIMESTAMPTZ holds no more, seconds: the years 1 and 9999.
const TIMES: std::ops::Range<i64> = -62_135_596_800..253_402_300_799;

/// The author of events that a file announced.
const FILE: &str = "calendar file";

/// An event that is known to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEvent {
    pub name: String,
    pub applies: Applies,
}

/// Reads `feedback` row by row.
pub struct FeedbackLog {
    tables: Tables,
    through: i64,
}

/// One row of `feedback`.
struct Word {
    seq: i64,
    anomaly_id: Option<i64>,
    event: Option<i64>,
    note: String,
    /// What is expected from now on; `None`: nothing by this row.
    applies: Option<Applies>,
}

impl FeedbackLog {
    /// Begins after row `through`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when the URL cannot be understood.
    pub fn new(config: &StoreConfig, through: i64, cancel: CancellationToken) -> Result<Self, SinkError> {
        let tables = Tables::new(config, Patience { health: Health::new(), cancel })?;
        Ok(FeedbackLog { tables, through })
    }

    /// Brings the events of a file into the calendar, and calls off those that it no longer holds.
    ///
    /// # Errors
    /// As any question to the store; it is tried again while the store is away.
    pub async fn announce(&mut self, events: &[KnownEvent]) -> Result<(), SinkError> {
        let sql = "SELECT id, name, applies FROM calendar WHERE author = $1 ORDER BY id";
        let rows = self.tables.query(sql, values![FILE]).await?;
        let mut stored: BTreeMap<(String, String), i64> = BTreeMap::new();
        for row in &rows {
            stored.insert((row.text(1).to_owned(), row.text(2).to_owned()), row.int(0));
        }
        let mut steps = Vec::new();
        for KnownEvent { name, applies } in events {
            let applies = serde_json::to_string(applies)
                .map_err(|error| self.tables.broken("announce an event", error.to_string()))?;
            if stored.remove(&(name.clone(), applies.clone())).is_none() {
                let sql =
                    "INSERT INTO feedback (verdict, applies, note, author) VALUES ('event', $1, $2, $3)";
                steps.push(Step::new(sql, values![applies, name.as_str(), FILE]));
            }
        }
        for id in stored.into_values() {
            let sql = "INSERT INTO feedback (event, verdict, author) VALUES ($1, 'undo', $2)";
            steps.push(Step::new(sql, values![id, FILE]));
        }
        if !steps.is_empty() {
            tracing::info!("calendar: {} changes by the file", steps.len());
            self.tables.apply(&steps).await?;
        }
        Ok(())
    }

    /// What was said up to the row that it begins after, was not taken back by then, and covers episodes that start at or
    /// after `horizon`, epoch seconds.
    ///
    /// # Errors
    /// As any question to the store; it is tried again while the store is away.
    pub async fn in_force(&mut self, horizon: i64) -> Result<Said, SinkError> {
        let sql = format!(
            "SELECT seq, anomaly_id, event, verdict, note, applies FROM feedback AS f
             WHERE seq <= $1 AND applies IS NOT NULL AND NOT EXISTS (
                 SELECT 1 FROM feedback AS l
                 WHERE l.seq > f.seq AND l.seq <= $1 AND (l.anomaly_id = f.anomaly_id OR l.event = f.seq))
             ORDER BY seq DESC LIMIT {MOST_IN_FORCE}"
        );
        let rows = self.tables.query(&sql, values![self.through]).await?;
        let expected = rows.iter().map(|row| self.word(row)).filter_map(Word::expectation);
        let expected = expected.filter(|expectation| expectation.applies.until >= horizon).collect();
        Ok(Said { through: self.through, expected, ..Said::default() })
    }

    /// What was said since, and the stored episodes that it may change; `None`: nothing.
    ///
    /// # Errors
    /// As [`FeedbackLog::in_force`].
    pub async fn next(&mut self) -> Result<Option<Said>, SinkError> {
        let sql = format!(
            "SELECT seq, anomaly_id, event, verdict, note, applies FROM feedback WHERE seq > $1
             ORDER BY seq LIMIT {ROWS_A_PASS}"
        );
        let rows = self.tables.query(&sql, values![self.through]).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let mut said = Said { through: last.int(0), ..Said::default() };
        let words: Vec<Word> = rows.iter().map(|row| self.word(row)).collect();
        for word in words {
            let revoked = self.revoked_by(&word).await?;
            said.expected.retain(|expectation| !revoked.contains(&expectation.seq));
            said.revoked.extend(revoked);
            said.expected.extend(word.expectation());
        }
        if !said.revoked.is_empty() {
            let seqs: Vec<String> = said.revoked.iter().map(i64::to_string).collect();
            said.episodes = {
                let condition = format!("expected_by IN ({})", seqs.join(", "));
                select(&mut self.tables, &condition, Vec::new(), MOST_EPISODES).await?
            };
        }
        for expectation in &said.expected {
            let stored = self.covered(&expectation.applies).await?;
            said.episodes.extend(stored);
        }
        said.episodes.sort_by(|a, b| a.key.cmp(&b.key));
        said.episodes.dedup_by(|a, b| a.key == b.key);
        self.through = said.through;
        Ok(Some(said))
    }

    fn word(&self, row: &Row) -> Word {
        let (seq, verdict) = (row.int(0), row.text(3));
        let applies = row.maybe_text(5).filter(|_| matches!(verdict, "expected" | "event"));
        // One row that cannot be read must not keep the others from being heard.
        let applies = applies.and_then(|text| {
            let read = serde_json::from_str(text);
            read.inspect_err(|error| {
                tracing::warn!("feedback {seq} in {} is left out: {error}", self.tables.name())
            })
            .ok()
        });
        Word {
            seq,
            anomaly_id: row.maybe_int(1),
            event: row.maybe_int(2),
            note: row.text(4).to_owned(),
            applies,
        }
    }

    /// The rows that one takes the place of, or takes back.
    async fn revoked_by(&mut self, word: &Word) -> Result<Vec<i64>, SinkError> {
        let Some(anomaly_id) = word.anomaly_id else { return Ok(word.event.into_iter().collect()) };
        let sql = "SELECT seq FROM feedback WHERE anomaly_id = $1 AND seq < $2 AND applies IS NOT NULL";
        let rows = self.tables.query(sql, values![anomaly_id, word.seq]).await?;
        Ok(rows.iter().map(|row| row.int(0)).collect())
    }

    /// Stored episodes that stand and are expected.
    async fn covered(&mut self, applies: &Applies) -> Result<Vec<Episode>, SinkError> {
        let time = |second: i64| micros(second.clamp(TIMES.start, TIMES.end));
        let mut values = values![time(applies.since), time(applies.until)];
        let mut condition = format!(
            "status <> 'retracted' AND started_at >= {} AND started_at < {}",
            self.tables.moment("$1"),
            self.tables.moment("$2")
        );
        if let Some(anomaly_type) = applies.anomaly_type {
            values.push(Value::from(anomaly_type.as_str()));
            condition += &format!(" AND anomaly_type = ${}", values.len());
        }
        if let Some(services) = &applies.services {
            let first = values.len() + 1;
            values.extend(services.iter().map(|service| Value::from(service.as_str())));
            let places: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
            condition += &format!(" AND coalesce(service, '') IN ({})", places.join(", "));
        }
        let mut episodes = select(&mut self.tables, &condition, values, MOST_EPISODES).await?;
        episodes.retain(|episode| applies.covers(episode));
        Ok(episodes)
    }
}

/// Episodes of the store that started in `[since, until)`, epoch seconds, the newest 100,000.
///
/// # Errors
/// As any question to the store.
pub async fn episodes_between(
    config: &StoreConfig,
    since: i64,
    until: i64,
) -> Result<Vec<Episode>, SinkError> {
    let patience = Patience { health: Health::new(), cancel: CancellationToken::new() };
    patience.cancel.cancel(); // One attempt: whoever asks waits at a terminal.
    let mut tables = Tables::new(config, patience)?;
    let condition = format!("started_at >= {} AND started_at < {}", tables.moment("$1"), tables.moment("$2"));
    let time = |second: i64| micros(second.clamp(TIMES.start, TIMES.end));
    select(&mut tables, &condition, values![time(since), time(until)], 100_000).await
}

/// The newest episodes for which `condition` holds.
async fn select(
    tables: &mut Tables,
    condition: &str,
    values: Vec<Value>,
    most: usize,
) -> Result<Vec<Episode>, SinkError> {
    let time = |column| tables.micros(column);
    let sql = format!(
        "SELECT service, anomaly_type, {}, status, severity, revision, {}, {}, {}, {}, metric_value, threshold,
                baseline, peak_value, score, model_version, description, CAST(explanation AS TEXT),
                CAST(provenance AS TEXT), expected_by, expected_status
         FROM anomalies WHERE {condition} ORDER BY started_at DESC LIMIT {most}",
        time("first_raised_at"),
        time("detected_at"),
        time("started_at"),
        time("last_seen"),
        time("ended_at"),
    );
    let rows = tables.query(&sql, values).await?;
    rows.iter().map(|row| episode_row(row).read(tables.name())).collect()
}

impl Word {
    fn expectation(self) -> Option<Expectation> {
        let Word { seq, note, applies, .. } = self;
        applies.map(|applies| Expectation { seq, note, applies })
    }
}

fn episode_row(row: &Row) -> EpisodeRow {
    let text = |at: usize| row.maybe_text(at).map(str::to_owned);
    EpisodeRow {
        service: text(0),
        anomaly_type: row.text(1).to_owned(),
        first_raised_at: row.int(2),
        status: row.text(3).to_owned(),
        severity: row.text(4).to_owned(),
        revision: i32::try_from(row.int(5)).unwrap_or(i32::MAX),
        detected_at: row.int(6),
        started_at: row.int(7),
        last_seen: row.int(8),
        ended_at: row.maybe_int(9),
        metric_value: row.real(10),
        threshold: row.real(11),
        baseline: row.real(12),
        peak_value: row.real(13),
        score: row.real(14),
        model_version: text(15),
        description: row.text(16).to_owned(),
        explanation: row.text(17).to_owned(),
        provenance: row.text(18).to_owned(),
        expected_by: row.maybe_int(19),
        expected_status: text(20),
    }
}
