//! The live page in a real browser: `page/page.mjs` does what a user does, this serves and commits.

mod common;

use common::{Bench, CLOCK_US, SECOND, Seeded, Server};
use smartlog_api::{Scope, Token};
use smartlog_test_services::Service;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::block_in_place;

macro_rules! scenarios {
    ($($name:ident: $stage:expr),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let Some(browser) = Service::require("browser") else { return };
            let stage = $stage.await;
            play(&browser, stringify!($name), stage).await;
        })*
    };
}

scenarios!(
    follow: Stage::seeded(),
    filter: Stage::seeded(),
    reconnect: Stage::seeded(),
    empty: Stage::empty(),
    token: Stage::guarded(),
    accessible: Stage::seeded(),
);

/// Events of the seeded anomalies come before.
const FIRST_SEQ: i64 = 100;

/// What a scenario plays on.
struct Stage {
    server: Option<Server>,
    /// Kept while the server is down.
    bench: Option<Bench>,
    address: SocketAddr,
    secret: Option<String>,
    seq: i64,
}

impl Stage {
    async fn empty() -> Stage {
        Self::on(Bench::sqlite().await, None).await
    }

    async fn seeded() -> Stage {
        Self::on(Self::bench().await, None).await
    }

    async fn guarded() -> Stage {
        Self::on(Self::bench().await, Some(Token::generate("ops", &Scope::ALL))).await
    }

    async fn bench() -> Bench {
        let bench = Bench::sqlite().await;
        bench.seed_pipeline().await;
        bench.seed_windows().await;
        bench.seed_hours(30).await;
        bench.seed_logs(400).await;
        bench.seed_anomalies(40).await;
        bench
    }

    async fn on(bench: Bench, token: Option<(Token, String)>) -> Stage {
        let mut config = bench.config();
        config.tokens.extend(token.iter().map(|(token, _)| token.clone()));
        let server = Server::start(bench, config).await;
        let address = server.address;
        Stage {
            server: Some(server),
            bench: None,
            address,
            secret: token.map(|(_, secret)| secret),
            seq: FIRST_SEQ,
        }
    }

    fn bench_now(&self) -> &Bench {
        self.server.as_ref().map(|server| &server.bench).or(self.bench.as_ref()).expect("one of the two")
    }

    /// Does what the script asks, and answers.
    async fn answer(&mut self, asked: &str) -> String {
        match asked.split(' ').collect::<Vec<_>>()[..] {
            ["commit", id] => self.commit(id.parse().expect("an id"), "open").await,
            ["commit", id, "resolved"] => self.commit(id.parse().expect("an id"), "resolved").await,
            ["tick"] => {
                let now = "cast(unixepoch('subsec') * 1000000 as integer)";
                self.bench_now().execute(&format!("update pipeline_state set updated_at = {now}")).await;
                String::new()
            }
            ["stop"] => {
                self.bench = Some(self.server.take().expect("it runs").stop().await);
                String::new()
            }
            ["start"] => {
                let bench = self.bench.take().expect("it is down");
                let mut config = bench.config();
                config.listen = self.address;
                self.server = Some(Server::start(bench, config).await);
                String::new()
            }
            ["token"] => self.secret.clone().expect("one is asked for"),
            _ => panic!("the script asks for {asked}"),
        }
    }

    /// A critical anomaly, in one transaction with its event, as the dataflow commits it; when that was, milliseconds.
    async fn commit(&mut self, id: i64, status: &'static str) -> String {
        self.seq += 1;
        let seeded = Seeded {
            id,
            detected_us: CLOCK_US - 5 * SECOND,
            service: Some("web ü"),
            anomaly_type: "error_rate_spike",
            severity: "critical",
            status,
        };
        let bench = self.bench_now();
        let write = if status == "open" {
            format!("{}{}", Seeded::INSERT, seeded.row(bench))
        } else {
            format!("update anomalies set status = '{status}', revision = revision + 1 where id = {id}")
        };
        let event = seeded.event(bench, self.seq, if status == "open" { "raised" } else { "resolved" });
        bench.execute(&format!("begin; {write}; {}{event}; commit", Seeded::INSERT_EVENT)).await;
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis().to_string()
    }
}

/// Runs one scenario of the script to its end.
async fn play(browser: &Service, scenario: &str, mut stage: Stage) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/page.mjs");
    let address = format!("http://{}", stage.address);
    // The script ends by itself when something takes too long, and so ends this test.
    let mut child = Command::new(browser.variable("NODE"))
        .args([script, &address, &browser.variable("MODULES"), &browser.address(), scenario])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts");
    let done = converse(&mut child, &mut stage).await;
    let status = block_in_place(|| child.wait()).expect("node ends");
    assert!(done && status.success(), "{scenario}: {status}; what was wrong stands above");
    if let Some(server) = stage.server {
        server.end().await;
    }
}

/// Answers until the script says that it is done, or ends without.
async fn converse(child: &mut Child, stage: &mut Stage) -> bool {
    let mut input = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    while let Some(line) = block_in_place(|| lines.next()) {
        let line = line.expect("text");
        if let Some(asked) = line.strip_prefix("ASK ") {
            let answer = stage.answer(asked).await;
            writeln!(input, "{answer}").expect("the script listens");
        } else if line == "DONE" {
            return true;
        } else {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
    false
}

#[tokio::test]
async fn the_page_and_all_that_it_loads_are_small_and_its_licences_there() {
    let server = Bench::sqlite().await.serve().await;
    let mut bytes = 0;
    let listed = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets")).expect("the page's files");
    for file in listed.map(|entry| entry.expect("a file").file_name().into_string().expect("a name")) {
        let path = if file == "index.html" { "/".to_owned() } else { format!("/assets/{file}") };
        let reply =
            server.send("GET", &path, &[("accept-encoding", "gzip")], hyper::body::Bytes::new()).await;
        assert_eq!(reply.status, 200, "{path}: every file is served");
        bytes += reply.body.len();
    }
    assert!(bytes <= 300 * 1024, "{bytes} bytes");
    assert!(server.get("/assets/uplot.LICENSE.txt").await.text().contains("MIT License"));
    server.end().await;
}
