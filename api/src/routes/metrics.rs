//! `GET /metrics`: OpenMetrics, of the process and of the API.

use super::{Answer, Call, Route};
use crate::exposition::expose;
use crate::problem::Problem;
use axum::response::{IntoResponse, Response};
use hyper::header;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Costs are left out when the store does not tell them within this: a scrape must not fail where the store does.
const COSTS: Duration = Duration::from_secs(1);

pub const ROUTE: Route = Route {
    path: "/metrics",
    operation: "getMetrics",
    tag: "status",
    summary: "Metrics for Prometheus",
    about: "OpenMetrics text: what the process counts, `smartlog_api_…` of the API itself, and `smartlog_cloud_…`: what the cloud part costs. Scrapers that do not ask for OpenMetrics get the text format.",
    params: &[],
    path_params: &[],
    produces: &["application/openmetrics-text", "text/plain"],
    schema: None,
    example: None,
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { metrics(&call).await })),
};

async fn metrics(call: &Call) -> Result<Response, Problem> {
    let costs = tokio::time::timeout(COSTS, super::costs::gauges(&call.app, call.now)).await;
    let costs = costs.unwrap_or_else(|_| Registry::default());
    let mut text = String::with_capacity(16 * 1024);
    let encoded = call
        .app
        .source
        .encode(&mut text)
        .and_then(|()| encode_registry(&mut text, &call.app.metrics.registry))
        .and_then(|()| encode_registry(&mut text, &costs));
    match encoded {
        Ok(()) => {
            let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let (kind, body) = expose(&text, accept);
            Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body).into_response())
        }
        Err(_) => Err(Problem::internal("the metrics could not be written as text")),
    }
}
