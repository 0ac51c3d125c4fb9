//! `POST /api/v1/anomalies/{id}/feedback`: what a user says an anomaly was.

use super::anomaly::id;
use super::when::When;
use super::{Answer, Call, JSON, Route, fresh, schema_of};
use crate::problem::{Problem, quotable};
use crate::store::{Arg, Opinion, Row, StoreError};
use axum::response::Response;
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::feedback::Applies;
use smartlog_schema::window::WINDOW_SECONDS;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/anomalies/{id}/feedback",
    operation: "giveFeedback",
    tag: "anomalies",
    summary: "Say what an anomaly was",
    about: "`expected`: it was meant to be so (a release, a load test). It is retracted, and so are the anomalies of its \
            type and service (see `scope`) that start from then on, for a week or as `when` says; with `since`, past ones \
            too. `confirmed`: it was real trouble; `undo`: what was said before is taken back: what it retracted comes \
            back. The last word counts and is shown as `feedback` of the anomaly; all of them are kept.",
    params: &[],
    path_params: &[("id", "The anomaly's id", "1")],
    produces: JSON,
    schema: Some(schema_of::<Said>),
    example: Some(|| serde_json::json!({"anomaly_id": 1, "feedback": "expected"})),
    also: &[(404, "No anomaly has this id"), (409, "`when` would be over before it begins")],
    answer: Answer::Told {
        body: schema_of::<Saying>,
        example: || {
            serde_json::json!({
                "verdict": "expected", "note": "load test of the new gateway", "when": {"until": "2026-01-16T00:00:00Z"}
            })
        },
        answer: |call| Box::pin(take(call)),
    },
};

/// The longest note, characters.
const MAX_NOTE_CHARS: usize = 1_000;

/// How far before its start an anomaly counts as begun.
const SLACK: SignedDuration = SignedDuration::from_secs(WINDOW_SECONDS);

/// What can be said.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Expected,
    Confirmed,
    Undo,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Verdict::Expected => "expected",
            Verdict::Confirmed => "confirmed",
            Verdict::Undo => "undo",
        }
    }
}

/// What a user says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Saying {
    verdict: Verdict,
    /// Why, for those who read it later.
    #[serde(default)]
    #[schema(max_length = 1000, pattern = "^[^\\u0000]*$")]
    note: Option<String>,
    /// Of `expected`: what else is.
    #[serde(default)]
    scope: Reach,
    /// Of `expected`: when. Absent: from this anomaly's start on, for a week.
    #[serde(default, deserialize_with = "super::when::object")]
    when: When,
}

/// Which anomalies of the same type are expected, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reach {
    /// None but this one.
    Episode,
    /// Those of the same service.
    #[default]
    Service,
    /// Those of every service, and of the whole stream.
    Everywhere,
}

/// What is kept.
#[derive(Debug, Serialize, ToSchema)]
struct Said {
    #[schema(example = 1)]
    anomaly_id: i64,
    /// What the anomaly shows from now on.
    #[schema(example = "expected")]
    feedback: Option<&'static str>,
}

async fn take(call: Call) -> Result<Response, Problem> {
    let id = id(call.path.first().map(String::as_str).unwrap_or_default())?;
    let saying: Saying = super::when::body(&call.body).map_err(|error| {
        unreadable(
            &error,
            "{\"verdict\": \"expected\", \"note\": \"why\"}, verdict one of expected, confirmed, undo",
        )
    })?;
    if saying.note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS || note.contains('\0')) {
        let detail = format!("note must be at most {MAX_NOTE_CHARS} characters without U+0000");
        return Err(Problem::unprocessable("note", detail));
    }
    let mut known = call
        .app
        .store
        .sql("select service, anomaly_type, started_at, first_raised_at from anomalies where id = ");
    known.arg(Arg::Int(id));
    let known = call.app.fetch(known).await?;
    let Some(anomaly) = known.first() else {
        return Err(Problem::not_found(format!("no anomaly has the id {id}; /api/v1/anomalies lists them")));
    };
    let author = call.caller.as_ref().map(|caller| caller.name.to_string());
    let verdict = saying.verdict.as_str();
    let applies = match saying.verdict {
        Verdict::Expected => Some(as_json(&applies(&saying, anomaly)?)?),
        Verdict::Confirmed | Verdict::Undo => None,
    };
    let opinion = Opinion { anomaly_id: Some(id), verdict, applies, note: saying.note, author, event: None };
    call.app.keep_opinion(opinion).await?;
    let feedback = Some(verdict).filter(|verdict| *verdict != "undo");
    fresh(StatusCode::OK, &Said { anomaly_id: id, feedback })
}

/// Which episodes are expected once `anomaly` is.
fn applies(saying: &Saying, anomaly: &Row) -> Result<Applies, Problem> {
    let Saying { scope, when, .. } = saying;
    let service: Option<String> = anomaly.get(0)?;
    let anomaly_type: String = anomaly.get(1)?;
    let anomaly_type = AnomalyType::parse(&anomaly_type)
        .ok_or_else(|| StoreError::Mismatch(format!("anomalies.anomaly_type = {anomaly_type:?}")))?;
    let first_raised_at: Timestamp = anomaly.get(3)?;
    // The complete windows and late logs may still move its start a little.
    let started_at: Timestamp = anomaly.get(2)?;
    let (since, until) = when.interval(started_at.saturating_sub(SLACK).unwrap_or(started_at))?;
    Ok(Applies {
        services: (*scope != Reach::Everywhere).then(|| vec![service.unwrap_or_default().into()]),
        anomaly_type: Some(anomaly_type),
        since,
        until,
        hours: when.hours,
        weekdays: when.weekdays.clone(),
        first_raised_at: (*scope == Reach::Episode).then(|| first_raised_at.as_second()),
    })
}

/// As the table keeps it.
pub fn as_json(applies: &Applies) -> Result<String, Problem> {
    serde_json::to_string(applies).map_err(|error| Problem::internal(error.to_string()))
}

/// 400 for what is no JSON, 422 for JSON that says something else than `expected`.
pub fn unreadable(error: &serde_json::Error, expected: &str) -> Problem {
    let found = quotable(&error.to_string());
    let detail = format!("the body must be JSON such as {expected}; found: {found}");
    match error.classify() {
        serde_json::error::Category::Data => Problem::unprocessable("body", detail),
        _ => Problem::invalid("body", detail),
    }
}

/// The types of anomalies, for the documentation.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `AnomalyType` of a crate that knows nothing of documentation")]
pub enum Type {
    ErrorRateSpike,
    LogVolumeSpike,
    LogVolumeDrop,
    MultivariateOutlier,
    NewPattern,
}
