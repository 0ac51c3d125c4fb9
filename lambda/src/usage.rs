//! What a call used, as metrics in the embedded format of CloudWatch and for the ledger.

use std::io::Write;

use jiff::Timestamp;
use serde_json::json;

use crate::failure::Fault;

/// Units of DynamoDB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Units {
    pub read: f64,
    pub write: f64,
}

/// What one call did and used.
#[derive(Debug, Clone, Default)]
pub struct Used {
    pub objects: u64,
    pub logs: i64,
    pub failures: Vec<Fault>,
    pub duration_ms: f64,
    /// Of the start before the first call of an instance, else none.
    pub init_ms: Option<f64>,
    pub memory_mb: f64,
    pub units: Units,
}

impl Used {
    /// Memory × time that is charged: whole milliseconds, the start included.
    pub fn gb_seconds(&self) -> f64 {
        let billed_ms = (self.duration_ms + self.init_ms.unwrap_or_default()).ceil();
        self.memory_mb / 1024.0 * billed_ms / 1000.0
    }

    /// What the ledger adds up, by day.
    pub fn ledger(&self) -> [(&'static str, f64); 7] {
        [
            ("invocations", 1.0),
            ("cold_starts", if self.init_ms.is_some() { 1.0 } else { 0.0 }),
            ("objects", self.objects as f64),
            ("failures", self.failures.len() as f64),
            ("gb_seconds", self.gb_seconds()),
            ("read_units", self.units.read),
            // The entry of the ledger itself takes one.
            ("write_units", self.units.write + 1.0),
        ]
    }

    /// One line in CloudWatch's embedded metric format: CloudWatch makes metrics of it, nobody is called.
    pub fn metrics(&self, function: &str, now: Timestamp) -> String {
        let metric = |name: &str, unit: &str| json!({"Name": name, "Unit": unit});
        let mut listed = vec![
            metric("objects", "Count"),
            metric("logs", "Count"),
            metric("failures", "Count"),
            metric("duration", "Milliseconds"),
            metric("read_units", "Count"),
            metric("write_units", "Count"),
        ];
        // The format wants a value in the line for each metric that is listed.
        listed.extend(self.init_ms.map(|_| metric("init", "Milliseconds")));
        let mut line = json!({
            "_aws": {
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": "smartlog",
                    "Dimensions": [["function"]],
                    "Metrics": listed,
                }],
            },
            "function": function,
            "objects": self.objects, "logs": self.logs, "failures": self.failures.len(), "duration": self.duration_ms,
            "read_units": self.units.read, "write_units": self.units.write,
            "faults": self.failures.iter().map(|fault| fault.as_str()).collect::<Vec<_>>(),
        });
        if let Some(init) = self.init_ms {
            line["init"] = init.into();
        }
        line.to_string()
    }
}

/// A line of metrics goes to standard output as it is, beside the log lines.
pub fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nothing can be done about a closed output, and the numbers are in the ledger too.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_charged_in_whole_milliseconds_with_the_start() {
        let warm = Used { duration_ms: 99.2, memory_mb: 256.0, ..Used::default() };
        assert!((warm.gb_seconds() - 0.25 * 0.1).abs() < 1e-12);
        let cold = Used { init_ms: Some(50.5), ..warm };
        assert!((cold.gb_seconds() - 0.25 * 0.150).abs() < 1e-12);
        assert_eq!(cold.ledger()[1], ("cold_starts", 1.0));
    }

    #[test]
    fn metrics_name_only_what_the_line_holds() {
        for (init_ms, metrics) in [(Some(3.0), 7), (None, 6)] {
            let used = Used { objects: 2, failures: vec![Fault::Broken], init_ms, ..Used::default() };
            let line: serde_json::Value =
                serde_json::from_str(&used.metrics("log-processor", Timestamp::UNIX_EPOCH)).expect("JSON");
            let listed = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("metrics");
            assert_eq!(listed.len(), metrics);
            assert!(listed.iter().all(|m| line[m["Name"].as_str().expect("a name")].is_number()), "{line}");
            assert_eq!((&line["objects"], &line["faults"][0]), (&2.into(), &"broken".into()));
        }
    }
}
