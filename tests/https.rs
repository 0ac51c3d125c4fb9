//! A webhook over TLS: the program tells it, and only who can prove its name.

use serde_json::Value;
use smartlog_test_services::{Service, tool};
use smartlog_tests::program::{Program, binary_with_s3};
use smartlog_tests::scene::PATIENCE;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A receiver that speaks https, in a process of its own.
struct HttpsReceiver {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: String,
}

impl HttpsReceiver {
    /// With the certificate for `localhost` that lies in `folder`.
    fn start(python: &str, folder: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/https.py");
        let mut command = Command::new(python);
        command.arg(script).args(["server.crt", "server.key"].map(|name| folder.join(name)));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = lines.next().expect("it starts").expect("text");
        HttpsReceiver { child, lines, port }
    }

    /// The path of the next request that it was sent.
    fn next(&mut self) -> String {
        self.lines.next().expect("a request").expect("text")
    }
}

impl Drop for HttpsReceiver {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_hook_is_told_by_https_and_only_who_can_prove_its_name() {
    let (Some(python), Some(postgres)) = (tool("python"), Service::require("postgres")) else { return };
    let authority = postgres.variable("CA");
    let mut receiver = HttpsReceiver::start(&python, Path::new(&authority).parent().expect("a folder"));
    let hook = |name: &str, host: &str| {
        let url = format!("{name}=https://{host}:{}/{name}", receiver.port);
        ["--alerts-hooks".to_owned(), format!("{name}=json"), "--alerts-urls".to_owned(), url]
    };
    let flags =
        ["doctor", "--store", "none", "--brokers", "127.0.0.1:1", "--send-test-alert", "--format", "json"];
    let flags =
        [&flags.map(str::to_owned)[..], &hook("right", "localhost"), &hook("misnamed", "127.0.0.1")].concat();
    let outcomes = |variables: &[(&str, &str)]| {
        let mut doctor = Program::start_as(binary_with_s3(), &flags, variables);
        doctor.wait(PATIENCE);
        let report: Value = serde_json::from_str(&doctor.printed()).expect("JSON");
        ["right", "misnamed"].map(|name| {
            let checks = report["checks"].as_array().expect("a list");
            let check =
                checks.iter().find(|check| check["name"] == format!("alert, {name}")).expect("it was tried");
            (check["outcome"].as_str().expect("text").to_owned(), check["found"].to_string())
        })
    };
    let [right, misnamed] = outcomes(&[("SSL_CERT_FILE", &authority)]);
    assert_eq!((right.0.as_str(), misnamed.0.as_str()), ("ok", "failed"), "{right:?} {misnamed:?}");
    let [stranger, _] = outcomes(&[]);
    assert_eq!(stranger.0, "failed", "nobody vouches for it: {}", stranger.1);
    assert_eq!(receiver.next(), "/right");
}
