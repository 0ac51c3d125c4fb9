//! The folder and a real MLflow server keep the same, and MLflow's own Python loads what was logged.

mod support;

use smartlog_models::registry::{DIGEST_TAG, Folder, Mlflow, Registry, open};
use smartlog_models::{Bundle, CHALLENGER, CHAMPION, Run, Scoping};
use smartlog_test_services::{Service, disturbing};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;
use support::{FEATURES, bundle, history, run};

fn a_run() -> (Bundle, Run) {
    let bundle = bundle(Scoping::Service);
    let run = run(&bundle, &history(1, 800));
    (bundle, run)
}

fn tags_of(bundle: &Bundle) -> BTreeMap<String, String> {
    let bytes = bundle.to_bytes().expect("written");
    [(DIGEST_TAG.to_owned(), Bundle::digest_of(&bytes))].into()
}

/// What every registry must do.
fn keeps_its_promises(registry: &dyn Registry) {
    let (bundle, run) = a_run();
    let known = registry.versions().expect("versions").len();
    let run_id = registry.log_run(&run).expect("the run is kept");
    let first = registry.register(&run_id, &tags_of(&bundle)).expect("a version");
    let second = registry.register(&run_id, &tags_of(&bundle)).expect("another version");
    assert_ne!(first.version, second.version);
    assert_eq!(registry.alias("nobody-set-this").expect("asked"), None);
    registry.set_alias(CHAMPION, &first.version).expect("an alias");
    registry.set_alias(CHAMPION, &second.version).expect("it moves");
    let champion = registry.alias(CHAMPION).expect("asked").expect("it is set");
    assert_eq!((champion.version.as_str(), champion.run_id.as_str()), (&*second.version, &*run_id));
    assert_eq!(champion.digest(), tags_of(&bundle).get(DIGEST_TAG).map(String::as_str));
    let versions = registry.versions().expect("versions");
    assert_eq!(versions.len(), known + 2);
    assert_eq!(versions[0].aliases, [CHAMPION], "the newest comes first");
    registry.set_tag(&first.version, "note", "kept for comparison").expect("a tag");
    let first = registry.resolve(&first.version).expect("by number");
    assert_eq!(first.tags.get("note").map(String::as_str), Some("kept for comparison"));
    let bytes = registry.bundle(&champion).expect("its bundle");
    assert_eq!(Some(Bundle::digest_of(&bytes).as_str()), champion.digest());
    assert_eq!(Bundle::from_bytes(&bytes).expect("a bundle"), bundle);
    let told = registry.run(&run_id).expect("the run");
    assert_eq!(told.params, run.params);
    assert_eq!(told.metrics, run.metrics);
    registry.set_alias(CHALLENGER, &first.version).expect("an alias");
    registry.remove_alias(CHALLENGER).expect("it goes");
    assert_eq!(registry.alias(CHALLENGER).expect("asked"), None);
    assert_eq!(registry.alias(CHAMPION).expect("asked").map(|v| v.version), Some(second.version));
    let gone = registry.remove_alias(CHALLENGER).expect_err("there is none").to_string();
    assert!(gone.contains("expected an alias challenger, found none"), "{gone}");
    let missing = registry.resolve("challenger-of-nobody").expect_err("there is none").to_string();
    assert!(missing.contains(&registry.place()) && missing.contains("smartlog models list"), "{missing}");
}

#[test]
fn a_folder_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Folder::new(folder.path().join("models"));
    assert_eq!(registry.versions().expect("nothing yet"), []);
    keeps_its_promises(&registry);
    let (_, mut run) = a_run();
    run.artifacts.sort();
    let id = registry.log_run(&run).expect("the same start: another id");
    assert_eq!(registry.whole_run(&id).expect("the run"), run);
    let outside = Run { artifacts: vec![("../outside".into(), Vec::new())], ..Run::default() };
    registry.log_run(&outside).expect_err("a path that leaves the folder");
    let empty = registry.log_run(&Run { started_ms: 5, ..Run::default() }).expect("a run without a model");
    registry.register(&empty, &BTreeMap::new()).expect_err("nothing to register");
    assert!(!folder.path().join("outside").exists());
}

#[test]
fn two_writers_of_a_folder_lose_no_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Folder::new(folder.path().to_path_buf());
    let run_id = registry.log_run(&a_run().1).expect("a run");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| registry.register(&run_id, &BTreeMap::new()).expect("a version"));
        }
    });
    let numbers: Vec<String> =
        registry.versions().expect("versions").into_iter().map(|v| v.version).collect();
    assert_eq!(numbers, ["8", "7", "6", "5", "4", "3", "2", "1"]);
}

#[test]
fn a_server_keeps_its_promises() {
    let Some(mlflow) = Service::require("mlflow") else { return };
    let _turn = disturbing();
    keeps_its_promises(&*open(&mlflow.address()).expect("a server"));
}

fn python_says(python: &str, server: Option<&str>, model: &str, rows: &Path) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/load_model.py");
    let mut command = Command::new(python);
    command.arg(script).arg(model).arg(rows).env("MLFLOW_DISABLE_TELEMETRY", "true");
    server.map(|url| command.env("MLFLOW_TRACKING_URI", url));
    // Without a server MLflow makes a database where it stands.
    command.current_dir(rows.parent().expect("a folder"));
    let output = command.output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "load_model.py {model} failed:\n{said}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// What Python says of the rows of the whole stream, against what the bundle says.
fn agree(bundle: &Bundle, said: &serde_json::Value, data: &[Vec<f64>]) {
    let numbers = |key: &str| -> Vec<f64> {
        said[key].as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    assert_eq!(said["inputs"], serde_json::json!(FEATURES));
    assert!(said["refused"].as_str().expect("text").contains("log_rate"), "{}", said["refused"]);
    assert_eq!(said["example"][0].as_array().map(Vec::len), Some(FEATURES.len()));
    let labels = numbers("pyfunc_labels");
    let mut outliers = 0;
    for (row, values) in data.iter().enumerate() {
        let ours = bundle.score("", values).expect("scored");
        // scikit-learn's decision function: negative for outliers.
        let decision = ours.threshold - ours.score;
        for key in ["pyfunc_scores", "onnx_scores"] {
            assert!((numbers(key)[row] - decision).abs() < 1e-5, "{key} {row}");
        }
        outliers += usize::from(decision < 0.0);
        assert_eq!(labels[row], if decision < 0.0 { -1.0 } else { 1.0 });
    }
    assert!(outliers > 0, "rows of both kinds are needed");
}

#[test]
fn python_loads_the_model_from_the_folder_and_from_the_server_and_scores_the_same() {
    let Some(mlflow) = Service::require("mlflow") else { return };
    let _turn = disturbing();
    let python = mlflow.variable("PYTHON");
    let (bundle, run) = a_run();
    let folder = tempfile::tempdir().expect("a folder");
    let mut data: Vec<Vec<f64>> =
        history(9, 100).rows.into_iter().filter(|r| r.service.is_empty()).map(|r| r.values).collect();
    data.push(vec![9_000.0, 0.9, 400.0, 1.0, 3.0]);
    let rows = folder.path().join("rows.json");
    std::fs::write(&rows, serde_json::json!({ "columns": FEATURES, "data": data }).to_string())
        .expect("written");

    let local = Folder::new(folder.path().join("models"));
    let run_id = local.log_run(&run).expect("the run is kept");
    let model = local.artifacts(&run_id).join(smartlog_models::ARTIFACT_PATH);
    agree(&bundle, &python_says(&python, None, &model.to_string_lossy(), &rows), &data);

    let server = open(&mlflow.address()).expect("a server");
    let run_id = server.log_run(&run).expect("the run is logged");
    let version = server.register(&run_id, &tags_of(&bundle)).expect("a version");
    let uri = format!("models:/{}/{}", smartlog_models::MODEL_NAME, version.version);
    agree(&bundle, &python_says(&python, Some(&mlflow.address()), &uri, &rows), &data);
}

#[test]
fn a_server_that_is_away_is_told_apart_and_named() {
    let Some(mlflow) = Service::require("mlflow") else { return };
    let _turn = disturbing();
    let registry = open(&mlflow.address()).expect("a server");
    mlflow.kill_all();
    let fault = registry.log_run(&a_run().1).expect_err("nobody is there");
    assert!(fault.away);
    let told = fault.to_string();
    assert!(told.contains(&mlflow.address()) && told.contains("experiment"), "{told}");
    assert!(told.contains("smartlog models push"), "{told}");
    mlflow.start();
    registry.versions().expect("it is back");
}

/// One answer to one request on a socket of ours; gives the request's lines.
fn asked(registry: impl FnOnce(String) -> Mlflow) -> Vec<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = registry(format!("http://{}", listener.local_addr().expect("an address")));
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || registry.alias(CHAMPION));
        let (mut stream, _) = listener.accept().expect("a connection");
        let lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
        let lines: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        write!(stream, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").expect("it is read");
        let fault = asking.join().expect("no panic").expect_err("refused").to_string();
        assert!(fault.contains("401") && fault.contains("MLFLOW_TRACKING_USERNAME"), "{fault}");
        lines
    })
}

#[cfg(feature = "tls")]
#[test]
fn a_server_behind_tls_is_believed_when_its_authority_is_known() {
    use smartlog_models::registry::Login;
    let Some(mlflow) = Service::require("mlflow") else { return };
    let _turn = disturbing();
    let front = smartlog_test_services::tls::Front::before(&mlflow.address());
    let open = |authorities| Mlflow::new(front.url(), Login::default(), authorities);
    keeps_its_promises(&open(Some(front.authority())).expect("a server"));

    let unknown =
        open(None).expect("a server").versions().expect_err("nobody known vouches for it").to_string();
    assert!(unknown.contains(front.url()) && unknown.contains("certificate"), "{unknown}");
    let missing = open(Some(Path::new("/no/such/file"))).err().expect("no file").to_string();
    assert!(
        missing.contains("/no/such/file") && missing.contains("MLFLOW_TRACKING_SERVER_CERT_PATH"),
        "{missing}"
    );
    let other = tempfile::NamedTempFile::new().expect("a file");
    let none = open(Some(other.path())).err().expect("no certificate in it").to_string();
    assert!(none.contains("expected certificates, found none"), "{none}");
}

#[test]
fn the_login_is_sent_as_mlflows_own_client_sends_it() {
    use smartlog_models::registry::Login;
    let sent = |login: Login| asked(|url| Mlflow::new(&url, login, None).expect("a server"));
    let has = |lines: &[String], header: &str| lines.iter().any(|line| line.eq_ignore_ascii_case(header));
    let basic = sent(Login::basic("Aladdin", "open sesame"));
    assert!(has(&basic, "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "{basic:?}");
    let bearer = sent(Login::bearer("abc"));
    assert!(has(&bearer, "authorization: Bearer abc"), "{bearer:?}");
    let none = sent(Login::default());
    assert!(!none.iter().any(|line| line.to_lowercase().starts_with("authorization")));
}
