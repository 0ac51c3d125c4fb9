//! One connection: HTTP/1.1 or HTTP/2 without TLS (h2c, prior knowledge), with a time limit on every kind of waiting.
//!
//! hyper drops its own header timeout when it has no timer, and the detection of the protocol has none at all, so a
//! watch over the whole connection stands above both.

use crate::config::Limits;
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// HTTP/2 streams that one connection may have open.
const MAX_STREAMS: u32 = 128;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

/// Where a request came from; in each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How many connections are open and were refused.
#[derive(Clone, Default)]
pub struct Connections {
    pub open: Gauge,
    pub refused: Counter,
}

/// One open connection, until dropped.
pub struct Entered(Gauge);

impl Connections {
    pub fn enter(&self) -> Entered {
        self.open.inc();
        Entered(self.open.clone())
    }

    pub fn count_refusal(&self) {
        self.refused.inc();
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves one connection to its end, or until `stop`, when it finishes the answers under way.
pub async fn serve(stream: TcpStream, router: Router, limits: Arc<Limits>, stop: CancellationToken) {
    let Ok(peer) = stream.peer_addr() else { return };
    // Only a matter of latency: what cannot be set does not matter.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let activity = Arc::new(Activity::new());
    let service = {
        let activity = Arc::clone(&activity);
        hyper::service::service_fn(move |request| {
            answer(router.clone(), request, peer, Underway::begin(Arc::clone(&activity)))
        })
    };
    let builder = builder(&limits);
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%peer, error, "connection ended early");
                }
                return;
            }
            () = activity.idled_out(&limits) => {
                tracing::debug!(%peer, "connection closed: nothing asked in time");
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.head_bytes.max(8 * 1024))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    underway: Underway,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(Peer(peer));
    let response = router.oneshot(request).await?;
    // The answer is under way until its last byte is handed over.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_the_body_is_dropped = &underway;
            frame
        }))
    }))
}

/// What a connection is doing, for the watch over it.
struct Activity(Mutex<State>);

struct State {
    underway: usize,
    /// When the last answer ended, or the connection began.
    quiet_since: Instant,
    has_asked: bool,
}

impl Activity {
    fn new() -> Self {
        Activity(Mutex::new(State { underway: 0, quiet_since: Instant::now(), has_asked: false }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Returns when nothing was under way for too long.
    async fn idled_out(&self, limits: &Limits) {
        loop {
            let (busy, deadline) = self.with(|state| {
                let patience = if state.has_asked { limits.idle_timeout } else { limits.header_timeout };
                let busy = state.underway > 0;
                (busy, if busy { Instant::now() } else { state.quiet_since } + patience)
            });
            if !busy && deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// One request from its head to the end of its answer.
struct Underway(Arc<Activity>);

impl Underway {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.with(|state| {
            state.underway += 1;
            state.has_asked = true;
        });
        Underway(activity)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.underway -= 1;
            state.quiet_since = Instant::now();
        });
    }
}
