//! The logs that are measured with: equal arguments make equal bytes.
//!
//! The bench job is 4,000,000 logs of about 250 bytes: 20 services with rates of 1/rank, one hour of event time, up to
//! 2 s out of order, three incidents in it. Its variants spread the logs evenly over as many services as wanted.

use crate::random::Random;
use crate::truth::Truth;
use jiff::Timestamp;
use std::io::Write as _;

/// Event time of the first log: 2026-01-15T10:00:00Z, milliseconds.
pub const START_MS: i64 = 1_768_471_200_000;
/// How far a log lies behind the newest before it, at the most.
const DISORDER_MS: u64 = 2_000;
pub const PARTITIONS: usize = 4;

const SERVICES: [&str; 20] = [
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
const API_GATEWAY: usize = 0;
const PAYMENT: usize = 2;
const SEARCH: usize = 6;
const FRAUD: usize = 17;

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

impl Random {
    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// One log, its members as the JSON text has them.
pub struct Log<'a> {
    pub at_ms: i64,
    pub level: &'static str,
    pub service: &'a str,
    pub host: String,
    pub message: &'static str,
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

/// Logs over a stretch of event time.
pub struct Workload {
    pub logs: u64,
    span_ms: u64,
    services: Vec<String>,
    /// Sums of the services' weights so far.
    cumulative: Vec<u64>,
    incidents: bool,
}

impl Workload {
    /// The bench job, one hour of event time whatever the number of logs.
    pub fn bench_job(logs: u64) -> Self {
        let weights = (1..=SERVICES.len() as u64).map(|rank| 1_000_000 / rank);
        let services = SERVICES.map(str::to_owned).to_vec();
        Workload { logs, span_ms: 3_600_000, services, cumulative: sums_so_far(weights), incidents: true }
    }

    /// A thousand logs a second of event time: the bench job's 20 services, or that many alike.
    pub fn of_services(services: usize, logs: u64) -> Self {
        if services == SERVICES.len() {
            return Workload { span_ms: logs, incidents: false, ..Self::bench_job(logs) };
        }
        Workload {
            logs,
            span_ms: logs,
            services: (0..services).map(|index| format!("service-{index:05}")).collect(),
            cumulative: (1..=services as u64).collect(),
            incidents: false,
        }
    }

    /// Makes the logs in the order in which they are produced; log `i` belongs to partition `i % PARTITIONS`.
    pub fn each(&self, mut visit: impl FnMut(&Log<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.draw(|log, _| visit(log))
    }

    /// As [`Workload::each`], with the log's bytes, and what a program that counted them right would say.
    pub fn produce(
        &self,
        mut visit: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Truth> {
        let mut truth = Truth::new(self.services.clone(), START_MS, START_MS + self.last_ms());
        let (mut line, mut index) = (Vec::with_capacity(512), 0);
        self.draw(|log, service| {
            truth.count(service, log);
            log.write(&mut line);
            visit(index, &line)?;
            index += 1;
            Ok(())
        })?;
        Ok(truth)
    }

    fn last_ms(&self) -> i64 {
        (self.span_ms + DISORDER_MS) as i64
    }

    fn draw(&self, mut visit: impl FnMut(&Log<'_>, usize) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut random = Random::new(42);
        let whole = self.cumulative.last().copied().unwrap_or(1);
        for index in 0..self.logs {
            let newest_ms = DISORDER_MS + index * self.span_ms / self.logs;
            let at_ms = (newest_ms - random.below(DISORDER_MS)) as i64;
            let dice = random.below(whole);
            let usual = self.cumulative.partition_point(|sum| *sum <= dice);
            let (service, errors) = self.troubled(usual, at_ms / 1_000, &mut random);
            let kind = kind(errors, &mut random);
            visit(&Log::draw(START_MS + at_ms, &self.services[service], kind, &mut random), service)?;
        }
        Ok(())
    }

    /// The service that logs instead of the usual one, and its errors in a thousand, at a second of the hour.
    fn troubled(&self, usual: usize, second: i64, random: &mut Random) -> (usize, u64) {
        const USUAL_ERRORS: u64 = 20;
        match usual {
            _ if !self.incidents => (usual, USUAL_ERRORS),
            SEARCH if (3_000..3_360).contains(&second) => (API_GATEWAY, USUAL_ERRORS),
            API_GATEWAY if (1_800..1_920).contains(&second) && random.below(2) == 0 => (FRAUD, USUAL_ERRORS),
            PAYMENT if (2_400..2_520).contains(&second) => (PAYMENT, 300),
            _ => (usual, USUAL_ERRORS),
        }
    }
}

fn sums_so_far(weights: impl Iterator<Item = u64>) -> Vec<u64> {
    let add = |sum: &mut u64, weight| {
        *sum += weight;
        Some(*sum)
    };
    weights.scan(0, add).collect()
}
