//! The program and a real OpenSearch: every log of the topic is there once, through kills of both. And its dashboard, which asks
//! for fields that the index has.

use serde_json::Value;
use smartlog_test_services::Service;
use smartlog_tests::manifest::{members, repository, strings};
use smartlog_tests::program::run_to_end;
use smartlog_tests::scene::{PATIENCE, Scene};
use smartlog_tests::store::Kind;
use smartlog_tests::{eventually, unique, web};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many logs, and the sum of their offsets: by partition, by service, by level.
type Tally = BTreeMap<String, (i64, i64)>;

fn in_the_index(server: &str, prefix: &str) -> Tally {
    web::send_json("POST", &format!("{server}/{prefix}-*/_refresh"), "").expect("an answer");
    let by = |field: &str| {
        format!(
            r#""{field}": {{"terms": {{"field": "{field}", "size": 1000}}, "aggs": {{"offsets": {{"sum": {{"field": "kafka_offset"}}}}}}}}"#
        )
    };
    let fields = ["kafka_partition", "service", "level"];
    let aggregations: Vec<String> = fields.iter().map(|field| by(field)).collect();
    let query = format!(r#"{{"size": 0, "aggs": {{{}}}}}"#, aggregations.join(", "));
    let (status, body) =
        web::send_json("POST", &format!("{server}/{prefix}-*/_search"), &query).expect("an answer");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200, "{answer}");
    let mut tally = Tally::new();
    for field in fields {
        let found = &answer["aggregations"][field]["buckets"];
        for bucket in found.as_array().into_iter().flatten() {
            let key = bucket["key"].as_str().map_or_else(|| bucket["key"].to_string(), str::to_owned);
            let sum = bucket["offsets"]["value"].as_f64().expect("a sum") as i64;
            tally.insert(format!("{field} {key}"), (bucket["doc_count"].as_i64().expect("a count"), sum));
        }
    }
    tally
}

fn in_the_store(scene: &mut Scene) -> Tally {
    let mut tally = Tally::new();
    for field in ["kafka_partition", "service", "level"] {
        let sql = format!(
            "select {field}::text, count(*)::text, sum(kafka_offset)::text from logs group by {field}"
        );
        for row in scene.store.rows(&sql) {
            let cell = |at: usize| row[at].as_deref().expect("a value");
            let number = |at: usize| cell(at).parse().expect("a number");
            tally.insert(format!("{field} {}", cell(0)), (number(1), number(2)));
        }
    }
    tally
}

#[test]
fn every_log_is_in_the_index_once_through_kills_of_both() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "search") else { return };
    let Some(search) = Service::require("opensearch") else { return };
    let (url, prefix) = (search.address(), unique("search-logs"));
    // Small, so that a kill falls between requests and positions.
    let told = ["--search-url", &url, "--search-prefix", &prefix, "--search-max-request-bytes", "256KiB"];
    let doctor = ["doctor", "--store", &scene.store.url, "--brokers", &scene.kafka.address()];
    let (_, said, _) = run_to_end(&[&doctor[..], &told[..2]].concat(), PATIENCE);
    let line = said.lines().find(|line| line.contains(" search "));
    assert!(line.is_some_and(|line| line.starts_with("ok") && line.contains("opensearch 2.")), "{said}");

    scene.backlog(30_000);
    for _ in 0..4 {
        let before = scene.store.progress("search");
        let mut program = scene.start(&told);
        let store = &mut scene.store;
        eventually("it gets on", PATIENCE, || (store.progress("search") > before).then_some(()));
        program.kill();
        scene.backlog(5_000);
    }
    let mut program = scene.start(&told);
    search.kill_all();
    scene.live_for(400, Duration::from_secs(2));
    // Nothing else waits for it.
    scene.settle();
    search.start();
    let end: i64 = scene.topic.ends().values().map(|(_, end)| end).sum();
    let store = &mut scene.store;
    eventually("the index is there too", PATIENCE * 3, || (store.progress("search") == end).then_some(()));
    program.terminate();
    program.succeed(PATIENCE);
    let (index, store) = (in_the_index(&url, &prefix), in_the_store(&mut scene));
    assert!(store.len() > 8, "{store:?}");
    assert_eq!(index, store);
    web::send_json("DELETE", &format!("{url}/{prefix}-*"), "").expect("an answer");
}

/// What is done with a field.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// It is an axis of time.
    Time,
    /// Values are told apart: groups, order.
    Values,
    Search,
    Show,
}

impl Use {
    fn goes_with(self, kind: &str) -> bool {
        match self {
            Use::Time => kind == "date",
            Use::Values => !["text", "object"].contains(&kind),
            Use::Search => kind != "object",
            Use::Show => true,
        }
    }
}

/// JSON that stands as text within JSON.
fn inner(text: &Value) -> Value {
    text.as_str().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"))
}

/// The fields that saved objects name, one object a line, and what for.
fn named(dashboard: &str) -> Vec<(String, Use)> {
    let mut found = Vec::new();
    for line in dashboard.lines() {
        let object: Value = serde_json::from_str(line).expect("JSON");
        let attributes = &object["attributes"];
        let mut add = |name: &str, what_for| found.push((name.to_owned(), what_for));
        if let Some(name) = attributes["timeFieldName"].as_str() {
            add(name, Use::Time);
        }
        strings(&attributes["columns"]).iter().for_each(|name| add(name, Use::Show));
        for pair in attributes["sort"].as_array().into_iter().flatten() {
            add(pair[0].as_str().expect("a name"), Use::Values);
        }
        for part in inner(&attributes["visState"])["aggs"].as_array().into_iter().flatten() {
            let what_for = if part["type"] == "date_histogram" { Use::Time } else { Use::Values };
            if let Some(name) = part["params"]["field"].as_str() {
                add(name, what_for);
            }
        }
        let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
        let query = source["query"]["query"].as_str().unwrap_or_default();
        for (end, _) in query.match_indices(':') {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
            add(query[..end].rsplit(|c| !is_name(c)).next().unwrap_or_default(), Use::Search);
        }
    }
    found
}

/// The fields of the index template that the program puts, and of which type they are.
fn indexed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("sinks/src/search/index-template.json"));
    let template: Value = serde_json::from_str(&text.expect("a file")).expect("JSON");
    let kind = |field: &Value| field["type"].as_str().expect("a type").to_owned();
    let mut found = BTreeMap::new();
    for (name, field) in members(&template["template"]["mappings"]["properties"]) {
        found.insert(name.clone(), kind(field));
        found.extend(members(&field["fields"]).map(|(part, field)| (format!("{name}.{part}"), kind(field))));
    }
    found
}

/// What a dashboard asks of the index that it has not.
fn missing(dashboard: &str) -> Vec<(String, Use)> {
    let indexed = indexed();
    let fits = |name: &str, what_for: Use| indexed.get(name).is_some_and(|kind| what_for.goes_with(kind));
    named(dashboard).into_iter().filter(|(name, what_for)| !fits(name, *what_for)).collect()
}

#[test]
fn the_dashboard_asks_for_fields_that_the_index_has() {
    let file = repository().join("compose/elk/dashboard.ndjson");
    let dashboard = std::fs::read_to_string(file).expect("a file");
    let asked = named(&dashboard);
    assert!(asked.len() > 12, "fields are looked for where it names none: {asked:?}");
    let missing_in_it = missing(&dashboard);
    assert!(missing_in_it.is_empty(), "{missing_in_it:?}");
    for (right, wrong) in [
        ("message.keyword", "message"),
        ("\"host\"", "\"hostname\""),
        ("level:(", "severity:("),
        ("\"timeFieldName\": \"timestamp\"", "\"timeFieldName\": \"@timestamp\""),
        ("\\\"field\\\": \\\"timestamp\\\"", "\\\"field\\\": \\\"level\\\""),
        ("[\"timestamp\", \"desc\"]", "[\"message\", \"desc\"]"),
    ] {
        let broken = dashboard.replace(right, wrong);
        assert_ne!(broken, dashboard, "the dashboard names {right}");
        assert!(!missing(&broken).is_empty(), "{wrong} was not found in it");
    }
}
