//! `GET /health`, `/health/live`, `/health/ready`: is it up, and what it rests on.

use super::{Answer, JSON, Route, fresh, schema_of};
use crate::app::App;
use crate::problem::Problem;
use crate::store::StoreError;
use axum::response::Response;
use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// Whoever asks gets an answer within the second, also when the store does not give one.
const STORE_PATIENCE: Duration = Duration::from_millis(900);
/// A pipeline that has not committed for this long is not running, or cannot write.
pub const STALE_AFTER_S: i64 = 30;

pub const ROUTE: Route = Route {
    path: "/health",
    operation: "getHealth",
    tag: "health",
    summary: "Health with dependencies",
    about: "`ok`; `degraded`: answers are given, but the pipeline has not committed for 30 s or never ran, or Redis, \
            where one is configured, does not answer; `down` (with status 503): the store cannot be read. Answers within a second.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Health>),
    example: Some(example),
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { health(&call.app).await })),
};

pub const LIVE: Route = Route {
    path: "/health/live",
    operation: "getLiveness",
    tag: "health",
    summary: "Whether the process answers",
    about: "For a supervisor that restarts what hangs: asks nothing of the store.",
    schema: Some(schema_of::<Probe>),
    example: Some(|| serde_json::json!({"status": "ok"})),
    answer: Answer::Plain(|_| Box::pin(async { fresh(StatusCode::OK, &Probe { status: "ok" }) })),
    ..ROUTE
};

pub const READY: Route = Route {
    path: "/health/ready",
    operation: "getReadiness",
    tag: "health",
    summary: "Whether requests can be answered",
    about: "For a load balancer: 503 while the store cannot be read.",
    schema: Some(schema_of::<Probe>),
    example: Some(|| serde_json::json!({"status": "ok"})),
    answer: Answer::Plain(|call| Box::pin(async move { ready(&call.app).await })),
    ..ROUTE
};

/// The answer to a probe.
#[derive(Debug, Serialize, ToSchema)]
struct Probe {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether all is well.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`, `degraded` or `down`.
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    dependencies: Dependencies,
}

#[derive(Debug, Serialize, ToSchema)]
struct Dependencies {
    store: StoreHealth,
    pipeline: PipelineHealth,
    /// Where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisHealth>,
}

/// What several API processes share; nothing rests on it.
#[derive(Debug, Serialize, ToSchema)]
struct RedisHealth {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// The state store.
#[derive(Debug, Serialize, ToSchema)]
struct StoreHealth {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    status: &'static str,
    /// `sqlite` or `postgres`.
    #[schema(example = "postgres")]
    kind: &'static str,
    /// How long a small statement took.
    #[schema(example = 0.6)]
    latency_ms: f64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

/// What writes the store.
#[derive(Debug, Serialize, ToSchema)]
struct PipelineHealth {
    /// `ok`; `stale`: no commit for 30 s; `absent`: it never ran; `unknown`: the store cannot be read.
    #[schema(example = "ok")]
    status: &'static str,
    /// When it last committed.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_commit: Option<Timestamp>,
}

async fn health(app: &App) -> Result<Response, Problem> {
    let began = Instant::now();
    let (last_commit, redis) = tokio::join!(last_commit(app), redis(app));
    let latency_ms = (began.elapsed().as_secs_f64() * 1e5).round() / 1e2;
    let kind = app.store.name();
    let detail = last_commit.as_ref().err().map(describe);
    let store_status = if detail.is_none() { "ok" } else { "down" };
    let store = StoreHealth { status: store_status, kind, latency_ms, detail };
    let pipeline = pipeline(last_commit);
    let has_redis = redis.as_ref().is_none_or(|redis| redis.status == "ok");
    let (status, code) = match (store.status, pipeline.status) {
        ("down", _) => ("down", StatusCode::SERVICE_UNAVAILABLE),
        (_, "ok") if has_redis => ("ok", StatusCode::OK),
        _ => ("degraded", StatusCode::OK),
    };
    let version = env!("CARGO_PKG_VERSION");
    fresh(code, &Health { status, version, dependencies: Dependencies { store, pipeline, redis } })
}

async fn redis(app: &App) -> Option<RedisHealth> {
    let is_up = app.shared.as_ref()?.ping().await;
    Some(RedisHealth { status: if is_up { "ok" } else { "down" } })
}

async fn ready(app: &App) -> Result<Response, Problem> {
    match last_commit(app).await {
        Ok(_) => fresh(StatusCode::OK, &Probe { status: "ok" }),
        Err(_) => fresh(StatusCode::SERVICE_UNAVAILABLE, &Probe { status: "down" }),
    }
}

/// When the pipeline last committed; `None` when it never did.
async fn last_commit(app: &App) -> Result<Option<Timestamp>, StoreError> {
    let asked = app.fetch(app.store.sql("select max(updated_at) from pipeline_state"));
    let limit_ms = STORE_PATIENCE.as_millis();
    let rows = tokio::time::timeout(STORE_PATIENCE, asked)
        .await
        .unwrap_or(Err(StoreError::TimedOut { limit_ms }))?;
    rows.first().map_or(Ok(None), |row| row.get(0))
}

fn pipeline(last_commit: Result<Option<Timestamp>, StoreError>) -> PipelineHealth {
    match last_commit {
        Err(_) => PipelineHealth { status: "unknown", last_commit: None },
        Ok(None) => PipelineHealth { status: "absent", last_commit: None },
        Ok(Some(at)) => {
            let is_stale = Timestamp::now().as_second() - at.as_second() > STALE_AFTER_S;
            PipelineHealth { status: if is_stale { "stale" } else { "ok" }, last_commit: Some(at) }
        }
    }
}

/// What is wrong, without names of hosts or files.
fn describe(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable { .. } => {
            "cannot be reached, or has no tables yet; the server's log says more"
        }
        StoreError::TimedOut { .. } => "does not answer in time",
        StoreError::Mismatch(_) => "holds what this version cannot read",
    }
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "status": "ok", "version": env!("CARGO_PKG_VERSION"),
        "dependencies": {
            "store": {"status": "ok", "kind": "postgres", "latency_ms": 0.6},
            "pipeline": {"status": "ok", "last_commit": "2026-01-15T10:30:05Z"}
        }
    })
}
