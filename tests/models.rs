//! The life of a model: trained, registered, promoted, taken over by the running dataflow, loaded by Python.

use rustix::process::Signal;
use smartlog_test_services::{Service, disturbing};
use smartlog_tests::program::{Program, run_to_end};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{eventually, now_us, unique};
use std::path::Path;
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
    assert_eq!(one["digest"], two["digest"]);
    assert_eq!(one["params"]["rows_digest"], other["params"]["rows_digest"]);
    assert_ne!(one["digest"], other["digest"]);
    // Live first, then from the store that the live run filled: no skew between training and serving.
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    bench.run(&["run", "--until-end", "--store", &store.url]);
    assert!(store.number("select count(*) from logs") > 18_000);
    let stored: serde_json::Value = serde_json::from_str(
        &bench.run(&["train", "--from", "sqlite", "--store", &store.url, "--format", "json"]),
    )
    .expect("it prints JSON");
    let rows = |told: &serde_json::Value| told["metrics"]["training_samples"].as_f64().expect("a number");
    assert!((rows(&stored) - rows(&one)).abs() < 40.0, "{} and {}", rows(&stored), rows(&one));
}

#[test]
fn a_champion_and_a_challenger_from_the_folder_score_the_stream() {
    let Some(bench) = Bench::new("folder", None) else { return };
    fill(&bench.topic, 5);
    let champion = bench.train(&["--alias", "champion"]);
    let challenger = bench.train(&["--alias", "challenger", "--seed", "9", "--scoping", "shared"]);
    assert_eq!((&champion["version"], &challenger["version"]), (&"1".into(), &"2".into()));
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    bench.run(&["run", "--until-end", "--store", &store.url]);
    for (role, version) in [("champion", "1"), ("challenger", "2")] {
        let of_role = format!("from window_scores where role = '{role}'");
        assert!(store.number(&format!("select count(*) {of_role}")) > 100);
        assert_eq!(store.number(&format!("select count(*) {of_role} and model_version <> '{version}'")), 0);
        assert_eq!(store.number(&format!("select count(*) {of_role} and (score <= 0 or score >= 1)")), 0);
    }
    assert_eq!(store.number("select count(*) from model_swaps"), 2);
    // The incident stands out, and carries what the model said of it.
    let stamped =
        "select count(*) from anomalies where anomaly_type = 'error_rate_spike' and service = 'checkout'
                   and model_version = '1' and score > 0.5";
    assert!(store.number(stamped) > 0);
    let told = bench.run(&["models", "diff", "champion", "challenger", "--from", "kafka"]);
    assert!(told.contains("added") && told.contains("removed"), "{told}");
    let listed = bench.run(&["models", "list", "--format", "json"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(bench.run(&["models", "show", "champion"]).contains("training_samples"));
}

#[test]
fn a_broken_champion_is_refused_and_the_old_one_stays() {
    let Some(bench) = Bench::new("broken", None) else { return };
    let mut traffic = fill(&bench.topic, 7);
    bench.train(&["--alias", "champion"]);
    let second = bench.train(&["--register", "--seed", "9"]);
    let mut store = Store::create(Kind::Sqlite).expect("SQLite needs no service");
    let program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("model version 1 is the champion now", PATIENCE);
    let run_id = second["run_id"].as_str().expect("an id");
    let bundle =
        bench.folder.path().join("models/runs").join(run_id).join("artifacts/anomaly_model/bundle.json.zst");
    std::fs::write(bundle, b"no bundle").expect("it can be damaged");
    let index = bench.folder.path().join("models/registry.json");
    let text = std::fs::read_to_string(&index).expect("the registry");
    std::fs::write(&index, text.replace("\"champion\": \"1\"", "\"champion\": \"2\""))
        .expect("it can be changed");
    program.signal(Signal::HUP);
    program.wait_for_words("the champion 2 is refused, the old one stays", PATIENCE);
    eventually("the history is scored by the old one", PATIENCE, || {
        (store.try_number("select count(*) from window_scores where model_version = '1'").ok()? > 100)
            .then_some(())
    });
    // A good one is taken over without a restart.
    let third = bench.train(&["--alias", "champion", "--seed", "11"]);
    assert_eq!(third["version"], "3");
    program.signal(Signal::HUP);
    program.wait_for_words("model version 3 is the champion now", PATIENCE);
    traffic.send(&bench.topic, 400, (now_us() - MINUTE_US, now_us()));
    bench.topic.flush();
    eventually("the new one scores", PATIENCE, || {
        let scored = store.try_number("select count(*) from window_scores where model_version = '3'").ok()?;
        (scored > 0).then_some(())
    });
    let rows = store.rows("select version from model_swaps order by effective");
    assert_eq!(rows.len(), 2, "each swap is kept: {rows:?}");
    let state =
        "select count(*) from model_status where state = 'ready' and models like '%\"version\":\"3\"%'";
    eventually("the status says so", PATIENCE, || (store.try_number(state).ok()? == 1).then_some(()));
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
    let program = bench.start(&["run", "--store", &store.url]);
    program.wait_for_words("is the champion now", PATIENCE);
    eventually("it scores", PATIENCE, || {
        (store.try_number("select count(*) from window_scores").ok()? > 0).then_some(())
    });
}

#[test]
fn bad_arguments_say_what_to_do() {
    for (arguments, words) in [
        (&["train", "--from", "parquet"][..], "Parquet cannot be read yet"),
        (&["models", "show", "champion"], "there is none"),
        (&["models", "push"], "models.mlflow is not set"),
        (&["train", "--from", "/nowhere/at/all.ndjson"], "/nowhere/at/all.ndjson"),
    ] {
        let (status, _, said) = run_to_end(arguments, PATIENCE);
        assert!(!status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}
