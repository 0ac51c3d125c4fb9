//! What does it cost to turn a message into a log?
//!
//! The messages are those of the bench job: 250 bytes, 20 services with skewed rates, mostly INFO. `short` is what
//! the product runs; `general` is the same parser without its scanner; the limits in the same run are a check of the
//! encoding alone, and `serde_json` into a struct that borrows.

mod random;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use random::Random;
use smartlog_operators::parse::{FieldMapping, Limits, Parser, Scratch};
use std::borrow::Cow;
use std::hint::black_box;

/// Messages parsed per measurement: more than the second-level cache holds, as a fetched batch is.
const LINES: usize = 20_000;

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

/// Share of a message among a thousand, its level, its text as written in JSON.
const MESSAGES: [(u64, &str, &str); 16] = [
    (
        125,
        "INFO",
        "Request completed successfully with status 200 and all upstream calls within their deadline",
    ),
    (125, "INFO", "Cache hit for key, served from local replica without touching the primary store"),
    (125, "INFO", "User session refreshed"),
    (125, "INFO", "Job finished: 128 rows processed, 0 rejected, checkpoint written"),
    (125, "INFO", "Accepted connection from load balancer, TLS 1.3 negotiated"),
    (125, "INFO", "Response sent to client"),
    (50, "DEBUG", "Entering handler with parsed arguments and resolved feature flags for this tenant"),
    (50, "DEBUG", "Query plan cached"),
    (50, "DEBUG", "Retry budget at 97%, circuit breaker closed"),
    (27, "WARN", "Slow query detected: exceeded the soft threshold of 500 ms on the orders index"),
    (27, "WARN", "Retrying upstream call, attempt 2 of 3"),
    (26, "WARN", "Connection pool is at 85% of capacity, consider raising the limit"),
    (5, "ERROR", "Database connection timeout"),
    (
        5,
        "ERROR",
        r#"Unhandled exception in request handler: \"NullPointer\" at com.acme.Handler.process(Handler.java:142)"#,
    ),
    (5, "ERROR", "Upstream returned 503 Service Unavailable after 3 attempts"),
    (5, "ERROR", "Failed to deserialize payload: unexpected end of input at offset 4096"),
];

impl Random {
    /// Index of one of the weights.
    fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }
}

fn lines() -> Vec<Vec<u8>> {
    let mut random = Random::new(42);
    (0..LINES).map(|index| line(index as u64, &mut random).into_bytes()).collect()
}

fn line(index: u64, random: &mut Random) -> String {
    let at_ms = 2_000 + index * 9 / 10 - random.below(2_000);
    let service = SERVICES[random.weighted((1..=20).map(|rank| 1_000_000 / rank))];
    let (_, level, message) = MESSAGES[random.weighted(MESSAGES.iter().map(|(weight, _, _)| *weight))];
    format!(
        r#"{{"timestamp":"2026-01-15T10:{:02}:{:02}.{:03}Z","level":"{level}","service":"{service}","host":"server-{:02}","message":"{message}","metadata":{{"request_id":"{:08x}-{:04x}","user_id":"user-{}","duration_ms":{}}}}}"#,
        at_ms / 60_000,
        at_ms / 1_000 % 60,
        at_ms % 1_000,
        1 + random.below(40),
        random.below(1 << 32),
        random.below(1 << 16),
        random.below(100_000),
        random.below(5_000),
    )
}

/// What `serde_json` does on its own, with nothing read from the fields.
#[derive(serde::Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Option<&'a serde_json::value::RawValue>,
}

fn with_serde(line: &[u8]) -> usize {
    let text = simdutf8::basic::from_utf8(line).expect("lines are UTF-8");
    let log: Borrowed<'_> = serde_json::from_str(text).expect("lines are logs");
    log.timestamp.len()
        + log.level.len()
        + log.service.len()
        + log.message.len()
        + log.metadata.map_or(0, |m| m.get().len())
}

fn parse(criterion: &mut Criterion) {
    let lines = lines();
    let short = Parser::new(FieldMapping::default(), Limits::default());
    let general = short.clone().general_only();
    let record_us = Some(1_768_480_000_000_000);
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(LINES as u64));
    let mut bench = |name: &str, each: &mut dyn FnMut(&[u8], &mut Scratch) -> usize| {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                Scratch::default,
                |scratch| lines.iter().map(|line| each(black_box(line), scratch)).sum::<usize>(),
                BatchSize::SmallInput,
            );
        });
    };
    for (name, parser) in [("short", &short), ("general", &general)] {
        bench(&format!("{name}/core"), &mut |line, scratch| {
            parser.parse_core(Some(line), record_us, scratch).expect("a log").message_chars as usize
        });
        bench(&format!("{name}/text"), &mut |line, scratch| {
            parser.parse_text(Some(line), record_us, scratch).expect("a log").message.len()
        });
        bench(&format!("{name}/all"), &mut |line, scratch| {
            parser.parse(Some(line), record_us, scratch).expect("a log").metadata.map_or(0, str::len)
        });
    }
    bench("limit/utf8", &mut |line, _| simdutf8::basic::from_utf8(line).map_or(0, str::len));
    bench("limit/serde_json", &mut |line, _| with_serde(line));
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
