//! What users say of anomalies: kept, numbered without a gap, shown; and by whom it may be said.

mod common;

use common::{Bench, Seeded, Server};
use hyper::body::Bytes;
use serde_json::json;
use smartlog_api::{Scope, StoreUrl, Token};
use std::sync::Arc;

smartlog_test_services::on_both_stores!(
    the_last_word_counts_and_all_of_them_are_kept,
    listeners_are_told,
    many_at_once_are_numbered_without_a_gap,
    what_is_not_feedback_is_refused_in_words,
    tokens_are_asked_for_and_their_scopes_kept,
);

async fn seeded(bench: Bench) -> Server {
    bench.seed_pipeline().await;
    bench.seed_anomalies(5).await;
    bench.serve().await
}

async fn the_last_word_counts_and_all_of_them_are_kept(bench: Bench) {
    let server = seeded(bench).await;
    let path = "/api/v1/anomalies/2/feedback";
    for (verdict, shown) in [
        ("expected", json!("expected")),
        ("confirmed", json!("confirmed")),
        ("undo", json!(null)),
        ("expected", json!("expected")),
    ] {
        let said = server
            .post(path, &[], &json!({"verdict": verdict, "note": format!("so \"{verdict}\" ü")}).to_string())
            .await;
        assert_eq!((said.status, said.json()), (200, json!({"anomaly_id": 2, "feedback": shown})));
        assert_eq!(server.json("/api/v1/anomalies/2").await["feedback"], shown, "shown at once");
        let listed = server.json("/api/v1/anomalies?sort=id").await;
        assert_eq!(
            (&listed["anomalies"][1]["feedback"], &listed["anomalies"][0]["feedback"]),
            (&shown, &json!(null))
        );
    }
    let given = server.json("/api/v1/anomalies/2").await["feedback_given"].clone();
    let verdicts: Vec<_> =
        given.as_array().expect("a list").iter().map(|g| g["verdict"].as_str().expect("a word")).collect();
    assert_eq!(verdicts, ["expected", "undo", "confirmed", "expected"]);
    assert_eq!((&given[1]["note"], &given[1]["author"]), (&json!("so \"undo\" ü"), &json!(null)));
    // The stream carries it with the next change.
    let mut events =
        common::Events::open(&server, "/api/v1/anomalies/stream", &[("last-event-id", "1")]).await;
    assert_eq!(events.next_anomaly().await.1["anomaly"]["feedback"], "expected");
    server.end().await;
}

async fn listeners_are_told(bench: Bench) {
    let server = seeded(bench).await;
    let mut all = common::Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    let mut of_another = common::Events::open(&server, "/api/v1/anomalies/stream?service=search", &[]).await;
    // The poller has looked once, and what comes now is new to it.
    assert!(all.next("clock").await.is_some());
    // Anomaly 1 is payment-service's, anomaly 2 is of search.
    for id in [1, 2] {
        let path = format!("/api/v1/anomalies/{id}/feedback");
        assert_eq!(server.post(&path, &[], "{\"verdict\":\"expected\"}").await.status, 200);
    }
    for (events, id) in [(&mut all, 1), (&mut of_another, 2)] {
        let told = events.next("feedback").await.expect("an event");
        let said: serde_json::Value = serde_json::from_str(&told.data).expect("JSON");
        assert_eq!((said, told.id), (json!({"anomaly_id": id, "feedback": "expected"}), None));
    }
    server.end().await;
}

async fn many_at_once_are_numbered_without_a_gap(bench: Bench) {
    let server = Arc::new(seeded(bench).await);
    let say = |n: i64| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let path = format!("/api/v1/anomalies/{}/feedback", 1 + n % 5);
            server.post(&path, &[], "{\"verdict\":\"confirmed\"}").await.status
        })
    };
    let said: Vec<_> = (0..60).map(say).collect();
    for task in said {
        assert_eq!(task.await.expect("an answer"), 200);
    }
    let numbers = server.bench.numbers("select seq from feedback order by seq").await;
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    let server = Arc::into_inner(server).expect("all tasks have ended");
    server.end().await;
}

async fn what_is_not_feedback_is_refused_in_words(bench: Bench) {
    let server = seeded(bench).await;
    let long = format!("{{\"verdict\":\"expected\",\"note\":\"{}\"}}", "x".repeat(1_001));
    let huge = format!("{{\"verdict\":\"expected\",\"note\":\"{}\"}}", "x".repeat(70_000));
    for (id, body, status) in [
        ("1", "", 400),
        ("1", "{", 400),
        ("1", "{\"verdict\":\"expected\"} x", 400),
        ("1", "{}", 422),
        ("1", "[]", 422),
        ("1", "{\"verdict\":\"nonsense\"}", 422),
        ("1", "{\"verdict\":\"expected\",\"by\":\"me\"}", 422),
        ("1", "{\"verdict\":\"expected\",\"note\":7}", 422),
        ("1", "{\"verdict\":\"expected\",\"note\":\"\\u0000\"}", 422),
        ("1", &long, 422),
        ("1", &huge, 413),
        ("6", "{\"verdict\":\"expected\"}", 404),
        ("99999999999999999999", "{\"verdict\":\"expected\"}", 404),
        ("x", "{\"verdict\":\"expected\"}", 400),
    ] {
        let reply = server.post(&format!("/api/v1/anomalies/{id}/feedback"), &[], body).await;
        assert_eq!(reply.status, status, "{id} {body:.60}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    let path = "/api/v1/anomalies/1/feedback";
    let body = || Bytes::from_static(b"{\"verdict\":\"expected\"}");
    // What a form of another site could send.
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let reply = server.send("POST", path, &[("content-type", kind)], body()).await;
        assert_eq!(reply.status, 415, "{kind}");
    }
    let reply = server.get(path).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    assert_eq!(server.bench.numbers("select count(*) from feedback").await, [0]);
    server.end().await;
}

async fn tokens_are_asked_for_and_their_scopes_kept(bench: Bench) {
    bench.seed_pipeline().await;
    bench.seed_anomalies(5).await;
    let (reader, read) = Token::generate("grafana", &[Scope::Read]);
    let (both, all) = Token::generate("ops", &Scope::ALL);
    let mut config = bench.config();
    config.tokens = vec![reader, both];
    let server = Server::start(bench, config).await;
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        server.send(method, path, &headers, Bytes::from_static(b"{\"verdict\":\"expected\"}")).await
    };
    let feedback = "/api/v1/anomalies/1/feedback";
    let cut = &all[..all.len() - 1];
    for (method, path, token, status) in [
        ("GET", "/api/v1/anomalies", None, 401),
        ("GET", "/api/v1/anomalies", Some("slt_wrong"), 401),
        ("GET", "/api/v1/anomalies", Some(cut), 401),
        ("GET", "/api/v1/anomalies", Some(read.as_str()), 200),
        ("HEAD", "/api/v1/anomalies", None, 401),
        ("GET", "/api/v1/anomalies/stream", None, 401),
        ("GET", "/metrics", None, 401),
        ("GET", "/metrics", Some(&read), 200),
        ("POST", feedback, None, 401),
        ("POST", feedback, Some(&read), 403),
        ("POST", feedback, Some(&all), 200),
        ("GET", "/", None, 200),
        ("GET", "/health", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("GET", "/docs/index.html", None, 200),
        // A stale token does not hide the page that would ask for another.
        ("GET", "/", Some("slt_wrong"), 200),
    ] {
        let reply = ask(method, path, token).await;
        assert_eq!(reply.status, status, "{method} {path} {token:?}: {}", reply.text());
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.starts_with("Bearer"), status == 401, "{method} {path}: {challenge}");
    }
    let basic =
        server.send("GET", "/api/v1/anomalies", &[("authorization", "Basic b3BzOng=")], Bytes::new()).await;
    assert_eq!(basic.status, 401);
    let bearer = format!("Bearer {all}");
    let detail = server.send("GET", "/api/v1/anomalies/1", &[("authorization", &bearer)], Bytes::new()).await;
    assert_eq!(detail.json()["feedback_given"][0]["author"], "ops");
    server.end().await;
}

/// The rights that docs/API.md gives to the two roles are enough, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_role_reads_and_another_may_only_insert_feedback() {
    let Some(bench) = Bench::postgres().await else { return };
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md");
    let document = std::fs::read_to_string(document).expect("docs/API.md");
    let rights =
        document.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).expect("the roles as SQL");
    // Roles are the server's, not the database's.
    let name = bench.database().name().to_owned();
    let rights = rights
        .replace("smartlog_reader", &format!("{name}_r"))
        .replace("smartlog_feedback", &format!("{name}_f"));
    bench.execute(&rights).await;
    bench.seed_pipeline().await;
    bench.seed_anomalies(3).await;
    let StoreUrl::Postgres(url) = bench.url.clone() else { unreachable!("it is PostgreSQL") };
    let as_role = |role: &str| url.replace("postgres@", &format!("{name}_{role}@"));
    let mut config = bench.config();
    config.store = StoreUrl::Postgres(as_role("r"));
    config.feedback_store = Some(StoreUrl::Postgres(as_role("f")));
    let server = Server::start(bench, config).await;
    let said = server.post("/api/v1/anomalies/1/feedback", &[], "{\"verdict\":\"expected\"}").await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(server.json("/api/v1/anomalies/1").await["feedback"], "expected");
    for path in ["anomalies", "metrics/hourly", "services", "status", "logs", "patterns", "dead-letters"] {
        server.json(&format!("/api/v1/{path}")).await;
    }
    let teller = smartlog_test_services::database::connect(&as_role("f")).await;
    let reader = smartlog_test_services::database::connect(&as_role("r")).await;
    let insert = format!("{}{}", Seeded::INSERT, Seeded::number(9).row(&server.bench));
    for forbidden in [
        "select * from anomalies",
        "select * from feedback",
        "update anomalies set feedback = 'confirmed'",
        "update feedback set verdict = 'undo'",
        "delete from feedback",
        "truncate feedback",
        "create table x ()",
        &insert,
    ] {
        assert!(teller.batch_execute(forbidden).await.is_err(), "the role for feedback may {forbidden}");
        let may_read = forbidden.starts_with("select");
        assert_eq!(
            reader.batch_execute(forbidden).await.is_ok(),
            may_read,
            "the role that reads: {forbidden}"
        );
    }
    // What a session asks for as its number does not count.
    teller
        .batch_execute("insert into feedback (seq, anomaly_id, verdict) values (77, 2, 'confirmed')")
        .await
        .expect("allowed");
    assert_eq!(server.bench.numbers("select seq from feedback order by seq").await, [1, 2]);
    drop((teller, reader));
    let admin =
        format!("drop owned by {name}_r; drop owned by {name}_f; drop role {name}_r; drop role {name}_f");
    server.bench.execute(&admin).await;
    server.end().await;
}
