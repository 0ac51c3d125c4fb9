//! Every route of the API at a glance. The table makes the router, the checks and the documentation.
//!
//! To add one: a file here with a `pub const ROUTE: Route`, and a line in [`ROUTES`].

pub mod anomalies;
mod anomaly;
mod calendar;
mod costs;
mod dead_letters;
mod docs;
mod feedback;
mod health;
mod hourly;
mod logs;
mod metrics;
mod models;
pub mod page;
mod patterns;
mod services;
mod status;
mod stream;
mod when;

use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::cache::Kept;
use crate::params::{Kind, Param, Params};
use crate::problem::Problem;
use crate::store::{Row, StoreError};
use crate::time;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// All routes.
pub const ROUTES: &[Route] = &[
    anomalies::ROUTE,
    stream::ROUTE,
    anomaly::ROUTE,
    feedback::ROUTE,
    calendar::LIST,
    calendar::ANNOUNCE,
    calendar::CALL_OFF,
    hourly::ROUTE,
    services::ROUTE,
    status::ROUTE,
    logs::ROUTE,
    patterns::ROUTE,
    models::ROUTE,
    costs::ROUTE,
    dead_letters::ROUTE,
    metrics::ROUTE,
    health::ROUTE,
    health::LIVE,
    health::READY,
    page::ROUTE,
    page::ASSETS,
    docs::OPENAPI,
    docs::ROUTE,
    docs::ASSETS,
];

/// One route: what it takes, what it makes, who answers. Routes answer GET and HEAD, those of [`Answer::Told`] POST, those of
/// [`Answer::Removed`] DELETE.
pub struct Route {
    /// Template, as axum and OpenAPI write it: `/api/v1/anomalies/{id}`.
    pub path: &'static str,
    /// Unique name for generated clients.
    pub operation: &'static str,
    pub tag: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What a user has to know.
    pub about: &'static str,
    /// Query parameters.
    pub params: &'static [Param],
    /// Path parameters in order: name, what it is, an example.
    pub path_params: &'static [(&'static str, &'static str, &'static str)],
    /// Media types of a successful answer.
    pub produces: &'static [&'static str],
    /// Schema of a successful answer, for JSON.
    pub schema: Option<fn() -> NamedSchema>,
    /// A successful answer, for the documentation.
    pub example: Option<fn() -> serde_json::Value>,
    /// Statuses besides 200 and those that any route may give.
    pub also: &'static [(u16, &'static str)],
    pub answer: Answer,
}

/// A schema, its name, and the schemas that it refers to.
pub struct NamedSchema {
    pub name: String,
    pub schema: RefOr<Schema>,
    pub referred: Vec<(String, RefOr<Schema>)>,
}

/// The schema of a type, for [`Route::schema`].
pub fn schema_of<T: ToSchema>() -> NamedSchema {
    let mut referred = Vec::new();
    T::schemas(&mut referred);
    NamedSchema { name: T::name().into_owned(), schema: T::schema(), referred }
}

pub type AnswerFn = fn(Call) -> BoxFuture<'static, Result<Response, Problem>>;
pub type ReadFn = fn(Call) -> BoxFuture<'static, Result<Vec<u8>, Problem>>;

/// Who answers.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Anew for each request.
    Plain(AnswerFn),
    /// JSON that depends on nothing but path, parameters and store: kept until the store changes, with an ETag.
    Kept(ReadFn),
    /// To a POST whose body is JSON: its schema and an example.
    Told { body: fn() -> NamedSchema, example: fn() -> serde_json::Value, answer: AnswerFn },
    /// To a DELETE.
    Removed(AnswerFn),
}

impl Route {
    /// What a token must allow; `None`: nobody is asked for one. Page, documentation and health are for everybody.
    pub fn scope(&self) -> Option<Scope> {
        let is_guarded = self.path.starts_with("/api/") || self.path == metrics::ROUTE.path;
        is_guarded.then(|| if self.method() == Method::GET { Scope::Read } else { Scope::Feedback })
    }

    /// The method besides HEAD, which comes with GET.
    pub fn method(&self) -> Method {
        match self.answer {
            Answer::Told { .. } => Method::POST,
            Answer::Removed(_) => Method::DELETE,
            Answer::Plain(_) | Answer::Kept(_) => Method::GET,
        }
    }
}

/// One request, checked against its route.
pub struct Call {
    pub app: Arc<App>,
    /// Values of the path's parameters, in order.
    pub path: Vec<String>,
    pub params: Params,
    pub headers: HeaderMap,
    /// Of a POST; empty otherwise.
    pub body: Bytes,
    /// Who asks, where tokens are asked for.
    pub caller: Option<Caller>,
    /// What relative times refer to.
    pub now: Timestamp,
}

/// The only media type of most routes.
pub const JSON: &[&str] = &["application/json"];

pub const SERVICE: Param = Param {
    name: "service",
    kind: Kind::Text { max_chars: 100 },
    about: "Only this service",
    example: "payment-service",
};
pub const SINCE: Param = Param {
    name: "since",
    kind: Kind::Time,
    about: "From this time on: RFC 3339, `now`, or relative to now (`-15m`, `-1h`, `-7d`)",
    example: "-1h",
};
pub const UNTIL: Param = Param {
    name: "until",
    kind: Kind::Time,
    about: "Before this time; written like `since`",
    example: "now",
};

/// How far the numbers are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClockNow {
    /// Event time reached; null before the first log.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-15T10:30:05Z")]
    pub clock: Option<Timestamp>,
    /// Event time up to which all numbers are final.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-15T10:30:00Z")]
    pub complete_through: Option<Timestamp>,
}

impl ClockNow {
    /// Clock and watermark of the aggregates, in one row; absent before the first run.
    pub const SQL: &str = "select clock_us, watermark_us from pipeline_state order by pipeline limit 1";

    pub async fn read(app: &App) -> Result<ClockNow, StoreError> {
        Self::of(&app.fetch(app.store.sql(Self::SQL)).await?)
    }

    /// From the answer to [`ClockNow::SQL`].
    pub fn of(rows: &[Row]) -> Result<ClockNow, StoreError> {
        let Some(row) = rows.first() else { return Ok(ClockNow { clock: None, complete_through: None }) };
        let micros = |column| row.get::<Option<i64>>(column).map(|us| us.and_then(time::from_micros));
        Ok(ClockNow { clock: micros(0)?, complete_through: micros(1)? })
    }
}

/// Like [`ClockNow::SQL`], for lists of raw logs: the lesser of the aggregates' watermark and that of any raw sink.
pub const RAW_COMPLETE_SQL: &str = "select min(clock_us), min(watermark_us) from (\
     select clock_us, watermark_us from pipeline_state \
     union all select null, watermark_us from sink_positions where watermark_us is not null) as reached";

/// Serialises an answer.
pub fn encode(answer: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(answer).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Problem::internal("the answer could not be written as JSON; the server's log says why")
    })
}

/// JSON with its ETag, or 304 when the client has it already.
pub fn json(headers: &HeaderMap, kept: &Kept) -> Response {
    conditional(headers, kept, "application/json", "no-cache")
}

/// A body with its ETag, or 304 when the client has it already.
pub fn conditional(
    headers: &HeaderMap,
    kept: &Kept,
    content_type: &'static str,
    cache_control: &'static str,
) -> Response {
    let validators = [
        (header::ETAG, kept.etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache_control)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if is_known(headers, &kept.etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(header::CONTENT_TYPE, content_type)], kept.body.clone()).into_response()
}

/// Whether `If-None-Match` names the ETag; weak comparison, as GET asks for.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .any(|tag| tag == b"*" || opaque(tag) == opaque(etag.as_bytes()))
    })
}

/// JSON that is not kept.
pub fn fresh(status: StatusCode, answer: &impl Serialize) -> Result<Response, Problem> {
    let body = Bytes::from(encode(answer)?);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((status, headers, body).into_response())
}
