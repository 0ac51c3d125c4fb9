//! What all requests share, and the router made of [`ROUTES`].

use crate::auth::{Caller, Tokens};
use crate::cache::{Answers, Kept};
use crate::config::ApiConfig;
use crate::feed::Feed;
use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{Answer, Call, ROUTES, Route, json, page};
use crate::serving::edge;
use crate::serving::limiter::Limiter;
use crate::serving::{http_metrics::HttpMetrics, negotiate};
use crate::shared::Shared;
use crate::store::{Opinion, Revision, RevisionGate, Row, Sql, Store, StoreError};
use crate::{MetricsSource, StartError, openapi};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use jiff::{Timestamp, Unit};
use quick_cache::sync::Cache;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Answers smaller than this are not worth compressing.
const MIN_COMPRESSED: u64 = 1_024;
/// Counts kept of lists' lengths.
const MAX_TOTALS: usize = 1_024;

/// What all requests share.
pub struct App {
    pub config: ApiConfig,
    pub store: Store,
    pub gate: RevisionGate,
    pub answers: Answers,
    /// Lengths of lists by (selection, newest anomaly event).
    pub totals: Cache<(String, i64), i64>,
    pub feed: Feed,
    pub metrics: HttpMetrics,
    pub source: Arc<dyn MetricsSource>,
    pub tokens: Tokens,
    pub rate_limiter: Option<Limiter>,
    /// Redis, where there is one.
    pub shared: Option<Arc<Shared>>,
    /// `/openapi.json`, made once.
    pub openapi: Kept,
    /// Ends the streams when the server stops.
    pub stopping: CancellationToken,
}

impl App {
    pub fn new(config: ApiConfig, source: Arc<dyn MetricsSource>) -> Result<Arc<App>, StartError> {
        if let Some(strange) = config.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(StartError::Origin(strange.clone()));
        }
        let metrics = HttpMetrics::new();
        let shared = |redis| Shared::new(redis, metrics.redis_failures.clone());
        let shared = config.redis.as_ref().map(shared).transpose().map_err(StartError::Redis)?;
        Ok(Arc::new(App {
            store: Store::new(&config)?,
            gate: RevisionGate::default(),
            answers: Answers::new(config.cache_bytes),
            totals: Cache::new(MAX_TOTALS),
            feed: Feed::new(),
            metrics,
            source,
            tokens: Tokens::new(config.tokens.clone()),
            rate_limiter: config.rate_limit.map(|limit| Limiter::new(limit, shared.clone())),
            shared,
            openapi: Kept::new(openapi::document()),
            stopping: CancellationToken::new(),
            config,
        }))
    }

    /// Runs statements and notes a failure where an operator looks for it.
    pub async fn fetch_all<const N: usize>(&self, sqls: [Sql; N]) -> Result<[Vec<Row>; N], StoreError> {
        self.store.fetch_all(sqls).await.inspect_err(|error| self.note(error))
    }

    pub async fn fetch(&self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let [rows] = self.fetch_all([sql]).await?;
        Ok(rows)
    }

    pub async fn revision(&self) -> Result<Revision, StoreError> {
        self.gate.current(&self.store).await.inspect_err(|error| self.note(error))
    }

    pub async fn keep_opinion(&self, opinion: Opinion) -> Result<(), StoreError> {
        self.store.keep_opinion(opinion).await.inspect_err(|error| self.note(error))
    }

    fn note(&self, error: &StoreError) {
        self.metrics.store_failures.inc();
        tracing::warn!(%error, "a statement got no answer");
    }
}

fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or(origin.strip_prefix("http://")).unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) && host.is_ascii();
    origin == "*" || is_host
}

/// The router: [`ROUTES`] inside, what every request passes around it.
pub fn router(app: &Arc<App>) -> Router {
    let routed = ROUTES.iter().fold(Router::new(), |router, route| {
        let app = Arc::clone(app);
        let handler = move |path: RawPathParams, request: Request| handle(app, route, path, request);
        let methods = match route.answer {
            Answer::Told { .. } => post(handler),
            Answer::Removed(_) => delete(handler),
            Answer::Plain(_) | Answer::Kept(_) => get(handler),
        };
        router.route(route.path, methods)
    });
    let compressible = DefaultPredicate::new().and(SizeAbove::new(MIN_COMPRESSED));
    let mut router = routed
        .fallback(|request: Request| async move {
            let path = crate::problem::quotable(request.uri().path());
            Problem::not_found(format!("there is no {path}; /docs lists all routes")).into_response()
        })
        .method_not_allowed_fallback(|request: Request| async move {
            Problem::method_not_allowed(request.method().as_str(), request.uri().path()).into_response()
        })
        .layer(CompressionLayer::new().compress_when(compressible));
    if !app.config.cors_origins.is_empty() {
        router = router.layer(cors(&app.config.cors_origins));
    }
    router.layer(from_fn_with_state(Arc::clone(app), edge::edge))
}

/// Asking from other origins, without the browser's own credentials: a token is the page's to send.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([edge::REQUEST_ID, header::ETAG])
        .max_age(std::time::Duration::from_secs(600))
}

/// Checks what the route declares, then lets it answer.
async fn handle(app: Arc<App>, route: &'static Route, path: RawPathParams, request: Request) -> Response {
    match call(app, route, path, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn call(
    app: Arc<App>,
    route: &'static Route,
    path: RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    negotiate::check(request.headers(), route.produces)?;
    // Whole seconds, so that equal relative times asked within one are the same question.
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    // The page's own script reads the page's query.
    let query = request.uri().query().filter(|_| route.path != page::ROUTE.path).unwrap_or_default();
    let params = Params::parse(route.path, route.params, query, now)?;
    let path: Vec<String> = path.iter().map(|(_, value)| value.to_owned()).collect();
    let caller = request.extensions().get::<Caller>().cloned();
    let headers = request.headers().clone();
    let body = match route.answer {
        Answer::Told { .. } => json_body(&app, &headers, request.into_body()).await?,
        Answer::Plain(_) | Answer::Kept(_) | Answer::Removed(_) => Bytes::new(),
    };
    let call = Call { app, path, params, headers, body, caller, now };
    match route.answer {
        Answer::Told { answer, .. } => answer(call).await,
        Answer::Plain(answer) | Answer::Removed(answer) => answer(call).await,
        Answer::Kept(read) => kept(route, call, read).await,
    }
}

/// The body of a POST. That its type is named keeps out forms of other sites, which can name only a few others.
async fn json_body(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = named.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media(named));
    }
    let limit = app.config.limits.body_bytes;
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(limit)),
        Err(_) => Err(Problem::invalid("body", "the body ended early")),
    }
}

/// Answers from the cache, or reads and keeps; where nothing is to be kept, reads.
async fn kept(route: &'static Route, call: Call, read: crate::routes::ReadFn) -> Result<Response, Problem> {
    let app = Arc::clone(&call.app);
    let headers = call.headers.clone();
    if app.config.cache_bytes == 0 {
        return Ok(json(&headers, &Kept::new(read(call).await?)));
    }
    let revision = app.revision().await?;
    let key = (route.path, format!("{}|{}", call.path.join("/"), call.params.canonical()), revision);
    let metrics = &app.metrics;
    let mut is_hit = true;
    let answer = app.answers.get(key, async {
        is_hit = false;
        read(call).await.map(Kept::new)
    });
    let answer = answer.await?;
    if is_hit {
        metrics.cache_hits.inc()
    } else {
        metrics.cache_misses.inc()
    };
    Ok(json(&headers, &answer))
}
