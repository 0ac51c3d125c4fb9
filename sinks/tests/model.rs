//! Random histories, with restarts and replays, against a naive model in memory that shares nothing with the stores.

mod common;

use common::Bench;
use proptest::prelude::*;
use smartlog_schema::anomaly::{
    AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Severity, Status,
};
use smartlog_schema::commit::{ClockState, EpochCommit, HourlyDelta, Snapshot};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use std::collections::{BTreeMap, BTreeSet};

const T0: i64 = 1_768_471_200;
const US: i64 = 1_000_000;
const SERVICES: [&str; 4] = ["", "a", "b", "\u{e9}"];

/// What one step of a history does, in small numbers that collide often.
#[derive(Debug, Clone)]
struct Step {
    seconds: Vec<(usize, i64, i64, i64)>,
    hourly: Vec<(usize, i64, i64)>,
    detectors: Vec<(usize, Option<Vec<u8>>)>,
    /// Service, type, raised at, started at, status, ended at.
    episodes: Vec<(usize, usize, i64, i64, usize, Option<i64>)>,
    position: (i32, i64),
    forget: i64,
    clock: i64,
    /// Later commits merged into this one.
    merged: bool,
    restart: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES.len();
    (
        prop::collection::vec((service.clone(), 0..6_i64, -2..4_i64, -1..2_i64), 0..6),
        prop::collection::vec((1..SERVICES.len(), 0..3_i64, 0..4_i64), 0..4),
        prop::collection::vec(
            (service.clone(), prop::option::of(prop::collection::vec(any::<u8>(), 0..5))),
            0..3,
        ),
        prop::collection::vec(
            (service, 0..2_usize, 0..3_i64, -2..3_i64, 0..Status::ALL.len(), prop::option::of(-700..5_i64)),
            0..3,
        ),
        (0..2_i32, 0..20_i64),
        0..3_i64,
        0..3_i64,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(seconds, hourly, detectors, episodes, position, forget, clock, merged, restart)| {
            Step { seconds, hourly, detectors, episodes, position, forget, clock, merged, restart }
        })
}

fn commit_of(step: &Step, model: &Model) -> EpochCommit {
    let service = |at: usize| SERVICES[at].into();
    let clock_second = model.clock + step.clock;
    let episode =
        |&(who, kind, raised, started, status, ended): &(usize, usize, i64, i64, usize, Option<i64>)| {
            let key = EpisodeKey {
                service: (who > 0).then(|| SERVICES[who].into()),
                anomaly_type: AnomalyType::ALL[kind],
                first_raised_at: T0 + raised,
            };
            let episode = Episode {
                status: Status::ALL[status],
                severity: Severity::ALL[status % 4],
                revision: model.revision,
                detected_at_us: T0 * US + raised,
                started_at: T0 + started * 1_800,
                last_seen: T0 + started,
                ended_at: ended.map(|e| clock_second + e),
                metric_value: raised as f64 / 3.0,
                threshold: 0.1,
                baseline: started as f64,
                peak_value: 1e300,
                score: (kind == 0).then_some(0.25),
                model_version: (kind == 1).then(|| "3".into()),
                description: format!("{status}"),
                explanation: "{}".into(),
                provenance: "[1,  2]".into(),
                expected: None,
                key,
            };
            EpisodeChange { kind: ChangeKind::Updated, episode, reason: None }
        };
    EpochCommit {
        epoch: 1,
        positions: Positions::from([(TopicPartition::new("t", step.position.0), step.position.1)]),
        clock: ClockState {
            clock_us: clock_second * US,
            watermark_us: 1,
            wall_us: 2,
            ..ClockState::default()
        },
        seconds: seconds_of(step, model),
        forget_seconds_before: T0 + model.forget + step.forget,
        hourly: step
            .hourly
            .iter()
            .map(|&(who, hour, logs)| HourlyDelta {
                hour: T0 + 3_600 * hour,
                service: service(who),
                logs,
                errors: logs / 2,
            })
            .collect(),
        detectors: step.detectors.iter().map(|(who, state)| (service(*who), state.clone())).collect(),
        episodes: step.episodes.iter().map(episode).collect(),
        ..EpochCommit::default()
    }
}

/// Changes of sums that take no sum below zero: what was never counted cannot be taken back.
fn seconds_of(step: &Step, model: &Model) -> Vec<(compact_str::CompactString, i64, Sums)> {
    let mut sums = model.seconds.clone();
    let mut change = |&(who, second, logs, errors): &(usize, i64, i64, i64)| {
        let sum = sums.entry((SERVICES[who].to_owned(), T0 + second)).or_default();
        let (logs, errors) = (logs.max(-sum[0]), errors.max(-sum[1]));
        *sum = [sum[0] + logs, sum[1] + errors, sum[2] + logs];
        (SERVICES[who].into(), T0 + second, Sums { logs, errors, message_chars: logs })
    };
    step.seconds.iter().map(&mut change).collect()
}

/// What a store must hold, kept the plainest way.
#[derive(Default)]
struct Model {
    clock: i64,
    forget: i64,
    revision: i32,
    committed: bool,
    seconds: BTreeMap<(String, i64), [i64; 3]>,
    hourly: BTreeMap<(i64, String), [i64; 2]>,
    detectors: BTreeMap<String, Vec<u8>>,
    episodes: BTreeMap<(String, String, i64), Episode>,
    positions: BTreeMap<i32, i64>,
    events: i64,
}

impl Model {
    fn apply(&mut self, commit: &EpochCommit) {
        self.committed = true;
        self.clock = commit.clock.clock_us / US;
        self.forget = self.forget.max(commit.forget_seconds_before - T0);
        for (service, second, sums) in &commit.seconds {
            // A second that is forgotten in the same breath is never seen again.
            let sum = self.seconds.entry((service.to_string(), *second)).or_default();
            *sum = [sum[0] + sums.logs, sum[1] + sums.errors, sum[2] + sums.message_chars];
        }
        let forget = commit.forget_seconds_before.max(T0 + self.forget);
        self.seconds.retain(|(_, second), sum| *second >= forget && *sum != [0, 0, 0]);
        for delta in &commit.hourly {
            let sum = self.hourly.entry((delta.hour, delta.service.to_string())).or_default();
            *sum = [sum[0] + delta.logs, sum[1] + delta.errors];
        }
        for (service, state) in &commit.detectors {
            match state {
                Some(state) => drop(self.detectors.insert(service.to_string(), state.clone())),
                None => drop(self.detectors.remove(service.as_str())),
            }
        }
        for change in &commit.episodes {
            let key = &change.episode.key;
            let service = key.service.as_deref().unwrap_or_default().to_owned();
            let key = (service, key.anomaly_type.as_str().to_owned(), key.first_raised_at);
            self.episodes.insert(key, change.episode.clone());
            self.events += 1;
        }
        for (partition, next) in &commit.positions {
            let stored = self.positions.entry(partition.partition).or_insert(*next);
            *stored = (*stored).max(*next);
        }
    }

    fn check_snapshot(&self, found: &Snapshot) {
        let positions: BTreeMap<i32, i64> =
            found.positions.iter().map(|(p, next)| (p.partition, *next)).collect();
        assert_eq!(positions, self.positions);
        assert_eq!(found.clock.as_ref().map(|c| c.clock_us), self.committed.then_some(self.clock * US));
        let seconds: BTreeMap<_, _> = found
            .seconds
            .iter()
            .map(|(service, second, s)| ((service.to_string(), *second), [s.logs, s.errors, s.message_chars]))
            .collect();
        assert_eq!(seconds, self.seconds);
        let detectors: BTreeMap<_, _> =
            found.detectors.iter().map(|(s, state)| (s.to_string(), state.clone())).collect();
        assert_eq!(detectors, self.detectors);
        let changeable = |e: &&Episode| {
            matches!(e.status, Status::Provisional | Status::Open)
                || e.ended_at.unwrap_or(e.last_seen) >= self.clock - 600
        };
        let expected: Vec<&Episode> = self.episodes.values().filter(changeable).collect();
        assert_eq!(found.episodes.iter().collect::<Vec<_>>(), expected);
    }

    /// Hour, service, logs, errors, anomalies: counted anew.
    fn hours(&self) -> BTreeSet<(i64, String, [i64; 3])> {
        let mut hours: BTreeMap<(i64, String), [i64; 3]> = BTreeMap::new();
        for ((hour, service), [logs, errors]) in &self.hourly {
            hours.insert((*hour, service.clone()), [*logs, *errors, 0]);
        }
        for ((service, _, _), episode) in &self.episodes {
            if !service.is_empty() && episode.status != Status::Retracted {
                let hour = episode.started_at.div_euclid(3_600) * 3_600;
                hours.entry((hour, service.clone())).or_default()[2] += 1;
            }
        }
        hours
            .into_iter()
            .filter(|(_, n)| *n != [0, 0, 0])
            .map(|((hour, service), n)| (hour, service, n))
            .collect()
    }
}

async fn run(bench: Bench, steps: Vec<Step>) {
    let mut model = Model { clock: T0, ..Model::default() };
    let mut store = bench.state();
    model.check_snapshot(&store.open().await.expect("opens"));
    let mut waiting: Option<EpochCommit> = None;
    for step in &steps {
        model.revision += 1;
        let mut commit = commit_of(step, &model);
        // A position may lie below the stored one (a replay), but not below the one of a commit that it is merged into.
        for (partition, next) in &mut commit.positions {
            let earlier = waiting.as_ref().and_then(|w| w.positions.get(partition));
            *next = earlier.map_or(*next, |earlier| (*next).max(*earlier));
        }
        // The model takes each commit by itself, whatever the store is given merged.
        model.apply(&commit);
        let merged = match waiting.take() {
            Some(mut earlier) => {
                earlier.merge(commit);
                earlier
            }
            None => commit,
        };
        if step.merged {
            waiting = Some(merged);
            continue;
        }
        store.commit(&merged).await.expect("commits");
        if step.restart {
            drop(store);
            store = bench.state();
            model.check_snapshot(&store.open().await.expect("opens"));
        }
    }
    if let Some(last) = waiting {
        store.commit(&last).await.expect("commits");
    }
    drop(store);
    model.check_snapshot(&bench.state().open().await.expect("opens"));
    check_tables(&bench, &model).await;
    bench.drop_it().await;
}

async fn check_tables(bench: &Bench, model: &Model) {
    let hour = bench.micros("hour");
    let rows = bench
        .query(&format!("SELECT {hour}, service, log_count, error_count, anomaly_count FROM hourly_metrics"))
        .await;
    let number = |text: &Option<String>| text.as_deref().expect("a value").parse::<i64>().expect("a number");
    let found: BTreeSet<_> = rows
        .iter()
        .map(|r| {
            (
                number(&r[0]) / US,
                r[1].clone().expect("a service"),
                [number(&r[2]), number(&r[3]), number(&r[4])],
            )
        })
        .collect();
    assert_eq!(found, model.hours());
    assert_eq!(bench.number("SELECT count(*) FROM anomalies").await, model.episodes.len() as i64);
    let events = bench
        .query("SELECT count(*), coalesce(min(seq), 1), coalesce(max(seq), 0) FROM anomaly_events")
        .await;
    let expected = [model.events, 1, model.events].map(|n| Some(n.to_string()));
    assert_eq!(events, [expected], "count, least and greatest seq");
}

fn histories() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..25)
}

fn check(bench: impl AsyncFnOnce() -> Option<Bench>, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        if let Some(bench) = bench().await {
            run(bench, steps).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_holds_what_the_model_holds(steps in histories()) {
        check(async || Some(Bench::sqlite().await), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn postgres_holds_what_the_model_holds(steps in histories()) {
        check(async || Bench::postgres().await, steps);
    }
}
