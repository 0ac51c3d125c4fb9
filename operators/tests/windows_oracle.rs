//! The dataflow against a program that knows only the logs sorted by event time.
//!
//! ```text
//!   input ─┬─▶ fold ─▶ clock ─▶ admit ─▶ window ─▶ hourly, window rows, detection ─▶ store ─┐
//!          │        (1, 2 or 4 workers; killed and started again at random epochs)          ├─ equal?
//!          └─▶ sorted by event time, every second looked at, every window added up anew ────┘
//! ```
//!
//! `PROPTEST_CASES` sets how many inputs are tried.

mod oracle;

use compact_str::CompactString;
use oracle::life;
use oracle::naive::{self, Count, Kind, Seconds, State};
use oracle::product::{Closed, Run, Store};
use oracle::script::{Input, Random, Shape, host_name, input, message, service_name};
use oracle::settings::{Settings, dense, rules_alone};
use proptest::prelude::*;
use smartlog_operators::breakdown::{KEPT, Parts};
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::patterns::{self, PatternId};
use smartlog_operators::sums::Sums;
use smartlog_schema::anomaly::{AnomalyType, Episode, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The whole stream's name in the dataflow.
const WHOLE: &str = "";

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

/// A run with its crashes: the epochs that were closed, in order, and how far each had read.
struct Story {
    closed: Vec<Closed>,
    read: Vec<Vec<usize>>,
    store: Store,
}

/// Runs `input` with as many starts as there are numbers of workers; all but the last are killed at a random epoch.
fn tell(input: &Arc<Input>, settings: &Settings, workers: &[usize], seed: u64) -> Story {
    tell_with(input, settings, workers, seed, 1000)
}

fn tell_with(
    input: &Arc<Input>,
    settings: &Settings,
    workers: &[usize],
    seed: u64,
    max_services: usize,
) -> Story {
    let mut random = Random(seed);
    let store = Store::new(input.partitions.len(), settings);
    let mut story = Story { closed: Vec::new(), read: Vec::new(), store };
    let mut wall_us = input.first_wall_us;
    for (attempt, &number) in workers.iter().enumerate() {
        let steps = Arc::new(input.steps(&story.store.positions, wall_us, random.next()));
        let run = Run {
            input: Arc::clone(input),
            steps: Arc::clone(&steps),
            store: Arc::new(story.store.clone()),
            settings: settings.clone(),
            workers: number,
            lead: random.within(0, 40).unsigned_abs(),
            max_services,
        };
        let closed = run.go();
        assert_eq!(closed.len(), steps.len(), "every epoch is closed");
        let is_last = attempt + 1 == workers.len();
        // Once the input is over there is nothing left to go on with.
        let before_end = closed.iter().position(|closed| closed.ended).unwrap_or(steps.len());
        let survive = if is_last { steps.len() } else { random.within(0, before_end as i64 + 1) as usize };
        for (closed, step) in closed.into_iter().zip(steps.iter()).take(survive) {
            story.store.commit(&closed);
            story.read.push(step.next.clone());
            story.closed.push(closed);
            wall_us = step.wall_us;
        }
        // The time that a restart takes.
        wall_us += 3_000_000;
    }
    story
}

/// The logs that came in time, by service, and all of them by hour.
struct Expected {
    in_time: BTreeMap<String, Seconds>,
    hours: BTreeMap<(String, i64), (i64, i64)>,
    too_late: usize,
    /// The epoch in which each log came, its service, second, count; in time only.
    arrivals: Vec<(usize, String, i64, Count)>,
}

fn expect(input: &Input, story: &Story, settings: &Settings) -> Expected {
    let mut expected =
        Expected { in_time: BTreeMap::new(), hours: BTreeMap::new(), too_late: 0, arrivals: Vec::new() };
    let mut before = vec![0; input.partitions.len()];
    let mut final_through: Option<i64> = None;
    for (epoch, (closed, read)) in story.closed.iter().zip(&story.read).enumerate() {
        for (partition, (from, to)) in before.iter().zip(read).enumerate() {
            for log in &input.partitions[partition][*from..*to] {
                let service = service_name(log.service);
                let second = log.second();
                let hour =
                    expected.hours.entry((service.clone(), second.div_euclid(3600) * 3600)).or_default();
                *hour = (hour.0 + 1, hour.1 + i64::from(log.error));
                if final_through.is_some_and(|through| second < through - settings.time.max_lateness) {
                    expected.too_late += 1;
                    continue;
                }
                for name in [service.as_str(), WHOLE] {
                    let seconds = expected.in_time.entry(name.to_owned()).or_default();
                    seconds.log(second, log.error, log.chars);
                    let count = (1, i64::from(log.error), log.chars as i64);
                    expected.arrivals.push((epoch, name.to_owned(), second, count));
                }
            }
        }
        before.clone_from(read);
        final_through = (closed.clock.clock_us != 0).then(|| closed.final_through()).or(final_through);
    }
    expected
}

fn count(sums: Sums) -> Count {
    (sums.logs, sums.errors, sums.message_chars)
}

fn check_hours(expected: &Expected, store: &Store) {
    let hours: BTreeMap<(String, i64), (i64, i64)> =
        store.hours.iter().map(|((service, hour), count)| ((service.to_string(), *hour), *count)).collect();
    assert_eq!(hours, expected.hours, "hourly numbers");
}

fn check_rows(expected: &Expected, story: &Story, hop: i64) {
    let mut rows: BTreeMap<(String, i64), Count> = BTreeMap::new();
    for row in story.closed.iter().flat_map(|closed| &closed.rows) {
        let written = rows.insert((row.service.to_string(), row.end), count(row.sums));
        assert_eq!(written, None, "the window of {} that ends at {} is written once", row.service, row.end);
    }
    for (service, seconds) in expected.in_time.iter().filter(|(service, _)| *service != WHOLE) {
        for (end, expected) in seconds.windows(hop) {
            let found = rows.remove(&(service.clone(), end));
            assert_eq!(found, Some(expected), "the window of {service} that ends at {end}");
        }
    }
    assert!(rows.is_empty(), "windows that hold no log: {rows:?}");
}

/// Rows for models: each window once, with what had come by the time that it was final.
fn check_features(expected: &Expected, story: &Story) {
    const HOP: i64 = 10;
    let mut known: BTreeMap<&str, Seconds> = BTreeMap::new();
    let mut arrivals = expected.arrivals.iter().peekable();
    let mut taken_through: Option<i64> = None;
    for (epoch, closed) in story.closed.iter().enumerate() {
        while let Some((_, service, second, (_, errors, chars))) = arrivals.next_if(|(at, ..)| *at <= epoch) {
            known.entry(service).or_default().log(*second, *errors > 0, *chars as usize);
        }
        let mut wanted: Vec<(i64, &str, Count, i64)> = Vec::new();
        if closed.clock.clock_us != 0 {
            let through = closed.final_through().div_euclid(HOP) * HOP;
            let from = taken_through.unwrap_or(through - 3 * 86_400);
            for end in (from..=through).step_by(HOP as usize).filter(|end| *end > from) {
                let of_window = |seconds: &Seconds| seconds.between(end - 300, end);
                let rows: Vec<_> =
                    known.iter().map(|(service, seconds)| (*service, of_window(seconds))).collect();
                let rows = rows.into_iter().filter(|(_, (logs, ..))| *logs > 0);
                let services = rows.clone().filter(|(service, _)| *service != WHOLE).count() as i64;
                wanted.extend(rows.map(|(service, count)| (end, service, count, services)));
            }
            taken_through = Some(taken_through.map_or(through, |before| before.max(through)));
        }
        let mut found: Vec<_> = closed.features.iter().collect();
        found.sort();
        let found: Vec<_> = found
            .iter()
            .map(|row| (row.end, row.service.as_str(), count(row.sums), row.unique_services))
            .collect();
        assert_eq!(found, wanted, "rows for models of epoch {epoch}");
    }
}

/// Rows that models are trained on: those of the sorted logs, however they came; and the live ones are the same
/// wherever no log of the window came after it was final.
fn check_training(expected: &Expected, story: &Story) {
    const HOP: i64 = 10;
    let told = |row: &FeatureRow| (row.end, row.service.to_string(), count(row.sums), row.unique_services);
    let mut found: Vec<_> = story.closed.iter().flat_map(|closed| &closed.trained_on).map(told).collect();
    found.sort();
    let through = found.last().map_or(i64::MIN, |(end, ..)| *end);
    let mut wanted = Vec::new();
    for (service, seconds) in &expected.in_time {
        let windows = seconds.windows(HOP).into_iter().filter(|(end, _)| *end <= through);
        wanted.extend(windows.map(|(end, count)| (end, service.clone(), count)));
    }
    wanted.sort();
    let mut services: BTreeMap<i64, i64> = BTreeMap::new();
    for (end, ..) in wanted.iter().filter(|(_, service, _)| service != WHOLE) {
        *services.entry(*end).or_default() += 1;
    }
    let with_services = |(end, service, count): (i64, String, Count)| (end, service, count, services[&end]);
    let wanted: Vec<_> = wanted.into_iter().map(with_services).collect();
    assert_eq!(found, wanted, "rows that models are trained on");
    let mut live: Vec<_> = story.closed.iter().flat_map(|closed| &closed.features).map(told).collect();
    live.retain(|(end, ..)| *end <= through);
    live.sort();
    let is_late = expected.arrivals.iter().any(|(epoch, _, second, _)| {
        epoch.checked_sub(1).is_some_and(|before| {
            let before = &story.closed[before];
            before.clock.clock_us != 0 && *second < before.final_through()
        })
    });
    if !is_late {
        assert_eq!(live, found, "what is served is what was trained on");
    }
}

/// Rolling sums at every tick against a recount at that tick's clock.
fn check_rolling(expected: &Expected, story: &Story) {
    let mut arrivals = expected.arrivals.iter().peekable();
    let mut known: BTreeMap<&str, Seconds> = BTreeMap::new();
    let mut rolling: BTreeMap<CompactString, Count> = BTreeMap::new();
    for (epoch, closed) in story.closed.iter().enumerate() {
        if closed.epoch == 0 {
            // A start has nothing in its windows until it is seeded.
            rolling.clear();
        }
        while let Some((_, service, second, count)) = arrivals.next_if(|arrival| arrival.0 == epoch) {
            known.entry(service).or_default().log(*second, count.1 > 0, count.2 as usize);
        }
        for (service, sums) in &closed.rolling {
            let count = count(*sums);
            let sum = rolling.entry(service.clone()).or_default();
            *sum = (sum.0 + count.0, sum.1 + count.1, sum.2 + count.2);
        }
        if closed.clock.clock_us == 0 {
            assert!(rolling.is_empty(), "no window before there is a clock");
            continue;
        }
        let end = closed.clock_second() + 1;
        for (service, seconds) in &known {
            let found = rolling.get(*service).copied().unwrap_or_default();
            assert_eq!(
                found,
                seconds.between(end - 300, end),
                "{service:?} at tick {epoch}, window to {end}"
            );
        }
    }
}

fn check_clock(input: &Input, story: &Story, is_whole: bool) {
    let mut last = (0, 0);
    for closed in &story.closed {
        let now = (closed.clock.clock_us, closed.clock.watermark_us);
        assert!(now.0 >= last.0 && now.1 >= last.1, "time went back from {last:?} to {now:?}");
        last = now;
    }
    let end = &story.closed[story.closed.len() - 1];
    assert!(end.ended);
    let newest = input.logs().map(|log| log.second()).max().unwrap_or(0);
    // A partition that is started again and has nothing left to read has come to its stored time, which is a quantile.
    if is_whole {
        assert!(end.final_through() > newest, "the last log is in a final window");
    }
}

fn check_episodes(expected: &Expected, story: &Story, settings: &Settings) {
    let through = story.closed[story.closed.len() - 1].final_through();
    let mut stream = naive::Stream::default();
    for (service, seconds) in expected.in_time.iter().filter(|(service, _)| *service != WHOLE) {
        for second in seconds.0.keys() {
            stream.entry(*second).or_default().push(service.clone());
        }
    }
    for (service, seconds) in &expected.in_time {
        let others = (service != WHOLE).then_some((service.as_str(), &stream));
        let wanted = naive::episodes(seconds, others, through, settings);
        let mut found: Vec<&Episode> = story
            .store
            .episodes
            .values()
            .filter(|e| e.key.service.as_deref().unwrap_or(WHOLE) == service && e.status != Status::Retracted)
            // Of a second that was not over when the input ended nothing is promised.
            .filter(|e| e.status != Status::Provisional || e.key.first_raised_at <= through)
            .collect();
        found.sort_by_key(|episode| (episode.key.anomaly_type, episode.started_at));
        let equal = wanted.len() == found.len() && wanted.iter().zip(&found).all(|(w, f)| is_same(w, f));
        assert!(equal, "episodes of {service:?} to {through}:\nexpected {wanted:#?}\nfound {found:#?}");
    }
}

fn is_same(wanted: &naive::Trouble, found: &Episode) -> bool {
    let kind = match found.key.anomaly_type {
        AnomalyType::ErrorRateSpike => Kind::Errors,
        AnomalyType::LogVolumeSpike => Kind::Spike,
        AnomalyType::LogVolumeDrop => Kind::Drop,
        other => panic!("no rule raises {other:?}"),
    };
    let state = match found.status {
        Status::Open => State::Open,
        Status::Resolved => State::Resolved,
        Status::Expired => State::Expired,
        Status::Provisional | Status::Retracted => return false,
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3);
    let times = (wanted.started_at, wanted.last_seen, wanted.ended_at);
    (wanted.kind, wanted.state) == (kind, state)
        && times == (found.started_at, found.last_seen, found.ended_at)
        && near(wanted.value, found.metric_value)
        && near(wanted.threshold, found.threshold)
        && near(wanted.baseline, found.baseline)
        && near(wanted.peak, found.peak_value)
}

fn check(shape: &Shape, settings: &Settings, workers: &[usize]) {
    let input = Arc::new(input(shape, settings));
    let story = tell(&input, settings, workers, shape.seed ^ 0x5eed);
    let expected = expect(&input, &story, settings);
    assert!(shape.far_too_late || expected.too_late == 0, "{} logs came too late", expected.too_late);
    check_clock(&input, &story, workers.len() == 1 && !shape.bad_clocks);
    check_hours(&expected, &story.store);
    check_rows(&expected, &story, settings.hop);
    check_features(&expected, &story);
    if workers.len() == 1 {
        check_training(&expected, &story);
    }
    check_rolling(&expected, &story);
    check_breakdown(&input, &story);
    check_patterns(&input, &story);
    check_episodes(&expected, &story, settings);
    life::check(&story.store.log);
}

/// With fewer slots than services nothing is lost: who holds none is counted with the others that hold none, and who
/// held one before a kill holds it afterwards.
#[test]
fn services_without_a_slot_are_counted_together() {
    let shape = Shape {
        seed: 5,
        partitions: 3,
        services: 5,
        segments: 2,
        segment_seconds: 400,
        disorder: 3,
        bad_clocks: false,
        far_too_late: true,
        longest_idle: 5,
        chunk: 60,
    };
    let settings = dense();
    let input = Arc::new(input(&shape, &settings));
    for workers in [vec![1, 1, 1], vec![2, 1, 2]] {
        let story = tell_with(&input, &settings, &workers, 7, 3);
        let mut hours: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for ((_, hour), (logs, errors)) in &story.store.hours {
            let sum = hours.entry(*hour).or_default();
            *sum = (sum.0 + logs, sum.1 + errors);
        }
        let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for log in input.logs() {
            let sum = expected.entry(log.second().div_euclid(3600) * 3600).or_default();
            *sum = (sum.0 + 1, sum.1 + i64::from(log.error));
        }
        assert_eq!(hours, expected);
        let names: std::collections::BTreeSet<_> =
            story.store.hours.keys().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains("__overflow__"), "{names:?}");
    }
}

/// By service and minute: logs and errors by host and by message.
type Minutes = BTreeMap<(String, i64), BTreeMap<String, (u64, u64)>>;

/// The counts by host and shape that are stored in the end against a recount of the logs.
fn check_breakdown(input: &Input, story: &Story) {
    let kept_from = story.closed[story.closed.len() - 1].final_through() - KEPT;
    let mut shape = patterns::Shape::default();
    let mut wanted = Minutes::new();
    for log in input.logs() {
        let minute = log.second().div_euclid(60) * 60;
        if minute < kept_from {
            continue;
        }
        let parts = [Some(shape.read(&message(log.chars)).to_string()), log.host.map(host_name)];
        for name in [service_name(log.service).as_str(), WHOLE] {
            let counts = wanted.entry((name.to_owned(), minute)).or_default();
            for part in parts.iter().flatten() {
                let count = counts.entry(part.clone()).or_default();
                *count = (count.0 + 1, count.1 + u64::from(log.error));
            }
        }
    }
    let stored = story.store.breakdown();
    for ((service, minute), wanted) in &wanted {
        let Parts { hosts, shapes, other_hosts, other_shapes, .. } =
            stored.parts(service, *minute, minute + 60);
        let hosts = hosts.iter().map(|(host, counts)| (host.to_string(), (counts.logs, counts.errors)));
        let shapes = shapes.iter().map(|(shape, counts)| (shape.to_string(), (counts.logs, counts.errors)));
        let found: BTreeMap<_, _> = hosts.chain(shapes).collect();
        assert_eq!(&found, wanted, "{service:?} in the minute from {minute}");
        assert_eq!((other_hosts.logs, other_shapes.logs), (0, 0), "nothing is beyond the limits");
    }
    let parts: usize = wanted.values().map(BTreeMap::len).sum();
    assert_eq!(stored.fill().parts, parts, "what is older is forgotten");
}

/// The stored patterns against a recount of the logs, and against what one miner makes of all messages at once.
fn check_patterns(input: &Input, story: &Story) {
    let mut shape = patterns::Shape::default();
    let mut miner = patterns::Miner::new(patterns::Settings::default());
    let mut wanted: BTreeMap<(i64, String), (i64, i64, i64, i64)> = BTreeMap::new();
    for log in input.logs() {
        let message = message(log.chars);
        miner.observe(&message, log.us, None);
        let key = (shape.read(&message).cast_signed(), service_name(log.service));
        let count = wanted.entry(key).or_insert((0, 0, log.us, log.us));
        let errors = count.1 + i64::from(log.error);
        *count = (count.0 + 1, errors, count.2.min(log.us), count.3.max(log.us));
    }
    miner.settle();
    let found =
        story.store.patterns.iter().map(|((shape, service), count)| ((*shape, service.to_string()), *count));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted, "logs by shape and service");
    let templates: BTreeMap<i64, String> =
        miner.patterns().into_iter().map(|pattern| (pattern.id.0.cast_signed(), pattern.template)).collect();
    for (shape, (id, template, example)) in &story.store.shapes {
        assert_eq!(miner.pattern_of(shape.cast_unsigned()), Some(PatternId(id.cast_unsigned())));
        assert_eq!(Some(template), templates.get(id), "what the pattern of {example:?} reads");
    }
    let shapes = wanted.keys().map(|(shape, _)| shape).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(story.store.shapes.len(), shapes.len(), "every shape belongs to a pattern");
}

fn workers() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop::sample::select(vec![1, 2, 4]), 1..5)
}

prop_compose! {
    fn shapes(max_lateness: i64)(
        seed in any::<u64>(),
        partitions in 1_usize..5,
        services in 1_usize..6,
        segments in 1_usize..5,
        segment_seconds in prop::sample::select(vec![60_i64, 400, 1000]),
        disorder in prop::sample::select(vec![0, 3, max_lateness]),
        odd in 0_u8..4,
        chunk in prop::sample::select(vec![5_i64, 60, 500]),
    ) -> Shape {
        let bad_clocks = odd & 1 == 1;
        // A single event is believed when nothing else comes for a minute.
        let longest_idle = if bad_clocks { 8 } else { 450 };
        let far_too_late = odd & 2 == 2;
        Shape {
            seed, partitions, services, segments, segment_seconds, disorder, bad_clocks, far_too_late, longest_idle,
            chunk,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_ticks_workers_and_restarts_with_dense_settings(
        shape in shapes(90),
        workers in workers(),
        hop in prop::sample::select(vec![1_i64, 10, 60, 600]),
        retire_after in prop::sample::select(vec![900_i64, 86_400]),
    ) {
        let mut settings = Settings { hop, ..dense() };
        settings.detection.retire_after = retire_after;
        check(&shape, &settings, &workers);
    }

    #[test]
    fn whatever_the_ticks_workers_and_restarts_with_default_settings(
        shape in shapes(600), workers in workers()
    ) {
        check(&shape, &rules_alone(), &workers);
    }
}

/// Killed when all was read and nothing told the time yet, the runs after it read nothing: the stored seconds tell it.
#[test]
fn the_end_of_the_input_is_known_even_if_no_clock_was_before_a_kill() {
    let shape = Shape {
        seed: 8_930_288_853_945_439_970,
        partitions: 1,
        services: 4,
        segments: 1,
        segment_seconds: 60,
        disorder: 3,
        bad_clocks: false,
        far_too_late: true,
        longest_idle: 450,
        chunk: 60,
    };
    let workers = [1, 4, 4, 1];
    check(&shape, &rules_alone(), &workers);
    let input = Arc::new(input(&shape, &rules_alone()));
    check_clock(&input, &tell(&input, &rules_alone(), &workers, shape.seed ^ 0x5eed), true);
}
