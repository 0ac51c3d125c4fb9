//! Scores of windows, swaps of models, and what is written beside episodes, by the real operator.

use compact_str::CompactString;
use differential_dataflow::input::InputSession;
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::features::WIDTH;
use smartlog_operators::record::{Change, Epoch, Tick};
use smartlog_operators::score::{Loader, Model, ModelOrder, Scored, score};
use smartlog_operators::sums::{Diff, Sums};
use smartlog_schema::anomaly::{
    AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Severity, Status,
};
use smartlog_schema::commit::ClockState;
use smartlog_schema::model::{ModelSwap, Role, WindowScore};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::InputHandleVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

const T0: i64 = 1_768_471_200;

/// Says one thousandth of the logs a minute, whatever else; knows all services but `stranger`.
struct Simple;

impl Model for Simple {
    fn shares(&self, _service: &str, values: &[f64; WIDTH]) -> Option<Vec<f64>> {
        Some(values.iter().enumerate().map(|(at, _)| if at == 0 { 1.0 } else { 0.0 }).collect())
    }

    fn score(&self, service: &str, values: &[f64; WIDTH]) -> Option<Scored> {
        let scored = Scored { score: values[0] / 1_000.0, threshold: 0.5, alert_threshold: 0.8 };
        (service != "stranger").then_some(scored)
    }

    fn hold(&self) -> i64 {
        20
    }
}

fn order(role: Role, version: &str, bytes: &[u8]) -> ModelOrder {
    let digest = format!("digest {version}");
    ModelOrder { role, version: version.into(), digest, bytes: bytes.into(), resumed: false }
}

/// A window with `rate` logs a minute.
fn row(end: i64, service: &str, rate: i64) -> FeatureRow {
    let sums = Sums { logs: rate * 5, errors: 0, message_chars: 0 };
    FeatureRow { end, service: service.into(), sums, unique_services: 2 }
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
    };
    Change::Episode(Box::new(EpisodeChange { kind: ChangeKind::Raised, episode, reason: None }))
}

/// What one epoch brings.
#[derive(Default)]
struct Step {
    orders: Vec<ModelOrder>,
    rows: Vec<FeatureRow>,
    changes: Vec<Change>,
    /// Logs that enter the open window of service `a`.
    logs: i64,
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
            (order.bytes == b"good").then(|| Arc::new(Simple) as Arc<dyn Model>)
        });
        let given: Rc<RefCell<Vec<Vec<Change>>>> = Rc::new(RefCell::new(vec![Vec::new(); steps.len()]));
        let (mut rows, mut changes) = (InputHandleVec::new(), InputHandleVec::new());
        let (mut orders, mut ticks) = (InputHandleVec::new(), InputHandleVec::new());
        let mut rolling: InputSession<Epoch, CompactString, Diff> = InputSession::new();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let rows = scope.input_from(&mut rows);
            let changes = scope.input_from(&mut changes);
            let orders = scope.input_from(&mut orders);
            let ticks = scope.input_from(&mut ticks);
            let rolling = rolling.to_collection(scope).arrange_by_self_named("rolling");
            let into = Rc::clone(&given);
            let scored = score(rows, changes, orders, ticks, rolling, load);
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
            if step.logs != 0 {
                rolling.update("a".into(), (step.logs, 0, 0));
            }
            ticks.send(Tick { resumed_from, ..tick(step.watermark) });
            let next: Epoch = epoch + 1;
            rows.advance_to(next);
            changes.advance_to(next);
            orders.advance_to(next);
            ticks.advance_to(next);
            rolling.advance_to(next);
            rolling.flush();
            worker.step();
        }
        rows.close();
        changes.close();
        orders.close();
        ticks.close();
        drop(rolling);
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
