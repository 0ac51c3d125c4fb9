//! `GET /api/v1/models`: which model scores now, which in shadow, and which did before.

use super::{Answer, Call, ClockNow, JSON, Route, encode, schema_of};
use crate::problem::Problem;
use crate::store::{Arg, Row, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/models",
    operation: "listModels",
    tag: "models",
    summary: "Which model scores, and which did before",
    about: "`serving` is the champion, whose scores stand at the anomalies; `shadow` is scored beside it. Both are null while \
            the rules alone judge. `history` tells from which window on each was in force, newest first (the first 100).",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Models>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(models(call))),
};

/// The name under which models are registered.
const REGISTERED: &str = "log-anomaly-detector";
/// The history is cut here.
const MAX_SWAPS: i64 = 100;

/// The models in force and before.
#[derive(Debug, Serialize, ToSchema)]
struct Models {
    serving: Option<Model>,
    shadow: Option<Model>,
    /// `waiting`, `training`, `ready` or `failed`; null before the first run with models.
    #[schema(example = "ready")]
    state: Option<String>,
    /// What that means now: how much is still missing, or why it failed.
    detail: Option<String>,
    /// Folder or URL of the registry.
    registry: Option<String>,
    /// What each was trained on, as the registry tells it.
    #[schema(value_type = Option<serde_json::Value>)]
    trained: Option<Box<RawValue>>,
    history: Vec<Model>,
    #[serde(flatten)]
    reached: ClockNow,
}

/// A model in one role.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Model {
    #[schema(example = "log-anomaly-detector")]
    name: &'static str,
    #[schema(example = "3")]
    version: String,
    /// `champion` or `challenger`.
    #[schema(example = "champion")]
    role: String,
    /// End of the first window that it scored.
    #[schema(value_type = String, format = DateTime)]
    effective: Timestamp,
    /// SHA-256 of its bundle; null: the role was given up.
    digest: Option<String>,
}

async fn models(call: Call) -> Result<Vec<u8>, Problem> {
    let app = &*call.app;
    let mut swaps = app
        .store
        .sql("select role, version, digest, effective from model_swaps order by effective desc limit ");
    swaps.arg(Arg::Int(MAX_SWAPS));
    let newest = |role: &str| {
        app.store.sql(&format!(
            "select role, version, digest, effective from model_swaps where role = '{role}' order by effective desc limit 1"
        ))
    };
    let status =
        app.store.sql("select state, detail, registry, models from model_status order by pipeline limit 1");
    let reached = app.store.sql(ClockNow::SQL);
    let asked = [reached, status, newest("champion"), newest("challenger"), swaps];
    let [reached, status, champion, challenger, swaps] = app.fetch_all(asked).await?;
    let in_force = |rows: &[Row]| -> Result<Option<Model>, StoreError> {
        Ok(rows.first().map(model).transpose()?.filter(|model| model.digest.is_some()))
    };
    let status = status.first();
    let word = |column| status.map(|row| row.get::<String>(column)).transpose();
    encode(&Models {
        serving: in_force(&champion)?,
        shadow: in_force(&challenger)?,
        state: word(0)?,
        detail: word(1)?,
        registry: word(2)?,
        trained: status.map(|row| row.get(3)).transpose()?,
        history: swaps.iter().map(model).collect::<Result<_, _>>()?,
        reached: ClockNow::of(&reached)?,
    })
}

fn model(row: &Row) -> Result<Model, StoreError> {
    let digest = Some(row.get::<String>(2)?).filter(|digest| !digest.is_empty());
    Ok(Model { name: REGISTERED, version: row.get(1)?, role: row.get(0)?, effective: row.get(3)?, digest })
}

fn example() -> serde_json::Value {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let model = serde_json::json!({"name": REGISTERED, "version": "3", "role": "champion",
                                   "effective": "2026-01-15T08:00:00Z", "digest": digest});
    serde_json::json!({
        "serving": model, "shadow": null, "state": "ready", "detail": "version 3 scores", "registry": "models",
        "trained": [{"role": "champion", "version": "3", "rows": 20160}], "history": [model],
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
