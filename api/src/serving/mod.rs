//! From a socket to the router and back: who may connect, for how long, and what every answer carries.
//!
//! ```text
//!  accept ──▶ connection.rs ──▶ edge.rs ─────────▶ router ──▶ route
//!  server.rs    timeouts,         request id, log,
//!  cap, drain   HTTP/1.1, h2c     limits, headers
//! ```

pub mod connection;
pub mod edge;
pub mod http_metrics;
pub mod limiter;
pub mod negotiate;
pub mod server;
