//! `/metrics` and `/health` of `smartlog run`, at `metrics.listen`. Answers from the pipeline's gauges, so also while a
//! worker is stalled or a store is down.

use crate::engine::Gauges;
use crate::metrics::Metrics;
use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use smartlog_api::MetricsSource;
use smartlog_sinks::{Health, State};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Clients served at once: a scraper or two and a probe.
const CONNECTIONS: usize = 64;
/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

struct Page {
    metrics: Metrics,
    gauges: Gauges,
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(listen: SocketAddr, metrics: Metrics, gauges: Gauges) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("metrics.listen: {listen} cannot be listened on; choose a free address"))?;
    let address = listener.local_addr()?;
    let page = Arc::new(Page { metrics, gauges });
    tokio::task::spawn(accept(listener, page));
    tracing::info!("metrics are at http://{address}/metrics");
    Ok(address)
}

async fn accept(listener: TcpListener, page: Arc<Page>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection to /metrics could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        tokio::task::spawn(async move {
            let service = service_fn(|request| {
                let page = Arc::clone(&page);
                async move { Ok::<_, Infallible>(answer(&page, &request)) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A client that goes away mid-answer is its own affair.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn answer(page: &Page, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => {
            let mut text = String::new();
            match page.metrics.encode(&mut text) {
                Ok(()) => {
                    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                    let (kind, body) = smartlog_api::expose(&text, accept);
                    (StatusCode::OK, kind, body)
                }
                Err(_) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the metrics cannot be written".into())
                }
            }
        }
        "/health" => {
            let (well, body) = health(&page.gauges);
            let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, "application/json", body.to_string())
        }
        "/health/live" => (StatusCode::OK, "application/json", json!({ "status": "ok" }).to_string()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "there are /metrics, /health and /health/live".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Whether it is fit to run, and each dependency's state.
fn health(gauges: &Gauges) -> (bool, serde_json::Value) {
    let sinks = gauges.sinks("store");
    let state = |health: &Health| match health.state() {
        State::Ok => json!({ "status": "ok" }),
        State::Retrying { since, error } => json!({ "status": "degraded", "since": since, "error": error }),
        State::Failed { error } => json!({ "status": "down", "error": error }),
    };
    let failed = sinks.iter().any(|(_, health)| matches!(health.state(), State::Failed { .. }));
    let retrying = sinks.iter().any(|(_, health)| matches!(health.state(), State::Retrying { .. }));
    let overall = if failed {
        "down"
    } else if retrying {
        "degraded"
    } else {
        "ok"
    };
    let dependencies: serde_json::Map<String, serde_json::Value> =
        sinks.into_iter().map(|(name, health)| (name, state(health))).collect();
    let version = env!("CARGO_PKG_VERSION");
    (!failed, json!({ "status": overall, "version": version, "dependencies": dependencies }))
}
