//! What does it cost to turn a message into a log?
//!
//! The messages are those of the bench job: 250 bytes, 20 services with skewed rates, mostly INFO. `short` is what
//! the product runs; `general` is the same parser without its scanner; the limits in the same run are a check of the
//! encoding alone, and `serde_json` into a struct that borrows.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use smartlog_benches::logs::{Log, SERVICES, START_MS, kind};
use smartlog_benches::random::Random;
use smartlog_operators::parse::{FieldMapping, Limits, Parser, Scratch};
use std::borrow::Cow;
use std::hint::black_box;

/// Messages parsed per measurement: more than the second-level cache holds, as a fetched batch is.
const LINES: usize = 20_000;

/// Of a thousand logs.
const ERRORS: u64 = 20;

fn lines() -> Vec<Vec<u8>> {
    let mut random = Random::new(42);
    (0..LINES).map(|index| line(index as u64, &mut random)).collect()
}

/// The bytes of a log of the bench job.
fn line(index: u64, random: &mut Random) -> Vec<u8> {
    let at_ms = (2_000 + index * 9 / 10 - random.below(2_000)) as i64;
    let service = SERVICES[random.weighted((1..=SERVICES.len() as u64).map(|rank| 1_000_000 / rank))];
    let mut line = Vec::new();
    Log::draw(START_MS + at_ms, service, kind(ERRORS, random), random).write(&mut line);
    line
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
