//! Traces of the running program, as a receiver that others wrote decodes them (`opentelemetry-proto`).

use serde_json::Value;
use smartlog_test_services::tool;
use smartlog_tests::program::{Program, binary_with_s3};
use smartlog_tests::scene::PATIENCE;
use smartlog_tests::{eventually, web};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A receiver in a process of its own, and the spans that it was sent.
struct Collector {
    child: Child,
    spans: Receiver<Value>,
    seen: Vec<Value>,
    endpoint: String,
}

impl Collector {
    fn start(python: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/otlp.py");
        let mut child = Command::new(python).arg(script).stdout(Stdio::piped()).spawn().expect("python runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = lines.next().expect("it starts").expect("text");
        let (tell, spans) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more once the test is over.
                let _ = tell.send(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Collector { child, spans, seen: Vec::new(), endpoint: format!("http://127.0.0.1:{port}") }
    }

    /// Waits for a span that is as wanted.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, PATIENCE, || {
            self.seen.extend(self.spans.try_iter());
            self.seen.iter().find(|span| wanted(span)).cloned()
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn commits_ticks_and_requests_are_told_to_whoever_collects_traces() {
    let Some(python) = tool("python") else { return };
    let mut collector = Collector::start(&python);
    let flags = ["demo", "--listen", "127.0.0.1:0", "--telemetry-otlp-endpoint", &collector.endpoint];
    let variables = [("OTEL_SERVICE_NAME", "trial"), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let mut demo = Program::start_as(binary_with_s3(), &flags, &variables);
    demo.wait_for_words("address=", PATIENCE);
    let said = demo.said();
    let (_, rest) = said.split_once("address=").expect("it was waited for");
    let address = rest.split_whitespace().next().expect("an address");
    web::json(&format!("http://{address}/api/v1/status"));
    web::get(&format!("http://{address}/nowhere/at/all")).expect("an answer");

    let request = collector.wait_for("the request", |span| span["name"] == "GET /api/v1/status");
    assert_eq!(
        (&request["path"], &request["service"], &request["kind"]),
        (&"/v1/traces".into(), &"trial".into(), &2.into())
    );
    assert_eq!(request["attributes"]["http.response.status_code"], 200, "{request}");
    let lost = collector.wait_for("what matched no route", |span| span["name"] == "GET unmatched");
    assert_eq!(lost["attributes"]["http.response.status_code"], 404, "{lost}");
    assert!(!lost.to_string().contains("nowhere"), "what a client made up is no name: {lost}");
    let commit =
        collector.wait_for("a commit", |span| span["name"] == "commit" && span["attributes"]["seconds"] != 0);
    assert!(commit["took_us"].as_i64().is_some_and(|took| took > 0), "{commit}");
    collector.wait_for("a tick", |span| span["name"] == "tick");
    assert!(!demo.said().contains("smartlog_trace"), "lines look as they do without: {}", demo.said());
    demo.terminate();
    demo.succeed(PATIENCE);
}

#[test]
fn a_receiver_that_is_away_is_no_trouble() {
    // Taken and given back: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = format!("sqlite:{}", folder.path().join("a.db").display());
    let flags = ["api", "--listen", "127.0.0.1:0", "--store", &store];
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let mut api = Program::start_as(binary_with_s3(), &flags, &variables);
    api.wait_for_words("address=", PATIENCE);
    let said = api.said();
    let (_, rest) = said.split_once("address=").expect("it was waited for");
    let address = rest.split_whitespace().next().expect("an address");
    assert_eq!(web::json(&format!("http://{address}/health/live"))["status"], "ok");
    api.wait_for_words("opentelemetry", PATIENCE);
    assert_eq!(web::json(&format!("http://{address}/health/live"))["status"], "ok");
    api.terminate();
    api.succeed(PATIENCE);
}
