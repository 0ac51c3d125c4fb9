//! From Kafka to the eyes: an incident in a real topic, seen on a page that was open all the time, served by a process of
//! its own; what the user says of it is kept; and the page comes back by itself when its server does.
//!
//! ```text
//!   Traffic ──▶ Kafka ──▶ smartlog run ──▶ store ──▶ smartlog api ──▶ page in Chromium ◀── page.mjs: a user
//!                              └──▶ Redis ──────────────┘
//! ```

use smartlog_test_services::script::Script;
use smartlog_test_services::{Service, free_port};
use smartlog_tests::program::Program;
use smartlog_tests::scene::{MINUTE_US, PATIENCE, SECOND_US, Scene};
use smartlog_tests::store::Kind;
use smartlog_tests::{eventually, now_us, unique};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

const FAILING: &str = "checkout";
/// Logs a second while the page is open.
const RATE: i64 = 20;
/// Of the past, at the same rate.
const BACKLOG_MINUTES: i64 = 40;

/// What serves the page, started again at the same address.
struct Server {
    arguments: Vec<String>,
    program: Option<Program>,
    address: String,
    /// What `/metrics` said before it was stopped.
    metrics: String,
}

impl Server {
    fn start(&mut self) {
        let program = Program::start(&self.arguments);
        program.wait_for_words("API and page are served", PATIENCE);
        self.program = Some(program);
    }

    fn stop(&mut self) {
        self.metrics = metrics(&self.address);
        self.program.take().expect("it runs").terminate();
    }
}

/// What the script asks for, until it ends; answers go back one by one.
fn questions(
    mut script: Script,
) -> (Receiver<String>, std::sync::mpsc::Sender<String>, std::thread::JoinHandle<()>) {
    let (ask, asked) = channel();
    let (answer, answers) = channel::<String>();
    let thread = std::thread::spawn(move || {
        while let Some(words) = script.asked() {
            if ask.send(words).is_err() {
                break;
            }
            let Ok(words) = answers.recv() else { break };
            script.answer(&words);
        }
        drop(ask);
        script.end();
    });
    (asked, answer, thread)
}

/// `redis`: whether both programs are told of it.
fn an_incident_is_seen(kind: Kind, redis: bool) {
    let Some(browser) = Service::require("browser") else { return };
    let Some(redis) = redis.then(|| Service::require("redis")).map_or(Some(None), |found| found.map(Some))
    else {
        return;
    };
    let Some(mut scene) = Scene::create(kind, "page") else { return };
    // Something to know what is usual from.
    let now = now_us();
    scene.traffic.unruly.late = 0;
    let backlog = BACKLOG_MINUTES * 60 * RATE;
    scene.traffic.send(&scene.topic, backlog as usize, (now - BACKLOG_MINUTES * MINUTE_US, now - SECOND_US));
    scene.topic.flush();
    let prefix = unique("page");
    let url = redis.as_ref().map(Service::address);
    let more: Vec<&str> = match &url {
        Some(url) => vec!["--redis-url", url.as_str(), "--redis-prefix", prefix.as_str()],
        None => Vec::new(),
    };
    let pipeline = scene.start(&more);
    scene.live_until("the backlog is read", RATE, PATIENCE, |store| store.progress("aggregates") >= backlog);
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = ["api", "--store", &scene.store.url, "--listen", &address];
    let arguments = arguments.iter().chain(&more).map(|argument| (*argument).to_owned()).collect();
    let mut server = Server { arguments, program: None, address: address.clone(), metrics: String::new() };
    server.start();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.mjs");
    let script = Script::start(&browser, &script, &format!("http://{address}"), "incident");
    let (asked, answer, conversation) = questions(script);
    let mut is_over = false;
    while !is_over {
        let until = Instant::now() + Duration::from_millis(200);
        scene.live_until("a moment passes", RATE, PATIENCE, |_| Instant::now() >= until);
        match asked.try_recv() {
            Ok(words) => answer.send(reply(&words, &mut scene, &mut server)).expect("the script listens"),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => is_over = true,
        }
    }
    conversation.join().expect("the script came to its own end");
    let said = scene.store.rows("select verdict, note from feedback order by seq");
    let text = |words: &str| Some(words.to_owned());
    let first = [text("confirmed"), text("seen by the test")];
    assert_eq!(said, [first, [text("expected"), None], [text("undo"), None], [text("confirmed"), None]]);
    if redis.is_some() {
        let is_sum = |line: &&str| line.starts_with("smartlog_api_stream_changes_total{source=\"redis\"}");
        let sum = server.metrics.lines().find(is_sum).unwrap_or_default();
        assert!(!sum.is_empty() && !sum.ends_with(" 0"), "changes came by Redis: {}", server.metrics);
    }
    drop(server);
    scene.end_and_judge(pipeline);
}

fn reply(asked: &str, scene: &mut Scene, server: &mut Server) -> String {
    match asked {
        "incident" => scene.traffic.failing = Some(FAILING),
        "calm" => scene.traffic.failing = None,
        "stop" => server.stop(),
        "start" => server.start(),
        asked => return told(asked, scene),
    }
    String::new()
}

/// What was committed of an anomaly, in order.
fn told(asked: &str, scene: &mut Scene) -> String {
    let (what, id) = asked.rsplit_once(' ').expect(asked);
    let (columns, between) = match (what, scene.store.kind) {
        // `seq time …`, milliseconds.
        ("changes of", Kind::Postgres) => ("seq, cast(extract(epoch from created_at) * 1000 as bigint)", " "),
        ("changes of", Kind::Sqlite) => ("seq, created_at / 1000", " "),
        // `kind status reason, …`
        ("story of", _) => ("kind, status, coalesce(reason, '')", ", "),
        _ => panic!("the script asks for {asked}"),
    };
    let sql = format!("select {columns} from anomaly_events where anomaly_id = {id} order by seq");
    let row = |cells: Vec<Option<String>>| {
        cells.into_iter().map(|cell| cell.expect("no null")).collect::<Vec<_>>().join(" ")
    };
    scene.store.rows(&sql).into_iter().map(row).collect::<Vec<_>>().join(between)
}

fn metrics(address: &str) -> String {
    use std::io::{Read as _, Write as _};
    eventually("the API answers", PATIENCE, || {
        let mut connection = std::net::TcpStream::connect(address).ok()?;
        // In this form the last line says that the answer is whole.
        let request = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: application/openmetrics-text; version=1.0.0\r\n\
                       connection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        answer.contains("# EOF").then_some(answer)
    })
}

#[test]
fn an_incident_is_seen_on_postgres_with_redis() {
    an_incident_is_seen(Kind::Postgres, true);
}

#[test]
fn an_incident_is_seen_on_sqlite() {
    an_incident_is_seen(Kind::Sqlite, false);
}
