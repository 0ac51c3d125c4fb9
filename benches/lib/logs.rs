//! The logs that are measured with: about 250 bytes, 20 services, mostly INFO; equal numbers drawn make equal bytes.

use crate::random::Random;
use jiff::Timestamp;
use std::io::Write as _;

/// Event time of the first log: 2026-01-15T10:00:00Z, milliseconds.
pub const START_MS: i64 = 1_768_471_200_000;

/// The services, the busiest first: they share the logs by 1/rank.
pub const SERVICES: [&str; 20] = [
    "api-gateway",
    "auth-service",
    "payment-service",
    "order-service",
    "user-service",
    "catalog-service",
    "search-service",
    "cart-service",
    "checkout-service",
    "inventory-service",
    "notification-service",
    "email-service",
    "shipping-service",
    "pricing-service",
    "recommendation-service",
    "review-service",
    "session-service",
    "fraud-service",
    "billing-service",
    "report-service",
];
/// Messages of errors.
pub const ERROR: [&str; 4] = [
    "Database connection timeout",
    r#"Unhandled exception in request handler: "NullPointer" at com.acme.Handler.process(Handler.java:142)"#,
    "Upstream returned 503 Service Unavailable after 3 attempts",
    "Failed to deserialize payload: unexpected end of input at offset 4096",
];
const WARN: [&str; 3] = [
    "Slow query detected: exceeded the soft threshold of 500 ms on the orders index",
    "Retrying upstream call, attempt 2 of 3",
    "Connection pool is at 85% of capacity, consider raising the limit",
];
const DEBUG: [&str; 3] = [
    "Entering handler with parsed arguments and resolved feature flags for this tenant",
    "Query plan cached",
    "Retry budget at 97%, circuit breaker closed",
];
const INFO: [&str; 6] = [
    "Request completed successfully with status 200 and all upstream calls within their deadline",
    "Cache hit for key, served from local replica without touching the primary store",
    "User session refreshed",
    "Job finished: 128 rows processed, 0 rejected, checkpoint written",
    "Accepted connection from load balancer, TLS 1.3 negotiated",
    "Response sent to client",
];

/// One log, its members as the JSON text has them.
pub struct Log<'a> {
    /// Event time, milliseconds.
    pub at_ms: i64,
    /// Its level.
    pub level: &'static str,
    /// Its service.
    pub service: &'a str,
    /// Its host.
    pub host: String,
    /// Its message, unescaped.
    pub message: &'static str,
    /// An object, as JSON.
    pub metadata: String,
}

impl<'a> Log<'a> {
    /// A log with the given level and message, the rest drawn.
    pub fn draw(
        at_ms: i64,
        service: &'a str,
        (level, message): (&'static str, &'static str),
        random: &mut Random,
    ) -> Self {
        let host = format!("server-{:02}", 1 + random.below(40));
        let metadata = format!(
            r#"{{"request_id":"{:08x}-{:04x}","user_id":"user-{}","duration_ms":{}}}"#,
            random.below(1 << 32),
            random.below(1 << 16),
            random.below(100_000),
            random.below(5_000)
        );
        Log { at_ms, level, service, host, message, metadata }
    }

    /// Its event time.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millisecond(self.at_ms).unwrap_or(Timestamp::MAX)
    }

    /// Writes it over `line`.
    pub fn write(&self, line: &mut Vec<u8>) {
        let Log { level, service, host, metadata, .. } = self;
        let at = self.timestamp();
        let message = self.message.replace('"', r#"\""#);
        line.clear();
        // Writing to memory cannot fail.
        let _ = write!(
            line,
            r#"{{"timestamp":"{at:.3}","level":"{level}","service":"{service}","host":"{host}","message":"{message}","metadata":{metadata}}}"#
        );
    }
}

/// A level and a message: `errors` in a thousand are errors, 100 of the rest warnings and so on.
pub fn kind(errors: u64, random: &mut Random) -> (&'static str, &'static str) {
    match random.below(1_000) {
        dice if dice < errors => ("ERROR", random.one_of(&ERROR)),
        dice if dice < 100 => ("WARN", random.one_of(&WARN)),
        dice if dice < 250 => ("DEBUG", random.one_of(&DEBUG)),
        _ => ("INFO", random.one_of(&INFO)),
    }
}
