//! The cloud on this machine (`tests/cloud/world.py`): an S3 where a PUT starts the packaged function, and its tables.

use crate::program::bootstrap;
use serde_json::{Value, json};
use smartlog_test_services::{Service, tool};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Ends with its processes when dropped.
pub struct World {
    child: Child,
    /// Taken when it ends.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    places: Value,
}

impl World {
    /// Starts it; `None` when tests of services are switched off.
    pub fn start() -> Option<Self> {
        for service in ["minio", "dynamodb"] {
            Service::require(service)?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud/world.py");
        let mut command = Command::new(tool("python")?);
        command.arg("-B").arg(script).arg(bootstrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python starts");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut world = World { child, orders, answers, places: Value::Null };
        world.places = world.answer();
        Some(world)
    }

    fn ask(&mut self, order: &Value) -> Value {
        let orders = self.orders.as_mut().expect("it ends only when dropped");
        writeln!(orders, "{order}").expect("it listens");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the local cloud ended: {error}: {line}"))
    }

    /// Gives an order; its answer.
    ///
    /// # Panics
    /// When it could not be carried out.
    pub fn order(&mut self, order: &Value) -> Value {
        let mut answer = self.ask(order);
        assert!(
            answer.get("error").is_none(),
            "{order}: {}\nthe function said:\n{}",
            answer["error"],
            self.log()
        );
        answer["ok"].take()
    }

    fn log(&mut self) -> String {
        self.ask(&json!({"do": "log"}))["ok"].as_str().unwrap_or_default().replace("\\n", "\n")
    }

    fn place(&self, name: &str) -> &str {
        self.places[name].as_str().expect("a place")
    }

    /// `s3://BUCKET/PREFIX`.
    pub fn target(&self) -> &str {
        self.place("target")
    }

    /// What leads `smartlog` there.
    pub fn variables(&self) -> Vec<(&str, &str)> {
        vec![
            ("SMARTLOG_EXPORT_TARGET", self.target()),
            ("SMARTLOG_EXPORT_S3_ENDPOINT", self.place("s3")),
            ("SMARTLOG_EXPORT_S3_REGION", "eu-west-1"),
            ("SMARTLOG_EXPORT_S3_PATH_STYLE", "true"),
            ("SMARTLOG_CLOUD_CONTRIBUTIONS_TABLE", self.place("parts")),
            ("SMARTLOG_CLOUD_MEASURE_EVERY", "1ms"),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.place("dynamodb")),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "testtest"),
            ("NO_PROXY", "127.0.0.1"),
        ]
    }

    /// Every row of the lake, sorted by topic, partition and offset, as pyarrow and DuckDB both read it; checks that the
    /// files are as documented.
    pub fn rows(&mut self) -> Vec<Value> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        self.order(&json!({"do": "copy", "folder": folder.path().to_str()}));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sinks/tests/read_lake.py");
        let python = tool("python").expect("it was there before");
        let output =
            Command::new(python).arg("-B").arg(script).arg(folder.path()).output().expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It ends its own processes when its input ends; a killed one could not.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
