//! Alerts to people, sent by the running program to a receiver on this host that fails, is slow, asks for patience, forgets
//! messages; to Alertmanager itself; and over kills of the program.
//!
//! ```text
//!   Traffic ─▶ Kafka ─▶ smartlog run ─▶ anomaly_events ─▶ alert_outbox ─▶ Receiver
//!                                            ▲
//!                        rows that the test adds where the moment matters
//! ```

use serde_json::{Value, json};
use smartlog_test_services::Service;
use smartlog_tests::program::{Program, run_to_end};
use smartlog_tests::scene::{MINUTE_US, PATIENCE, SECOND_US, STOP, Scene};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::web::{self, Received, Receiver, Reply};
use smartlog_tests::{eventually, now_us};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The path of the hooks' addresses: whoever knows it can post.
const SECRET: &str = "/services/T0CANARY/s3cr3tcanary";
const METRICS: [&str; 2] = ["--metrics-listen", "127.0.0.1:0"];

/// Flags for one hook that speaks `format` and waits for no others.
fn hook(receiver: &Receiver, format: &str) -> Vec<String> {
    hook_that_waits(receiver, format, "0s")
}

fn hook_that_waits(receiver: &Receiver, format: &str, group_wait: &str) -> Vec<String> {
    let words = [
        "--alerts-hooks".to_owned(),
        format!("oncall={format}"),
        "--alerts-urls".to_owned(),
        format!("oncall={}", receiver.url(SECRET)),
        "--alerts-group-wait".to_owned(),
        group_wait.to_owned(),
        "--alerts-page-url".to_owned(),
        "http://page:8000/".to_owned(),
    ];
    words.to_vec()
}

fn started(scene: &Scene, flags: &[String], more: &[&str]) -> Program {
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let program = scene.start(&flags);
    // Where following begins is fixed before this is said.
    program.wait_for_words("reading ", PATIENCE);
    program
}

/// An episode as the tests make it happen.
#[derive(Clone, Copy)]
struct Episode {
    id: i64,
    service: Option<&'static str>,
    severity: &'static str,
}

const PAYMENT: Episode = Episode { id: 7, service: Some("payment"), severity: "high" };

/// Adds the next row of `anomaly_events`.
fn happens(store: &mut Store, episode: Episode, kind: &str, status: &str) {
    let second = now_us() / SECOND_US;
    let ended_at = if matches!(status, "open" | "provisional") { Value::Null } else { (second - 1).into() };
    let explanation =
        json!({ "metric": "error rate", "unit": "%", "typical": 1.0, "actual": 12.5 }).to_string();
    let text = json!({
        "key": { "service": episode.service, "anomaly_type": "error_rate_spike", "first_raised_at": second - 60 },
        "status": status, "severity": episode.severity, "revision": 1, "detected_at_us": second * SECOND_US,
        "started_at": second - 60, "last_seen": second, "ended_at": ended_at, "metric_value": 0.125, "threshold": 0.05,
        "baseline": 0.01, "peak_value": 0.2, "score": null, "model_version": null,
        "description": "error rate 12.5 %", "explanation": explanation, "provenance": "{}",
    });
    let text = text.to_string().replace('\'', "''");
    let clock = match store.kind {
        Kind::Postgres => "now()".to_owned(),
        Kind::Sqlite => now_us().to_string(),
    };
    store.rows(&format!(
        "insert into anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode) \
         select coalesce(max(seq), 0) + 1, {}, '{kind}', 1, '{status}', null, {clock}, '{text}' from anomaly_events",
        episode.id
    ));
}

/// Status and episode of each alert that was sent in the format json, with the key of its message, in order.
fn told(received: &[Received]) -> Vec<(String, i64, String)> {
    let alerts = |request: &Received| {
        let body = request.json();
        let key = request.headers.get("idempotency-key").cloned().unwrap_or_default();
        assert_eq!(body["key"], *key, "the key is in the header and in the body");
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        alerts.into_iter().map(move |alert| {
            (
                alert["status"].as_str().unwrap_or_default().to_owned(),
                alert["id"].as_i64().unwrap_or(0),
                key.clone(),
            )
        })
    };
    received.iter().flat_map(alerts).collect()
}

/// Waits until the receiver was sent `count` requests.
fn wait_for(receiver: &Receiver, count: usize) -> Vec<Received> {
    eventually(&format!("{count} requests"), PATIENCE, || {
        Some(receiver.received()).filter(|all| all.len() >= count)
    })
}

/// Waits until every event was taken and all but `held` alerts were told.
fn settled_but(store: &mut Store, held: i64) {
    eventually("the outbox holds what is held", PATIENCE, || {
        let waiting = store.number("select count(*) from alert_outbox where status = 'pending'");
        let unseen = store.number(
            "select (select coalesce(max(seq), 0) + 1 from anomaly_events) - \
             (select next_offset from sink_positions where sink = 'alerts')",
        );
        (waiting == held && unseen == 0).then_some(())
    });
}

fn settled(store: &mut Store) {
    settled_but(store, 0);
}

fn ends_well(mut program: Program) {
    program.terminate();
    program.succeed(STOP);
}

#[test]
fn an_incident_in_the_logs_is_told_with_its_lines_and_a_link() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "incident") else { return };
    let receiver = Receiver::start(|_, _| Reply::of(200));
    scene.incident();
    let program = started(&scene, &hook(&receiver, "json"), &METRICS);
    // The whole stream's error rate may rise first.
    let of_checkout = || {
        let alerts = |one: Received| one.json()["alerts"].as_array().cloned().unwrap_or_default();
        receiver.received().into_iter().flat_map(alerts).find(|alert| alert["service"] == "checkout")
    };
    scene.live_until("an alert", 200, PATIENCE, |_| of_checkout().is_some());
    let alert = of_checkout().expect("it was there");
    assert_eq!(alert["status"], "firing", "{alert}");
    assert!(alert["actual"].as_f64() > alert["typical"].as_f64(), "{alert}");
    let id = alert["id"].as_i64().expect("an id");
    assert_eq!(alert["url"], format!("http://page:8000/?anomaly={id}"));
    let samples: Vec<&str> =
        alert["samples"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(samples.len(), 3, "{alert}");
    for sample in samples {
        let (level, message) = sample.split_once(' ').expect("level and message");
        let message = message.replace('\'', "''");
        let sql = format!(
            "select count(*) from logs where service = 'checkout' and level = '{level}' and message = '{message}'"
        );
        assert!(scene.store.number(&sql) > 0, "no such line: {sample}");
    }
    let stored = format!(
        "select count(*) from anomalies where id = {id} and service = 'checkout' and status = 'open'"
    );
    assert_eq!(scene.store.number(&stored), 1);
    ends_well(program);
}

#[test]
fn a_receiver_that_fails_is_slow_or_asks_for_patience_gets_each_alert_under_one_key() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "fails") else { return };
        let receiver = Receiver::start(|n, _| match n {
            0 => Reply::of(500),
            1 => Reply { headers: vec![("retry-after", "3".into())], ..Reply::of(429) },
            2 => Reply { delay: Duration::from_secs(10), ..Reply::of(200) },
            _ => Reply::of(200),
        });
        let program = started(&scene, &hook(&receiver, "json"), &["--alerts-timeout", "4s"]);
        happens(&mut scene.store, PAYMENT, "raised", "provisional");
        happens(&mut scene.store, PAYMENT, "opened", "open");
        happens(&mut scene.store, PAYMENT, "updated", "open");
        let received = wait_for(&receiver, 4);
        settled(&mut scene.store);
        let all = told(&received);
        assert!(all.iter().all(|alert| *alert == all[0]), "{all:?}");
        assert_eq!((all[0].0.as_str(), all[0].1), ("firing", 7));
        let patience = received[2].at.duration_since(received[1].at);
        assert!(patience >= Duration::from_millis(2_900), "Retry-After said 3 s, it waited {patience:?}");
        assert_eq!(receiver.received().len(), 4, "nothing after it was taken");
        happens(&mut scene.store, PAYMENT, "resolved", "resolved");
        let received = wait_for(&receiver, 5);
        let end = told(&received[4..]);
        assert_eq!((end[0].0.as_str(), end[0].1), ("resolved", 7));
        assert_ne!(end[0].2, all[0].2, "another message has another key");
        // Nobody who reads the log can post.
        assert!(program.said().contains("hook oncall: 500"), "{}", program.said());
        assert!(!program.said().to_lowercase().contains("canary"), "{}", program.said());
        ends_well(program);
    }
}

#[test]
fn a_kill_loses_no_alert_and_the_next_start_repeats_the_same_messages() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "kill") else { return };
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let receiver =
            Receiver::start(move |_, _| Reply::of(if is_open.load(Ordering::Relaxed) { 200 } else { 503 }));
        let flags = hook(&receiver, "json");
        let mut program = started(&scene, &flags, &[]);
        happens(&mut scene.store, PAYMENT, "opened", "open");
        let before = told(&wait_for(&receiver, 1));
        program.kill();
        // While nobody looks.
        for id in 8..12 {
            happens(&mut scene.store, Episode { id, ..PAYMENT }, "opened", "open");
        }
        happens(&mut scene.store, PAYMENT, "resolved", "resolved");
        open.store(true, Ordering::Relaxed);
        let program = started(&scene, &flags, &[]);
        settled(&mut scene.store);
        let all = told(&receiver.received());
        let mut by_alert: BTreeMap<(i64, String), Vec<String>> = BTreeMap::new();
        all.iter().for_each(|(status, id, key)| {
            by_alert.entry((*id, status.clone())).or_default().push(key.clone())
        });
        let expected: Vec<(i64, String)> =
            [(7, "firing"), (7, "resolved"), (8, "firing"), (9, "firing"), (10, "firing"), (11, "firing")]
                .map(|(id, status)| (id, status.to_owned()))
                .to_vec();
        assert_eq!(by_alert.keys().cloned().collect::<Vec<_>>(), expected, "{kind:?}");
        for (alert, keys) in &by_alert {
            assert!(keys.iter().all(|key| *key == keys[0]), "{alert:?} came under several keys: {keys:?}");
        }
        assert_eq!(by_alert[&(7, "firing".to_owned())][0], before[0].2);
        ends_well(program);
    }
}

#[test]
fn alerts_that_come_together_are_one_message_and_what_is_withdrawn_in_time_is_not_told() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "group") else { return };
    let receiver = Receiver::start(|_, _| Reply::of(200));
    let program = started(&scene, &hook_that_waits(&receiver, "json", "8s"), &[]);
    for id in [1, 2, 3] {
        happens(&mut scene.store, Episode { id, ..PAYMENT }, "opened", "open");
    }
    happens(&mut scene.store, Episode { id: 2, ..PAYMENT }, "retracted", "retracted");
    happens(&mut scene.store, Episode { id: 3, ..PAYMENT }, "resolved", "resolved");
    settled(&mut scene.store);
    let received = receiver.received();
    let all: Vec<_> = told(&received).into_iter().map(|(status, id, _)| (status, id)).collect();
    assert_eq!(all, [("firing".to_owned(), 1), ("resolved".to_owned(), 3)]);
    assert_eq!(received.len(), 1, "one message");
    // Told, and disproved later: that is told too.
    happens(&mut scene.store, Episode { id: 1, ..PAYMENT }, "retracted", "retracted");
    settled(&mut scene.store);
    let last = told(&receiver.received()).pop().expect("one more");
    assert_eq!((last.0.as_str(), last.1), ("retracted", 1));
    ends_well(program);
}

#[test]
fn routes_and_quiet_hours_decide_who_is_told_when() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "routes") else { return };
    let receiver = Receiver::start(|_, _| Reply::of(200));
    let minute = |us: i64| {
        let of_day = us.rem_euclid(86_400 * SECOND_US) / MINUTE_US;
        format!("{:02}:{:02}", of_day / 60, of_day % 60)
    };
    let quiet = format!("{}-{}", minute(now_us() - 60 * MINUTE_US), minute(now_us() + 60 * MINUTE_US));
    let (oncall, audit) =
        (format!("oncall={}", receiver.url("/oncall")), format!("audit={}", receiver.url("/audit")));
    let more = [
        "--alerts-hooks",
        "oncall=json",
        "--alerts-hooks",
        "audit=json",
        "--alerts-urls",
        &oncall,
        "--alerts-urls",
        &audit,
        "--alerts-group-wait",
        "0s",
        "--alerts-routes",
        "noise-*=none",
        "--alerts-routes",
        "pay*=oncall+audit",
        "--alerts-routes",
        "*=audit",
        "--alerts-quiet-hours",
        &quiet,
        "--alerts-quiet-unless",
        "critical",
    ];
    let program = started(&scene, &[], &more);
    let episode = |id, service, severity| Episode { id, service, severity };
    for each in [
        episode(1, Some("payment"), "critical"),
        episode(2, Some("payment"), "high"),
        episode(3, Some("noise-maker"), "critical"),
        episode(4, None, "critical"),
    ] {
        happens(&mut scene.store, each, "opened", "open");
    }
    settled_but(&mut scene.store, 2);
    let of = |path: &str| {
        let mut ids: Vec<i64> =
            told(&receiver.received().into_iter().filter(|r| r.path == path).collect::<Vec<_>>())
                .into_iter()
                .map(|(_, id, _)| id)
                .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!((of("/oncall"), of("/audit")), (vec![1], vec![1, 4]));
    assert_eq!(
        scene.store.number("select count(distinct anomaly_id) from alert_outbox where status = 'pending'"),
        1
    );
    ends_well(program);
}

#[test]
fn discord_is_told_the_end_in_the_message_that_told_of_the_beginning() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "discord") else { return };
    let receiver = Receiver::start(|_, request| match request.method.as_str() {
        "POST" => Reply { body: r#"{"id": "123456"}"#.into(), ..Reply::of(200) },
        _ if request.body.contains("search") => Reply::of(404),
        _ => Reply { body: r#"{"id": "123456"}"#.into(), ..Reply::of(200) },
    });
    let program = started(&scene, &hook(&receiver, "discord"), &[]);
    happens(&mut scene.store, PAYMENT, "opened", "open");
    wait_for(&receiver, 1);
    settled(&mut scene.store);
    happens(&mut scene.store, PAYMENT, "resolved", "resolved");
    let received = wait_for(&receiver, 2);
    assert_eq!(
        (received[0].method.as_str(), received[0].path.as_str()),
        ("POST", &*format!("{SECRET}?wait=true"))
    );
    assert_eq!(
        (received[1].method.as_str(), received[1].path.as_str()),
        ("PATCH", &*format!("{SECRET}/messages/123456"))
    );
    let embeds = received[1].json()["embeds"].clone();
    assert_eq!(embeds.as_array().map(Vec::len), Some(1), "{embeds}");
    assert!(embeds[0]["title"].as_str().is_some_and(|title| title.starts_with("Resolved")), "{embeds}");
    settled(&mut scene.store);
    // Somebody deleted the message meanwhile: the end is told in one of its own.
    let search = Episode { id: 8, service: Some("search"), ..PAYMENT };
    happens(&mut scene.store, search, "opened", "open");
    wait_for(&receiver, 3);
    settled(&mut scene.store);
    happens(&mut scene.store, search, "resolved", "resolved");
    let received = wait_for(&receiver, 5);
    let methods: Vec<&str> = received.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST", "PATCH", "POST"]);
    ends_well(program);
}

#[test]
fn alertmanager_itself_takes_alerts_and_their_ends() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "alertmanager") else { return };
    let Some(alertmanager) = Service::require("alertmanager") else { return };
    let url = format!("oncall={}", alertmanager.address());
    let program = started(
        &scene,
        &[],
        &["--alerts-hooks", "oncall=alertmanager", "--alerts-urls", &url, "--alerts-group-wait", "0s"],
    );
    let id = now_us();
    happens(&mut scene.store, Episode { id, ..PAYMENT }, "opened", "open");
    let list = format!("{}/api/v2/alerts?filter=episode%3D%22{id}%22", alertmanager.address());
    let alert = eventually("Alertmanager has it", PATIENCE, || web::json(&list).as_array()?.first().cloned());
    assert_eq!(
        (&alert["labels"]["service"], &alert["status"]["state"]),
        (&json!("payment"), &json!("active")),
        "{alert}"
    );
    happens(&mut scene.store, Episode { id, ..PAYMENT }, "resolved", "resolved");
    eventually("it is over", PATIENCE, || web::json(&list).as_array()?.is_empty().then_some(()));
    ends_well(program);
}

#[test]
fn doctor_sends_a_test_alert_and_nothing_shows_an_address() {
    let receiver = Receiver::start(|_, request| match request.path.as_str() {
        SECRET => Reply::of(200),
        path => Reply { body: format!("Cannot POST {path}"), ..Reply::of(404) },
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, path: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("{}\n", receiver.url(path))).expect("a file can be written");
        file.to_string_lossy().into_owned()
    };
    let (good, bad) =
        (format!("good={}", file("good", SECRET)), format!("bad={}", file("bad", "/wrong/s3cr3tcanary")));
    let flags = [
        "doctor",
        "--store",
        "none",
        "--brokers",
        "127.0.0.1:1",
        "--send-test-alert",
        "--format",
        "json",
        "--alerts-hooks",
        "good=slack",
        "--alerts-url-files",
        &good,
        "--alerts-hooks",
        "bad=discord",
        "--alerts-url-files",
        &bad,
    ];
    let (status, printed, said) = run_to_end(&flags, PATIENCE);
    assert!(!status.success(), "a hook failed");
    let report: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let check = |name: &str| {
        let mut checks = report["checks"].as_array().into_iter().flatten();
        checks.find(|check| check["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {printed}"))
    };
    assert_eq!(check("alert, good")["outcome"], "ok");
    assert_eq!(check("alert, bad")["outcome"], "failed");
    assert!(check("alert, bad")["found"].as_str().is_some_and(|found| found.starts_with("404 Cannot POST")));
    assert_eq!(receiver.received().iter().filter(|request| request.path == SECRET).count(), 1);
    assert!(receiver.received()[0].body.contains("This is a test"), "{:?}", receiver.received());
    let url = format!("good={}", receiver.url(SECRET));
    let show = ["run", "--show-config", "--alerts-hooks", "good=json", "--alerts-urls", &url];
    let (status, shown, _) = run_to_end(&show, PATIENCE);
    assert!(status.success() && shown.contains("good = \"***\""), "{shown}");
    for text in [printed, said, shown] {
        assert!(!text.to_lowercase().contains("canary"), "{text}");
    }
}
