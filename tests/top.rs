//! `smartlog top` on the real demo: printed once, as JSON, in a terminal, and while nobody answers.

use serde_json::Value;
use smartlog_test_services::tool;
use smartlog_tests::eventually;
use smartlog_tests::program::{Program, binary, run_to_end};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// The demo, and the URL of its API.
fn demo() -> (Program, String) {
    let program = Program::start(&["demo", "--listen", "127.0.0.1:0", "--rate", "300"]);
    program.wait_for_words("address=", PATIENCE);
    let said = program.said();
    let (_, rest) = said.split_once("address=").expect("it was waited for");
    let url = format!("http://{}", rest.split_whitespace().next().expect("an address"));
    (program, url)
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn it_shows_what_the_running_pipeline_does() {
    let (mut demo, url) = demo();
    let frame = eventually("a frame with everything in it", PATIENCE, || {
        let (status, printed, said) = run_to_end(&["top", "--format", "json", "--url", &url], PATIENCE);
        assert!(status.success(), "{said}");
        let frame: Value = serde_json::from_str(&printed).expect("JSON");
        let flows = is_positive(&frame["flow"]["records_per_s"]) && is_positive(&frame["flow"]["tick_ms"]);
        let services = frame["services"]
            .as_array()
            .is_some_and(|services| services.iter().any(|s| is_positive(&s["log_rate"])));
        (flows && services).then_some(frame)
    });
    assert_eq!(
        (&frame["api"]["trouble"], &frame["metrics"]["trouble"]),
        (&Value::Null, &Value::Null),
        "{frame}"
    );
    assert_eq!(frame["status"]["pipeline"], "running", "{frame}");
    let partitions = frame["partitions"].as_array().expect("a list");
    assert!(!partitions.is_empty() && partitions.iter().all(|p| p["lag_records"].is_number()), "{frame}");
    let queues: Vec<&str> =
        frame["queues"].as_array().expect("a list").iter().filter_map(|q| q["name"].as_str()).collect();
    for kind in ["fetched", "waiting", "lane", "sink"] {
        assert!(
            queues.iter().any(|queue| queue.split(' ').next() == Some(kind)),
            "{kind} is not among {queues:?}"
        );
    }
    let (status, printed, said) = run_to_end(&["top", "--once", "--url", &url], PATIENCE);
    assert!(status.success(), "{said}");
    assert_eq!(printed.lines().count(), 24, "{printed}");
    assert!(printed.contains("records/s") && printed.contains("Open episodes"), "{printed}");

    if let Some(python) = tool("python") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/top/terminal.py");
        let user = Command::new(python).arg(script).arg(binary()).args(["top", "--url", &url]).output();
        let user = user.expect("python runs");
        let told =
            format!("{}{}", String::from_utf8_lossy(&user.stdout), String::from_utf8_lossy(&user.stderr));
        assert!(user.status.success() && told.contains("DONE"), "{told}");
    }
    demo.terminate();
    demo.succeed(PATIENCE);
}

#[test]
fn it_says_that_nobody_answers() {
    // Taken and given back: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let (status, printed, said) =
        run_to_end(&["top", "--once", "--url", &url, "--refresh", "100ms"], PATIENCE);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(printed.contains("DISCONNECTED") && said.contains(&url), "{printed}{said}");
    let (status, _, said) = run_to_end(&["top", "--url", &url], PATIENCE);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("--once"), "{said}");
}
