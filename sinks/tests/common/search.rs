//! A real OpenSearch, looked at past the product.

use serde_json::Value;
use smartlog_sinks::search::SearchConfig;
use smartlog_sinks::{CancellationToken, Health, LogSink, LogSinkEntry, StoreConfig};
use smartlog_test_services::Service;
use std::time::Duration;

pub struct Index {
    pub config: SearchConfig,
}

impl Index {
    /// A prefix of its own on the server; `None` when the user said to go without.
    pub fn create() -> Option<Self> {
        let server = Service::require("opensearch")?;
        Some(Index {
            config: SearchConfig {
                url: server.address(),
                login_file: None,
                authorities: None,
                prefix: format!("test-{:x}", rand::random::<u64>()),
                retention: Duration::from_secs(30 * 86_400),
                max_request_bytes: 64 << 10,
                timeout: Duration::from_secs(30),
            },
        })
    }

    pub fn sink(&self, store: &StoreConfig) -> (Box<dyn LogSink>, Health) {
        let health = Health::new();
        let entry = LogSinkEntry::search(self.config.clone(), store);
        (entry.open(health.clone(), CancellationToken::new()).expect("a sink"), health)
    }

    /// Asks the server; the answer, whatever its status.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.config.url))
            .header("content-type", "application/json");
        let mut answer = match body {
            "" => agent.run(request.body(()).expect("a request")),
            body => agent.run(request.body(body.to_owned()).expect("a request")),
        }
        .expect("an answer");
        let text = answer.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Every document below an index pattern, in the order of offsets: with `_index`, `_id`, `_version` and `_source`.
    pub fn documents(&self, pattern: &str) -> Vec<Value> {
        self.ask("POST", &format!("{pattern}/_refresh"), "");
        let query = r#"{"size": 10000, "version": true, "sort": ["kafka_partition", "kafka_offset"]}"#;
        let found = self.ask("POST", &format!("{pattern}/_search"), query);
        found["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{found}")).clone()
    }

    /// The offsets of all documents.
    pub fn offsets(&self) -> Vec<i64> {
        let all = self.documents(&format!("{}-*", self.config.prefix));
        all.iter().map(|one| one["_source"]["kafka_offset"].as_i64().expect("an offset")).collect()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.ask("DELETE", &format!("{}-*", self.config.prefix), "");
        self.ask("DELETE", &format!("_index_template/{}", self.config.prefix), "");
    }
}
