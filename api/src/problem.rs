//! Errors as RFC 9457 problem details (`application/problem+json`): what was expected, what was found, what to do.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error answer.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One RFC 9457 problem. `parameter` and `allowed` are extension members.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank` where the status says it all, else a URN that names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:smartlog:problem:invalid-parameter")]
    pub kind: &'static str,
    /// The kind of problem in a few words; the same for every occurrence.
    #[schema(example = "Invalid parameter")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// What was expected, what was found and what to do.
    #[schema(example = "page must be a whole number from 1 to 10000, found \"-1\"")]
    pub detail: String,
    /// The parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "page")]
    pub parameter: Option<String>,
    /// What would have been accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Seconds after which trying again makes sense; sent as `Retry-After`.
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    fn new(kind: &'static str, status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            parameter: None,
            allowed: Vec::new(),
            retry_after_s: None,
        }
    }

    /// A parameter that cannot be read as what it should be.
    pub fn invalid(parameter: &str, detail: impl Into<String>) -> Self {
        let kind = "urn:smartlog:problem:invalid-parameter";
        let mut problem = Self::new(kind, StatusCode::BAD_REQUEST, "Invalid parameter", detail);
        problem.parameter = Some(quotable(parameter));
        problem
    }

    /// A parameter that is well formed and yet asks for what cannot be.
    pub fn unprocessable(parameter: &str, detail: impl Into<String>) -> Self {
        let kind = "urn:smartlog:problem:unprocessable-parameter";
        let mut problem =
            Self::new(kind, StatusCode::UNPROCESSABLE_ENTITY, "Parameter out of the question", detail);
        problem.parameter = Some(quotable(parameter));
        problem
    }

    /// `parameter` is well formed, and does not go with what it is about.
    pub fn conflict(parameter: &str, detail: impl Into<String>) -> Self {
        let kind = "urn:smartlog:problem:conflicting-parameter";
        Self::new(kind, StatusCode::CONFLICT, "Parameter in conflict", detail).about(parameter)
    }

    /// A parameter that the route does not have.
    pub fn unknown(parameter: &str, route: &str, allowed: &[&str]) -> Self {
        let known = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        let detail = format!("{route} has no parameter \"{}\"; it takes: {known}", quotable(parameter));
        let kind = "urn:smartlog:problem:unknown-parameter";
        let mut problem = Self::new(kind, StatusCode::BAD_REQUEST, "Unknown parameter", detail);
        problem.parameter = Some(quotable(parameter));
        problem.allowing(allowed)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new("about:blank", StatusCode::UNAUTHORIZED, "Unauthorized", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new("about:blank", StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    pub fn unsupported_media(found: &str) -> Self {
        let detail = format!("the body must be application/json, found \"{}\"", quotable(found));
        Self::new("about:blank", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type", detail)
            .allowing(&["application/json"])
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("about:blank", StatusCode::NOT_FOUND, "Not Found", detail)
    }

    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let detail =
            format!("{} does not answer {method}; the Allow header lists what it answers", quotable(path));
        Self::new("about:blank", StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", detail)
    }

    pub fn not_acceptable(accept: &str, produces: &[&str]) -> Self {
        let detail =
            format!("the answer comes as {}; Accept allows only {}", produces.join(" or "), quotable(accept));
        Self::new("about:blank", StatusCode::NOT_ACCEPTABLE, "Not Acceptable", detail).allowing(produces)
    }

    pub fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("a request body may have at most {limit_bytes} bytes");
        Self::new("about:blank", StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large", detail)
    }

    /// Too many requests from one address; `after_s` seconds later there is room again.
    pub fn too_many(after_s: u32) -> Self {
        let detail = format!("more requests than this address may send; try again in {after_s} s");
        Self::new("about:blank", StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", detail)
            .retry_after(after_s)
    }

    /// The store cannot answer now. The cause goes to the log, not to the client: it may name hosts.
    pub fn store_unavailable(detail: impl Into<String>) -> Self {
        let kind = "urn:smartlog:problem:store-unavailable";
        Self::new(kind, StatusCode::SERVICE_UNAVAILABLE, "Store unavailable", detail).retry_after(1)
    }

    /// The request took longer than the server allows.
    pub fn timed_out(limit_s: u64) -> Self {
        let detail =
            format!("no answer within {limit_s} s; ask for less (a shorter time range, a smaller page)");
        Self::new("about:blank", StatusCode::SERVICE_UNAVAILABLE, "Timed out", detail).retry_after(1)
    }

    /// A fault of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new("about:blank", StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", detail)
    }

    /// Names the parameter at fault.
    pub fn about(mut self, parameter: &str) -> Self {
        self.parameter = Some(quotable(parameter));
        self
    }

    /// Adds what would have been accepted.
    pub fn allowing(mut self, allowed: &[&str]) -> Self {
        self.allowed = allowed.iter().map(|&a| a.to_owned()).collect();
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// What a client sent, short and printable, so that an error answer never grows with the request.
pub fn quotable(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut out: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"smartlog\""));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_does_not_grow_with_the_request() {
        let problem = Problem::unknown(&"x\u{0}".repeat(500_000), "/health", &[]);
        assert!(serde_json::to_vec(&problem).unwrap().len() < 2_000);
    }

    #[test]
    fn unknown_parameters_name_what_is_allowed() {
        let problem = Problem::unknown("pgae", "/api/v1/anomalies", &["page", "per_page"]);
        assert_eq!(problem.status, 400);
        assert_eq!(problem.parameter.as_deref(), Some("pgae"));
        assert_eq!(problem.allowed, ["page", "per_page"]);
        assert_eq!(problem.detail, "/api/v1/anomalies has no parameter \"pgae\"; it takes: page, per_page");
    }
}
