//! What does it cost to know the pattern of a message?
//!
//! The messages are those of the bench job, their numbers drawn anew for each. `with a cache` is what a stream pays: the
//! shape of a message, and one look-up of its hash. `without` compares the words of every message with the templates.
//! Drain3 (its defaults, Python) reads the same messages in turn with both, and all are held to processor time, so that
//! a busy machine is busy for all of them.
//!
//! ```text
//! cargo bench -p smartlog-benches --bench patterns
//! ```

mod drain3;

use rustix::time::{ClockId, clock_gettime};
use smartlog_benches::random::Random;
use smartlog_operators::patterns::{Miner, Settings, Shape};
use std::hint::black_box;
use std::io::Write as _;

const MESSAGES: usize = 500_000;
/// Drain3 is a good deal slower.
const MESSAGES_OF_DRAIN3: usize = 50_000;
const ROUNDS: usize = 5;

/// Share of a message among a thousand, and its text; `#` is a digit.
const TEXTS: [(u64, &str); 16] = [
    (125, "Request completed successfully with status ### and all upstream calls within their deadline"),
    (125, "Cache hit for key, served from local replica without touching the primary store"),
    (125, "User session refreshed"),
    (125, "Job finished: ### rows processed, # rejected, checkpoint written"),
    (125, "Accepted connection from load balancer, TLS #.# negotiated"),
    (125, "Response sent to client"),
    (50, "Entering handler with parsed arguments and resolved feature flags for this tenant"),
    (50, "Query plan cached"),
    (50, "Retry budget at ##%, circuit breaker closed"),
    (27, "Slow query detected: exceeded the soft threshold of ### ms on the orders index"),
    (27, "Retrying upstream call, attempt # of #"),
    (26, "Connection pool is at ##% of capacity, consider raising the limit"),
    (5, "Database connection timeout"),
    (
        5,
        r#"Unhandled exception in request handler: "NullPointer" at com.acme.Handler.process(Handler.java:###)"#,
    ),
    (5, "Upstream returned ### Service Unavailable after # attempts"),
    (5, "Failed to deserialize payload: unexpected end of input at offset ####"),
];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts benches without this flag, to see that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let messages = messages();
    let mut peer = drain3::Peer::start(&messages[..MESSAGES_OF_DRAIN3])?;
    let (mut cached, mut uncached, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cached.push(rate(messages.len(), || with_cache(&messages)));
        let miner = with_cache(&messages);
        uncached.push(rate(messages.len(), || without_cache(&miner, &messages)));
        theirs.push(MESSAGES_OF_DRAIN3 as f64 / peer.seconds()?);
    }
    let patterns = with_cache(&messages).patterns().len();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{MESSAGES} messages, {patterns} patterns; messages a second of processor time, median of {ROUNDS} rounds"
    )?;
    let theirs = median(theirs);
    for (name, bar, rates) in
        [("with a cache by shape", 1_000_000.0, cached), ("without a cache", 400_000.0, uncached)]
    {
        let ours = median(rates);
        writeln!(out, "{name:24} {ours:>10.0}  (bar {bar:>9.0})  {:>5.0} x Drain3", ours / theirs)?;
    }
    writeln!(out, "{:24} {theirs:>10.0}", format!("Drain3 {}", peer.version))?;
    Ok(())
}

fn with_cache(messages: &[String]) -> Miner {
    let mut miner = Miner::new(Settings::default());
    for (at_us, message) in (0..).zip(messages) {
        miner.observe(black_box(message), at_us, None);
    }
    miner.settle();
    miner
}

fn without_cache(miner: &Miner, messages: &[String]) {
    let mut shape = Shape::default();
    for message in messages {
        shape.read(black_box(message));
        assert!(miner.find(&shape).is_some(), "every message has a pattern");
    }
}

fn rate<R>(count: usize, work: impl FnOnce() -> R) -> f64 {
    let start = processor_seconds();
    black_box(work());
    count as f64 / (processor_seconds() - start)
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn messages() -> Vec<String> {
    let mut random = Random::new(42);
    (0..MESSAGES).map(|_| message(&mut random)).collect()
}

fn message(random: &mut Random) -> String {
    let mut left = random.below(1_000);
    let text = TEXTS.iter().find(|(weight, _)| left.checked_sub(*weight).map(|rest| left = rest).is_none());
    let (_, text) = text.unwrap_or(&TEXTS[0]);
    let digit = |random: &mut Random| char::from(b'0' + random.below(10) as u8);
    text.chars().map(|sign| if sign == '#' { digit(random) } else { sign }).collect()
}
