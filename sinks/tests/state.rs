//! What every state store must do, run against both.

mod common;

use common::Bench;
use smartlog_schema::anomaly::{
    AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Severity, Status,
};
use smartlog_schema::commit::{ClockState, EpochCommit, Fingerprint, HourlyDelta, Snapshot, Warmth};
use smartlog_schema::model::{ModelSwap, Role, WindowScore};
use smartlog_schema::pattern::{KnownShape, OTHER_SHAPE, PatternChanges, PatternCount, PatternShape};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_sinks::{CancellationToken, Health, SinkError, State};
use std::collections::BTreeMap;
use std::time::Duration;

smartlog_test_services::on_both_stores!(
    a_new_store_is_empty,
    every_field_comes_back,
    sums_add_up_and_vanish,
    seconds_are_forgotten,
    the_stale_one_of_two_writers_is_fenced,
    a_position_that_was_moved_by_another_is_fenced,
    positions_only_grow,
    a_second_set_waits_for_the_lease,
    a_shutdown_ends_the_wait_for_the_lease,
    a_store_serves_one_pipeline,
    episodes_keep_their_id_and_events_have_no_gap,
    anomalies_are_counted_in_the_hour_where_they_started,
    only_what_can_still_change_is_in_the_snapshot,
    odd_text_in_an_episode_is_kept_as_it_can_be,
    migrating_twice_is_harmless,
    a_commit_before_opening_is_refused,
    the_highest_score_of_a_minute_is_kept,
    minutes_are_replaced_and_forgotten,
    patterns_are_counted_moved_and_forgotten,
    the_newest_model_of_each_role_is_in_force,
);

const T0: i64 = 1_768_471_200; // 2026-01-15T10:00:00Z
const US: i64 = 1_000_000;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("logs", partition)
}

fn sums(logs: i64, errors: i64, message_chars: i64) -> Sums {
    Sums { logs, errors, message_chars }
}

fn clock(second: i64) -> ClockState {
    let partitions = BTreeMap::from([(tp(0), second * US), (tp(1), second * US - 7)]);
    ClockState {
        clock_us: second * US,
        watermark_us: (second - 5) * US,
        wall_us: second * US + 1,
        partitions,
    }
}

fn commit(second: i64) -> EpochCommit {
    EpochCommit { epoch: second as u64, clock: clock(second), ..EpochCommit::default() }
}

fn episode(service: Option<&str>, first_raised_at: i64) -> Episode {
    Episode {
        key: EpisodeKey {
            service: service.map(Into::into),
            anomaly_type: AnomalyType::ErrorRateSpike,
            first_raised_at,
        },
        status: Status::Provisional,
        severity: Severity::High,
        revision: 1,
        detected_at_us: first_raised_at * US + 123_456,
        started_at: first_raised_at,
        last_seen: first_raised_at + 1,
        ended_at: None,
        metric_value: 0.15,
        threshold: 0.05,
        baseline: 0.01,
        peak_value: 0.2,
        score: Some(0.7),
        model_version: Some("1.2.0".into()),
        description: "Error rate increased 300% in last 5 minutes".into(),
        explanation: r#"{"typical": {"error_rate": 0.01},  "actual": {"error_rate": 0.15}}"#.into(),
        provenance: r#"{"rule": "error_rate > 3 x baseline"}"#.into(),
        expected: None,
    }
}

fn change(kind: ChangeKind, episode: Episode) -> EpisodeChange {
    EpisodeChange { kind, episode, reason: None }
}

async fn a_new_store_is_empty(bench: Bench) {
    assert_eq!(bench.state().open().await.expect("opens"), Snapshot::default());
    bench.drop_it().await;
}

async fn every_field_comes_back(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let odd = "naïve \u{1F600} 'quoted' \\ \"x\" %s";
    let mut late = episode(Some(odd), T0 + 1);
    late.key.anomaly_type = AnomalyType::NewPattern;
    late.status = Status::Resolved;
    late.ended_at = Some(T0 + 2);
    (late.score, late.model_version) = (None, None);
    (late.metric_value, late.threshold) = (f64::INFINITY, -0.0);
    (late.baseline, late.peak_value) = (f64::MIN_POSITIVE, f64::MAX);
    let commit = EpochCommit {
        positions: Positions::from([(tp(0), 10), (tp(1), 0), (TopicPartition::new(odd, 7), i64::MAX)]),
        fingerprints: BTreeMap::from([(tp(0), Fingerprint { record_time_ms: -5, payload_hash: i64::MIN })]),
        seconds: vec![("".into(), T0, sums(3, 1, 99)), (odd.into(), T0, sums(3, 1, i64::MAX))],
        hourly: vec![HourlyDelta { hour: T0, service: odd.into(), logs: 3, errors: 1 }],
        detectors: vec![(odd.into(), Some(vec![0, 255, 7])), ("slot".into(), Some(vec![]))],
        warmth: [(odd, 1), ("no slot", 3), (odd, 2)]
            .map(|(service, minutes)| Warmth { service: service.into(), minutes, needed: 30 })
            .into(),
        episodes: vec![
            change(ChangeKind::Raised, episode(None, T0)),
            change(ChangeKind::Resolved, late.clone()),
        ],
        ..commit(T0)
    };
    store.commit(&commit).await.expect("commits");
    drop(store);
    let snapshot = bench.state().open().await.expect("opens again");
    assert_eq!(snapshot.positions, commit.positions);
    assert_eq!(snapshot.fingerprints, commit.fingerprints);
    assert_eq!(snapshot.clock, Some(clock(T0)));
    assert_eq!(snapshot.seconds, commit.seconds);
    assert_eq!(snapshot.detectors, [(odd.into(), vec![0, 255, 7]), ("slot".into(), vec![])]);
    assert_eq!(snapshot.episodes, [episode(None, T0), late]);
    let hours =
        bench.query("SELECT service, log_count, error_count FROM hourly_metrics WHERE log_count > 0").await;
    assert_eq!(hours, [[Some(odd.into()), Some("3".into()), Some("1".into())]]);
    let warmth = "SELECT service, known_minutes, needed_minutes FROM baseline_state ORDER BY state";
    let told = [Some(odd.into()), Some("2".into()), Some("30".into())];
    assert_eq!(bench.query(warmth).await, [[Some("slot".into()), None, None], told]);
    bench.drop_it().await;
}

async fn sums_add_up_and_vanish(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let add = |seconds: &[(&str, i64, Sums)]| EpochCommit {
        seconds: seconds.iter().map(|(s, second, sums)| ((*s).into(), *second, *sums)).collect(),
        hourly: seconds
            .iter()
            .map(|(s, _, n)| HourlyDelta { hour: T0, service: (*s).into(), logs: n.logs, errors: n.errors })
            .collect(),
        ..commit(T0)
    };
    store.commit(&add(&[("a", T0, sums(2, 1, 9)), ("b", T0, sums(5, 0, 5))])).await.expect("commits");
    store.commit(&add(&[("a", T0, sums(3, 0, 1)), ("b", T0, sums(-5, 0, -5))])).await.expect("commits");
    // The same second twice in one commit, as merging leaves it.
    store.commit(&add(&[("a", T0 + 1, sums(1, 0, 1)), ("a", T0 + 1, sums(1, 1, 1))])).await.expect("commits");
    drop(store);
    let snapshot = bench.state().open().await.expect("opens");
    assert_eq!(snapshot.seconds, [("a".into(), T0, sums(5, 1, 10)), ("a".into(), T0 + 1, sums(2, 1, 2))]);
    let hours = bench.query("SELECT service, log_count, error_count FROM hourly_metrics").await;
    assert_eq!(hours, [[Some("a".into()), Some("7".into()), Some("2".into())]]);
    bench.drop_it().await;
}

async fn seconds_are_forgotten(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let seconds = (0..10).map(|i| ("a".into(), T0 + i, sums(1, 0, 1))).collect();
    store.commit(&EpochCommit { seconds, ..commit(T0) }).await.expect("commits");
    // A second that is both forgotten and changed does not come back.
    let seconds = vec![("a".into(), T0 + 2, sums(1, 0, 1)), ("a".into(), T0 + 8, sums(1, 0, 1))];
    store
        .commit(&EpochCommit { seconds, forget_seconds_before: T0 + 8, ..commit(T0) })
        .await
        .expect("commits");
    drop(store);
    let snapshot = bench.state().open().await.expect("opens");
    assert_eq!(snapshot.seconds, [("a".into(), T0 + 8, sums(2, 0, 2)), ("a".into(), T0 + 9, sums(1, 0, 1))]);
    bench.drop_it().await;
}

/// Lets a second writer in while the first one still believes to hold the pipeline, as after a lost lease.
async fn steal(bench: &Bench) {
    bench.execute("UPDATE pipeline_state SET sequence = sequence + 1, holder = 42").await;
}

async fn the_stale_one_of_two_writers_is_fenced(bench: Bench) {
    let health = Health::new();
    let mut stale = bench.state_with(health.clone(), CancellationToken::new());
    stale.open().await.expect("opens");
    stale.commit(&commit(T0)).await.expect("commits");
    steal(&bench).await;
    let seconds = vec![("a".into(), T0, sums(1, 0, 1))];
    let error = stale.commit(&EpochCommit { seconds, ..commit(T0 + 1) }).await.expect_err("is fenced");
    assert!(matches!(&error, SinkError::Fenced { .. }), "{error}");
    assert!(error.to_string().contains("taken over by another writer"), "{error}");
    assert!(matches!(health.state(), State::Failed { .. }));
    assert_eq!(bench.number("SELECT count(*) FROM window_state").await, 0);
    bench.drop_it().await;
}

async fn a_position_that_was_moved_by_another_is_fenced(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let at = |next| EpochCommit { positions: Positions::from([(tp(0), 1), (tp(1), next)]), ..commit(T0) };
    store.commit(&at(5)).await.expect("commits");
    bench.execute("UPDATE sink_positions SET next_offset = 6 WHERE partition = 1").await;
    let error = store.commit(&at(7)).await.expect_err("is fenced");
    let SinkError::Fenced { what, expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (what.as_str(), expected.as_str(), found.as_str()),
        ("the position of sink \"aggregates\" in logs[1]", "offset 5", "offset 6")
    );
    // A partition that is new to one, but not to the store.
    let mut store = {
        drop(store);
        bench.state()
    };
    store.open().await.expect("opens");
    bench.execute("INSERT INTO sink_positions (sink, topic, partition, next_offset) VALUES ('aggregates', 'logs', 2, 1)").await;
    let new = EpochCommit { positions: Positions::from([(tp(2), 9)]), ..commit(T0) };
    assert!(matches!(store.commit(&new).await, Err(SinkError::Fenced { .. })));
    bench.drop_it().await;
}

async fn positions_only_grow(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    for (next, stored) in [(5, 5), (3, 5), (5, 5), (8, 8), (0, 8)] {
        let positions = Positions::from([(tp(0), next)]);
        store.commit(&EpochCommit { positions, ..commit(T0) }).await.expect("commits");
        assert_eq!(bench.number("SELECT next_offset FROM sink_positions").await, stored);
    }
    bench.drop_it().await;
}

async fn a_second_set_waits_for_the_lease(bench: Bench) {
    let mut first = bench.state();
    first.open().await.expect("opens");
    let health = Health::new();
    let mut second = bench.state_with(health.clone(), CancellationToken::new());
    let waiting = tokio::spawn(async move { second.open().await.map(|_| second) });
    let error = loop {
        match health.state() {
            State::Retrying { error, .. } => break error,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(error.contains("take the lease of pipeline \"smartlog\""), "{error}");
    first.commit(&commit(T0)).await.expect("the first still works");
    assert!(!waiting.is_finished());
    drop(first);
    let mut second = waiting.await.expect("no panic").expect("opens once the first is gone");
    assert_eq!(health.state(), State::Ok);
    second.commit(&commit(T0 + 1)).await.expect("commits");
    bench.drop_it().await;
}

async fn a_shutdown_ends_the_wait_for_the_lease(bench: Bench) {
    let mut first = bench.state();
    first.open().await.expect("opens");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = bench.state_with(Health::new(), cancel).open().await.expect_err("gives up");
    assert!(error.is_transient(), "{error}");
    bench.drop_it().await;
}

async fn a_store_serves_one_pipeline(mut bench: Bench) {
    bench.state().open().await.expect("opens");
    bench.config.pipeline = "other".into();
    let error = bench.state().open().await.expect_err("is another's").to_string();
    assert!(error.contains("pipeline \"smartlog\"") && error.contains("a store of its own"), "{error}");
    bench.drop_it().await;
}

async fn episodes_keep_their_id_and_events_have_no_gap(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let mut first = episode(Some("a"), T0);
    let second = episode(None, T0);
    let raised = vec![change(ChangeKind::Raised, first.clone()), change(ChangeKind::Raised, second.clone())];
    store.commit(&EpochCommit { episodes: raised, ..commit(T0) }).await.expect("commits");
    drop(store);
    let mut store = bench.state();
    store.open().await.expect("opens again");
    // Several changes of one episode in one commit, as merging leaves them.
    let mut changes = Vec::new();
    for (kind, status) in [(ChangeKind::Opened, Status::Open), (ChangeKind::Resolved, Status::Resolved)] {
        first.revision += 1;
        first.status = status;
        changes.push(EpisodeChange { kind, episode: first.clone(), reason: Some("why \u{0} not".into()) });
    }
    store.commit(&EpochCommit { episodes: changes, ..commit(T0 + 1) }).await.expect("commits");
    let stored = bench.query("SELECT id, service, status, revision FROM anomalies ORDER BY id").await;
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(
        stored,
        [
            vec![stored[0][0].clone(), None, text("provisional"), text("1")],
            vec![stored[1][0].clone(), text("a"), text("resolved"), text("3")]
        ]
    );
    let clock = bench.micros("clock");
    let events = bench
        .query(&format!("SELECT seq, anomaly_id, kind, revision, status, {clock}, episode FROM anomaly_events ORDER BY seq"))
        .await;
    let (of_first, of_second) = (stored[1][0].clone(), stored[0][0].clone());
    let head: Vec<Vec<Option<String>>> = events.iter().map(|row| row[..6].to_vec()).collect();
    let at = |second: i64| Some((second * US).to_string());
    assert_eq!(
        head,
        [
            [text("1"), of_first.clone(), text("raised"), text("1"), text("provisional"), at(T0)],
            [text("2"), of_second, text("raised"), text("1"), text("provisional"), at(T0)],
            [text("3"), of_first.clone(), text("opened"), text("2"), text("open"), at(T0 + 1)],
            [text("4"), of_first, text("resolved"), text("3"), text("resolved"), at(T0 + 1)],
        ]
    );
    let last: Episode = serde_json::from_str(events[3][6].as_deref().expect("an episode")).expect("JSON");
    assert_eq!(last, first);
    bench.drop_it().await;
}

async fn anomalies_are_counted_in_the_hour_where_they_started(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let hour = bench.micros("hour");
    let sql = format!("SELECT {hour}, service, anomaly_count FROM hourly_metrics ORDER BY hour, service");
    let row = |second: i64, count: &str| {
        vec![Some((second * US).to_string()), Some("a".into()), Some(count.into())]
    };
    let mut moved = episode(Some("a"), T0);
    let other = episode(Some("a"), T0 + 3_599);
    let whole_stream = episode(None, T0);
    let changes = [&moved, &other, &whole_stream].map(|e| change(ChangeKind::Raised, e.clone())).to_vec();
    store.commit(&EpochCommit { episodes: changes, ..commit(T0) }).await.expect("commits");
    assert_eq!(bench.query(&sql).await, [row(T0, "2")]);
    // Late data moves its start into the hour before.
    moved.started_at = T0 - 1;
    let changes = vec![change(ChangeKind::Updated, moved.clone())];
    store.commit(&EpochCommit { episodes: changes, ..commit(T0) }).await.expect("commits");
    assert_eq!(bench.query(&sql).await, [row(T0 - 3_600, "1"), row(T0, "1")]);
    // Retracted, it counts no more, and an hour without anything is no row.
    moved.status = Status::Retracted;
    let changes = vec![change(ChangeKind::Retracted, moved)];
    store.commit(&EpochCommit { episodes: changes, ..commit(T0) }).await.expect("commits");
    assert_eq!(bench.query(&sql).await, [row(T0, "1")]);
    bench.drop_it().await;
}

async fn only_what_can_still_change_is_in_the_snapshot(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let lateness = bench.config.max_lateness.as_secs() as i64;
    let closed = |status, ended_at: Option<i64>, last_seen| {
        let mut closed = episode(Some("a"), last_seen - 10);
        (closed.status, closed.ended_at, closed.last_seen) = (status, ended_at, last_seen);
        closed
    };
    let old_but_open = episode(Some("a"), T0 - 100_000);
    let just_in = closed(Status::Resolved, Some(T0 - lateness), T0 - lateness - 50);
    let just_out = closed(Status::Resolved, Some(T0 - lateness - 1), T0 - lateness - 60);
    let retracted_in = closed(Status::Retracted, None, T0 - lateness);
    let retracted_out = closed(Status::Retracted, None, T0 - lateness - 1);
    let all = [&old_but_open, &just_in, &just_out, &retracted_in, &retracted_out];
    let episodes = all.map(|e| change(ChangeKind::Updated, e.clone())).to_vec();
    store.commit(&EpochCommit { episodes, ..commit(T0) }).await.expect("commits");
    drop(store);
    let snapshot = bench.state().open().await.expect("opens");
    assert_eq!(snapshot.episodes, [old_but_open, just_in, retracted_in]);
    bench.drop_it().await;
}

async fn odd_text_in_an_episode_is_kept_as_it_can_be(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let mut odd = episode(Some("a"), T0);
    odd.description = "NUL \0 here".into();
    odd.explanation = "no { json \0".into();
    odd.provenance = r#"{"nul": "\u0000", "surrogate": "\ud800", "huge": 1e999}"#.into();
    odd.model_version = Some("v".repeat(80));
    odd.metric_value = f64::NAN;
    let episodes = vec![change(ChangeKind::Raised, odd.clone())];
    store.commit(&EpochCommit { episodes, ..commit(T0) }).await.expect("commits");
    drop(store);
    let found = &bench.state().open().await.expect("opens").episodes[0];
    assert_eq!(found.description, "NUL \u{fffd} here");
    assert_eq!(found.explanation, r#""no { json \u0000""#);
    assert_eq!(found.provenance, odd.provenance);
    assert_eq!(found.model_version.as_deref(), Some(&*"v".repeat(50)));
    assert!(found.metric_value.is_nan());
    bench.drop_it().await;
}

async fn migrating_twice_is_harmless(bench: Bench) {
    let (one, two) =
        tokio::join!(smartlog_sinks::migrate(&bench.config), smartlog_sinks::migrate(&bench.config));
    one.expect("migrates");
    two.expect("migrates");
    let mut store = bench.state();
    store.open().await.expect("opens");
    store.commit(&commit(T0)).await.expect("commits");
    smartlog_sinks::migrate(&bench.config).await.expect("migrates while a pipeline runs");
    drop(store);
    assert_eq!(bench.state().open().await.expect("opens").clock, Some(clock(T0)));
    bench.drop_it().await;
}

async fn a_commit_before_opening_is_refused(bench: Bench) {
    let error = bench.state().commit(&commit(T0)).await.expect_err("is not open");
    assert!(matches!(error, SinkError::Fatal(_)), "{error}");
    bench.drop_it().await;
}

async fn the_highest_score_of_a_minute_is_kept(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let said = |minute, service: &str, role, score, version: &str| WindowScore {
        minute,
        service: service.into(),
        role,
        score,
        threshold: 0.5,
        alert_threshold: 0.75,
        model_version: version.into(),
        would_raise: None,
    };
    let (champion, challenger) = (Role::Champion, Role::Challenger);
    // Two of one minute in one commit, as merged epochs have them; then a lower and a higher one later.
    let first = vec![
        said(T0, "a", champion, 0.4, "1"),
        said(T0, "a", champion, 0.6, "1"),
        said(T0, "a", challenger, 0.1, "2"),
        said(T0, "", champion, 0.3, "1"),
    ];
    let later = vec![
        said(T0, "a", champion, 0.5, "3"),
        said(T0, "", champion, 0.7, "3"),
        said(T0 + 60, "a", champion, 0.2, "3"),
    ];
    for scores in [first, later] {
        store.commit(&EpochCommit { scores, ..commit(T0) }).await.expect("commits");
    }
    let kept = "SELECT service, role, CAST(round(score * 10) AS INTEGER), model_version FROM window_scores
                ORDER BY minute, service, role";
    let row = |values: [&str; 4]| values.map(|value| Some(value.to_owned())).to_vec();
    assert_eq!(
        bench.query(kept).await,
        [
            row(["", "champion", "7", "3"]),
            row(["a", "challenger", "1", "2"]),
            row(["a", "champion", "6", "1"]),
            row(["a", "champion", "2", "3"]),
        ]
    );
    // A lower one of a minute tells of the episode that began in it, once.
    for (score, end) in [(0.1, Some(T0 + 70)), (0.15, None), (0.16, Some(T0 + 80))] {
        let scores = vec![WindowScore { would_raise: end, ..said(T0 + 60, "a", champion, score, "3") }];
        store.commit(&EpochCommit { scores, ..commit(T0) }).await.expect("commits");
    }
    let raised = "SELECT CAST(round(score * 10) AS INTEGER), would_raise FROM window_scores WHERE would_raise IS NOT NULL";
    let rows = bench.query(raised).await;
    assert_eq!((rows.len(), rows[0][0].as_deref()), (1, Some("2")), "{rows:?}");
    assert_eq!(smartlog_sinks::expire(&bench.config, (T0 + 60) * US).await.expect("expires"), 3);
    assert_eq!(bench.number("SELECT count(*) FROM window_scores").await, 1);
    bench.drop_it().await;
}

async fn minutes_are_replaced_and_forgotten(bench: Bench) {
    let mut store = bench.state();
    store.open().await.expect("opens");
    let of = |service: &str, minute: i64, counts: &[u8]| (service.into(), minute, counts.to_vec());
    let minutes = vec![of("", T0, &[1]), of("a", T0, &[0, 255]), of("a", T0 + 60, &[2]), of("a", T0, &[3])];
    store.commit(&EpochCommit { minutes, ..commit(T0) }).await.expect("commits");
    let minutes = vec![of("a", T0 + 60, &[4]), of("a", T0, &[5])];
    let forget = EpochCommit { minutes, forget_minutes_before: T0 + 60, ..commit(T0) };
    store.commit(&forget).await.expect("commits");
    drop(store);
    assert_eq!(bench.state().open().await.expect("opens").minutes, [of("a", T0 + 60, &[4])]);
    bench.drop_it().await;
}

async fn patterns_are_counted_moved_and_forgotten(bench: Bench) {
    let shape = |shape: i64, template: &str, example: Option<&str>| PatternShape {
        shape,
        template_id: shape / 10,
        template: template.into(),
        example: example.map(str::to_owned),
    };
    let count = |shape: i64, service: &str, logs: i64, at: i64| PatternCount {
        shape,
        service: service.into(),
        logs,
        errors: logs / 2,
        first_us: at,
        last_us: at + logs,
    };
    let odd = "naïve '\\ <*>";
    let mut store = bench.state();
    store.open().await.expect("opens");
    let first = PatternChanges {
        forgotten: vec![],
        shapes: vec![
            shape(i64::MIN, odd, Some(odd)),
            shape(10, "a <*>", Some("a 1")),
            shape(11, "b", Some("b")),
        ],
        counts: vec![
            count(10, "x", 4, 100),
            count(10, "y", 1, 50),
            count(11, "x", 2, 10),
            count(i64::MIN, "x", 1, 7),
        ],
    };
    store.commit(&EpochCommit { patterns: first, ..commit(T0) }).await.expect("commits");
    let second = PatternChanges {
        forgotten: vec![(11, 10), (i64::MIN, OTHER_SHAPE)],
        shapes: vec![shape(10, "<*> 1", None)],
        counts: vec![count(10, "x", 8, 90), count(OTHER_SHAPE, "x", 2, 1)],
    };
    store.commit(&EpochCommit { patterns: second, ..commit(T0) }).await.expect("commits");
    drop(store);
    let known = bench.state().open().await.expect("opens").shapes;
    let wanted = KnownShape {
        shape: 10,
        template_id: 1,
        template: "<*> 1".into(),
        example: "a 1".into(),
        last_us: 104,
        services: vec![("x".into(), 10), ("y".into(), 50)],
    };
    assert_eq!(known, [wanted]);
    let counts = bench
        .query("SELECT CAST(shape AS TEXT), service, CAST(log_count AS TEXT), CAST(error_count AS TEXT) FROM pattern_counts ORDER BY shape, service")
        .await;
    let row = |cells: [&str; 4]| cells.map(|cell| Some(cell.to_owned()));
    let wanted = [row(["0", "x", "3", "1"]), row(["10", "x", "14", "7"]), row(["10", "y", "1", "0"])];
    assert_eq!(counts, wanted);
    bench.drop_it().await;
}

async fn the_newest_model_of_each_role_is_in_force(bench: Bench) {
    let swap = |role, effective, version: &str| ModelSwap {
        role,
        effective,
        version: version.into(),
        digest: format!("digest of {version}"),
    };
    let mut store = bench.state();
    assert_eq!(store.open().await.expect("opens").models, []);
    for (effective, version) in [(T0, "1"), (T0 + 10, "2"), (T0 + 10, "3")] {
        let models = vec![swap(Role::Champion, effective, version)];
        store.commit(&EpochCommit { models, ..commit(T0) }).await.expect("commits");
    }
    let models = vec![swap(Role::Challenger, T0 + 5, "9")];
    store.commit(&EpochCommit { models, ..commit(T0) }).await.expect("commits");
    drop(store);
    let in_force = bench.state().open().await.expect("opens").models;
    let by_role = |role| in_force.iter().find(|swap| swap.role == role).cloned();
    assert_eq!(by_role(Role::Champion), Some(swap(Role::Champion, T0 + 10, "3")));
    assert_eq!(by_role(Role::Challenger), Some(swap(Role::Challenger, T0 + 5, "9")));
    assert_eq!(in_force.len(), 2);
    bench.drop_it().await;
}
