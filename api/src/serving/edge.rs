//! What every request passes and every answer carries: request id, access log, counts, limits, security headers.

use super::connection::Peer;
use super::http_metrics::Answered;
use super::limiter::Key;
use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Problem, quotable};
use crate::routes::{ROUTES, Route};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Names a request in the access log and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken over from a client or a proxy.
const MAX_REQUEST_ID: usize = 128;

/// For pages and scripts of ours: nothing from elsewhere, nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Swagger UI writes style attributes and inline images.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The outermost layer.
pub async fn edge(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let peer = request.extensions().get::<Peer>().copied();
    let route = route(&request).map_or("unmatched", |route| route.path);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let span = span_of(known_method(&method), route, &id);

    let identified = app.tokens.caller(request.headers());
    let admitted = match within_rate(&app, &identified, peer).await {
        Ok(()) => permitted(&app, &request, identified),
        Err(problem) => Err(problem),
    };
    let caller = admitted.as_ref().ok().and_then(|caller| caller.as_ref().map(|caller| caller.name.clone()));
    let mut response = match admitted {
        Ok(caller) => {
            caller.map(|caller| request.extensions_mut().insert(caller));
            answer_in_time(&app, request, next).instrument(span.clone()).await
        }
        Err(problem) => problem.into_response(),
    };

    let (took, status) = (began.elapsed(), response.status().as_u16());
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    drop(span);
    app.metrics.count(Answered { route, method: known_method(&method), status }, took);
    set_headers(response.headers_mut(), route, &id);
    tracing::info!(
        target: "smartlog_api::access",
        request_id = id.to_str().unwrap_or_default(),
        peer = peer.map(|Peer(address)| tracing::field::display(address)),
        caller = caller.as_deref(),
        method = %method,
        path = quotable(uri.path()),
        query = uri.query().map(quotable),
        route,
        status,
        took_ms = took.as_secs_f64() * 1e3,
        "answered"
    );
    response
}

/// For who collects traces, in OpenTelemetry's words; what a client made up is not in it.
fn span_of(method: &'static str, route: &'static str, id: &HeaderValue) -> Span {
    tracing::trace_span!(
        target: "smartlog_trace", "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request_id = id.to_str().unwrap_or_default()
    )
}

/// Who asks, where tokens are asked for, or what is wrong with the token.
type Identified = Result<Option<Caller>, Problem>;

/// Each token has a rate limit of its own, and so has each address that sends none, or a wrong one.
async fn within_rate(app: &App, identified: &Identified, peer: Option<Peer>) -> Result<(), Problem> {
    let (Some(limiter), Some(Peer(address))) = (&app.rate_limiter, peer) else { return Ok(()) };
    let caller = identified.as_ref().ok().and_then(Option::as_ref);
    limiter.admit(&Key::of(caller, address.ip())).await
}

/// Refuses what must not reach a route.
fn permitted(app: &App, request: &Request, identified: Identified) -> Identified {
    if let Some(scope) = route(request).and_then(Route::scope).filter(|_| request.method() != Method::OPTIONS)
    {
        let caller = identified?;
        app.tokens.check(caller.as_ref(), scope)?;
        check_length(app, request)?;
        return Ok(caller);
    }
    check_length(app, request)?;
    Ok(identified.unwrap_or_default())
}

fn check_length(app: &App, request: &Request) -> Result<(), Problem> {
    let limit = app.config.limits.body_bytes;
    let declared = request.body().size_hint().lower();
    if declared > limit as u64 { Err(Problem::too_large(limit)) } else { Ok(()) }
}

async fn answer_in_time(app: &App, request: Request, next: Next) -> Response {
    let limit = app.config.limits.request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out(limit.as_secs()).into_response(),
    }
}

/// The route that the request matched; labels and logs name it by its template and never hold what a client made up.
fn route(request: &Request) -> Option<&'static Route> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    ROUTES.iter().find(|known| Some(known.path) == path)
}

fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// The client's id when it is short and plain, else one of ours: unique in this process, unlikely to be met elsewhere.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        use std::hash::BuildHasher;
        std::hash::RandomState::new().hash_one(std::process::id())
    });
    let is_plain = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    match headers.get(REQUEST_ID).filter(is_plain) {
        Some(id) => id.clone(),
        None => {
            let id = format!("{:016x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
            HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown"))
        }
    }
}

fn set_headers(headers: &mut HeaderMap, route: &str, id: &HeaderValue) {
    let policy = if route.starts_with("/docs") { DOCS_POLICY } else { PAGE_POLICY };
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_request_ids_are_replaced() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(with("abc-123"), "abc-123");
        assert_ne!(with("a b"), "a b");
        assert_ne!(with(""), "");
        assert_ne!(with(&"x".repeat(129)), "x".repeat(129));
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
