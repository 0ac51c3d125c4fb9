//! `POST /api/v1/anomalies/{id}/feedback`: what a user says an anomaly was.

use super::anomaly::id;
use super::{Answer, Call, JSON, Route, fresh, schema_of};
use crate::problem::{Problem, quotable};
use crate::store::{Arg, Opinion};
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/anomalies/{id}/feedback",
    operation: "giveFeedback",
    tag: "anomalies",
    summary: "Say what an anomaly was",
    about: "`expected`: it was meant to be so (a release, a load test); `confirmed`: it was real trouble; `undo`: what \
            was said before is taken back. The last word counts and is shown as `feedback` of the anomaly; all of them \
            are kept.",
    params: &[],
    path_params: &[("id", "The anomaly's id", "1")],
    produces: JSON,
    schema: Some(schema_of::<Said>),
    example: Some(|| serde_json::json!({"anomaly_id": 1, "feedback": "expected"})),
    also: &[(404, "No anomaly has this id")],
    answer: Answer::Told {
        body: schema_of::<Saying>,
        example: || serde_json::json!({"verdict": "expected", "note": "load test of the new gateway"}),
        answer: |call| Box::pin(take(call)),
    },
};

/// The longest note, characters.
const MAX_NOTE_CHARS: usize = 1_000;

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
    #[schema(max_length = 1000)]
    note: Option<String>,
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
    let saying: Saying = serde_json::from_slice(&call.body).map_err(|error| unreadable(&error))?;
    if saying.note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS || note.contains('\0')) {
        let detail = format!("note must be at most {MAX_NOTE_CHARS} characters without U+0000");
        return Err(Problem::unprocessable("note", detail));
    }
    let mut known = call.app.store.sql("select id from anomalies where id = ");
    known.arg(Arg::Int(id));
    if call.app.fetch(known).await?.is_empty() {
        return Err(Problem::not_found(format!("no anomaly has the id {id}; /api/v1/anomalies lists them")));
    }
    let author = call.caller.as_ref().map(|caller| caller.name.to_string());
    let verdict = saying.verdict.as_str();
    let opinion = Opinion { anomaly_id: id, verdict, note: saying.note, author };
    call.app.keep_opinion(opinion).await?;
    let feedback = Some(verdict).filter(|verdict| *verdict != "undo");
    fresh(StatusCode::OK, &Said { anomaly_id: id, feedback })
}

/// 400 for what is no JSON, 422 for JSON that says something else.
fn unreadable(error: &serde_json::Error) -> Problem {
    let expected = "the body must be JSON such as {\"verdict\": \"expected\", \"note\": \"why\"}";
    let detail = format!(
        "{expected}, verdict one of expected, confirmed, undo; found: {}",
        quotable(&error.to_string())
    );
    match error.classify() {
        serde_json::error::Category::Data => Problem::unprocessable("body", detail),
        _ => Problem::invalid("body", detail),
    }
}
