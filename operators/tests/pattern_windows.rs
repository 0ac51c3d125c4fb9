//! What windows are made of, as models see it, against a program that counts all messages of every window anew: whatever
//! the epochs, workers, late logs and restarts, and to train as to serve.

mod oracle;

use oracle::product::{Closed, Run, Store};
use oracle::script::{Input, Log, MIDNIGHT, Random, Step, service_name};
use oracle::settings::{Settings, defaults};
use proptest::prelude::*;
use smartlog_operators::feature_rows::FeatureRow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const MICROS: i64 = 1_000_000;
const SECONDS: i64 = 2_700;
const SERVICES: usize = 3;
const PARTITIONS: usize = 3;
const WARM_UP: i64 = 600;
/// How long a kind is new, seconds.
const NEW: i64 = 600;
const WINDOW: i64 = 300;

/// A message on its way: when it is read, seconds after midnight; when it was logged; by whom; what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    arrival: i64,
    second: i64,
    service: usize,
    kind: String,
}

/// Some kinds that a service always logs, some often and some seldom, and now and then one that it never logged.
fn lines(random: &mut Random, late: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut kinds: Vec<usize> = vec![4; SERVICES];
    for second in 0..SECONDS {
        for (service, kinds) in kinds.iter_mut().enumerate() {
            if random.happens(0.004) {
                *kinds += 1;
            }
            for _ in 0..random.within(0, 4) {
                // The newest half of the time, at first.
                let kind = if random.happens(0.2) { *kinds - 1 } else { random.within(0, 4) as usize };
                let arrival =
                    second + if late > 0 && random.happens(0.1) { random.within(0, late) } else { 0 };
                // Every other kind is one that all services have words for.
                let whose = if kind % 2 == 0 { 0 } else { service };
                lines.push(Line { arrival, second, service, kind: words(whose, kind) });
            }
        }
    }
    lines.sort();
    lines
}

/// Words without figures, each number its own.
fn words(service: usize, kind: usize) -> String {
    let letters: String = [kind / 26, kind % 26].iter().map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    format!("step qz{letters} of part qx{} is done", ["north", "south", "west"][service])
}

fn log(line: &Line, at: usize) -> Log {
    let us = (MIDNIGHT + line.second) * MICROS + at as i64 % 1_000;
    let payload = serde_json::json!({
        "timestamp": us, "level": "INFO", "service": service_name(line.service), "message": line.kind,
    });
    let (chars, payload) = (line.kind.chars().count(), payload.to_string().into_bytes());
    Log { us, service: line.service, error: false, chars, host: None, payload }
}

/// What is played: lines in the order of their arrival, by partition, and the steps in which they are read.
struct Play {
    partitions: Vec<Vec<Line>>,
    input: Arc<Input>,
    steps: Vec<Step>,
}

fn play(lines: &[Line], random: &mut Random) -> Play {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for line in lines {
        partitions[random.within(0, PARTITIONS as i64) as usize].push(line.clone());
    }
    let logs = |lines: &Vec<Line>| lines.iter().enumerate().map(|(at, line)| log(line, at)).collect();
    let logs = partitions.iter().map(logs).collect();
    let input = Arc::new(Input { partitions: logs, first_wall_us: MIDNIGHT * MICROS, ..Input::default() });
    let last = lines.iter().map(|line| line.arrival).max().unwrap_or(0) + 1;
    let (mut steps, mut until) = (Vec::new(), 0);
    while until < last {
        until = (until + random.within(1, 45)).min(last);
        steps.push(Step {
            wall_us: (MIDNIGHT + until) * MICROS,
            next: partitions.iter().map(|lines| lines.partition_point(|line| line.arrival < until)).collect(),
            at_end: vec![true; PARTITIONS],
            ended: vec![until == last; PARTITIONS],
        });
    }
    Play { partitions, input, steps }
}

impl Play {
    /// What the epochs gave; killed after `kill` of them, and started again.
    fn run(&self, settings: &Settings, workers: usize, kill: usize) -> Vec<Closed> {
        let mut store = Store::new(PARTITIONS, settings);
        let mut closed = Vec::new();
        for (from, until) in
            [(0, kill), (kill, self.steps.len())].into_iter().filter(|(from, until)| from < until)
        {
            let run = Run {
                input: Arc::clone(&self.input),
                steps: Arc::new(self.steps[from..].to_vec()),
                store: Arc::new(store.clone()),
                settings: settings.clone(),
                workers,
                lead: 0,
                max_services: 10,
            };
            for epoch in run.go().into_iter().take(until - from) {
                store.commit(&epoch);
                closed.push(epoch);
            }
        }
        closed
    }

    /// Those that were read by the end of a step.
    fn read(&self, step: &Step) -> impl Iterator<Item = &Line> {
        self.partitions.iter().zip(step.next.clone()).flat_map(|(lines, next)| &lines[..next])
    }
}

/// The window that ends at `end`, counted anew: logs of new kinds, and bits.
fn recount<'a>(lines: impl Iterator<Item = &'a Line>, service: &str, end: i64) -> (i64, f64) {
    let minute = |second: i64| second - second.rem_euclid(60);
    let of = (0..SERVICES).find(|index| service_name(*index) == service);
    let until = minute(end);
    let mut first: BTreeMap<&str, i64> = BTreeMap::new();
    let mut inside: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines.filter(|line| of.is_none_or(|of| line.service == of)) {
        let second = MIDNIGHT + line.second;
        let known = first.entry(&line.kind).or_insert(minute(second));
        *known = minute(second).min(*known);
        if (until - WINDOW..until).contains(&second) {
            *inside.entry(&line.kind).or_default() += 1;
        }
    }
    let began = first.values().copied().min().unwrap_or(0);
    let is_new = |kind: &str| first[kind] >= began + WARM_UP && first[kind] > until - NEW;
    let new = inside.iter().filter(|(kind, _)| is_new(kind)).map(|(_, logs)| logs).sum();
    let total = inside.values().sum::<i64>() as f64;
    let bits = |logs: &i64| {
        let share = *logs as f64 / total;
        -share * share.log2()
    };
    (new, inside.values().map(bits).sum())
}

fn is_as(row: &FeatureRow, (new, bits): (i64, f64)) -> bool {
    row.patterns.new_logs == new && (row.patterns.entropy_millibits as f64 - bits * 1_000.0).abs() < 0.501
}

fn settings() -> Settings {
    let mut settings = defaults();
    settings.detection.new_pattern.warm_up = WARM_UP;
    settings
}

/// What was found of each window; `true`: as training takes it.
type Found = BTreeMap<(i64, String, bool), FeatureRow>;

/// Every row is as a recount has it: of what was read by then to serve, of all there is to train.
fn check(play: &Play, closed: &[Closed]) -> Found {
    let mut found = Found::new();
    for (closed, step) in closed.iter().zip(&play.steps) {
        for row in &closed.features {
            let wanted = recount(play.read(step), &row.service, row.end);
            assert!(is_as(row, wanted), "to serve, of {row:?}: expected {wanted:?}");
        }
        for row in &closed.trained_on {
            let wanted = recount(play.partitions.iter().flatten(), &row.service, row.end);
            assert!(is_as(row, wanted), "to train, of {row:?}: expected {wanted:?}");
        }
        for (rows, trains) in [(&closed.features, false), (&closed.trained_on, true)] {
            let keyed = rows.iter().map(|row| ((row.end, row.service.to_string(), trains), row.clone()));
            found.extend(keyed);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patterns_of_windows_are_those_of_a_recount(
        seed in any::<u64>(),
        late in prop::sample::select(vec![0_i64, 50, 200]),
        workers in prop::sample::select(vec![1_usize, 2, 4]),
        kill in any::<prop::sample::Index>(),
    ) {
        let mut random = Random(seed);
        let play = play(&lines(&mut random, late), &mut random);
        // A run that trains is not killed.
        let closed = play.run(&settings(), workers, 0);
        let found = check(&play, &closed);
        let new: BTreeSet<&str> =
            found.values().filter(|row| row.patterns.new_logs > 0).map(|row| row.service.as_str()).collect();
        prop_assert_eq!(new.len(), SERVICES + 1, "something is new to each and to the whole stream");
        if late == 0 {
            for ((end, service, _), trained_on) in found.iter().filter(|((.., trains), _)| *trains) {
                let served = found.get(&(*end, service.clone(), false));
                prop_assert_eq!(served, Some(trained_on), "what is served is what was trained on");
            }
        }
        let kill = kill.index(play.steps.len());
        let restarted = play.run(&settings(), workers, kill);
        for (closed, step) in restarted.iter().zip(&play.steps) {
            for row in &closed.features {
                let wanted = recount(play.read(step), &row.service, row.end);
                prop_assert!(is_as(row, wanted), "killed after {kill}: {row:?}, expected {wanted:?}");
            }
        }
    }
}
