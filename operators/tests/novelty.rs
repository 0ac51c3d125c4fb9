//! New patterns through the real dataflow: told once, the same whatever ticks, workers and restarts cut the logs into, and
//! as a program finds them that looks at all logs at once; a new version that says the same in other words is none.

mod oracle;

use oracle::cut::{Cut, PLAIN, play};
use oracle::script::{Input, Log, MIDNIGHT, Random, service_name};
use oracle::settings::{Settings, defaults};
use smartlog_operators::settings::{Detection, NewPattern};
use smartlog_schema::anomaly::{AnomalyType, Episode, EpisodeKey, Severity, Status};
use smartlog_schema::explanation::Explanation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PARTITIONS: usize = 3;
const MICROS: i64 = 1_000_000;
const WARM_UP: i64 = 1_200;

/// A line of a service: when, seconds after midnight; of which level; what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    second: i64,
    service: usize,
    error: bool,
    message: String,
}

fn line(second: i64, service: usize, error: bool, message: &str) -> Line {
    Line { second, service, error, message: message.to_owned() }
}

/// Nothing but new patterns, sooner than as shipped.
fn settings() -> Settings {
    let mut settings = defaults();
    let Detection { error_rate_spike, log_volume_spike, log_volume_drop, new_pattern, .. } =
        &mut settings.detection;
    (error_rate_spike.enabled, log_volume_spike.enabled, log_volume_drop.enabled) = (false, false, false);
    new_pattern.warm_up = WARM_UP;
    settings
}

/// Spreads lines over partitions, those of a service over all of them; each in order of time but for `late`.
fn input(lines: &[Line], random: &mut Random, late: i64) -> Arc<Input> {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for (at, line) in lines.iter().enumerate() {
        let us = (MIDNIGHT + line.second) * MICROS + at as i64 % 1000;
        let level = if line.error { "ERROR" } else { "INFO" };
        let payload = serde_json::json!({
            "timestamp": us, "level": level, "service": service_name(line.service), "message": line.message,
        });
        let arrival = line.second + if late > 0 { random.within(0, late) } else { 0 };
        let log = Log {
            us,
            service: line.service,
            error: line.error,
            chars: line.message.chars().count(),
            host: None,
            payload: payload.to_string().into_bytes(),
        };
        partitions[at % PARTITIONS].push((arrival, log));
    }
    for logs in &mut partitions {
        logs.sort_by_key(|(arrival, log): &(i64, Log)| (*arrival, log.us));
    }
    let partitions =
        partitions.into_iter().map(|logs| logs.into_iter().map(|(_, log)| log).collect()).collect();
    Arc::new(Input { partitions, first_wall_us: MIDNIGHT * MICROS, ..Input::default() })
}

/// Usual traffic of `services` for `seconds`: a request a second each, and an error every 20 s.
fn usual(services: usize, seconds: i64) -> Vec<Line> {
    let of = |second: i64, service: usize| {
        let error = (second % 20 == 0)
            .then(|| line(second, service, true, &format!("payment {second} was declined by the bank")));
        let served = line(second, service, false, &format!("request {second} served in {} ms", second % 90));
        [Some(served), error].into_iter().flatten()
    };
    (0..seconds).flat_map(|second| (0..services).flat_map(move |service| of(second, service))).collect()
}

fn new_patterns(episodes: &BTreeMap<EpisodeKey, Episode>) -> Vec<&Episode> {
    let standing =
        |e: &&Episode| e.key.anomaly_type == AnomalyType::NewPattern && e.status != Status::Retracted;
    episodes.values().filter(standing).collect()
}

fn explained(episode: &Episode) -> Explanation {
    serde_json::from_str(&episode.explanation).expect("an explanation is one")
}

/// What must be the same however the logs are cut.
type Told = (String, i64, Option<i64>, Status, Severity, u64, u64, u64, String);

fn told(episodes: &BTreeMap<EpisodeKey, Episode>) -> Vec<Told> {
    let told = |e: &Episode| {
        let service = e.key.service.as_ref().expect("of a service").to_string();
        let numbers = (e.metric_value.to_bits(), e.threshold.to_bits(), e.peak_value.to_bits());
        // What follows are texts of templates, which may still generalise.
        let said = explained(e).summary[0].clone();
        (service, e.started_at, e.ended_at, e.status, e.severity, numbers.0, numbers.1, numbers.2, said)
    };
    let mut told: Vec<Told> = new_patterns(episodes).into_iter().map(told).collect();
    told.sort();
    told
}

#[test]
fn a_new_error_is_told_once_and_which_it_is() {
    let mut lines = usual(2, 4_200);
    let mut at = 2_405;
    while at < 2_700 {
        lines.push(line(at, 1, true, &format!("No route to host 10.0.0.{} from gateway", at % 200)));
        at += 30;
    }
    // It comes back, and is not new any more.
    lines.extend(
        (3_600..3_700).step_by(10).map(|at| line(at, 1, true, "No route to host 10.0.0.9 from gateway")),
    );
    lines.sort();
    let episodes = play(&input(&lines, &mut Random(1), 0), &settings(), &PLAIN);
    let found = new_patterns(&episodes);
    let [episode] = found[..] else { panic!("{found:#?}") };
    assert_eq!(episode.key.service.as_deref(), Some(service_name(1).as_str()));
    // The third line comes in second 2,465; the minute ends in 2,520, and is told of in the second of the third line.
    assert_eq!(episode.started_at, MIDNIGHT + 2_520);
    assert_eq!(episode.key.first_raised_at, MIDNIGHT + 2_466);
    // The last lines are 2,645 and 2,675: fewer than three are in the window that ends in 2,940, and in all after it.
    assert_eq!((episode.status, episode.ended_at), (Status::Resolved, Some(MIDNIGHT + 2_940)));
    assert_eq!((episode.threshold, episode.baseline), (0.6, 0.0));
    assert_eq!((episode.metric_value, episode.peak_value), (0.8, 2.0));
    assert_eq!(episode.severity, Severity::Medium);
    let Explanation { summary, templates, samples, counted, .. } = explained(episode);
    assert_eq!(summary[1], "new: “No route to host <*> from gateway”, 2 logs/min");
    assert_eq!(templates[0].name, "No route to host <*> from gateway");
    assert_eq!((templates[0].before, templates[0].share_before), (0.0, 0.0));
    assert!(!samples.is_empty() && counted == "logs");
    let provenance: serde_json::Value = serde_json::from_str(&episode.provenance).expect("JSON");
    assert_eq!(provenance["rule"], "new_pattern");
}

#[test]
fn a_new_version_alarms_nobody_and_a_flood_of_something_new_does() {
    let mut lines = usual(2, 5_400);
    for at in 2_400..5_400 {
        // The new version says everything in other words, forty of them.
        lines.push(line(at, 0, false, &format!("{} handled: status 200, took {at} us", word(at % 40))));
    }
    // Ten times as much as is usual of what nobody has seen.
    lines.extend(
        (3_000..3_300).flat_map(|at| (0..10).map(move |_| line(at, 1, false, "cache refilled from scratch"))),
    );
    lines.sort();
    let episodes = play(&input(&lines, &mut Random(1), 0), &settings(), &PLAIN);
    let found = new_patterns(&episodes);
    let [episode] = found[..] else { panic!("{found:#?}") };
    assert_eq!(episode.key.service.as_deref(), Some(service_name(1).as_str()));
    assert!(episode.baseline > 60.0 && episode.threshold == 2.0 * episode.baseline, "{episode:#?}");
    assert!(explained(episode).summary[1].starts_with("new: “cache refilled from scratch”"));
}

#[test]
fn nothing_is_new_while_a_service_warms_up_and_where_it_is_switched_off() {
    let mut lines = usual(2, 2_400);
    lines.extend((WARM_UP - 120..WARM_UP + 120).map(|at| line(at, 0, true, "disk of the journal is full")));
    lines.extend((1_800..1_900).map(|at| line(at, 1, true, "disk of the journal is full")));
    lines.sort();
    let mut settings = settings();
    let off = NewPattern { enabled: false, ..settings.detection.new_pattern };
    let own = Detection { new_pattern: off, ..settings.detection.clone() };
    settings.services.insert(service_name(1).as_str().into(), own);
    let input = input(&lines, &mut Random(1), 0);
    assert_eq!(told(&play(&input, &settings, &PLAIN)), []);
    settings.services.clear();
    assert_eq!(told(&play(&input, &settings, &PLAIN)).len(), 1);
}

/// A word of letters that is no state and has no digit.
fn word(number: i64) -> String {
    let letter = |n: i64| char::from(b'a' + (n % 26) as u8);
    format!("Step{}{}", letter(number), letter(number / 26))
}

/// Services with usual traffic, new errors of every strength at any time, bursts, and lines that come late.
fn adventurous(random: &mut Random) -> Vec<Line> {
    let mut lines = usual(3, 5_400);
    for kind in 0..24 {
        let (service, error) = (random.within(0, 3) as usize, random.happens(0.8));
        let begin = random.within(0, 5_000);
        let length = random.within(1, 900);
        let count = if error { random.within(1, 30) } else { random.within(0, 2_000) };
        for _ in 0..count {
            let at = (begin + random.within(0, length)).min(5_399);
            lines.push(line(
                at,
                service,
                error,
                &format!("{} broke at {}", word(kind), random.within(0, 90)),
            ));
        }
    }
    lines.sort();
    lines
}

/// Where each episode of one service begins and ends, found by going through all logs again for every minute.
fn naive(lines: &[Line], settings: &NewPattern) -> Vec<(i64, Option<i64>)> {
    let kind = |message: &str| message.split(' ').next().expect("a word").to_owned();
    let minute = |line: &Line| line.second / 60 * 60;
    let born = lines.iter().map(minute).min().unwrap_or(0);
    let mut first: BTreeMap<String, i64> = BTreeMap::new();
    for line in lines {
        let known = first.entry(kind(&line.message)).or_insert(i64::MAX);
        *known = minute(line).min(*known);
    }
    let window = |end: i64| lines.iter().filter(move |line| (end - 300..end).contains(&line.second));
    let logs = |end: i64, of: &str| window(end).filter(|line| kind(&line.message) == of).count();
    let errors =
        |end: i64, of: &str| window(end).filter(|line| line.error && kind(&line.message) == of).count();
    let candidates = |after: i64| -> BTreeSet<String> {
        let is_new = |at: i64| at > after && at >= born + WARM_UP;
        first.iter().filter(|(_, at)| is_new(**at)).map(|(kind, _)| kind.clone()).collect()
    };
    // The threshold of what begins in the window that ends there, logs.
    let begins = |end: i64| -> Option<f64> {
        let usual = (1..=3).map(|back| window(end - 300 * back).count()).max().unwrap_or(0) as f64;
        let burst = (settings.burst_ratio * usual).max(settings.min_burst as f64);
        let mut worst: Option<(usize, usize, f64)> = None;
        for of in candidates(end - 600) {
            let (logs, errors) = (logs(end, &of), errors(end, &of));
            let threshold = if errors >= settings.min_errors as usize {
                settings.min_errors as f64
            } else if usual > 0.0 && logs as f64 >= burst {
                burst
            } else {
                continue;
            };
            if worst.is_none_or(|worst| (worst.0, worst.1) <= (logs, errors)) {
                worst = Some((logs, errors, threshold));
            }
        }
        worst.map(|worst| worst.2)
    };
    let last = lines.iter().map(|line| line.second).max().unwrap_or(0);
    let mut found = Vec::new();
    // Where it began, its threshold, since when it is calm.
    let mut open: Option<(i64, f64, Option<i64>)> = None;
    for end in (born + 60..last / 60 * 60 + 61).step_by(60) {
        open = match open {
            None => begins(end).map(|threshold| (end, threshold, None)),
            Some((began, threshold, calm)) => {
                let most = candidates(began - 600).iter().map(|of| logs(end, of)).max().unwrap_or(0);
                match (most as f64 >= threshold * 0.8 - 1e-9, calm) {
                    (true, _) => Some((began, threshold, None)),
                    (false, Some(calm)) => {
                        found.push((began, Some(calm)));
                        None
                    }
                    (false, None) => Some((began, threshold, Some(end))),
                }
            }
        };
    }
    found.extend(open.map(|(began, ..)| (began, None)));
    found
}

#[test]
fn ticks_workers_restarts_and_lateness_change_nothing_and_a_naive_program_agrees() {
    let mut all = 0;
    for seed in 1..=3 {
        let mut random = Random(seed);
        let lines = adventurous(&mut random);
        let settings = settings();
        let wanted = told(&play(&input(&lines, &mut random, 0), &settings, &PLAIN));
        let mut by_hand = Vec::new();
        for service in 0..3 {
            let of_service: Vec<Line> =
                lines.iter().filter(|line| line.service == service).cloned().collect();
            let found = naive(&of_service, &settings.detection.new_pattern);
            by_hand.extend(found.into_iter().map(|(began, ended)| {
                (service_name(service), began + MIDNIGHT, ended.map(|ended| ended + MIDNIGHT))
            }));
        }
        by_hand.sort();
        let found: Vec<_> = wanted.iter().map(|told| (told.0.clone(), told.1, told.2)).collect();
        assert_eq!(found, by_hand, "seed {seed}");
        all += found.len();
        for (workers, step_seconds, late, kills) in [
            (2, 7, 0, vec![]),
            (4, 10, 300, vec![]),
            (1, 30, 120, vec![41, 68, 97, 150]),
            (4, 60, 0, vec![50, 51, 60, 70, 80]),
            (2, 5_400, 500, vec![]),
        ] {
            let cut = Cut { workers, step_seconds, kills };
            let found = told(&play(&input(&lines, &mut random, late), &settings, &cut));
            let Cut { kills, .. } = cut;
            assert_eq!(
                found, wanted,
                "seed {seed}: {workers} workers, steps of {step_seconds} s, {late} s late, killed after {kills:?}"
            );
        }
    }
    assert!(all >= 10, "{all} episodes say little");
}
