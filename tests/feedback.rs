//! What people say is expected is retracted, stays so across kills, keeps the next of its like away, and comes back.

use rand::Rng;
use serde_json::{Value, json};
use smartlog_tests::judge::judge;
use smartlog_tests::now_us;
use smartlog_tests::oracle::rfc3339;
use smartlog_tests::program::Program;
use smartlog_tests::scene::{MINUTE_US, PATIENCE, STOP, Scene};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::web;
use std::time::Duration;

/// Those that detection did not take back itself.
const SPIKES: &str = "service = 'checkout' and anomaly_type = 'error_rate_spike' \
                      and (status <> 'retracted' or expected_by is not null)";

/// Logs of `minutes`, counted from `begin_us`; in the given ones `checkout` says nothing but errors.
fn send(scene: &mut Scene, begin_us: i64, minutes: std::ops::Range<i64>, failing: std::ops::Range<i64>) {
    for minute in minutes {
        scene.traffic.failing = failing.contains(&minute).then_some("checkout");
        let from = begin_us + minute * MINUTE_US;
        scene.traffic.send(&scene.topic, 1_200, (from, from + MINUTE_US));
    }
    scene.topic.flush();
}

fn api(store: &Store) -> (Program, String) {
    let api = Program::start(&["api", "--listen", "127.0.0.1:0", "--store", &store.url]);
    api.wait_for_words("address=", PATIENCE);
    let said = api.said();
    let address = said.split("address=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let url = format!("http://{address}/api/v1");
    (api, url)
}

fn say(url: &str, id: i64, what: &Value) {
    let (status, body) = web::send_json("POST", &format!("{url}/anomalies/{id}/feedback"), &what.to_string())
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
}

/// Ids and statuses of the spikes, the oldest first.
fn spikes(store: &mut Store) -> Vec<(i64, String)> {
    let rows = store.rows(&format!("select id, status from anomalies where {SPIKES} order by started_at"));
    let read = |row: Vec<Option<String>>| {
        let [id, status] = <[_; 2]>::try_from(row).expect("two columns");
        (id.and_then(|id| id.parse().ok()).expect("an id"), status.expect("a status"))
    };
    rows.into_iter().map(read).collect()
}

fn wait_for(scene: &mut Scene, what: &str, wanted: impl Fn(&[(i64, String)]) -> bool) -> Vec<(i64, String)> {
    let store = &mut scene.store;
    smartlog_tests::eventually(what, PATIENCE, || Some(spikes(store)).filter(|found| wanted(found)))
}

fn all(status: &'static str) -> impl Fn(&[(i64, String)]) -> bool {
    move |found| !found.is_empty() && found.iter().all(|(_, is)| is == status)
}

/// Kills the program a little later, and starts it anew.
fn kill_and_start(scene: &Scene, program: &mut Program) {
    std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..300)));
    program.kill();
    *program = scene.start(&["--workers", "2"]);
}

/// What each hour counts is what stands.
fn assert_hours_count_what_stands(store: &mut Store) {
    let counted = store.number("select sum(anomaly_count) from hourly_metrics where service = 'checkout'");
    let stands =
        store.number("select count(*) from anomalies where service = 'checkout' and status <> 'retracted'");
    assert_eq!(counted, stands);
}

fn what_is_expected_goes_and_comes_back(kind: Kind) {
    let Some(mut scene) = Scene::create(kind, "feedback") else { return };
    scene.traffic.unruly.late = 0;
    let begin = (now_us() / MINUTE_US - 70) * MINUTE_US;
    send(&mut scene, begin, 0..36, 26..29);
    let mut program = scene.start(&["--workers", "2"]);
    scene.settle();
    let found = wait_for(&mut scene, "the incident is over", all("resolved"));
    let first = found[0].0;
    let (_api, url) = api(&scene.store);

    // The click, and a kill right after it.
    say(&url, first, &json!({"verdict": "expected", "note": "load test"}));
    kill_and_start(&scene, &mut program);
    wait_for(&mut scene, "it is retracted", all("retracted"));
    let shown = web::json(&format!("{url}/anomalies/{first}"));
    assert_eq!((&shown["status"], &shown["feedback"]), (&json!("retracted"), &json!("expected")));
    let last = shown["events"].as_array().and_then(|events| events.last()).expect("events");
    assert_eq!((&last["kind"], &last["reason"]), (&json!("retracted"), &json!("expected: load test")));
    assert_eq!(last["revision"], shown["revision"]);
    assert_hours_count_what_stands(&mut scene.store);

    // The next of its like does not come; what is of another service does.
    kill_and_start(&scene, &mut program);
    send(&mut scene, begin, 36..56, 44..47);
    scene.settle();
    let clock = format!("select clock_us >= {} from pipeline_state", begin + 56 * MINUTE_US - 30_000_000);
    smartlog_tests::eventually("the clock is past it", PATIENCE, || {
        let rows = scene.store.rows(&clock);
        matches!(rows[0][0].as_deref(), Some("t" | "1")).then_some(())
    });
    let both = wait_for(&mut scene, "the second is noticed", |found| found.len() >= 2);
    assert!(both.iter().all(|(_, status)| status == "retracted"), "{both:?}");
    let told = "select count(*) from anomaly_events where status in ('provisional', 'open', 'resolved') and anomaly_id = ";
    for (id, _) in &both[1..] {
        assert_eq!(scene.store.number(&format!("{told}{id}")), 0, "nobody was told of {id}");
    }

    // Taken back, and a kill right after it.
    say(&url, first, &json!({"verdict": "undo"}));
    kill_and_start(&scene, &mut program);
    let back = wait_for(&mut scene, "all are back", all("resolved"));
    assert_eq!(back.len(), both.len());
    let shown = web::json(&format!("{url}/anomalies/{first}"));
    assert_eq!((&shown["status"], &shown["feedback"]), (&json!("resolved"), &json!(null)));
    assert_hours_count_what_stands(&mut scene.store);
    let heard = "select feedback_seq - (select max(seq) from feedback) from pipeline_state";
    assert_eq!(scene.store.number(heard), 0, "the position is committed with what it changed");

    // Before it listens to signals, one ends it as a kill does.
    program.wait_for_words("reading ", PATIENCE);
    program.terminate();
    program.succeed(STOP);
    judge(&mut scene.store, &scene.topic, |_| {});
}

#[test]
fn what_is_expected_goes_and_comes_back_on_postgres() {
    what_is_expected_goes_and_comes_back(Kind::Postgres);
}

#[test]
fn what_is_expected_goes_and_comes_back_on_sqlite() {
    what_is_expected_goes_and_comes_back(Kind::Sqlite);
}

/// Announced by the API, called off; and in a file, taken out of it.
fn known_events_explain_what_happens_meanwhile(kind: Kind) {
    let Some(mut scene) = Scene::create(kind, "calendar") else { return };
    scene.traffic.unruly.late = 0;
    let begin = (now_us() / MINUTE_US - 60) * MINUTE_US;
    send(&mut scene, begin, 0..36, 26..29);
    let mut program = scene.start(&[]);
    scene.settle();
    wait_for(&mut scene, "the incident is over", all("resolved"));
    let (_api, url) = api(&scene.store);
    let time = |minute: i64| rfc3339(begin + minute * MINUTE_US);
    let event = json!({
        "name": "release 2.4", "services": ["checkout", "other"],
        "when": {"since": time(20), "until": time(33)}
    });
    let (status, body) =
        web::send_json("POST", &format!("{url}/calendar"), &event.to_string()).expect("an answer");
    assert_eq!(status, 200, "{body}");
    let announced: Value = serde_json::from_str(&body).expect("JSON");
    wait_for(&mut scene, "the release explains it", all("retracted"));
    let listed = web::json(&format!("{url}/calendar"));
    assert_eq!(listed["events"], json!([announced]));
    let gone = format!("{url}/calendar/{}", announced["id"]);
    assert_eq!(web::send_json("DELETE", &gone, "").expect("an answer").0, 200);
    wait_for(&mut scene, "nothing explains it any more", all("resolved"));
    assert_eq!(web::send_json("DELETE", &gone, "").expect("an answer").0, 404, "it is called off already");
    program.terminate();
    program.succeed(STOP);

    let file = scene.store.folder().join("calendar.toml");
    let entry =
        format!("[[event]]\nname = \"from a file\"\nsince = \"{}\"\nuntil = \"{}\"\n", time(20), time(33));
    for (text, status) in [(entry.as_str(), "retracted"), ("", "resolved")] {
        std::fs::write(&file, text).expect("a file in a temporary folder");
        let path = file.to_str().expect("a temporary path is UTF-8");
        let mut program = scene.start(&["--detection-calendar", path]);
        wait_for(&mut scene, "the file is heard", all(status));
        program.wait_for_words("reading ", PATIENCE);
        program.terminate();
        program.succeed(STOP);
    }
    assert_eq!(web::json(&format!("{url}/calendar"))["events"], json!([]));
    judge(&mut scene.store, &scene.topic, |_| {});
}

#[test]
fn known_events_explain_what_happens_meanwhile_on_postgres() {
    known_events_explain_what_happens_meanwhile(Kind::Postgres);
}

#[test]
fn known_events_explain_what_happens_meanwhile_on_sqlite() {
    known_events_explain_what_happens_meanwhile(Kind::Sqlite);
}
