//! The life of an episode, by example, through the real dataflow: raised from incomplete windows, confirmed or withdrawn
//! by the complete ones, corrected by what comes late.

mod oracle;

use oracle::life;
use oracle::naive::{self, Seconds};
use oracle::product::{Closed, Run, Store};
use oracle::script::{Input, Log, MIDNIGHT, Random, Step};
use oracle::settings::{Settings, defaults, dense};
use proptest::prelude::*;
use smartlog_operators::detector::{Detector, Finding};
use smartlog_operators::episodes::{Evaluation, reconcile};
use smartlog_operators::peak::Peak;
use smartlog_operators::record::Change;
use smartlog_operators::rules::Verdict;
use smartlog_operators::settings::{Baseline, Test};
use smartlog_operators::sums::Sums;
use smartlog_schema::anomaly::{AnomalyType, ChangeKind, EpisodeChange, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

const MICROS: i64 = 1_000_000;

/// Logs of one service by the second in which they come and the second in which they happened.
#[derive(Default)]
struct Scenario {
    logs: BTreeMap<i64, Vec<(i64, bool)>>,
    /// When it is killed, and started again at once.
    kills: Vec<usize>,
}

impl Scenario {
    /// A log a second in `seconds`; `is_error` says which are errors.
    fn steady(&mut self, seconds: std::ops::Range<i64>, is_error: impl Fn(i64) -> bool) -> &mut Self {
        seconds.for_each(|second| {
            self.add(second, second, 1, is_error(second));
        });
        self
    }

    /// `count` logs that happen in `second` and come in second `arrival`.
    fn add(&mut self, arrival: i64, second: i64, count: usize, error: bool) -> &mut Self {
        self.logs.entry(arrival).or_default().extend(std::iter::repeat_n((second, error), count));
        self
    }

    /// Plays it, an epoch for each second; what became of the service's error rate.
    fn play(&self, settings: &Settings) -> Vec<EpisodeChange> {
        self.play_all(settings, AnomalyType::ErrorRateSpike).0.log
    }

    fn play_all(&self, settings: &Settings, of_type: AnomalyType) -> (Store, Vec<Closed>) {
        let mut input =
            Input { partitions: vec![Vec::new()], first_wall_us: MIDNIGHT * MICROS, ..Input::default() };
        let mut steps = Vec::new();
        let last = self.logs.keys().next_back().copied().unwrap_or(0);
        for arrival in 0..=last {
            for (second, error) in self.logs.get(&arrival).into_iter().flatten() {
                input.partitions[0].push(Log::new((MIDNIGHT + second) * MICROS, 0, *error, 1));
            }
            steps.push(Step {
                wall_us: (MIDNIGHT + arrival) * MICROS,
                next: vec![input.partitions[0].len()],
                at_end: vec![true],
                ended: vec![arrival == last],
            });
        }
        let mut store = Store::new(1, settings);
        let (input, mut all, mut from) = (Arc::new(input), Vec::new(), 0);
        for until in self.kills.iter().copied().chain([steps.len()]) {
            let run = Run {
                input: Arc::clone(&input),
                steps: Arc::new(steps[from..].to_vec()),
                store: Arc::new(store.clone()),
                settings: settings.clone(),
                workers: 1,
                // Every epoch is looked at by itself.
                lead: 0,
                max_services: 10,
            };
            for closed in run.go().into_iter().take(until - from) {
                store.commit(&closed);
                all.push(closed);
            }
            from = until;
        }
        life::check(&store.log);
        store.log.retain(|change| {
            change.episode.key.service.is_some() && change.episode.key.anomaly_type == of_type
        });
        (store, all)
    }
}

fn kinds(changes: &[EpisodeChange]) -> Vec<ChangeKind> {
    let mut kinds: Vec<ChangeKind> = changes.iter().map(|change| change.kind).collect();
    kinds.dedup();
    kinds
}

/// One error in a hundred.
fn usual(second: i64) -> bool {
    second % 100 == 50
}

#[test]
fn raised_opened_resolved() {
    let burst = |second: i64| usual(second) || (900..960).contains(&second) && second % 2 == 0;
    let changes = Scenario::default().steady(0..1800, burst).play(&dense());
    use ChangeKind::{Opened, Raised, Resolved, Updated};
    assert_eq!(kinds(&changes), [Raised, Opened, Updated, Resolved], "{changes:#?}");
    let (first, last) = (&changes[0].episode, &changes[changes.len() - 1].episode);
    assert!(changes.iter().all(|change| change.episode.key == first.key), "the name stays");
    // Raised in the very second that crosses the threshold, confirmed when the watermark passes it.
    assert_eq!(first.detected_at_us / MICROS, first.started_at - 1);
    assert_eq!((last.started_at, last.key.first_raised_at), (first.started_at, first.started_at));
    assert!(last.started_at > MIDNIGHT + 900 && last.started_at < MIDNIGHT + 960, "{last:#?}");
    assert_eq!((last.status, last.revision as usize), (Status::Resolved, changes.len()));
}

#[test]
fn what_only_the_incomplete_windows_show_is_retracted() {
    // Ten errors are there at once, the five hundred good logs of the same seconds four seconds later.
    let mut scenario = Scenario::default();
    scenario.steady(0..1200, usual).add(900, 900, 10, true).add(904, 900, 500, false);
    let changes = scenario.play(&dense());
    assert_eq!(kinds(&changes), [ChangeKind::Raised, ChangeKind::Retracted], "{changes:#?}");
    let reason = changes[1].reason.as_deref();
    assert_eq!(reason, Some("the complete windows do not cross the threshold"));
}

#[test]
fn late_logs_retract_and_revive() {
    let mut scenario = Scenario::default();
    scenario.steady(0..1800, usual).add(900, 900, 10, true).add(940, 900, 500, false).add(960, 900, 60, true);
    let changes = scenario.play(&dense());
    use ChangeKind::{Opened, Raised, Reopened, Resolved, Retracted};
    let kinds: Vec<_> = kinds(&changes).into_iter().filter(|kind| *kind != ChangeKind::Updated).collect();
    assert_eq!(kinds, [Raised, Opened, Retracted, Reopened, Resolved], "{changes:#?}");
    let retracted = changes.iter().find(|change| change.kind == Retracted).expect("one is");
    let reason = retracted.reason.as_deref();
    assert_eq!(reason, Some("late logs brought the metric back within the threshold"));
    assert!(changes.iter().all(|change| change.episode.key == changes[0].episode.key), "the name stays");
}

#[test]
fn a_level_that_stays_expires_and_is_the_new_normal() {
    let mut settings = dense();
    // Longer than anything that is remembered: what was normal is not forgotten over it.
    settings.detection.max_episode = 1500;
    let changes = Scenario::default().steady(0..3000, |s| usual(s) || s > 900 && s % 10 == 0).play(&settings);
    let last = &changes[changes.len() - 1].episode;
    assert_eq!(last.status, Status::Expired, "{changes:#?}");
    assert_eq!(last.ended_at, Some(last.started_at + settings.detection.max_episode));
    assert_eq!(last.last_seen, last.started_at + settings.detection.max_episode - 1);
    assert!(
        changes.iter().all(|change| change.episode.key == last.key),
        "nothing more is raised: {changes:#?}"
    );
}

#[test]
fn hysteresis_keeps_one_episode_of_a_metric_that_flutters_around_its_threshold() {
    // Five in a hundred are the threshold; 6.3 and 4.5 take turns.
    let waves = |s: i64| match s {
        3000..4500 if (s / 300) % 2 == 0 => s % 16 == 0,
        3000..4500 => s % 23 == 0,
        _ => usual(s),
    };
    let mut settings = dense();
    // The slow rise does not become normal while it rises.
    settings.detection.baseline = Baseline { lag: 1_800, minutes: 90, ..settings.detection.baseline };
    // The ratio of the window alone decides.
    let never = Test { ratio: 1e9, significance: 0.9 };
    let rule = &mut settings.detection.error_rate_spike;
    (rule.window, rule.minute, rule.drift) = (Test { ratio: 5.0, significance: 0.9 }, never, never);
    settings.detection.max_episode = 6 * 3600;
    let count = |settings: &Settings| {
        let changes = Scenario::default().steady(0..5000, waves).play(settings);
        let keys: std::collections::BTreeSet<_> =
            changes.into_iter().map(|change| change.episode.key).collect();
        keys.len()
    };
    assert_eq!(count(&settings), 1);
    settings.detection.hysteresis = 1.0;
    assert!(count(&settings) > 1);
}

/// An episode that is over for some seconds, but not yet beyond the reach of late logs, is the same one when these come:
/// neither doubled nor begun anew.
#[test]
fn a_late_log_while_the_checkpoint_lies_in_the_calm_doubles_nothing() {
    for late in (0..300).step_by(13) {
        let burst = |second: i64| usual(second) || (900..960).contains(&second) && second % 2 == 0;
        let mut scenario = Scenario::default();
        // Late by a minute, and of no consequence.
        scenario.steady(0..1800, burst).add(1200 + late, 1140 + late, 1, false);
        let changes = scenario.play(&dense());
        assert!(changes.iter().all(|change| change.episode.key == changes[0].episode.key), "{changes:#?}");
        assert_eq!(changes[changes.len() - 1].episode.status, Status::Resolved);
    }
}

/// The same across restarts: what a store brings back does not say that an episode is over twice.
#[test]
fn restarts_around_the_end_of_an_episode_double_nothing() {
    let burst = |second: i64| usual(second) || (900..960).contains(&second) && second % 2 == 0;
    for first in (1140..1500).step_by(37) {
        let mut scenario = Scenario { kills: vec![first, first + 20, first + 45], ..Scenario::default() };
        let changes = scenario.steady(0..1800, burst).play(&dense());
        assert!(changes.iter().all(|change| change.episode.key == changes[0].episode.key), "{changes:#?}");
        assert_eq!(changes[changes.len() - 1].episode.status, Status::Resolved);
    }
}

/// A service that has been silent for longer than sums are kept is still known after a restart: its slot, what is
/// normal for it, and that its silence is an episode.
#[test]
fn a_silent_service_survives_a_restart() {
    let mut settings = dense();
    settings.detection.max_episode = 6 * 3600;
    let mut scenario = Scenario { kills: vec![5000], ..Scenario::default() };
    // Nothing comes but the end.
    scenario.steady(0..1500, usual).logs.insert(5100, Vec::new());
    let (store, closed) = scenario.play_all(&settings, AnomalyType::LogVolumeDrop);
    let given_up = |change: &Change| matches!(change, Change::Detector { state: None, .. });
    assert!(!closed.iter().flat_map(|closed| &closed.changes).any(given_up), "a slot was given up");
    assert!(store.log.iter().all(|change| change.episode.key == store.log[0].episode.key));
    let last = &store.log[store.log.len() - 1].episode;
    assert_eq!((last.status, last.last_seen), (Status::Open, MIDNIGHT + 5099), "{last:#?}");
}

/// A rule's values may be a service's own.
#[test]
fn a_service_has_the_rules_that_are_its_own() {
    let burst = |second: i64| usual(second) || (900..960).contains(&second) && second % 2 == 0;
    let play = |name: &str, change: fn(&mut smartlog_operators::settings::Detection)| {
        let mut settings = dense();
        let mut own = settings.detection.clone();
        change(&mut own);
        settings.services.insert(name.into(), own);
        Scenario::default().steady(0..1800, burst).play(&settings).len()
    };
    let all = Scenario::default().steady(0..1800, burst).play(&dense()).len();
    assert!(all > 0);
    assert_eq!(play("service-0", |own| own.error_rate_spike.min_errors = 1000), 0);
    assert_eq!(play("service-0", |own| own.error_rate_spike.enabled = false), 0);
    assert_eq!(play("service-1", |own| own.error_rate_spike.enabled = false), all);
}

/// How far a baseline is from being trusted is told from the first look on, and only when it changes.
#[test]
fn warming_up_is_told() {
    let (store, closed) =
        Scenario::default().steady(0..1200, usual).play_all(&dense(), AnomalyType::LogVolumeDrop);
    let told = |name: &str| -> Vec<(i64, i64)> {
        let changes = closed.iter().flat_map(|closed| &closed.changes);
        let of_service = changes.filter_map(|change| match change {
            Change::Warmth(warmth) if warmth.service == name => Some((warmth.minutes, warmth.needed)),
            _ => None,
        });
        of_service.collect()
    };
    // Four minutes are enough; the first is not a whole one, and each counts two minutes after its end.
    assert_eq!(told("service-0"), [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
    assert_eq!(told(""), told("service-0"), "the whole stream");
    assert_eq!(store.warmth["service-0"], (4, 4));
}

/// Plays two services with a log a second each, one partition each; down from `DOWN` on for an hour. `is_waiting`:
/// whether what came meanwhile is there to be read when it starts again.
fn downtime(is_waiting: bool) -> Vec<EpisodeChange> {
    const DOWN: i64 = 2400;
    const UP: i64 = DOWN + 3600;
    let settings = defaults();
    let logs =
        |service: usize| (0..UP + 600).map(move |s| Log::new((MIDNIGHT + s) * MICROS, service, usual(s), 1));
    let partitions: Vec<Vec<Log>> = (0..2).map(|service| logs(service).collect()).collect();
    let input = Input { partitions, first_wall_us: MIDNIGHT * MICROS, ..Input::default() };
    let step = |wall: i64, read: i64, at_end: bool| Step {
        wall_us: (MIDNIGHT + wall) * MICROS,
        next: vec![read as usize; 2],
        at_end: vec![at_end; 2],
        ended: vec![false; 2],
    };
    let before: Vec<Step> = (1..DOWN).map(|second| step(second, second, true)).collect();
    let mut after = Vec::new();
    if is_waiting {
        after.extend((DOWN..UP).step_by(300).map(|read| step(UP, read, false)));
    } else {
        after.push(step(UP, DOWN - 1, true));
    }
    after.extend((UP..UP + 600).map(|second| step(second, second, true)));
    let mut store = Store::new(2, &settings);
    let input = Arc::new(input);
    for steps in [before, after] {
        let run = Run {
            input: Arc::clone(&input),
            steps: Arc::new(steps),
            store: Arc::new(store.clone()),
            settings: settings.clone(),
            workers: 2,
            lead: 0,
            max_services: 10,
        };
        run.go().iter().for_each(|closed| store.commit(closed));
    }
    store.log
}

#[test]
fn an_hour_of_downtime_is_caught_up_with_in_event_time_and_no_episode() {
    assert_eq!(downtime(true), []);
    // If nothing was waiting, everything was silent: one episode, of the stream.
    let silence = downtime(false);
    let of: std::collections::BTreeSet<_> =
        silence.iter().map(|c| (c.episode.key.service.clone(), c.episode.key.anomaly_type)).collect();
    assert_eq!(of.into_iter().collect::<Vec<_>>(), [(None, AnomalyType::LogVolumeDrop)], "{silence:#?}");
}

/// A partition that has nothing more takes its share of a service's logs with it, and no more: no episode.
#[test]
fn a_partition_that_falls_silent_is_no_episode() {
    let settings = defaults();
    let mut input =
        Input { partitions: vec![Vec::new(); 2], first_wall_us: MIDNIGHT * MICROS, ..Input::default() };
    let mut steps = Vec::new();
    for second in 0..5400 {
        let us = (MIDNIGHT + second) * MICROS;
        input.partitions[0].push(Log::new(us, 0, usual(second), 1));
        if second < 2700 {
            input.partitions[1].push(Log::new(us, 0, usual(second + 50), 1));
        }
        steps.push(Step {
            wall_us: us,
            next: input.partitions.iter().map(Vec::len).collect(),
            at_end: vec![true; 2],
            ended: vec![second == 5399; 2],
        });
    }
    let mut store = Store::new(2, &settings);
    let run = Run {
        input: Arc::new(input),
        steps: Arc::new(steps),
        store: Arc::new(store.clone()),
        settings,
        workers: 2,
        lead: 0,
        max_services: 10,
    };
    run.go().iter().for_each(|closed| store.commit(closed));
    assert_eq!(store.log, []);
}

/// An episode that late logs moved to an earlier start, and then split: each half has a name of its own.
#[test]
fn a_split_episode_does_not_lend_its_name_twice() {
    let finding = |started_at: i64, ended_at: Option<i64>| Finding {
        anomaly_type: AnomalyType::ErrorRateSpike,
        started_at,
        last_seen: ended_at.map_or(600, |end| end - 1),
        ended_at,
        expired: false,
        verdict: Verdict { value: 0.5, threshold: 0.1, baseline: 0.01, seconds: 300 },
        peak: Peak { value: 0.5, ..Peak::default() },
    };
    let mut published = Vec::new();
    let mut look = |findings: &[Finding]| {
        let service = "payments".into();
        let evaluation = Evaluation {
            service: Some(&service),
            findings,
            alarms: &[],
            final_through: 600,
            provisional_end: 606,
            clock_us: 605 * MICROS,
            last: false,
        };
        reconcile(&mut published, &evaluation);
        let mut lives: Vec<(i64, i64)> =
            published.iter().map(|episode| (episode.key.first_raised_at, episode.started_at)).collect();
        lives.sort_unstable();
        lives
    };
    assert_eq!(look(&[finding(500, None)]), [(500, 500)]);
    assert_eq!(look(&[finding(400, None)]), [(500, 400)]);
    assert_eq!(look(&[finding(400, Some(450)), finding(500, None)]), [(400, 400), (500, 500)]);
}

fn counts(seed: u64, span: i64) -> Vec<(i64, Sums)> {
    let mut random = Random(seed);
    let mut level = 2.0;
    let mut errors = 0.02;
    let mut seconds = Vec::new();
    let mut second = MIDNIGHT + random.within(0, 60);
    while second < MIDNIGHT + span {
        if random.happens(0.005) {
            level = [0.0, 0.02, 0.2, 2.0, 2.0, 12.0][random.within(0, 6) as usize];
            errors = [0.0, 0.02, 0.02, 0.3][random.within(0, 4) as usize];
        }
        if random.happens(level) {
            let logs = 1 + random.within(0, level as i64 + 1);
            let wrong = (0..logs).filter(|_| random.happens(errors)).count() as i64;
            seconds.push((second, Sums { logs, errors: wrong, message_chars: 0 }));
        }
        second += 1;
    }
    seconds
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// The fold over seconds gives the same findings however it is cut, stored and read back, and those of the naive
    /// program.
    #[test]
    fn a_detector_finds_the_same_however_its_seconds_are_cut(
        seed in any::<u64>(), span in 600_i64..9_000, retire_after in prop::sample::select(vec![900_i64, 86_400])
    ) {
        let mut settings = dense();
        settings.detection.retire_after = retire_after;
        let seconds = counts(seed, span);
        let through = MIDNIGHT + span + 400;
        let Some(&(first, _)) = seconds.first() else { return Ok(()) };
        let mut random = Random(seed ^ 1);
        let mut found: Vec<Finding> = Vec::new();
        let mut detector = Detector::new(first);
        let longest = [1, 7, 90, 5_000][random.within(0, 4) as usize];
        let mut to = first;
        while to < through {
            to = (to + random.within(1, longest + 1)).min(through);
            found.extend(detector.fold(&seconds, None, to, &settings.detection));
            if random.happens(0.1) {
                let bytes = detector.to_bytes().expect("a detector can be stored");
                detector = Detector::from_bytes(&bytes, &settings.detection).expect("and read back");
            }
        }
        found.extend(detector.open());
        let mut naive_seconds = Seconds::default();
        for (second, sums) in &seconds {
            naive_seconds.0.insert(*second, (sums.logs, sums.errors, 0));
        }
        let wanted = naive::episodes(&naive_seconds, None, through, &settings);
        let mut wanted: Vec<_> = wanted.iter().map(|t| (t.started_at, t.last_seen, t.ended_at, t.kind as usize)).collect();
        let kind = |finding: &Finding| match finding.anomaly_type {
            AnomalyType::ErrorRateSpike => 0,
            AnomalyType::LogVolumeSpike => 1,
            _ => 2,
        };
        let mut found: Vec<_> =
            found.iter().map(|f| (f.started_at, f.last_seen, f.ended_at, kind(f))).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, wanted);
    }
}
