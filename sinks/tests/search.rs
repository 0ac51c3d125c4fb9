//! Every log once in a real OpenSearch, whatever is sent again, refused, put off or taken over.

mod common;

use common::Bench;
use common::search::Index;
use serde_json::json;
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_sinks::search::{SEARCH, SearchConfig, probe_search};
use smartlog_sinks::{SinkError, set_start};
use smartlog_test_services::Service;
use std::io::Write as _;
use std::time::Duration;

smartlog_test_services::on_both_stores!(
    a_log_is_a_document_of_its_day,
    what_comes_again_is_there_once,
    the_stale_one_of_two_writers_is_fenced,
    only_what_was_put_off_is_sent_again,
    what_is_refused_is_kept_as_text_and_holds_nothing_up,
    days_that_are_too_old_go_and_nothing_else,
    a_request_is_cut_to_what_a_server_takes,
);

const T0: i64 = 1_768_471_200_000_000; // 2026-01-15T10:00:00Z
const DAY: i64 = 86_400_000_000;
const UNKNOWN: i64 = i64::MIN;

fn tp() -> TopicPartition {
    TopicPartition::new("app.logs", 3)
}

fn log(offset: i64, timestamp_us: i64) -> LogRef<'static> {
    LogRef {
        offset,
        timestamp_us,
        level: Level::Error,
        service: "payment-service",
        host: Some("server-01"),
        message: "Database connection timeout",
        metadata: Some(r#"{"request_id": "abc-123", "duration_ms": 5000, "user": {"a": 1, "a": [2]}}"#),
        shape: 7,
    }
}

fn batch<'a>(first: i64, next: i64, logs: impl IntoIterator<Item = LogRef<'a>>) -> LogBatch {
    let mut batch = LogBatch::new(tp(), first);
    logs.into_iter().for_each(|log| batch.push(&log));
    batch.next_offset = next;
    batch
}

/// Offsets `first..next`, all of them logs of one day.
fn day(first: i64, next: i64, timestamp_us: i64) -> LogBatch {
    batch(first, next, (first..next).map(|offset| log(offset, timestamp_us)))
}

async fn a_log_is_a_document_of_its_day(bench: Bench) {
    let Some(index) = Index::create() else { return };
    let (mut sink, health) = index.sink(&bench.config);
    assert_eq!(sink.resume(&[tp()]).await, Ok(Positions::new()));
    let midnight = (T0.div_euclid(DAY) + 1) * DAY;
    let logs = [log(10, midnight - 1), LogRef { host: None, metadata: None, ..log(12, midnight) }];
    sink.write(&[batch(10, 15, logs)], midnight).await.expect("written");
    let found = index.documents(&format!("{}-*", index.config.prefix));
    let prefix = &index.config.prefix;
    let places: Vec<_> = found.iter().map(|one| (&one["_index"], &one["_id"])).collect();
    assert_eq!(
        places,
        [
            (&json!(format!("{prefix}-2026.01.15")), &json!("app.logs-3-10")),
            (&json!(format!("{prefix}-2026.01.16")), &json!("app.logs-3-12")),
        ]
    );
    let expected = json!({
        "timestamp": "2026-01-15T23:59:59.999999Z", "level": "ERROR", "service": "payment-service", "host": "server-01",
        "message": "Database connection timeout", "request_id": "abc-123", "duration_ms": 5000.0,
        "metadata": { "request_id": "abc-123", "duration_ms": 5000, "user": { "a": [2] } },
        "shape": 7, "kafka_topic": "app.logs", "kafka_partition": 3, "kafka_offset": 10,
    });
    assert_eq!(found[0]["_source"], expected);
    let query = r#"{"query": {"bool": {"filter": [{"match": {"message": "timeout"}}, {"term": {"service": "payment-service"}},
        {"range": {"timestamp": {"gte": "2026-01-16"}}}]}}}"#;
    let hits = index.ask("POST", &format!("{prefix}-*/_search"), query);
    assert_eq!(hits["hits"]["total"]["value"], 1, "{hits}");
    assert_eq!((health.rows(), health.dead_letters()), (2, 0));
    let sql = "SELECT next_offset, watermark_us FROM sink_positions WHERE sink = 'search'";
    assert_eq!(bench.query(sql).await, [[Some("15".into()), Some(midnight.to_string())]]);
    bench.drop_it().await;
}

/// What a kill leaves between documents and position is written again.
async fn what_comes_again_is_there_once(bench: Bench) {
    let Some(index) = Index::create() else { return };
    let (mut killed, _) = index.sink(&bench.config);
    killed.resume(&[tp()]).await.expect("claimed");
    killed.write(&[day(0, 300, T0)], UNKNOWN).await.expect("written");
    set_start(&bench.config, SEARCH, &[(tp(), 100)].into())
        .await
        .expect("as if that were all that was noted");
    let (mut next, health) = index.sink(&bench.config);
    assert_eq!(next.resume(&[tp()]).await, Ok([(tp(), 100)].into()));
    // Cut otherwise, and reaching below the position.
    next.write(&[day(50, 180, T0), day(180, 410, T0)], UNKNOWN).await.expect("written");
    assert_eq!(index.offsets(), (0..410).collect::<Vec<_>>());
    assert_eq!(health.rows(), 310);
    next.write(&[day(200, 410, T0)], UNKNOWN).await.expect("nothing of it is new");
    assert_eq!((health.rows(), health.commits()), (310, 1));
    bench.drop_it().await;
}

async fn the_stale_one_of_two_writers_is_fenced(bench: Bench) {
    let Some(index) = Index::create() else { return };
    let (mut stale, _) = index.sink(&bench.config);
    stale.resume(&[tp()]).await.expect("claimed");
    stale.write(&[day(0, 10, T0)], UNKNOWN).await.expect("written");
    let (mut other, _) = index.sink(&bench.config);
    assert_eq!(other.resume(&[tp()]).await, Ok([(tp(), 10)].into()));
    let fenced = stale.write(&[day(10, 20, T0)], UNKNOWN).await.expect_err("not its own any more");
    assert!(matches!(&fenced, SinkError::Fenced { .. }), "{fenced}");
    other.write(&[day(10, 30, T0)], UNKNOWN).await.expect("written");
    assert_eq!(index.offsets(), (0..30).collect::<Vec<_>>());
    bench.drop_it().await;
}

/// A day that takes no writes answers 429 for each of its documents; the other day's are taken at once.
async fn only_what_was_put_off_is_sent_again(bench: Bench) {
    let Some(index) = Index::create() else { return };
    let (mut sink, health) = index.sink(&bench.config);
    sink.resume(&[tp()]).await.expect("claimed");
    sink.write(&[day(0, 1, T0)], UNKNOWN).await.expect("written");
    let blocked = format!("{}-2026.01.15/_settings", index.config.prefix);
    let block = |on: bool| {
        let set =
            json!({ "index.blocks.read_only_allow_delete": if on { json!(true) } else { json!(null) } });
        assert_eq!(index.ask("PUT", &blocked, &set.to_string()), json!({ "acknowledged": true }));
    };
    block(true);
    let writing = tokio::spawn(async move {
        let logs = (1..101).map(|offset| log(offset, T0 + DAY * (offset % 2)));
        sink.write(&[batch(1, 101, logs)], UNKNOWN).await
    });
    let put_off = async {
        while health.retries() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, put_off).await.expect("it is tried again");
    let said = format!("{:?}", health.state());
    assert!(said.contains("429") && said.contains("50 documents were not taken yet"), "{said}");
    assert_eq!(health.rows(), 1, "nothing is counted before all of it is there");
    block(false);
    writing.await.expect("no panic").expect("written");
    let all = index.documents(&format!("{}-*", index.config.prefix));
    assert_eq!(all.len(), 101);
    assert!(all.iter().all(|one| one["_version"] == 1), "what was taken was sent once");
    bench.drop_it().await;
}

async fn what_is_refused_is_kept_as_text_and_holds_nothing_up(bench: Bench) {
    let Some(index) = Index::create() else { return };
    let odd = format!("{}-2026.01.15", index.config.prefix);
    index.ask("PUT", &odd, r#"{"mappings": {"properties": {"message": {"type": "long"}}}}"#);
    let (mut sink, health) = index.sink(&bench.config);
    sink.resume(&[tp()]).await.expect("claimed");
    let long = "x".repeat(40 << 10);
    let of = |offset: i64| match offset % 3 {
        0 => log(offset, T0),
        1 => LogRef { message: "17", ..log(offset, T0) },
        _ => LogRef { message: &long, ..log(offset, T0 + DAY) },
    };
    sink.write(&[batch(0, 30, (0..30).map(of))], UNKNOWN).await.expect("written");
    assert_eq!(index.offsets(), (0..30).collect::<Vec<_>>());
    assert_eq!((health.rows(), health.dead_letters()), (20, 10));
    let refused = index.documents(&format!("{}-refused-2026.01.15", index.config.prefix));
    assert_eq!(refused.len(), 10);
    let (id, source) = (&refused[1]["_id"], &refused[1]["_source"]);
    assert_eq!(
        (id, &source["refused_message"]),
        (&json!("app.logs-3-3"), &json!("Database connection timeout"))
    );
    assert!(
        source["refused"].as_str().is_some_and(|why| why.contains("mapper_parsing_exception")),
        "{source}"
    );
    let sql = "SELECT next_offset FROM sink_positions WHERE sink = 'search'";
    assert_eq!(bench.number(sql).await, 30);
    bench.drop_it().await;
}

async fn days_that_are_too_old_go_and_nothing_else(bench: Bench) {
    let Some(mut index) = Index::create() else { return };
    index.config.retention = Duration::from_secs(2 * 86_400);
    let prefix = index.config.prefix.clone();
    for foreign in ["notes", "2026.01.01-copy", "refused-notes"] {
        index.ask("PUT", &format!("{prefix}-{foreign}"), "");
    }
    let (mut sink, health) = index.sink(&bench.config);
    sink.resume(&[tp()]).await.expect("claimed");
    let logs = (0..5).map(|offset| log(offset, T0 + offset * DAY));
    sink.write(&[batch(0, 5, logs)], UNKNOWN).await.expect("written");
    let days = || {
        let rows = index.ask("GET", &format!("_cat/indices/{prefix}-*?h=index&format=json"), "");
        let names = rows.as_array().expect("a list").iter().map(|row| row["index"].as_str().expect("a name"));
        let mut names: Vec<String> = names.map(|name| name[prefix.len() + 1..].to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(days().len(), 8);
    // At noon of the 19th two days reach back into the 17th.
    sink.write(&[], T0 + 4 * DAY + DAY / 12).await.expect("noted");
    let kept = ["2026.01.01-copy", "2026.01.17", "2026.01.18", "2026.01.19", "notes", "refused-notes"];
    assert_eq!(days(), kept);
    let late = (5..8).map(|offset| log(offset, T0 + (offset - 4) * DAY));
    sink.write(&[batch(5, 8, late)], T0 + 4 * DAY + DAY / 12).await.expect("written");
    assert_eq!(days(), kept);
    assert_eq!(index.offsets(), [2, 3, 4, 6, 7], "what would be deleted at once is not written");
    assert_eq!((health.rows(), bench.number("SELECT next_offset FROM sink_positions").await), (7, 8));
    bench.drop_it().await;
}

/// Documents far beyond a request's usual size, and requests of one document.
async fn a_request_is_cut_to_what_a_server_takes(bench: Bench) {
    let Some(mut index) = Index::create() else { return };
    index.config.max_request_bytes = 2_000;
    let (mut sink, _) = index.sink(&bench.config);
    sink.resume(&[tp()]).await.expect("claimed");
    let large = "word ".repeat(200 << 10);
    let of = |offset: i64| match offset {
        7 => LogRef { message: &large, ..log(offset, T0) },
        _ => log(offset, T0),
    };
    sink.write(&[batch(0, 50, (0..50).map(of))], UNKNOWN).await.expect("written");
    assert_eq!(index.offsets(), (0..50).collect::<Vec<_>>());
    bench.drop_it().await;
}

#[tokio::test]
async fn a_template_that_people_changed_stays() {
    let Some(index) = Index::create() else { return };
    let bench = Bench::sqlite().await;
    let path = format!("_index_template/{}", index.config.prefix);
    let own = json!({ "index_patterns": [format!("{}-*", index.config.prefix)], "_meta": { "mine": true } });
    index.ask("PUT", &path, &own.to_string());
    let (mut sink, _) = index.sink(&bench.config);
    sink.resume(&[tp()]).await.expect("claimed");
    let found = index.ask("GET", &path, "");
    assert_eq!(found["index_templates"][0]["index_template"]["_meta"]["mine"], true, "{found}");
}

#[tokio::test]
async fn a_probe_says_who_answers_and_what_is_wrong() {
    let Some(index) = Index::create() else { return };
    let found = probe_search(&index.config).await.expect("it answers");
    assert!(found.contains("opensearch 2.") && found.contains(&index.config.url), "{found}");
    let other = |url: &str| SearchConfig { url: url.into(), ..index.config.clone() };
    let nobody =
        probe_search(&other("http://me:s3cr3tcanary@127.0.0.1:1")).await.expect_err("nobody").to_string();
    assert!(nobody.contains("http://127.0.0.1:1") && !nobody.contains("canary"), "{nobody}");
    let Some(minio) = Service::require("minio") else { return };
    let wrong = probe_search(&other(&minio.address())).await.expect_err("no search index").to_string();
    assert!(wrong.contains("cannot ask who it is"), "{wrong}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_behind_tls_is_believed_when_its_authority_is_known() {
    let Some(index) = Index::create() else { return };
    let front = smartlog_test_services::tls::Front::before(&index.config.url);
    let trusting =
        |authorities| SearchConfig { url: front.url().to_owned(), authorities, ..index.config.clone() };
    let found = probe_search(&trusting(Some(front.authority().to_owned()))).await.expect("it answers");
    assert!(found.contains(front.url()), "{found}");
    let unknown = probe_search(&trusting(None)).await.expect_err("nobody known vouches for it").to_string();
    assert!(unknown.contains("certificate"), "{unknown}");
    let mut none = tempfile::NamedTempFile::new().expect("a file");
    none.write_all(b"no certificate").expect("written");
    let none =
        probe_search(&trusting(Some(none.path().to_owned()))).await.expect_err("no authority").to_string();
    assert!(none.contains("expected certificates, found none") && none.contains("search.ca_file"), "{none}");
}
