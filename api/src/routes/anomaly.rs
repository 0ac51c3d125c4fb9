//! `GET /api/v1/anomalies/{id}`: one episode with its explanation and its history.

use super::anomalies::{Anomaly, example_anomaly};
use super::{Answer, Call, JSON, Route, encode, schema_of};
use crate::problem::Problem;
use crate::store::{Arg, Row, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/anomalies/{id}",
    operation: "getAnomaly",
    tag: "anomalies",
    summary: "One anomaly with its explanation and history",
    about: "`explanation` says why in terms of the logs: typical against actual, each feature's share, whose share of the \
            logs changed, who fell silent, lines to begin with (docs/STATE.md has every field; empty or null: not known); \
            `provenance` what the decision rests on; \
            `events` what became of it, oldest first (the first 1,000).",
    params: &[],
    path_params: &[("id", "The anomaly's id", "1")],
    produces: JSON,
    schema: Some(schema_of::<AnomalyDetail>),
    example: Some(example),
    also: &[(404, "No anomaly has this id")],
    answer: Answer::Kept(|call| Box::pin(detail(call))),
};

/// An episode's history is cut here.
const MAX_EVENTS: i64 = 1_000;
/// And what was said of it here.
const MAX_FEEDBACK: i64 = 100;

/// One episode in full.
#[derive(Debug, Serialize, ToSchema)]
struct AnomalyDetail {
    #[serde(flatten)]
    anomaly: Anomaly,
    /// Typical against actual, and what changed most.
    #[schema(value_type = Option<serde_json::Value>)]
    explanation: Option<Box<RawValue>>,
    /// What the decision rests on.
    #[schema(value_type = Option<serde_json::Value>)]
    provenance: Option<Box<RawValue>>,
    /// End of the window that raised it first.
    #[schema(value_type = String, format = DateTime)]
    first_raised_at: Timestamp,
    events: Vec<Event>,
    /// All that users said of it, newest first (the first 100).
    feedback_given: Vec<FeedbackGiven>,
}

/// What somebody said of it, once.
#[derive(Debug, Serialize, ToSchema)]
struct FeedbackGiven {
    /// `expected`, `confirmed` or `undo`.
    verdict: String,
    note: Option<String>,
    /// The name of the token, where tokens are asked for.
    author: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What happened to the episode, once.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    seq: i64,
    /// `raised`, `opened`, `updated`, `resolved`, `expired`, `retracted` or `reopened`.
    kind: String,
    revision: i64,
    status: String,
    /// Why, where that is not plain from the kind.
    reason: Option<String>,
    /// The clock when it happened.
    #[schema(value_type = String, format = DateTime)]
    clock: Timestamp,
}

async fn detail(call: Call) -> Result<Vec<u8>, Problem> {
    let app = &*call.app;
    let given = call.path.first().map(String::as_str).unwrap_or_default();
    let id = id(given)?;
    let columns = Anomaly::COLUMNS;
    let mut anomaly = app.store.sql(&format!(
        "select {columns}, explanation, provenance, first_raised_at from anomalies where id = "
    ));
    anomaly.arg(Arg::Int(id));
    let mut events = app
        .store
        .sql("select seq, kind, revision, status, reason, clock from anomaly_events where anomaly_id = ");
    events.arg(Arg::Int(id)).push(" order by seq limit ").arg(Arg::Int(MAX_EVENTS));
    let mut given =
        app.store.sql("select verdict, note, author, created_at from feedback where anomaly_id = ");
    given.arg(Arg::Int(id)).push(" order by seq desc limit ").arg(Arg::Int(MAX_FEEDBACK));
    let [rows, events, given] = app.fetch_all([anomaly, events, given]).await?;
    let Some(row) = rows.first() else {
        return Err(Problem::not_found(format!("no anomaly has the id {id}; /api/v1/anomalies lists them")));
    };
    encode(&AnomalyDetail {
        anomaly: Anomaly::from_row(row)?,
        explanation: row.get(Anomaly::WIDTH)?,
        provenance: row.get(Anomaly::WIDTH + 1)?,
        first_raised_at: row.get(Anomaly::WIDTH + 2)?,
        events: events.iter().map(event).collect::<Result<_, _>>()?,
        feedback_given: given.iter().map(feedback_given).collect::<Result<_, _>>()?,
    })
}

pub fn id(given: &str) -> Result<i64, Problem> {
    let is_number = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
    match given.parse::<i64>() {
        Ok(id) if is_number => Ok(id),
        // A number that no id can reach names no anomaly.
        Err(_) if is_number => Err(Problem::not_found("nothing has an id that large")),
        _ => {
            let found = crate::problem::quotable(given);
            Err(Problem::invalid("id", format!("id must be a whole number from 0, found \"{found}\"")))
        }
    }
}

fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        seq: row.get(0)?,
        kind: row.get(1)?,
        revision: row.get(2)?,
        status: row.get(3)?,
        reason: row.get(4)?,
        clock: row.get(5)?,
    })
}

fn feedback_given(row: &Row) -> Result<FeedbackGiven, StoreError> {
    Ok(FeedbackGiven {
        verdict: row.get(0)?,
        note: row.get(1)?,
        author: row.get(2)?,
        created_at: row.get(3)?,
    })
}

fn example() -> serde_json::Value {
    let mut anomaly = example_anomaly();
    anomaly["explanation"] = example_explanation();
    anomaly["provenance"] = serde_json::json!({"rule": "error_rate_spike", "clock": "2026-01-15T10:30:00Z"});
    anomaly["first_raised_at"] = "2026-01-15T10:30:00Z".into();
    anomaly["events"] = serde_json::json!([
        {"seq": 41, "kind": "raised", "revision": 1, "status": "provisional", "reason": null, "clock": "2026-01-15T10:30:00Z"},
        {"seq": 42, "kind": "opened", "revision": 2, "status": "open", "reason": null, "clock": "2026-01-15T10:30:05Z"}
    ]);
    anomaly["feedback_given"] = serde_json::json!([
        {"verdict": "confirmed", "note": "the pool was too small", "author": "ops", "created_at": "2026-01-15T11:02:10Z"}
    ]);
    anomaly["feedback"] = "confirmed".into();
    anomaly
}

/// Written as the dataflow writes it: the test reads it as that.
fn example_explanation() -> serde_json::Value {
    let change = |name: &str, id: Option<&str>, before: (f64, f64), after: (f64, f64)| {
        serde_json::json!({"name": name, "id": id, "before": before.0, "after": after.0,
                           "share_before": before.1, "share_after": after.1})
    };
    let feature = |name: &str, typical: f64, actual: f64, share: f64| serde_json::json!({"name": name, "typical": typical, "actual": actual, "share": share, "model_share": null});
    serde_json::json!({
        "version": 1,
        "summary": ["Error rate 15 %: 12.5 × the usual 1.2 %", "host server-01: 92 % of the errors, 11 % before",
                    "“Database connection timeout after <*> ms”: 90 % of the errors, 4 % before"],
        "metric": "Error rate", "unit": "%", "typical": 1.2, "actual": 15.0, "ratio": 12.5,
        "window": {"from": "2026-01-15T10:28:10Z", "to": "2026-01-15T10:33:10Z"},
        "before": {"from": "2026-01-15T10:15:00Z", "to": "2026-01-15T10:25:00Z"},
        "features": [feature("log_rate", 40.0, 44.0, 0.01), feature("error_rate", 0.012, 0.15, 0.98),
                     feature("avg_message_length", 61.0, 63.0, 0.01)],
        "counted": "errors",
        "services": [],
        "hosts": [change("server-01", None, (0.05, 0.11), (6.1, 0.92))],
        "templates": [change("Database connection timeout after <*> ms", Some("5b0a41c1e2d3f405"), (0.02, 0.04), (5.9, 0.9))],
        "silent": [{"kind": "host", "name": "server-04", "before": 12.0, "since": "2026-01-15T10:29:00Z"}],
        "samples": [{"timestamp": "2026-01-15T10:30:00.25Z", "topic": "logs", "partition": 2, "offset": 81544}]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::explanation::Explanation;

    #[test]
    fn the_example_of_an_explanation_is_one() {
        let example = example_explanation();
        let read: Explanation = serde_json::from_value(example.clone()).expect("it is one");
        assert_eq!(
            serde_json::to_value(read).expect("it is JSON"),
            example,
            "a field is missing or too many"
        );
    }
}
