//! Fit, batch, one row and explanation, on one thread.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::{IsolationForest, IsolationForestParams};
use ndarray::Array2;
use support::data::{cloud, stream_like};

fn single_threaded<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    pool.install(work)
}

fn forest(params: IsolationForestParams, rows: &Array2<f64>) -> IsolationForest {
    params.fit(&DatasetBase::from(rows.view())).expect("fitted")
}

/// Parameters of the forests that are compared.
fn variants() -> [(&'static str, IsolationForestParams); 2] {
    let params = || IsolationForest::params().n_estimators(100).max_samples(256_usize);
    [("axis", params()), ("extended", params().extension_level(1))]
}

fn fit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fit");
    for rows in [1_000, 10_000, 100_000] {
        let data = stream_like(rows, 1);
        for (name, params) in variants() {
            let id = BenchmarkId::new(name, format!("5feats-{rows}_samples"));
            group.bench_function(id, |b| {
                single_threaded(|| b.iter(|| forest(params.clone(), black_box(&data))))
            });
        }
    }
    group.finish();
}

fn score_batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("score_samples");
    for (features, rows) in [(5, 1_000), (5, 10_000), (5, 100_000), (10, 10_000), (36, 10_000)] {
        let data = if features == 5 { stream_like(rows, 2) } else { cloud(rows, 0, features, 2).0 };
        group.throughput(Throughput::Elements(rows as u64));
        for (name, params) in variants() {
            let forest = forest(params, &data);
            let id = BenchmarkId::new(name, format!("{features}feats-{rows}_samples"));
            group.bench_function(id, |b| {
                single_threaded(|| b.iter(|| forest.score_samples(black_box(&data))))
            });
        }
    }
    group.finish();
}

fn score_row(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one_row");
    let data = stream_like(10_000, 3);
    for (name, params) in variants() {
        let forest = forest(params, &data);
        let mut rows = data.outer_iter().cycle();
        let mut next = || rows.next().and_then(|row| row.to_slice()).expect("rows go on for ever");
        group.bench_function(BenchmarkId::new("score", name), |b| {
            b.iter(|| forest.score_row(black_box(next())))
        });
        group.bench_function(BenchmarkId::new("explain", name), |b| {
            b.iter(|| forest.explain(black_box(next())))
        });
    }
    group.finish();
}

criterion_group!(benches, fit, score_batch, score_row);
criterion_main!(benches);
