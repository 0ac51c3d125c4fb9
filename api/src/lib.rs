//! REST API and live page over what the dataflow has materialised. Reads the state store and, where configured,
//! Redis, so it runs in the dataflow's process or beside it, in any number.
//!
//! ```text
//!   browser, curl, Prometheus
//!        │ HTTP/1.1, h2c
//!   serving/   accept, timeouts, limits, request ids, log, security headers
//!        │
//!   routes/    ROUTES: one line per route, one file per route ──▶ /openapi.json, /docs
//!        │       params.rs checks the query, paging.rs pages, problem.rs says what is wrong
//!   cache.rs   answers kept until the store's revision changes
//!        │
//!   store/     SQLite file or PostgreSQL, read-only ◀── feed.rs: one poller of anomaly_events for all streams
//!   shared.rs  Redis, where there is one ◀──────────────┘
//! ```
//!
//! To add a route: write `routes/NAME.rs` with a `pub const ROUTE: Route`, and add its line to
//! [`routes::ROUTES`].

mod app;
mod auth;
mod cache;
mod cloud;
mod config;
mod costs;
mod exposition;
mod feed;
mod listing;
mod openapi;
mod paging;
mod params;
mod problem;
pub mod routes;
mod serving;
mod shared;
mod store;
mod time;

pub use auth::{InvalidToken, Scope, Token};
pub use config::{ApiConfig, InvalidStoreUrl, Limits, RateLimit, StoreUrl};
pub use costs::CloudCosts;
pub use exposition::expose;
pub use problem::Problem;
pub use shared::RedisConfig;
pub use store::StoreError;

use app::App;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Numbers of the process that runs the API, for `/metrics`.
pub trait MetricsSource: Send + Sync {
    /// Appends OpenMetrics text without the closing `# EOF`, as
    /// `prometheus_client::encoding::text::encode_registry` writes it. The API's own `smartlog_api_…` families follow.
    fn encode(&self, out: &mut String) -> std::fmt::Result;
}

impl<F: Fn(&mut String) -> std::fmt::Result + Send + Sync> MetricsSource for F {
    fn encode(&self, out: &mut String) -> std::fmt::Result {
        self(out)
    }
}

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error(
        "{0} can be reached from other machines and no token is asked for: listen on 127.0.0.1, configure tokens \
         (`smartlog api token` makes one), or allow it by allow_public behind a proxy that asks who is there"
    )]
    Public(SocketAddr),
    #[error("{0:?} is not a web origin such as https://ops.example.org, nor *")]
    Origin(String),
    #[error("redis.url cannot be understood: {0}")]
    Redis(redis::RedisError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A bound server that does not serve yet.
pub struct Api {
    listener: TcpListener,
    app: Arc<App>,
}

impl Api {
    /// Checks the configuration and takes the port. The store need not be there yet.
    pub async fn bind(config: ApiConfig, metrics: Arc<dyn MetricsSource>) -> Result<Api, StartError> {
        let address = config.listen;
        if !address.ip().is_loopback() && config.tokens.is_empty() && !config.allow_public {
            return Err(StartError::Public(address));
        }
        let app = App::new(config, metrics)?;
        let listener =
            TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
        Ok(Api { listener, app })
    }

    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the answers under way (at most `drain_timeout`).
    pub async fn serve(self, stop: CancellationToken) {
        let app = self.app;
        let limits = Arc::new(app.config.limits.clone());
        if let Ok(address) = self.listener.local_addr() {
            tracing::info!(%address, store = %app.config.store, "API and page are served");
        }
        let router = app::router(&app);
        let connections = app.metrics.connections.clone();
        let feed = feed::run(Arc::clone(&app), stop.clone());
        let streams_end = async {
            stop.cancelled().await;
            app.stopping.cancel();
        };
        let served = serving::server::serve(self.listener, router, limits, connections, stop.clone());
        let ((), (), cut_off) = futures_util::future::join3(feed, streams_end, served).await;
        tracing::info!(cut_off, "API stopped");
    }
}

/// Binds and serves until `stop`. See [`Api`] for the two steps apart.
pub async fn serve(
    config: ApiConfig,
    metrics: Arc<dyn MetricsSource>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    Api::bind(config, metrics).await?.serve(stop).await;
    Ok(())
}
