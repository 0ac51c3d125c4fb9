//! Decisions made again from what was kept of them, and history run again with other rules.

use serde_json::{Value, json};
use smartlog_tests::now_us;
use smartlog_tests::program::run_to_end;
use smartlog_tests::scene::{MINUTE_US, PATIENCE, Scene};
use smartlog_tests::store::Kind;
use std::process::ExitStatus;
use std::time::Duration;

/// Hours of history, twice, on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(600);

/// Runs `smartlog` and reads each line that it prints as JSON.
fn lines(arguments: &[&str]) -> (ExitStatus, Vec<Value>) {
    let (status, printed, said) = run_to_end(arguments, LONG);
    let read =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{said}"));
    let lines: Vec<Value> = printed.lines().map(read).collect();
    assert!(!lines.is_empty(), "{arguments:?} printed nothing and said:\n{said}");
    (status, lines)
}

/// Logs of `minutes`, counted from `begin_us`, with errors of `checkout` in three of them.
fn send(scene: &mut Scene, begin_us: i64, minutes: std::ops::Range<i64>) {
    for minute in minutes {
        scene.traffic.failing = (28..31).contains(&minute).then_some("checkout");
        let from = begin_us + minute * MINUTE_US;
        scene.traffic.send(&scene.topic, 1_200, (from, from + MINUTE_US));
    }
    scene.topic.flush();
}

/// A topic without late logs, and a minute fifty minutes ago.
fn quiet(kind: Kind, stem: &str) -> Option<(Scene, i64)> {
    let mut scene = Scene::create(kind, stem)?;
    scene.traffic.unruly.late = 0;
    Some((scene, (now_us() / MINUTE_US - 50) * MINUTE_US))
}

/// Forty minutes in the store, with an incident. Two runs, so that what decides knows a past whose begin is far enough
/// behind it, however fast the machine reads.
fn scene(kind: Kind, stem: &str, more: &[&str]) -> Option<Scene> {
    let (mut scene, begin) = quiet(kind, stem)?;
    for minutes in [0..26, 26..40] {
        send(&mut scene, begin, minutes);
        scene.start(&[&["--until-end"], more].concat()).succeed(PATIENCE);
    }
    Some(scene)
}

/// How `smartlog replay` is told of the topic.
fn of_topic(scene: &Scene) -> [String; 6] {
    let brokers = scene.kafka.address();
    ["--from", "kafka", "--brokers", &brokers, "--topic", &scene.topic.name].map(str::to_owned)
}

fn assert_same(replayed: &[Value]) {
    for one in replayed {
        let found = (&one["same"], &one["differs"], &one["missing"]);
        assert_eq!(found, (&json!(true), &json!([]), &json!([])), "{one:#}");
        assert_eq!(one["decision"], one["replayed"]);
    }
}

fn every_decision_is_made_again(kind: Kind) {
    let Some(mut scene) = scene(kind, "replay", &["--workers", "2"]) else { return };
    let arguments = ["replay", "--all", "--format", "json", "--store", &scene.store.url.clone()];
    let (status, replayed) = lines(&arguments);
    assert!(status.success(), "{replayed:#?}");
    assert_eq!(scene.store.number("select count(*) from anomalies"), replayed.len() as i64);
    let spikes: Vec<&Value> = replayed
        .iter()
        .filter(|one| {
            one["decision"]["service"] == json!("checkout")
                && one["decision"]["type"] == json!("error_rate_spike")
        })
        .collect();
    assert!(!spikes.is_empty(), "{replayed:#?}");
    assert_same(&replayed);
    for one in &replayed {
        let id = one["anomaly_id"].as_i64().expect("an id");
        let row =
            &scene.store.rows(&format!("select metric_value, threshold from anomalies where id = {id}"))[0];
        for (name, cell) in ["metric_value", "threshold"].into_iter().zip(row) {
            let stored: f64 = cell.as_deref().expect("a number").parse().expect("a number");
            let decided = one["decision"][name].as_f64().expect("a number");
            assert!((stored - decided).abs() <= 1e-12 * stored.abs(), "{name}: {stored} {decided}");
        }
    }
    let topic = of_topic(&scene);
    let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
    let (status, of_kafka) = lines(&[&arguments[..], &topic].concat());
    assert!(status.success());
    assert_eq!(of_kafka, replayed, "the topic holds what the store holds");

    // Errors that are no errors any more: another decision, and told so.
    let id = spikes[0]["anomaly_id"].as_i64().expect("an id");
    let at = spikes[0]["decision"]["started_at"].as_i64().expect("a second");
    let from = (at - 60) * 1_000_000;
    let micros = scene.store.micros("timestamp");
    scene.store.rows(&format!(
        "update logs set level = 'INFO' where service = 'checkout' and {micros} >= {from} and level = 'ERROR'"
    ));
    let url = scene.store.url.clone();
    let (status, changed) = lines(&["replay", &id.to_string(), "--format", "json", "--store", &url]);
    assert_eq!(status.code(), Some(1));
    assert_eq!(changed[0]["same"], json!(false));
    assert_ne!(changed[0]["differs"], json!([]));
    assert_eq!(changed[0]["missing"], json!([]), "nothing is missing, it is another one");

    // The logs are gone: that is what is said.
    scene.store.rows(&format!("delete from logs where {micros} < {}", at * 1_000_000));
    let (status, gone) = lines(&["replay", &id.to_string(), "--format", "json", "--store", &url]);
    assert_eq!(status.code(), Some(1));
    assert!(
        gone[0]["missing"][0].as_str().is_some_and(|said| said.contains("the store begins at")),
        "{gone:#?}"
    );
    let id = id.to_string();
    let of_kafka = [&["replay", &id, "--format", "json", "--store", &url][..], &topic].concat();
    assert_same(&lines(&of_kafka).1);
    let (status, _, said) = run_to_end(&["replay", "999999", "--store", &url], PATIENCE);
    assert!(!status.success() && said.contains("nothing was kept of anomaly 999999"), "{said}");
}

#[test]
fn every_decision_is_made_again_on_postgres() {
    every_decision_is_made_again(Kind::Postgres);
}

#[test]
fn every_decision_is_made_again_on_sqlite() {
    every_decision_is_made_again(Kind::Sqlite);
}

fn new_errors(scene: &Scene, from_us: i64) {
    for number in 0..12 {
        let at_us = from_us + number * MINUTE_US / 12;
        let time = smartlog_tests::oracle::rfc3339(at_us);
        let payload = format!(
            r#"{{"timestamp": "{time}", "level": "ERROR", "service": "payment", "message": "ledger {number} is off"}}"#
        );
        scene.topic.send(0, Some(payload.as_bytes()), at_us / 1_000 + 5);
    }
    scene.topic.flush();
}

/// Errors of a kind that `payment` never logged before, in one of the last of forty minutes.
fn a_new_pattern_is_decided_again(kind: Kind) {
    let Some((mut scene, begin)) = quiet(kind, "news") else { return };
    let arguments = ["--until-end", "--workers", "2", "--detection-new-pattern-warm-up", "20m"];
    for minutes in [0..26, 26..40] {
        send(&mut scene, begin, minutes.clone());
        if minutes.end == 40 {
            new_errors(&scene, begin + 38 * MINUTE_US);
        }
        scene.start(&arguments).succeed(PATIENCE);
    }
    let new = "select id from anomalies where anomaly_type = 'new_pattern' and service = 'payment'";
    let ids: Vec<String> = scene.store.rows(new).into_iter().flatten().flatten().collect();
    assert!(!ids.is_empty(), "{:?}", scene.store.rows("select anomaly_type, service from anomalies"));
    let url = scene.store.url.clone();
    let all = ["replay", "--all", "--format", "json", "--store", &url];
    let (status, replayed) = lines(&all);
    assert_same(&replayed);
    assert!(status.success());
    assert_eq!(scene.store.number("select count(*) from anomalies"), replayed.len() as i64);
    let topic = of_topic(&scene);
    let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
    assert_eq!(lines(&[&all[..], &topic].concat()).1, replayed, "the topic holds what the store holds");

    // Errors that are no errors any more are nothing new that is told of.
    scene.store.rows("update logs set level = 'INFO' where service = 'payment' and message like 'ledger %'");
    let (status, changed) = lines(&["replay", &ids[0], "--format", "json", "--store", &url]);
    assert_eq!((status.code(), &changed[0]["replayed"]), (Some(1), &Value::Null), "{changed:#?}");
}

#[test]
fn a_new_pattern_is_decided_again_on_postgres() {
    a_new_pattern_is_decided_again(Kind::Postgres);
}

#[test]
fn a_new_pattern_is_decided_again_on_sqlite() {
    a_new_pattern_is_decided_again(Kind::Sqlite);
}

/// A model that knows the quiet time, and errors that it has not seen.
#[test]
fn what_scores_decided_is_decided_again_with_the_model_of_that_time() {
    what_scores_decided_is_decided_again(&[]);
}

#[test]
fn what_scores_of_patterns_decided_is_decided_again_with_the_model_of_that_time() {
    what_scores_decided_is_decided_again(&["--features", "pattern_entropy,error_rate"]);
}

fn what_scores_decided_is_decided_again(of: &[&str]) {
    let Some((mut scene, begin)) = quiet(Kind::Sqlite, "scores") else { return };
    send(&mut scene, begin, 0..28);
    let (brokers, topic, url) = (scene.kafka.address(), scene.topic.name.clone(), scene.store.url.clone());
    let folder = scene.store.folder().join("models");
    let models = ["--models-folder", folder.to_str().expect("a temporary path is UTF-8")];
    let train = ["train", "--from", "kafka", "--brokers", &brokers, "--topic", &topic];
    let as_champion = ["--alias", "champion", "--models-min-windows", "100"];
    let (status, _, said) = run_to_end(&[&train[..], &as_champion, &models, of].concat(), LONG);
    assert!(status.success(), "{said}");
    send(&mut scene, begin, 28..40);
    let scored = ["--until-end", "--models-enabled", "--detection-multivariate-outlier-enabled"];
    scene.start(&[&scored[..], &models].concat()).succeed(PATIENCE);
    let by_score = "select id from anomalies where anomaly_type = 'multivariate_outlier'";
    let ids: Vec<String> = scene.store.rows(by_score).into_iter().flatten().flatten().collect();
    assert!(!ids.is_empty(), "{:?}", scene.store.rows("select anomaly_type, service from anomalies"));

    let all = ["replay", "--all", "--format", "json", "--store", &url];
    let (status, replayed) = lines(&[&all[..], &models].concat());
    assert_same(&replayed);
    assert!(status.success());
    let decided = |one: &&Value| one["decision"]["type"] == json!("multivariate_outlier");
    assert_eq!(replayed.iter().filter(decided).count(), ids.len());

    // Without the model: that is what is said.
    let nowhere = scene.store.folder().join("nowhere");
    let nowhere = nowhere.to_str().expect("a temporary path is UTF-8");
    let one = ["replay", &ids[0], "--format", "json", "--store", &url, "--models-folder", nowhere];
    let (status, gone) = lines(&one);
    assert_eq!((status.code(), &gone[0]["same"]), (Some(1), &json!(false)));
    let missing = gone[0]["missing"][0].as_str().expect("a sentence");
    assert!(missing.starts_with("model version 1"), "{missing}");

    // History with the model raises what was raised; without, all but what scores decided.
    let back = ["backtest", "--from", "sqlite", "--store", &url, "--format", "json"];
    let raised = scene.store.number("select count(*) from anomalies where status <> 'retracted'");
    let by_score = scene.store.number(
        "select count(*) from anomalies where status <> 'retracted' and anomaly_type = 'multivariate_outlier'",
    );
    for (more, removed) in [(&["--model", "1"][..], 0), (&[], by_score)] {
        let (status, told) = lines(&[&back[..], &models, more].concat());
        assert!(status.success());
        let unchanged = raised - removed;
        let expected =
            json!({"added": 0, "removed": removed, "changed": 0, "unchanged": unchanged, "against": url});
        assert_eq!(told[0]["summary"], expected, "{more:?}: {:#}", told[0]["episodes"]);
    }
    assert!(by_score > 0);
}

fn what_was_raised_is_raised_again_and_other_rules_show(kind: Kind) {
    let Some(mut scene) = scene(kind, "backtest", &[]) else { return };
    let from = if kind == Kind::Postgres { "postgres" } else { "sqlite" };
    let url = scene.store.url.clone();
    let base = ["backtest", "--from", from, "--store", &url, "--format", "json"];
    let (status, told) = lines(&base);
    assert!(status.success());
    let raised = scene.store.number("select count(*) from anomalies where status <> 'retracted'");
    let expected = json!({"added": 0, "removed": 0, "changed": 0, "unchanged": raised, "against": url});
    assert_eq!(told[0]["summary"], expected, "{:#}", told[0]["episodes"]);
    assert!(raised > 0);

    let rules = scene.store.folder().join("rules.toml");
    std::fs::write(&rules, "[detection.error_rate_spike]\nenabled = false\n").expect("a file");
    let rules = rules.to_str().expect("a temporary path is UTF-8").to_owned();
    let (status, told) = lines(&[&base[..], &["--rules", &rules]].concat());
    assert!(status.success());
    let spikes =
        "select count(*) from anomalies where status <> 'retracted' and anomaly_type = 'error_rate_spike'";
    let spikes = scene.store.number(spikes);
    assert!(spikes > 0);
    assert_eq!((&told[0]["summary"]["removed"], &told[0]["summary"]["added"]), (&json!(spikes), &json!(0)));
    let (status, table, _) = run_to_end(&[&base[..5], &["--rules", &rules]].concat(), PATIENCE);
    assert!(status.success() && table.contains("removed") && table.contains("checkout"), "{table}");
}

#[test]
fn what_was_raised_is_raised_again_on_postgres() {
    what_was_raised_is_raised_again_and_other_rules_show(Kind::Postgres);
}

#[test]
fn what_was_raised_is_raised_again_on_sqlite() {
    what_was_raised_is_raised_again_and_other_rules_show(Kind::Sqlite);
}

/// A file with labels: no service is needed.
#[test]
fn labels_tell_how_good_the_rules_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (logs, labels) = (path("logs.ndjson.zst"), path("labels.json"));
    let generate = [
        "generate",
        "--to",
        &logs,
        "--for",
        "6h",
        "--rate",
        "20",
        "--start",
        "2026-01-15T06:00:00Z",
        "--speed",
        "0",
        "--incidents",
        "auto",
        "--labels",
        &labels,
    ];
    let (status, _, said) = run_to_end(&generate, LONG);
    assert!(status.success(), "{said}");
    let base = ["backtest", "--from", &logs, "--labels", &labels, "--format", "json"];
    let (status, told) = lines(&base);
    assert!(status.success());
    let summary = &told[0]["summary"];
    assert_eq!(
        (&summary["added"], &summary["removed"]),
        (&json!(0), &json!(0)),
        "the rules are those in force"
    );
    let incidents = summary["incidents"].as_i64().expect("a number");
    assert!(incidents > 0 && summary["found"].as_i64().expect("a number") <= incidents, "{summary}");
    let recall = summary["recall"].as_f64().expect("a share");
    assert!(recall > 0.0, "{summary}");

    let rules = path("deaf.toml");
    let off = "enabled = false\n";
    let text = ["error_rate_spike", "log_volume_spike", "log_volume_drop", "new_pattern"]
        .map(|rule| format!("[detection.{rule}]\n{off}"))
        .concat();
    std::fs::write(&rules, text).expect("a file");
    let (_, told) = lines(&[&base[..], &["--rules", &rules]].concat());
    let summary = &told[0]["summary"];
    assert_eq!(
        (&summary["found"], &summary["recall"], &summary["precision"]),
        (&json!(0), &json!(0.0), &json!(null))
    );
    let (status, _, said) = run_to_end(&["backtest", "--from", &logs, "--rules", &path("absent")], PATIENCE);
    assert!(!status.success() && said.contains("absent"), "{said}");
}
