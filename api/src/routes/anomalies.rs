//! `GET /api/v1/anomalies`: episodes, newest first.

use super::{Answer, Call, ClockNow, JSON, Route, SERVICE, SINCE, UNTIL, encode, schema_of};
use crate::listing::{Count, Frame, Listed, Listing};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, Sql, StoreError};
use crate::time;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::{AnomalyType, Severity, Status};
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/anomalies",
    operation: "listAnomalies",
    tag: "anomalies",
    summary: "Anomalies, newest first",
    about: "One row per episode: a stretch of trouble of one type in one service. `service` is null for the whole \
            stream. `seq` is the newest change contained, to go on from with `/api/v1/anomalies/stream`.",
    params: &[SERVICE, TYPE, SEVERITY, STATUS, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<AnomalyPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const fn type_words() -> [&'static str; AnomalyType::ALL.len()] {
    let mut words = [""; AnomalyType::ALL.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = AnomalyType::ALL[i].as_str();
        i += 1;
    }
    words
}

const fn severity_words() -> [&'static str; Severity::ALL.len()] {
    let mut words = [""; Severity::ALL.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = Severity::ALL[i].as_str();
        i += 1;
    }
    words
}

const fn status_words() -> [&'static str; Status::ALL.len()] {
    let mut words = [""; Status::ALL.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = Status::ALL[i].as_str();
        i += 1;
    }
    words
}

pub const TYPE: Param = Param {
    name: "type",
    kind: Kind::Words(&type_words()),
    about: "Only these types, separated by commas",
    example: "error_rate_spike,log_volume_drop",
};
pub const SEVERITY: Param = Param {
    name: "severity",
    kind: Kind::Words(&severity_words()),
    about: "Only these severities, separated by commas",
    example: "high,critical",
};
const STATUS: Param = Param {
    name: "status",
    kind: Kind::Words(&status_words()),
    about: "Only episodes that stand so, separated by commas; `provisional,open` are those under way",
    example: "provisional,open",
};
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-detected_at", "detected_at", "-id", "id"]),
    about: "The order; `-` is descending",
    example: "-detected_at",
};

/// One episode.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Anomaly {
    #[schema(example = 1)]
    pub id: i64,
    /// The clock when it was first raised.
    #[schema(value_type = String, format = DateTime, example = "2026-01-15T10:30:00Z")]
    pub detected_at: Timestamp,
    /// What kind of trouble.
    #[serde(rename = "type")]
    #[schema(example = "error_rate_spike")]
    pub anomaly_type: String,
    /// Null: the whole stream.
    #[schema(example = "payment-service")]
    pub service: Option<String>,
    #[schema(example = "high")]
    pub severity: Option<String>,
    /// One sentence for a person.
    #[schema(example = "Error rate increased 300% in last 5 minutes")]
    pub description: Option<String>,
    /// The metric when it was raised: a share of errors, or logs per minute.
    #[schema(example = 0.15)]
    pub metric_value: Option<f64>,
    /// The value that was crossed, in the metric's unit.
    #[schema(example = 0.05)]
    pub threshold: Option<f64>,
    #[schema(example = "1.2.0")]
    pub model_version: Option<String>,
    /// `provisional`, `open`, `resolved`, `expired` or `retracted`.
    #[schema(example = "open")]
    pub status: String,
    /// 1 at first, one more with every change.
    #[schema(example = 2)]
    pub revision: i64,
    /// What is usual, in the metric's unit.
    #[schema(example = 0.012)]
    pub baseline: Option<f64>,
    /// The most extreme value so far, in the metric's unit.
    #[schema(example = 0.21)]
    pub peak_value: Option<f64>,
    /// The forest's score, 0 to 1.
    pub score: Option<f64>,
    /// End of the first window beyond the threshold.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// End of the last window beyond the threshold.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// End of the first window of the calm that ended it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// What users said of it last: `expected`, `confirmed`, or null.
    #[schema(example = "confirmed")]
    pub feedback: Option<String>,
    /// It is retracted because somebody said that it, or an event that explains it, was to be expected.
    #[schema(example = false)]
    pub expected: bool,
}

impl Anomaly {
    /// The columns that [`Anomaly::from_row`] reads.
    pub const COLUMNS: &str = "id, detected_at, anomaly_type, service, severity, description, metric_value, threshold, \
         model_version, status, revision, baseline, peak_value, score, started_at, last_seen, ended_at, \
         updated_at, feedback, expected_by";
    /// How many they are.
    pub const WIDTH: usize = 20;

    pub fn from_row(row: &Row) -> Result<Anomaly, StoreError> {
        Ok(Anomaly {
            id: row.get(0)?,
            detected_at: row.get(1)?,
            anomaly_type: row.get(2)?,
            service: row.get(3)?,
            severity: row.get(4)?,
            description: row.get(5)?,
            metric_value: finite(row.get(6)?),
            threshold: finite(row.get(7)?),
            model_version: row.get(8)?,
            status: row.get(9)?,
            revision: row.get(10)?,
            baseline: finite(row.get(11)?),
            peak_value: finite(row.get(12)?),
            score: finite(row.get(13)?),
            started_at: row.get(14)?,
            last_seen: row.get(15)?,
            ended_at: row.get(16)?,
            updated_at: row.get(17)?,
            feedback: row.get(18)?,
            expected: row.get::<Option<i64>>(19)?.is_some(),
        })
    }

    /// From the episode that an event of `anomaly_events` kept; `None` when this version cannot read it.
    pub fn from_event(
        id: i64,
        episode: &str,
        updated_at: Timestamp,
        feedback: Option<String>,
    ) -> Option<Anomaly> {
        let kept: KeptEpisode = serde_json::from_str(episode).ok()?;
        let second = |second: i64| second.checked_mul(1_000_000).and_then(time::from_micros);
        Some(Anomaly {
            id,
            detected_at: time::from_micros(kept.detected_at_us)?,
            anomaly_type: kept.key.anomaly_type,
            service: kept.key.service,
            severity: kept.severity,
            description: kept.description,
            metric_value: kept.metric_value,
            threshold: kept.threshold,
            model_version: kept.model_version,
            status: kept.status,
            revision: kept.revision,
            baseline: kept.baseline,
            peak_value: kept.peak_value,
            score: kept.score,
            started_at: second(kept.started_at)?,
            last_seen: second(kept.last_seen)?,
            ended_at: kept.ended_at.and_then(second),
            updated_at,
            feedback,
            expected: kept.expected.is_some(),
        })
    }
}

/// JSON has no word for what is not a number.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

/// `smartlog_schema::anomaly::Episode` as JSON, with the nulls that its not-a-numbers become.
#[derive(Deserialize)]
struct KeptEpisode {
    key: KeptKey,
    status: String,
    severity: Option<String>,
    revision: i64,
    detected_at_us: i64,
    started_at: i64,
    last_seen: i64,
    ended_at: Option<i64>,
    metric_value: Option<f64>,
    threshold: Option<f64>,
    baseline: Option<f64>,
    peak_value: Option<f64>,
    score: Option<f64>,
    model_version: Option<String>,
    description: Option<String>,
    expected: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct KeptKey {
    service: Option<String>,
    anomaly_type: String,
}

/// A page of episodes.
#[derive(Debug, Serialize, ToSchema)]
struct AnomalyPage {
    anomalies: Vec<Anomaly>,
    #[serde(flatten)]
    frame: Frame,
    /// The newest change contained.
    #[schema(example = 42)]
    seq: i64,
}

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let (column, key, descending) = match call.params.choice(&SORT) {
        "-id" => ("id", KeyKind::Id, true),
        "id" => ("id", KeyKind::Id, false),
        "detected_at" => ("detected_at", KeyKind::Time, false),
        _ => ("detected_at", KeyKind::Time, true),
    };
    let listing = Listing {
        table: "anomalies",
        columns: Anomaly::COLUMNS,
        order: Order { column, key, descending },
        // Every change of an anomaly appends an event, so a count holds until the newest one moves.
        count: Count::Kept { seq: "select coalesce(max(seq), 0) from anomaly_events" },
        reached: ClockNow::SQL,
        filter,
        read: Anomaly::from_row,
        key: if key == KeyKind::Id { |a| (a.id, a.id) } else { |a| (a.detected_at.as_microsecond(), a.id) },
    };
    let Listed { rows, frame, seq } = listing.page(&call).await?;
    encode(&AnomalyPage { anomalies: rows, frame, seq })
}

fn filter(call: &Call, sql: &mut Sql) {
    let params = &call.params;
    let (since, until) = (params.time(&SINCE), params.time(&UNTIL));
    sql.and("service =", params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .one_of("anomaly_type", params.words(&TYPE))
        .one_of("severity", params.words(&SEVERITY))
        .one_of("status", params.words(&STATUS))
        .and("detected_at >=", since.map(Arg::Time))
        .and("detected_at <", until.map(Arg::Time));
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "anomalies": [example_anomaly()],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null, "seq": 42,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}

/// One episode, for the documentation.
pub fn example_anomaly() -> serde_json::Value {
    serde_json::json!({
        "id": 1, "detected_at": "2026-01-15T10:30:00Z", "type": "error_rate_spike", "service": "payment-service",
        "severity": "high", "description": "Error rate increased 300% in last 5 minutes", "metric_value": 0.15,
        "threshold": 0.05, "model_version": "1.2.0", "status": "open", "revision": 2, "baseline": 0.012,
        "peak_value": 0.21, "score": 0.71, "started_at": "2026-01-15T10:29:58Z",
        "last_seen": "2026-01-15T10:34:10Z", "ended_at": null, "updated_at": "2026-01-15T10:34:11Z",
        "feedback": null, "expected": false
    })
}
