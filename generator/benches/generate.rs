//! How fast is traffic made, on one core, and which part takes how long?

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::SignedDuration;
use smartlog_generator::{Generator, GeneratorConfig, History, IncidentPlan, Services};
use std::hint::black_box;

const LINES: u64 = 200_000;

fn config(rate_per_s: f64) -> GeneratorConfig {
    let incidents = IncidentPlan::Auto { per_day: 24.0, disturbances_per_day: 6.0, kinds: Vec::new() };
    GeneratorConfig {
        duration: Some(SignedDuration::from_hours(24)),
        rate_per_s,
        incidents,
        ..GeneratorConfig::default()
    }
}

/// Lines of text at several rates: a higher rate means more lines that wait, and so a larger working set.
fn text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Elements(LINES)).sample_size(10);
    for rate in [1_000.0, 20_000.0, 500_000.0] {
        let mut traffic = Generator::new(config(rate)).expect("the settings are right");
        let mut line = Vec::new();
        group.bench_function(format!("{rate} per s"), |bencher| {
            bencher.iter(|| {
                for _ in 0..LINES {
                    line.clear();
                    black_box(traffic.next_into(&mut line));
                }
            });
        });
    }
    group.finish();
}

/// An hour of sums in seconds, of the built-in estate and of many services.
fn history(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history of an hour");
    group.sample_size(10);
    for (name, services) in [("built-in", Services::Builtin), ("2000 services", Services::Count(2000))] {
        let hour =
            GeneratorConfig { duration: Some(SignedDuration::from_hours(1)), services, ..config(1_000.0) };
        group.bench_function(name, |bencher| {
            bencher.iter(|| History::new(hour.clone(), 1).expect("the settings are right").count());
        });
    }
    group.finish();
}

criterion_group!(benches, text, history);
criterion_main!(benches);
