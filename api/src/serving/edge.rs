//! What every request passes and every answer carries: request id, access log, counts, limits, security headers.

use super::connection::Peer;
use super::http_metrics::Answered;
use crate::app::App;
use crate::problem::{Problem, quotable};
use crate::routes::ROUTES;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Names a request in the access log and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken over from a client or a proxy.
const MAX_REQUEST_ID: usize = 128;
/// How many addresses the rate limit remembers before it forgets those that are at rest.
const MAX_ADDRESSES: usize = 65_536;

/// For pages and scripts of ours: nothing from elsewhere, nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Swagger UI writes style attributes and inline images.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The outermost layer.
pub async fn edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let peer = request.extensions().get::<Peer>().copied();
    let route = route_of(request.extensions().get::<MatchedPath>());
    let (method, uri) = (request.method().clone(), request.uri().clone());

    let mut response = match admit(&app, &request, peer) {
        Ok(()) => answer_in_time(&app, request, next).await,
        Err(problem) => problem.into_response(),
    };

    let (took, status) = (began.elapsed(), response.status().as_u16());
    app.metrics.count(Answered { route, method: known_method(&method), status }, took);
    set_headers(response.headers_mut(), route, &id);
    tracing::info!(
        target: "smartlog_api::access",
        request_id = id.to_str().unwrap_or_default(),
        peer = peer.map(|Peer(address)| tracing::field::display(address)),
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

/// Refuses what must not reach a route.
fn admit(app: &App, request: &Request, peer: Option<Peer>) -> Result<(), Problem> {
    if let (Some(limiter), Some(Peer(address))) = (&app.rate_limiter, peer) {
        limiter.admit(address.ip())?;
    }
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

/// The template that the request matched; labels and logs never hold what a client made up.
fn route_of(matched: Option<&MatchedPath>) -> &'static str {
    let path = matched.map(MatchedPath::as_str);
    ROUTES.iter().map(|route| route.path).find(|known| Some(*known) == path).unwrap_or("unmatched")
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

/// A bound on the requests of each address.
pub struct AddressLimiter {
    buckets: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl AddressLimiter {
    pub fn new(limit: crate::config::RateLimit) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        AddressLimiter { buckets: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    fn admit(&self, address: IpAddr) -> Result<(), Problem> {
        if self.buckets.len() > MAX_ADDRESSES {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(&network(address)).map_err(|until| {
            Problem::too_many(
                u32::try_from(until.wait_time_from(self.clock.now()).as_secs())
                    .unwrap_or(u32::MAX)
                    .saturating_add(1),
            )
        })
    }
}

/// One customer's network: an IPv6 client has 2^64 addresses to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
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

    #[test]
    fn an_ipv6_network_shares_one_bucket() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
