//! What is said of an episode's why, through the real dataflow: the guilty are named, the same whatever ticks, workers and
//! restarts cut the logs into; who falls silent alone is no episode.

mod oracle;

use oracle::cut::{Cut, PLAIN, play};
use oracle::script::{Input, Log, MIDNIGHT, Random, service_name};
use oracle::settings::{defaults, dense};
use smartlog_schema::anomaly::{AnomalyType, Episode, EpisodeKey, Status};
use smartlog_schema::explanation::{
    Explanation, Kind, MAX_CHANGES, MAX_NAME_CHARS, MAX_SAMPLES, MAX_SENTENCES, MAX_SILENT,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const MICROS: i64 = 1_000_000;
const PARTITIONS: usize = 3;
/// When the trouble is, seconds.
const TROUBLE: Range<i64> = 1_800..2_100;

/// A log of `host`, whose place decides its partition.
fn log(second: i64, part: usize, host: &str, error: bool, message: &str) -> Log {
    let us = (MIDNIGHT + second) * MICROS + part as i64;
    let level = if error { "ERROR" } else { "INFO" };
    let payload = serde_json::json!({
        "timestamp": us, "level": level, "service": service_name(0), "host": host, "message": message,
    });
    Log {
        us,
        service: 0,
        error,
        chars: message.chars().count(),
        host: None,
        payload: payload.to_string().into_bytes(),
    }
}

/// Which logs a host makes in a second: how many, and of these how many errors.
type Traffic<'a> = &'a dyn Fn(i64, usize) -> (usize, usize);

/// An hour of `hosts` hosts, a partition each in turn.
fn input(hosts: usize, traffic: Traffic<'_>) -> Arc<Input> {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for second in 0..3_600 {
        for host in 0..hosts {
            let (logs, errors) = traffic(second, host);
            for at in 0..logs {
                let error = at < errors;
                let message = if error { "Database connection timeout after 30 s" } else { "request served" };
                let made = log(second, host, &format!("host-{host}"), error, message);
                partitions[host % PARTITIONS].push(made);
            }
        }
    }
    Arc::new(Input { partitions, first_wall_us: MIDNIGHT * MICROS, ..Input::default() })
}

fn explained(episode: &Episode) -> Explanation {
    serde_json::from_str(&episode.explanation).expect("an explanation is one")
}

/// The explanation of the one episode of that type.
fn only(episodes: &BTreeMap<EpisodeKey, Episode>, anomaly_type: AnomalyType, of_stream: bool) -> Explanation {
    let is_meant = |key: &EpisodeKey| key.anomaly_type == anomaly_type && key.service.is_none() == of_stream;
    let found: Vec<_> =
        episodes.values().filter(|e| is_meant(&e.key) && e.status != Status::Retracted).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    let explanation = explained(found[0]);
    check_bounds(&explanation);
    explanation
}

fn check_bounds(explanation: &Explanation) {
    let Explanation { summary, services, hosts, templates, silent, samples, .. } = explanation;
    assert!(!summary.is_empty() && summary.len() <= MAX_SENTENCES, "{summary:?}");
    for changes in [services, hosts, templates] {
        assert!(
            changes.len() <= MAX_CHANGES
                && changes.iter().all(|c| c.name.chars().count() <= 2 * MAX_NAME_CHARS)
        );
    }
    assert!(silent.len() <= MAX_SILENT && samples.len() <= MAX_SAMPLES);
}

#[test]
fn the_guilty_host_and_template_are_named_and_their_lines_cited() {
    let failing = |second: i64, host: usize| match (TROUBLE.contains(&second), host) {
        (true, 3) => (1, usize::from(second % 2 == 0)),
        _ => (1, usize::from((second + 7 * host as i64) % 200 == 0)),
    };
    let input = input(8, &failing);
    let episodes = play(&input, &defaults(), &PLAIN);
    let explanation = only(&episodes, AnomalyType::ErrorRateSpike, false);
    let host = &explanation.hosts[0];
    assert_eq!((host.name.as_str(), explanation.counted.as_str()), ("host-3", "errors"), "{explanation:#?}");
    assert!(host.share_after > 0.8 && host.share_before < 0.4, "{host:?}");
    assert!(explanation.summary[1].starts_with("host host-3: "), "{:?}", explanation.summary);
    let shares: Vec<f64> = explanation.features.iter().filter_map(|feature| feature.share).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    let most =
        explanation.features.iter().max_by(|a, b| a.share.partial_cmp(&b.share).expect("they are numbers"));
    assert_eq!(most.map(|feature| feature.name.as_str()), Some("error_rate"), "{explanation:#?}");
    assert_eq!(explanation.samples.len(), MAX_SAMPLES);
    for sample in &explanation.samples {
        let line = &input.partitions[sample.partition as usize][sample.offset as usize];
        assert!(line.error && line.us == sample.timestamp.as_microsecond(), "{sample:?}");
    }
}

#[test]
fn a_flood_of_one_host_is_its_flood() {
    let flooding = |second: i64, host: usize| match (TROUBLE.contains(&second), host) {
        (true, 5) => (60, 0),
        _ => (1, 0),
    };
    let episodes = play(&input(8, &flooding), &defaults(), &PLAIN);
    let explanation = only(&episodes, AnomalyType::LogVolumeSpike, false);
    assert_eq!(explanation.hosts[0].name, "host-5", "{explanation:#?}");
    let service = &only(&episodes, AnomalyType::LogVolumeSpike, true).services;
    assert_eq!(service.len(), 0, "there is one service alone: no share changed");
}

/// All hosts but one fall silent, with them two partitions.
fn mostly_silent(second: i64, host: usize) -> (usize, usize) {
    (usize::from(!(TROUBLE.contains(&second) && host > 0)), 0)
}

#[test]
fn who_falls_silent_is_named_hosts_and_partitions() {
    let episodes = play(&input(24, &mostly_silent), &defaults(), &PLAIN);
    let Explanation { silent, summary, .. } = only(&episodes, AnomalyType::LogVolumeDrop, false);
    let of = |kind: Kind| -> Vec<&str> {
        silent.iter().filter(|silent| silent.kind == kind).map(|silent| silent.name.as_str()).collect()
    };
    assert_eq!(of(Kind::Partition), ["logs/1", "logs/2"], "{silent:#?}");
    assert!(!of(Kind::Host).is_empty() && of(Kind::Host).iter().all(|name| *name != "host-0"), "{silent:#?}");
    assert!(summary.iter().any(|sentence| sentence.starts_with("silent: host host-")), "{summary:?}");
    for silent in &silent {
        assert_eq!(silent.since.as_second(), MIDNIGHT + TROUBLE.start, "{silent:?}");
    }
}

#[test]
fn the_silence_of_one_host_alone_is_no_episode() {
    let one_silent = |second: i64, host: usize| (usize::from(!(second >= TROUBLE.start && host == 7)), 0);
    let episodes = play(&input(12, &one_silent), &defaults(), &PLAIN);
    assert_eq!(episodes.keys().collect::<Vec<_>>(), Vec::<&EpisodeKey>::new());
}

/// What is told when the input has ended, but for the texts of templates: they may still generalise after an episode.
fn last_words(episodes: &BTreeMap<EpisodeKey, Episode>) -> Vec<(EpisodeKey, Explanation)> {
    let standing = episodes.iter().filter(|(_, episode)| episode.status != Status::Retracted);
    // An episode is named by the window that raised it first, be that complete or not.
    let words = |(key, episode): (&EpisodeKey, &Episode)| {
        let key = EpisodeKey { first_raised_at: episode.started_at, ..key.clone() };
        (key, Explanation { templates: Vec::new(), ..explained(episode) })
    };
    let mut words: Vec<_> = standing.map(words).collect();
    words.sort_by(|(a, _), (b, _)| a.cmp(b));
    words
}

#[test]
fn ticks_workers_and_restarts_change_no_word() {
    let mut random = Random(7);
    let noise: Vec<bool> = (0..3_600 * 30).map(|_| random.happens(0.01)).collect();
    let trouble = |second: i64, host: usize| {
        let error = usize::from(noise[second as usize * 30 + host]);
        match (second, host) {
            (1_200..1_320, 4) => (4, 3),
            (2_000..2_200, 1..) => (0, 0),
            (2_900..2_990, 2) => (30, error),
            _ => (1, error),
        }
    };
    let input = input(6, &trouble);
    let settings = dense();
    let wanted = last_words(&play(&input, &settings, &PLAIN));
    let kinds: Vec<AnomalyType> = wanted.iter().map(|(key, _)| key.anomaly_type).collect();
    for kind in [AnomalyType::ErrorRateSpike, AnomalyType::LogVolumeDrop, AnomalyType::LogVolumeSpike] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    for (workers, step_seconds, kills) in [
        (2, 7, vec![]),
        (4, 1, vec![1_210, 1_211, 1_290, 2_100, 2_950]),
        (1, 30, vec![41, 68, 97]),
        (2, 600, vec![]),
    ] {
        let found =
            last_words(&play(&input, &settings, &Cut { workers, step_seconds, kills: kills.clone() }));
        assert_eq!(found, wanted, "{workers} workers, steps of {step_seconds} s, killed after {kills:?}");
    }
}

#[test]
fn ten_thousand_hosts_leave_an_explanation_within_its_bounds() {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    let name = |host: usize| format!("{}-{host}", "h".repeat(90));
    for second in 0..3_600 {
        for host in (0..20).map(|at| (second as usize * 20 + at) % 10_000) {
            // Each of them logs now and then.
            for _ in 0..if TROUBLE.contains(&second) { 12 } else { 1 } {
                partitions[host % PARTITIONS].push(log(
                    second,
                    host % 900,
                    &name(host),
                    false,
                    "request served",
                ));
            }
        }
    }
    partitions.iter_mut().for_each(|logs: &mut Vec<Log>| logs.sort_by_key(|log| log.us));
    let input = Arc::new(Input { partitions, first_wall_us: MIDNIGHT * MICROS, ..Input::default() });
    let episodes = play(&input, &defaults(), &Cut { workers: 2, step_seconds: 5, kills: vec![380] });
    let explanation = only(&episodes, AnomalyType::LogVolumeSpike, false);
    let size = serde_json::to_string(&explanation).expect("it is JSON").len();
    assert!(size < 16 << 10, "{size} bytes");
}

/// An incident of one host or template, made up from a seed: what is guilty, and what kind of episode it is.
struct Guilt {
    host: usize,
    anomaly_type: AnomalyType,
}

/// Half an hour of quiet, then a host goes wrong: it fails with a message of its own, or floods.
fn guilty(seed: u64) -> (Arc<Input>, Guilt) {
    let mut random = Random(seed);
    let hosts = random.within(3, 12) as usize;
    let host = random.within(0, hosts as i64) as usize;
    let fails = random.happens(0.5);
    let (base, burst) = (random.within(1, 3) as f64 / 100.0, random.within(5, 10) as f64 / 10.0);
    let flood = random.within(8, 14) as usize * hosts;
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for second in 0..2_400 {
        for at in 0..hosts {
            let is_guilty = at == host && (1_800..2_100).contains(&second);
            let logs = if is_guilty && !fails { flood } else { usize::from(random.happens(0.7)) };
            for _ in 0..if is_guilty && fails { logs + 2 } else { logs } {
                let error = random.happens(if is_guilty && fails { burst } else { base });
                let message = match (error, is_guilty) {
                    (true, true) => "lease of 10.0.0.7 was lost after 300 ms",
                    (true, false) => "Database connection timeout after 30 s",
                    (false, _) => ["request served in 12 ms", "cache miss for key 7", "job 8 done"]
                        [random.within(0, 3) as usize],
                };
                partitions[at % PARTITIONS].push(log(second, at, &format!("host-{at}"), error, message));
            }
        }
    }
    let input = Input { partitions, first_wall_us: MIDNIGHT * MICROS, ..Input::default() };
    let anomaly_type = if fails { AnomalyType::ErrorRateSpike } else { AnomalyType::LogVolumeSpike };
    (Arc::new(input), Guilt { host, anomaly_type })
}

#[test]
fn nine_in_ten_guilty_hosts_and_templates_come_first() {
    let (mut hosts, mut templates) = ((0, 0), (0, 0));
    for seed in 9_001..9_041 {
        let (input, guilt) = guilty(seed);
        let episodes = play(&input, &defaults(), &Cut { step_seconds: 10, ..PLAIN });
        let is_its = |episode: &&Episode| {
            let key = &episode.key;
            key.anomaly_type == guilt.anomaly_type
                && key.service.is_some()
                && episode.status != Status::Retracted
        };
        // What is not found is the detectors' business.
        let Some(episode) = episodes.values().find(is_its) else { continue };
        let Explanation { hosts: changed, templates: told, .. } = explained(episode);
        hosts.1 += 1;
        hosts.0 +=
            usize::from(changed.first().is_some_and(|first| first.name == format!("host-{}", guilt.host)));
        if guilt.anomaly_type == AnomalyType::ErrorRateSpike {
            templates.1 += 1;
            templates.0 += usize::from(told.first().is_some_and(|first| first.name.starts_with("lease of ")));
        }
    }
    println!(
        "guilty host first: {} of {}, guilty template first: {} of {}",
        hosts.0, hosts.1, templates.0, templates.1
    );
    assert!(hosts.1 >= 30 && templates.1 >= 10, "too few incidents: {hosts:?}, {templates:?}");
    assert!(hosts.0 * 10 >= hosts.1 * 9 && templates.0 * 10 >= templates.1 * 9, "{hosts:?}, {templates:?}");
}
