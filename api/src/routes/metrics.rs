//! `GET /metrics`: OpenMetrics, of the process and of the API.

use super::{Answer, Call, Route};
use crate::problem::Problem;
use axum::response::{IntoResponse, Response};
use hyper::header;
use prometheus_client::encoding::text::{encode_eof, encode_registry};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub const ROUTE: Route = Route {
    path: "/metrics",
    operation: "getMetrics",
    tag: "status",
    summary: "Metrics for Prometheus",
    about: "OpenMetrics text: what the process counts, `smartlog_api_…` of the API itself, and `smartlog_cloud_…`: what the cloud part costs.",
    params: &[],
    path_params: &[],
    // Scrapers of every age get OpenMetrics: they have read it for years.
    produces: &["application/openmetrics-text", "text/plain"],
    schema: None,
    example: None,
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { metrics(&call).await })),
};

async fn metrics(call: &Call) -> Result<Response, Problem> {
    let costs = super::costs::gauges(&call.app, call.now).await;
    let mut text = String::with_capacity(16 * 1024);
    let encoded = call
        .app
        .source
        .encode(&mut text)
        .and_then(|()| encode_registry(&mut text, &call.app.metrics.registry))
        .and_then(|()| encode_registry(&mut text, &costs))
        .and_then(|()| encode_eof(&mut text));
    match encoded {
        Ok(()) => Ok(([(header::CONTENT_TYPE, OPENMETRICS), (header::CACHE_CONTROL, "no-store")], text)
            .into_response()),
        Err(_) => Err(Problem::internal("the metrics could not be written as text")),
    }
}
