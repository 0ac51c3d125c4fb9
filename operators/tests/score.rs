//! Scores of windows, swaps of models, and what is written beside episodes, by the real operator.

use compact_str::CompactString;
use differential_dataflow::input::InputSession;
use smartlog_operators::evidence;
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::features::{Columns, WIDTH};
use smartlog_operators::pattern_window::PatternSums;
use smartlog_operators::record::{Change, Epoch, Keyed, Tick};
use smartlog_operators::score::{Inputs, Loader, Model, ModelOrder, Scored, score};
use smartlog_operators::settings::{Detection, MultivariateOutlier};
use smartlog_operators::sums::{Diff, Sums};
use smartlog_schema::anomaly::{
    AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Severity, Status,
};
use smartlog_schema::commit::ClockState;
use smartlog_schema::explanation::Explanation;
use smartlog_schema::model::{ModelSwap, Role, WindowScore};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::InputHandleVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

const T0: i64 = 1_768_471_200;

/// Says one thousandth of the first column, whatever else; knows all services but `stranger`.
struct Simple(Columns);

impl Simple {
    fn first(&self, values: &[f64; WIDTH]) -> f64 {
        self.0.pick(values, &mut [0.0; WIDTH])[0]
    }
}

impl Model for Simple {
    fn columns(&self) -> &Columns {
        &self.0
    }

    fn shares(&self, _service: &str, _values: &[f64; WIDTH]) -> Option<Vec<f64>> {
        Some(self.0.names().enumerate().map(|(at, _)| if at == 0 { 1.0 } else { 0.0 }).collect())
    }

    fn score(&self, service: &str, values: &[f64; WIDTH]) -> Option<Scored> {
        let scored = Scored { score: self.first(values) / 1_000.0, threshold: 0.5, alert_threshold: 0.8 };
        (service != "stranger").then_some(scored)
    }

    fn hold(&self) -> i64 {
        20
    }
}

fn order(role: Role, version: &str, bytes: &[u8]) -> ModelOrder {
    let digest = format!("digest {version}");
    let is_of_patterns = bytes == b"patterns";
    ModelOrder { role, version: version.into(), digest, bytes: bytes.into(), is_of_patterns, resumed: false }
}

/// A window with `rate` logs a minute.
fn row(end: i64, service: &str, rate: i64) -> FeatureRow {
    let sums = Sums { logs: rate * 5, errors: 0, message_chars: 0 };
    let patterns = PatternSums { new_logs: rate, entropy_millibits: 1_500 };
    FeatureRow { end, service: service.into(), sums, unique_services: 2, patterns }
}

fn tick(watermark: i64) -> Tick {
    let clock = ClockState {
        clock_us: (watermark + 5) * 1_000_000,
        watermark_us: watermark * 1_000_000,
        ..ClockState::default()
    };
    Tick { clock: Rc::new(clock), ended: false, resumed_from: Some(T0) }
}

fn change(status: Status, raised_at: i64) -> Change {
    let key = EpisodeKey {
        service: Some("a".into()),
        anomaly_type: AnomalyType::LogVolumeSpike,
        first_raised_at: raised_at,
    };
    let episode = Episode {
        key,
        status,
        severity: Severity::Medium,
        revision: 1,
        detected_at_us: 0,
        started_at: raised_at,
        last_seen: raised_at,
        ended_at: None,
        metric_value: 1.0,
        threshold: 1.0,
        baseline: 1.0,
        peak_value: 1.0,
        score: None,
        model_version: None,
        description: String::new(),
        explanation: "{}".into(),
        provenance: "{}".into(),
        expected: None,
    };
    Change::Episode(Box::new(EpisodeChange { kind: ChangeKind::Raised, episode, reason: None }))
}

/// What one epoch brings.
#[derive(Default)]
struct Step {
    orders: Vec<ModelOrder>,
    rows: Vec<FeatureRow>,
    changes: Vec<Change>,
    /// What a restart brings back.
    seeds: Vec<Keyed>,
    /// Logs that enter the open window of service `a`.
    logs: i64,
    /// Logs of service `a` in a second.
    seconds: Vec<(i64, i64)>,
    watermark: i64,
}

/// Runs the steps, one an epoch; what each gave.
fn run(steps: Vec<Step>) -> Vec<Vec<Change>> {
    run_from(Some(T0), steps)
}

/// The same for a pipeline that stood at `resumed_from`.
fn run_from(resumed_from: Option<i64>, steps: Vec<Step>) -> Vec<Vec<Change>> {
    timely::execute_directly(move |worker| {
        let load: Loader = Arc::new(|order: &ModelOrder| {
            let columns = match order.bytes.as_slice() {
                b"good" => Columns::of_sums(),
                // Of `rate` new logs a fifth of that a minute.
                b"patterns" => Columns::of(["new_pattern_rate", "log_rate"]).expect("features"),
                _ => return None,
            };
            Some(Arc::new(Simple(columns)) as Arc<dyn Model>)
        });
        let given: Rc<RefCell<Vec<Vec<Change>>>> = Rc::new(RefCell::new(vec![Vec::new(); steps.len()]));
        let (mut rows, mut changes) = (InputHandleVec::new(), InputHandleVec::new());
        let (mut orders, mut ticks) = (InputHandleVec::new(), InputHandleVec::new());
        let mut seeds = InputHandleVec::new();
        let mut rolling: InputSession<Epoch, CompactString, Diff> = InputSession::new();
        let mut seconds: InputSession<Epoch, (CompactString, i64), Diff> = InputSession::new();
        let multivariate_outlier = MultivariateOutlier { enabled: true };
        let settings = Detection { multivariate_outlier, max_episode: 600, ..Detection::default() };
        worker.dataflow::<Epoch, _, _>(|scope| {
            let rows = scope.input_from(&mut rows);
            let changes = scope.input_from(&mut changes);
            let orders = scope.input_from(&mut orders);
            let ticks = scope.input_from(&mut ticks);
            let seeds = scope.input_from(&mut seeds);
            let rolling = rolling.to_collection(scope).arrange_by_self_named("rolling");
            let seconds = seconds.to_collection(scope).arrange_by_key_named("seconds");
            let into = Rc::clone(&given);
            let inputs = Inputs { rows, changes, orders, ticks, seeds, seconds, rolling };
            let scored = score(inputs, load, settings);
            let mut sink = OperatorBuilder::new("given".to_owned(), scored.scope());
            let mut scored = sink.new_input(scored, Pipeline);
            sink.build(move |_| {
                move |_frontiers| {
                    scored.for_each(|cap, data| {
                        let epoch = *cap.least().expect("data has a time") as usize;
                        into.borrow_mut()[epoch].append(data);
                    });
                }
            });
        });
        for (epoch, step) in (0..).zip(steps) {
            step.orders.into_iter().for_each(|order| orders.send(order));
            step.rows.into_iter().for_each(|row| rows.send(row));
            step.changes.into_iter().for_each(|change| changes.send(change));
            step.seeds.into_iter().for_each(|seed| seeds.send(seed));
            for (second, logs) in step.seconds {
                seconds.update(("a".into(), second), (logs, 0, 0));
            }
            if step.logs != 0 {
                rolling.update("a".into(), (step.logs, 0, 0));
            }
            ticks.send(Tick { resumed_from, ..tick(step.watermark) });
            let next: Epoch = epoch + 1;
            rows.advance_to(next);
            changes.advance_to(next);
            orders.advance_to(next);
            ticks.advance_to(next);
            seeds.advance_to(next);
            rolling.advance_to(next);
            rolling.flush();
            seconds.advance_to(next);
            seconds.flush();
            worker.step();
        }
        rows.close();
        changes.close();
        orders.close();
        ticks.close();
        seeds.close();
        drop((rolling, seconds));
        while worker.step() {}
        given.take()
    })
}

fn scores(changes: &[Change]) -> Vec<(i64, &str, Role, f64, &str)> {
    let told = |change: &'_ Change| match change {
        Change::Score(score) => Some(score.as_ref().clone()),
        _ => None,
    };
    let leak = |score: WindowScore| {
        let score: &'static WindowScore = Box::leak(Box::new(score));
        (score.minute - T0, score.service.as_str(), score.role, score.score, score.model_version.as_str())
    };
    changes.iter().filter_map(told).map(leak).collect()
}

fn swaps(changes: &[Change]) -> Vec<ModelSwap> {
    let told = |change: &Change| match change {
        Change::Model(swap) => Some(swap.as_ref().clone()),
        _ => None,
    };
    changes.iter().filter_map(told).collect()
}

#[test]
fn only_what_is_higher_than_its_minute_so_far_is_news() {
    let good = |version| vec![order(Role::Champion, version, b"good")];
    let given = run(vec![
        Step { orders: good("1"), rows: vec![row(T0 + 10, "a", 300)], watermark: T0 + 10, ..Step::default() },
        Step {
            rows: vec![row(T0 + 20, "a", 200), row(T0 + 20, "", 900), row(T0 + 20, "stranger", 5)],
            watermark: T0 + 20,
            ..Step::default()
        },
        Step {
            rows: vec![row(T0 + 30, "a", 400), row(T0 + 70, "a", 100)],
            watermark: T0 + 70,
            ..Step::default()
        },
    ]);
    let (champion, told) = (Role::Champion, |n: usize| scores(&given[n]));
    assert_eq!(told(0), [(0, "a", champion, 0.3, "1")]);
    assert_eq!(told(1), [(0, "", champion, 0.9, "1")]);
    assert_eq!(told(2), [(0, "a", champion, 0.4, "1"), (60, "a", champion, 0.1, "1")]);
}

#[test]
fn a_swap_takes_effect_at_the_first_window_that_is_not_scored_yet_and_a_bad_model_changes_nothing() {
    let one = |role, version, bytes: &[u8]| vec![order(role, version, bytes)];
    let given = run(vec![
        Step { orders: one(Role::Champion, "1", b"good"), watermark: T0 + 25, ..Step::default() },
        Step {
            orders: one(Role::Champion, "2", b"bad"),
            rows: vec![row(T0 + 30, "a", 100)],
            watermark: T0 + 31,
            ..Step::default()
        },
        Step {
            orders: one(Role::Challenger, "3", b"good"),
            rows: vec![row(T0 + 40, "a", 200)],
            watermark: T0 + 40,
            ..Step::default()
        },
        Step {
            orders: one(Role::Challenger, "", b""),
            rows: vec![row(T0 + 50, "a", 300)],
            watermark: T0 + 50,
            ..Step::default()
        },
    ]);
    let swap = |role, effective, version: &str| ModelSwap {
        role,
        effective: T0 + effective,
        version: version.into(),
        digest: format!("digest {version}"),
    };
    assert_eq!(swaps(&given[0]), [swap(Role::Champion, 10, "1")]);
    assert_eq!(swaps(&given[1]), []);
    assert_eq!(scores(&given[1]), [(0, "a", Role::Champion, 0.1, "1")]);
    assert_eq!(swaps(&given[2]), [swap(Role::Challenger, 40, "3")]);
    let both = [(0, "a", Role::Champion, 0.2, "1"), (0, "a", Role::Challenger, 0.2, "3")];
    assert_eq!(scores(&given[2]), both);
    assert_eq!(swaps(&given[3]), [swap(Role::Challenger, 50, "")]);
    assert_eq!(scores(&given[3]), [(0, "a", Role::Champion, 0.3, "1")]);
}

#[test]
fn an_episode_carries_the_highest_score_of_its_open_windows_and_the_version_that_raised_it() {
    let beside = |changes: &[Change]| -> Vec<(Option<f64>, Option<String>)> {
        let told = |change: &Change| match change {
            Change::Episode(change) => Some((change.episode.score, change.episode.model_version.clone())),
            _ => None,
        };
        changes.iter().filter_map(told).collect()
    };
    let good = |version| vec![order(Role::Champion, version, b"good")];
    let one = |status| vec![change(status, T0 + 7)];
    let given = run(vec![
        Step { changes: one(Status::Provisional), watermark: T0 + 5, ..Step::default() },
        Step {
            orders: good("1"),
            changes: one(Status::Provisional),
            logs: 1_000,
            watermark: T0 + 10,
            ..Step::default()
        },
        Step { changes: one(Status::Open), logs: 500, watermark: T0 + 11, ..Step::default() },
        Step {
            orders: good("2"),
            changes: one(Status::Open),
            logs: -1_400,
            watermark: T0 + 12,
            ..Step::default()
        },
        Step { changes: one(Status::Resolved), logs: 5_000, watermark: T0 + 13, ..Step::default() },
    ]);
    let version = |version: &str| Some(version.to_owned());
    assert_eq!(beside(&given[0]), [(None, None)], "no model yet");
    assert_eq!(beside(&given[1]), [(Some(0.2), version("1"))]);
    assert_eq!(beside(&given[2]), [(Some(0.3), version("1"))]);
    assert_eq!(beside(&given[3]), [(Some(0.3), version("1"))], "calmer, and another model: neither counts");
    assert_eq!(beside(&given[4]), [(Some(0.3), version("1"))], "over: the window says nothing about it");
}

#[test]
fn an_episode_that_is_over_when_first_seen_carries_the_score_of_its_last_window() {
    let over = |ends: i64| {
        let Change::Episode(mut change) = change(Status::Resolved, T0 + 7) else { unreachable!() };
        change.episode.last_seen = T0 + ends;
        Change::Episode(change)
    };
    // In the window of 5 minutes that ends at 400: 1,500 logs, 300 a minute. The open one has 900 a minute.
    let seconds = vec![(T0 + 99, 4_000), (T0 + 100, 500), (T0 + 399, 1_000), (T0 + 400, 4_000)];
    let given = run(vec![
        Step { seconds, watermark: T0 + 690, ..Step::default() },
        Step {
            orders: vec![order(Role::Champion, "1", b"good")],
            changes: vec![over(400)],
            logs: 4_500,
            watermark: T0 + 700,
            ..Step::default()
        },
    ]);
    let [.., Change::Episode(change)] = given[1].as_slice() else { panic!("{:?}", given[1]) };
    assert_eq!((change.episode.score, change.episode.model_version.as_deref()), (Some(0.3), Some("1")));
}

/// What became of the episodes that scores raised: kind, first raised, peak, end.
fn outliers(given: &[Vec<Change>]) -> Vec<(ChangeKind, i64, f64, Option<i64>)> {
    let told = |change: &Change| match change {
        Change::Episode(change) if change.episode.key.anomaly_type == AnomalyType::MultivariateOutlier => {
            let Episode { key, peak_value, ended_at, .. } = &change.episode;
            Some((change.kind, key.first_raised_at - T0, *peak_value, ended_at.map(|end| end - T0)))
        }
        _ => None,
    };
    given.iter().flatten().filter_map(told).collect()
}

/// A window every 10 s with the given logs a minute (0: none), in epochs of `per_epoch` windows.
fn windows(rates: &[i64], per_epoch: usize) -> Vec<Step> {
    let rows: Vec<FeatureRow> = (1..).zip(rates).map(|(n, rate)| row(T0 + 10 * n, "a", *rate)).collect();
    let mut steps: Vec<Step> = rows
        .chunks(per_epoch)
        .map(|rows| Step {
            rows: rows.iter().filter(|row| row.sums.logs > 0).cloned().collect(),
            watermark: rows.last().map_or(T0, |row| row.end),
            ..Step::default()
        })
        .collect();
    steps[0].orders = vec![order(Role::Champion, "1", b"good")];
    steps
}

#[test]
fn a_score_that_holds_beyond_the_alert_threshold_raises_once_and_ends_with_calm_whatever_the_epochs_are() {
    use ChangeKind::{Opened, Resolved, Updated};
    // Raised 20 s after the third window; 600 is calm no more than 900 is; a short calm ends nothing.
    let mut rates = vec![400, 400, 900, 850, 860, 600, 400, 400, 600, 400];
    // Then nobody logs for a minute, and it comes again.
    rates.extend([0; 6]);
    rates.extend([900, 900, 900, 400]);
    let first = [(Opened, 50, 0.86, None), (Resolved, 50, 0.86, Some(100)), (Opened, 190, 0.9, None)];
    for per_epoch in [1, 3, 20] {
        let told = outliers(&run(windows(&rates, per_epoch)));
        let told: Vec<_> = told.into_iter().filter(|(kind, ..)| *kind != Updated).collect();
        assert_eq!(told, first, "{per_epoch} windows an epoch");
    }
}

#[test]
fn an_outlier_that_never_calms_expires_once() {
    let mut rates = vec![900; 80];
    rates.extend([400; 8]);
    rates.extend([900; 4]);
    for per_epoch in [1, 7, 92] {
        let told = outliers(&run(windows(&rates, per_epoch)));
        let told: Vec<_> = told.into_iter().filter(|(kind, ..)| *kind != ChangeKind::Updated).collect();
        let expired = (ChangeKind::Expired, 30, 0.9, Some(630));
        let expected = [(ChangeKind::Opened, 30, 0.9, None), expired, (ChangeKind::Opened, 910, 0.9, None)];
        assert_eq!(told, expected, "{per_epoch} windows an epoch");
    }
}

#[test]
fn an_outlier_that_a_restart_brings_back_goes_on_and_ends() {
    let before = outliers_of(&run(windows(&[900, 900, 900], 1)));
    let [opened] = before.as_slice() else { panic!("{before:?}") };
    let mut steps = windows(&[900, 900, 950, 960, 970, 980, 990, 400, 400, 400, 400, 400, 400, 400], 2);
    steps[0].seeds = vec![Keyed::SeedEpisode(Box::new(opened.episode.clone()))];
    let after = outliers_of(&run(steps));
    let kinds: Vec<ChangeKind> = after.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Updated, ChangeKind::Resolved]);
    let last = &after[1].episode;
    assert_eq!(last.key, opened.episode.key);
    assert_eq!((last.revision, last.peak_value, last.ended_at), (3, 0.99, Some(T0 + 80)));
}

#[test]
fn what_a_model_of_patterns_decided_is_decided_again_from_the_patterns_that_were_kept() {
    // A fifth of the rate is new: beyond the threshold from the third window on.
    let rates = [2_000, 2_000, 4_500, 4_250, 4_300, 2_000];
    let mut steps = windows(&rates, 2);
    steps[0].orders = vec![order(Role::Champion, "1", b"patterns")];
    let given = run(steps);
    assert_eq!(outliers(&given)[0], (ChangeKind::Opened, 50, 0.86, None));
    let kept = given.iter().flatten().filter_map(|change| match change {
        Change::Evidence(evidence) => Some(evidence),
        _ => None,
    });
    let [kept] = kept.collect::<Vec<_>>()[..] else { panic!("{given:?}") };
    let inputs: evidence::Inputs = serde_json::from_str(&kept.inputs).expect("inputs");
    assert_eq!((inputs.base, inputs.final_through), (T0 + 30, T0 + 50));
    let mut stretch = evidence::Stretch::default();
    stretch.add("a", T0, Sums { logs: 1, errors: 0, message_chars: 0 });
    let again = |patterns: &[u8]| {
        let model = Simple(Columns::of(["new_pattern_rate"]).expect("a feature"));
        evidence::decide_by_score("a", &model, "1", patterns, &inputs, &stretch).expect("patterns")
    };
    assert_eq!(again(&kept.detector).as_ref(), Some(&kept.decision));
    assert_eq!(again(&[]), None, "nothing is new without them");
    let model = Simple(Columns::of(["new_pattern_rate"]).expect("a feature"));
    assert!(evidence::decide_by_score("a", &model, "1", b"?", &inputs, &stretch).is_err());
}

#[test]
fn what_is_said_beside_an_episode_is_of_the_columns_of_the_model() {
    let given = run(vec![Step {
        orders: vec![order(Role::Champion, "1", b"patterns")],
        rows: vec![row(T0 + 10, "a", 2_000)],
        changes: vec![change(Status::Provisional, T0 + 7)],
        logs: 500,
        watermark: T0 + 10,
        ..Step::default()
    }]);
    let [change] = &outliers_of(&given)[..] else { panic!("{given:?}") };
    // Of the last final window: patterns are counted by the minute.
    assert_eq!(change.episode.score, Some(0.4));
    let said: Explanation = serde_json::from_str(&change.episode.explanation).expect("an explanation");
    let said: Vec<_> = said.features.iter().map(|f| (f.name.as_str(), f.actual, f.model_share)).collect();
    assert_eq!(said, [("new_pattern_rate", 400.0, Some(1.0)), ("log_rate", 100.0, Some(0.0))]);
}

#[test]
fn a_stretch_is_of_one_model() {
    let mut steps = windows(&[900, 900, 900, 900, 900, 900], 1);
    steps[2].orders = vec![order(Role::Champion, "2", b"good")];
    let given = run(steps);
    // 20 s after the window at 30, which is the first that the second model scored; the first model had two.
    assert_eq!(outliers(&given)[0], (ChangeKind::Opened, 50, 0.9, None));
}

fn outliers_of(given: &[Vec<Change>]) -> Vec<EpisodeChange> {
    let told = |change: &Change| match change {
        Change::Episode(change) => Some(change.as_ref().clone()),
        _ => None,
    };
    given.iter().flatten().filter_map(told).collect()
}

#[test]
fn what_stays_beyond_the_alert_threshold_for_long_enough_would_have_been_raised() {
    let rates = [500, 900, 850, 860, 870, 900, 790, 900, 900, 900, 810];
    let rows = |from: usize, to: usize| {
        (from..to).map(|n| row(T0 + 10 + 10 * n as i64, "a", rates[n])).collect::<Vec<_>>()
    };
    let step = |from, to| Step { rows: rows(from, to), watermark: T0 + 10 * to as i64, ..Step::default() };
    let first = Step { orders: vec![order(Role::Challenger, "1", b"good")], ..step(0, 4) };
    let given = run(vec![first, step(4, 5), step(5, 6), step(6, 7), step(7, 11)]);
    let told = |changes: &Vec<Change>| -> Vec<(i64, f64, Option<i64>)> {
        let told = |change: &Change| match change {
            Change::Score(s) => Some((s.minute - T0, s.score, s.would_raise.map(|end| end - T0))),
            _ => None,
        };
        changes.iter().filter_map(told).collect()
    };
    // Beyond 0.8 from the second window on: 20 s later, at the fourth, it would have been raised.
    assert_eq!(told(&given[0]), [(0, 0.5, None), (0, 0.9, None), (0, 0.9, Some(40))]);
    assert_eq!(told(&given[1]), []);
    assert_eq!(told(&given[2]), []);
    // The next minute has one window beyond it, after a calm one: another stretch, which gets long enough.
    assert_eq!(told(&given[3]), [(60, 0.79, None)]);
    assert_eq!(told(&given[4]), [(60, 0.9, None), (60, 0.9, Some(100))]);
}

#[test]
fn a_model_that_was_there_before_the_first_window_is_dated_by_it_and_one_that_goes_on_is_no_swap() {
    let given = run_from(
        None,
        vec![
            Step { orders: vec![order(Role::Champion, "1", b"good")], ..Step::default() },
            Step { watermark: T0 + 20, ..Step::default() },
            Step {
                rows: vec![row(T0 + 30, "a", 100), row(T0 + 30, "", 100), row(T0 + 40, "", 100)],
                watermark: T0 + 40,
                ..Step::default()
            },
        ],
    );
    let told: Vec<_> = given.iter().map(|changes| swaps(changes)).collect::<Vec<_>>();
    let version_1 = |effective| ModelSwap {
        role: Role::Champion,
        effective,
        version: "1".into(),
        digest: "digest 1".into(),
    };
    assert_eq!(told, [vec![], vec![], vec![version_1(T0 + 30)]]);

    let resumed = ModelOrder { resumed: true, ..order(Role::Champion, "1", b"good") };
    let given = run(vec![Step {
        orders: vec![resumed],
        rows: vec![row(T0 + 10, "a", 300)],
        watermark: T0 + 10,
        ..Step::default()
    }]);
    assert_eq!((swaps(&given[0]), scores(&given[0]).len()), (vec![], 1));
}
