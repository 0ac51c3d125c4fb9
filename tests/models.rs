//! The life of a model: trained, registered, promoted, taken over by the running dataflow, loaded by Python.

use rustix::process::Signal;
use smartlog_test_services::{Service, disturbing};
use smartlog_tests::program::{Program, run_to_end};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{eventually, now_us, unique};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PARTITIONS: i32 = 2;
const MINUTE_US: i64 = 60_000_000;
/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// An hour of logs, with an incident that nobody can miss.
fn fill(topic: &Topic, seed: u64) -> Traffic {
    let mut traffic = Traffic::new(seed, PARTITIONS as usize);
    let minute = |n: i64| now_us() - 62 * MINUTE_US + n * MINUTE_US;
    traffic.send(topic, 12_000, (minute(0), minute(40)));
    traffic.failing = Some("checkout");
    traffic.send(topic, 1_200, (minute(40), minute(43)));
    traffic.failing = None;
    traffic.send(topic, 5_000, (minute(43), minute(60)));
    topic.flush();
    traffic
}

/// What every command of a test is given.
struct Bench {
    brokers: String,
    topic: Topic,
    folder: tempfile::TempDir,
    mlflow: Option<String>,
}

impl Bench {
    fn new(name: &str, mlflow: Option<String>) -> Option<Self> {
        let brokers = Service::require("kafka")?.address();
        let topic = Topic::create(&brokers, &unique(name), PARTITIONS);
        Some(Bench { brokers, topic, folder: tempfile::tempdir().expect("a folder"), mlflow })
    }

    fn start(&self, arguments: &[&str]) -> Program {
        let folder = self.folder.path().join("models");
        let mut variables = vec![
            ("SMARTLOG_KAFKA_BROKERS", self.brokers.as_str()),
            ("SMARTLOG_KAFKA_TOPICS", self.topic.name.as_str()),
            ("SMARTLOG_MODELS_FOLDER", folder.to_str().expect("UTF-8")),
            ("SMARTLOG_MODELS_MIN_WINDOWS", "100"),
            ("SMARTLOG_MODELS_ENABLED", "true"),
        ];
        variables.extend(self.mlflow.iter().map(|url| ("SMARTLOG_MODELS_MLFLOW", url.as_str())));
        Program::start_with(arguments, &variables)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut program = self.start(arguments);
        program.succeed(PATIENCE);
        program.printed()
    }

    /// What it says of its failure.
    fn fails(&self, arguments: &[&str]) -> String {
        let mut program = self.start(arguments);
        assert!(!program.wait(PATIENCE).success(), "{arguments:?} succeeded");
        program.said()
    }

    /// What `smartlog train` prints as JSON.
    fn train(&self, more: &[&str]) -> serde_json::Value {
        let base = ["train", "--from", "kafka", "--format", "json"];
        serde_json::from_str(&self.run(&[&base[..], more].concat())).expect("it prints JSON")
    }
}

#[test]
fn the_same_history_gives_the_same_model_whatever_the_workers_and_the_way_it_is_read() {
    let Some(bench) = Bench::new("same", None) else { return };
    fill(&bench.topic, 3);
    let one = bench.train(&["--workers", "1"]);
    let two = bench.train(&["--workers", "2"]);
    let other = bench.train(&["--seed", "9"]);
    let features = ["--features", "log_rate,error_rate,new_pattern_rate,pattern_entropy"];
    let [of_one, of_two] = ["1", "2"].map(|n| bench.train(&[&["--workers", n], &features[..]].concat()));
    assert_eq!(of_one["digest"], of_two["digest"], "of patterns:\n{of_one}\n{of_two}");
    assert_eq!(of_one["params"]["features"], features[1]);
    assert_eq!(one["digest"], two["digest"], "one worker and two:\n{one}\n{two}");
    assert_eq!(one["params"]["rows_digest"], other["params"]["rows_digest"], "two seeds:\n{one}\n{other}");
    assert_ne!(one["digest"], other["digest"]);
    // Live first, then from the store that the live run filled: no skew between training and serving.
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    let lake = bench.folder.path().join("lake");
    let lake = lake.to_str().expect("UTF-8");
    bench.run(&["run", "--until-end", "--store", &store.url, "--export", lake]);
    assert!(store.number("select count(*) from logs") > 18_000);
    let stored: serde_json::Value = serde_json::from_str(
        &bench.run(&["train", "--from", "sqlite", "--store", &store.url, "--format", "json"]),
    )
    .expect("it prints JSON");
    let rows = |told: &serde_json::Value| told["metrics"]["training_samples"].as_f64().expect("a number");
    eprintln!("{} windows of Kafka, {} of the store", rows(&one), rows(&stored));
    assert!((rows(&stored) - rows(&one)).abs() < 40.0, "{} and {}", rows(&stored), rows(&one));
    let exported: serde_json::Value = serde_json::from_str(
        &bench.run(&["train", "--from", "parquet", "--export", lake, "--format", "json"]),
    )
    .expect("it prints JSON");
    let same = "the same logs in the same order";
    assert_eq!(exported["digest"], stored["digest"], "{same}:\n{exported}\n{stored}");
}

#[test]
fn a_champion_and_a_challenger_from_the_folder_score_the_stream_into_postgres() {
    a_champion_and_a_challenger_score_the_stream(Kind::Postgres);
}

#[test]
fn a_champion_and_a_challenger_from_the_folder_score_the_stream_into_sqlite() {
    a_champion_and_a_challenger_score_the_stream(Kind::Sqlite);
}

fn a_champion_and_a_challenger_score_the_stream(kind: Kind) {
    let Some(mut store) = Store::create(kind) else { return };
    let Some(bench) = Bench::new("folder", None) else { return };
    let mut traffic = fill(&bench.topic, 5);
    // Open when the input ends. What is over when it is first seen has no open window that a model could judge.
    traffic.failing = Some("checkout");
    traffic.send(&bench.topic, 800, (now_us() - 2 * MINUTE_US, now_us()));
    bench.topic.flush();
    let champion = bench.train(&["--alias", "champion"]);
    let challenger = bench.train(&["--alias", "challenger", "--seed", "9", "--scoping", "shared"]);
    assert_eq!((&champion["version"], &challenger["version"]), (&"1".into(), &"2".into()));
    bench.run(&["run", "--until-end", "--store", &store.url]);
    for (role, version) in [("champion", "1"), ("challenger", "2")] {
        let of_role = format!("from window_scores where role = '{role}'");
        assert!(store.number(&format!("select count(*) {of_role}")) > 100);
        assert_eq!(store.number(&format!("select count(*) {of_role} and model_version <> '{version}'")), 0);
        assert_eq!(store.number(&format!("select count(*) {of_role} and (score <= 0 or score >= 1)")), 0);
    }
    assert_eq!(store.number("select count(*) from model_swaps"), 2);
    // The episode carries what the model said of the window in which it was raised; the incident's own windows stand out.
    let stamped = "select count(*) from anomalies where anomaly_type = 'error_rate_spike' and service = 'checkout' \
                   and model_version = '1' and score > 0 and score < 1";
    assert!(store.number(stamped) > 0);
    let suspicious = "select count(*) from window_scores where role = 'champion' and service = 'checkout' \
                      and score > 0.5";
    assert!(store.number(suspicious) > 0);
    let told = bench.run(&["models", "diff", "champion", "challenger", "--from", "kafka"]);
    assert!(told.contains("added") && told.contains("removed"), "{told}");
    let listed = bench.run(&["models", "list", "--format", "json"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(bench.run(&["models", "show", "champion"]).contains("training_samples"));
}

/// The bundle of a run in the folder's registry.
fn bundle_of(bench: &Bench, trained: &serde_json::Value) -> PathBuf {
    let run_id = trained["run_id"].as_str().expect("an id");
    bench.folder.path().join("models/runs").join(run_id).join("artifacts/anomaly_model/bundle.json.zst")
}

/// Changes the registry's text behind the program's back.
fn change_registry(bench: &Bench, change: impl FnOnce(String) -> String) {
    let index = bench.folder.path().join("models/registry.json");
    let text = std::fs::read_to_string(&index).expect("the registry");
    std::fs::write(&index, change(text)).expect("it can be changed");
}

fn swapped_to(store: &mut Store) -> Vec<String> {
    let rows = store.rows("select version from model_swaps where role = 'champion' order by effective");
    rows.into_iter().flatten().flatten().collect()
}

fn scored_by(store: &mut Store, version: &str) -> i64 {
    let sql = format!("select count(*) from window_scores where model_version = '{version}'");
    store.try_number(&sql).unwrap_or(0)
}

#[test]
fn a_broken_champion_is_refused_and_the_old_one_stays_until_a_good_one_comes_and_can_come_back() {
    let Some(mut store) = Store::create(Kind::Postgres) else { return };
    let Some(bench) = Bench::new("broken", None) else { return };
    let mut traffic = fill(&bench.topic, 7);
    bench.train(&["--alias", "champion"]);
    let second = bench.train(&["--register", "--seed", "9"]);
    let program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("model version 1 is the champion now", PATIENCE);
    let bundle = bundle_of(&bench, &second);
    let good = std::fs::read(&bundle).expect("the bundle");
    std::fs::write(&bundle, b"no bundle").expect("it can be damaged");
    change_registry(&bench, |text| text.replace("\"champion\": \"1\"", "\"champion\": \"2\""));
    program.signal(Signal::HUP);
    program.wait_for_words("the champion 2 is refused, the old one stays", PATIENCE);
    eventually("the history is scored by the old one", PATIENCE, || {
        (scored_by(&mut store, "1") > 100).then_some(())
    });

    // A whole one of other features, registered as if it were right.
    let text = zstd::decode_all(&good[..]).expect("zstd");
    let text = String::from_utf8(text).expect("JSON").replacen("\"error_rate\"", "\"error_share\"", 1);
    let third = bench.train(&["--register", "--seed", "10"]);
    std::fs::write(bundle_of(&bench, &third), zstd::encode_all(text.as_bytes(), 3).expect("zstd"))
        .expect("written");
    let (digest, champion) = (third["digest"].as_str().expect("a digest"), "\"champion\": \"3\"");
    change_registry(&bench, |text| {
        text.replace(&format!("\"smartlog.digest\": \"{digest}\","), "")
            .replace("\"champion\": \"2\"", champion)
    });
    program.signal(Signal::HUP);
    program.wait_for_words("the champion 3 is refused, the old one stays", PATIENCE);
    program.wait_for_words("error_share", PATIENCE);
    assert!(!bench.fails(&["models", "promote", "3"]).is_empty(), "nobody promotes what cannot serve");

    // A good one is taken over without a restart, and the old one again.
    for (version, promote) in [("4", None), ("1", Some(["models", "promote", "1"]))] {
        match promote {
            None => assert_eq!(bench.train(&["--alias", "champion", "--seed", "11"])["version"], version),
            Some(arguments) => drop(bench.run(&arguments)),
        }
        let before = scored_by(&mut store, version);
        program.signal(Signal::HUP);
        program.wait_for_words(&format!("model version {version} is the champion now"), PATIENCE);
        eventually("it scores", PATIENCE, || {
            traffic.send(&bench.topic, 40, (now_us() - 2_000_000, now_us()));
            bench.topic.flush();
            (scored_by(&mut store, version) > before).then_some(())
        });
    }
    assert_eq!(swapped_to(&mut store), ["1", "4", "1"]);
    let state =
        "select count(*) from model_status where state = 'ready' and models::text like '%\"version\":\"1\"%'";
    eventually("the status says so", PATIENCE, || (store.try_number(state).ok()? == 1).then_some(()));
}

#[test]
fn a_restart_goes_on_with_the_model_that_was_in_force_and_then_follows_the_alias() {
    let Some(bench) = Bench::new("restart", None) else { return };
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    let mut traffic = fill(&bench.topic, 13);
    let first = bench.train(&["--alias", "champion"]);
    bench.run(&["run", "--until-end", "--store", &store.url]);
    assert_eq!(swapped_to(&mut store), ["1"]);
    let before = scored_by(&mut store, "1");
    assert!(before > 100);

    // Nothing changed: the same goes on, and that is no swap. The registry need not have it any more.
    std::fs::remove_file(bundle_of(&bench, &first)).expect("it was there");
    let mut program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("model version 1 goes on as the champion now", PATIENCE);
    eventually("it scores", PATIENCE, || {
        traffic.send(&bench.topic, 40, (now_us() - 2_000_000, now_us()));
        bench.topic.flush();
        (scored_by(&mut store, "1") > before).then_some(())
    });
    program.terminate();
    program.succeed(PATIENCE);
    assert_eq!(swapped_to(&mut store), ["1"]);

    // The alias moved while it was down: what was in force goes on until the swap, which is stored.
    assert_eq!(bench.train(&["--alias", "champion", "--seed", "9"])["version"], "2");
    let program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("model version 2 is the champion now", PATIENCE);
    let said = program.said();
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("`{words}` is missing in:\n{said}"));
    assert!(at("model version 1 goes on as the champion now") < at("model version 2 is the champion now"));
    eventually("the swap is stored", PATIENCE, || {
        traffic.send(&bench.topic, 40, (now_us() - 2_000_000, now_us()));
        bench.topic.flush();
        (swapped_to(&mut store) == ["1", "2"] && scored_by(&mut store, "2") > 0).then_some(())
    });
}

#[test]
fn what_people_called_expected_is_left_out_of_training() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let Some(bench) = Bench::new("expected", None) else { return };
        let Some(mut store) = Store::create(kind) else { return };
        fill(&bench.topic, 17);
        bench.run(&["run", "--until-end", "--store", &store.url]);
        let left_out = |flag: &str| {
            let told = bench.train(&["--store", &store.url, flag]);
            (told["left_out"].as_u64().expect("a count"), told["metrics"]["training_samples"].as_f64())
        };
        let (none, all) = (left_out("--exclude-expected"), left_out("--exclude-anomalies"));
        assert_eq!(none.0, 0, "nobody said anything yet");
        assert!(all.0 > 100, "the incident and the window after it, of every service: {all:?}");
        store.try_rows("insert into feedback (anomaly_id, verdict)
                        select min(id), 'expected' from anomalies where service = 'checkout' and status <> 'retracted'")
            .expect("feedback is taken");
        let left_out = bench.train(&["--store", &store.url, "--exclude-expected"]);
        let one = left_out["left_out"].as_u64().expect("a count");
        assert!(one > 30 && one <= all.0, "{one} of {all:?}");
    }
}

#[test]
fn what_was_trained_while_the_server_was_away_is_pushed_later_and_python_loads_it() {
    let Some(mlflow) = Service::require("mlflow") else { return };
    let _turn = disturbing();
    let Some(bench) = Bench::new("push", Some(mlflow.address())) else { return };
    fill(&bench.topic, 11);
    mlflow.kill_all();
    let trained = bench.train(&["--alias", "champion"]);
    let why = trained["not_pushed"].as_str().expect("the server was away");
    assert!(why.contains(&mlflow.address()) && why.contains("experiment"), "{why}");
    mlflow.start();
    let told = bench.run(&["models", "push"]);
    assert!(told.contains("version 1 of"), "{told}");
    assert!(bench.run(&["models", "push"]).contains("already"), "nothing is pushed twice");
    let listed = bench.run(&["models", "list"]);
    assert!(listed.contains("champion"), "{listed}");

    let rows = bench.folder.path().join("rows.json");
    let columns = trained["params"]["features"].as_str().expect("names").split(',').collect::<Vec<_>>();
    let data = [[300.0, 0.02, 40.0, 5.0, 12.0], [9_000.0, 0.9, 400.0, 1.0, 3.0]];
    std::fs::write(&rows, serde_json::json!({ "columns": columns, "data": data }).to_string())
        .expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/python/load_model.py");
    let output = Command::new(mlflow.variable("PYTHON"))
        .arg(script)
        .arg("models:/log-anomaly-detector@champion")
        .arg(&rows)
        .envs([("MLFLOW_TRACKING_URI", mlflow.address().as_str()), ("MLFLOW_DISABLE_TELEMETRY", "true")])
        .current_dir(bench.folder.path())
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(said["pyfunc_labels"][1], -1, "{said}");

    // The running dataflow follows the server's champion.
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    let mut program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("is the champion now", PATIENCE);
    eventually("it scores", PATIENCE, || {
        (store.try_number("select count(*) from window_scores").ok()? > 0).then_some(())
    });
    program.terminate();
    program.succeed(PATIENCE);
    // A start while the server is away goes on with it, and takes a new one over once the server is back.
    mlflow.kill_all();
    let program = bench.start(&["run", "--store", &store.url, "--models-poll", "1s"]);
    program.wait_for_words("goes on as the champion now", PATIENCE);
    program.wait_for_words("models stay as they are", PATIENCE);
    mlflow.start();
    let second = bench.train(&["--alias", "champion", "--seed", "9"]);
    assert!(second["not_pushed"].is_null(), "{second}");
    let version = second["version"].as_str().expect("a version");
    program.wait_for_words(&format!("model version {version} is the champion now"), PATIENCE);
}

#[test]
fn bad_arguments_say_what_to_do() {
    for (arguments, words) in [
        (&["train", "--from", "parquet"][..], "--from FOLDER"),
        (&["models", "show", "champion"], "there is none"),
        (&["models", "push"], "models.mlflow is not set"),
        (&["train", "--from", "/nowhere/at/all.ndjson"], "/nowhere/at/all.ndjson"),
        (&["train", "--from", "-", "--features", "log_rate,latency"], "pattern_entropy, found `latency`"),
        (&["train", "--from", "-", "--features", "log_rate,log_rate"], "found `log_rate` twice"),
        (
            &["run", "--models-enabled", "--features", "pattern_entropy", "--patterns-enabled=false"],
            "pattern_entropy needs patterns.enabled = true",
        ),
    ] {
        let (status, _, said) = run_to_end(arguments, PATIENCE);
        assert!(!status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}
