//! The live page in a real browser: `page/page.mjs` does what a user does, this serves and commits.

mod common;

use common::{Bench, CLOCK_US, HOUR, MINUTE, SECOND, Seeded, Server};
use smartlog_api::{Scope, Token};
use smartlog_test_services::Service;
use smartlog_test_services::script::Script;
use std::net::SocketAddr;
use std::path::Path;
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
    busy: Stage::busy(),
    token: Stage::guarded(),
    accessible: Stage::seeded(),
    explained: Stage::seeded(),
    patterns: Stage::seeded(),
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

    /// 200 services with 15 minutes of seconds and a day of hours, an open anomaly each.
    async fn busy() -> Stage {
        let bench = Bench::sqlite().await;
        bench.seed_pipeline().await;
        let services = "services(n) as (select 0 union all select n + 1 from services where n < 199)";
        let name = "printf('service-%03d', n)";
        let (first, hour) = (CLOCK_US / SECOND - 899, CLOCK_US - 30 * MINUTE);
        let insert = Seeded::INSERT;
        bench
            .execute(&format!(
                "begin;
                 with recursive {services}, seconds(s) as (select 0 union all select s + 1 from seconds where s < 899)
                 insert into window_state (second, service, logs, errors, message_chars)
                 select {first} + s, {name}, 1 + (s * 7 + n) % 5, (s + n) % 40 = 0, 80 from services, seconds;
                 with recursive {services}, hours(h) as (select 0 union all select h + 1 from hours where h < 30)
                 insert into hourly_metrics (hour, service, log_count, error_count, anomaly_count)
                 select {hour} - h * {HOUR}, {name}, 9000 + n + h, 200, 0 from services, hours;
                 with recursive {services} {insert}
                 select '1' || printf('%03d', n), {CLOCK_US} - n * {SECOND}, 'error_rate_spike', {name}, 'high', 'so', 0.15, 0.05, '1',
                 {CLOCK_US} - n * {SECOND}, {CLOCK_US}, null, 'open', 1, 0.01, 0.2, 0.5, '{{}}', '{{}}', {CLOCK_US} - n * {SECOND} from services;
                 commit",
                insert = insert.trim_end_matches("values "),
            ))
            .await;
        Self::on(bench, None).await
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
        bench.seed_patterns(30).await;
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
            ["move"] => {
                let now = "cast(unixepoch('subsec') * 1000000 as integer)";
                self.bench_now()
                    .execute(&format!(
                        "begin; insert into window_state select (select clock_us from pipeline_state) / {SECOND} + 1, service,
                         abs(random()) % 9, abs(random()) % 2, 80 from (select distinct service from hourly_metrics);
                         update pipeline_state set clock_us = clock_us + {SECOND}, updated_at = {now}; commit"
                    ))
                    .await;
                String::new()
            }
            ["pattern"] => {
                let (first, last) = (CLOCK_US - 5 * MINUTE, CLOCK_US);
                self.bench_now()
                    .execute(&format!(
                        "begin; insert into patterns (shape, template_id, template) values (900, 900, 'No route to host <*>');
                         insert into pattern_counts (shape, service, first_seen, last_seen, log_count, error_count)
                         values (900, 'search', {first}, {last}, 12, 12);
                         update logs set shape = 900 where kafka_offset < 12; commit"
                    ))
                    .await;
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/page.mjs");
    let mut script = Script::start(browser, &script, &format!("http://{}", stage.address), scenario);
    while let Some(asked) = block_in_place(|| script.asked()) {
        let answer = stage.answer(&asked).await;
        script.answer(&answer);
    }
    block_in_place(|| script.end());
    if let Some(server) = stage.server {
        server.end().await;
    }
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
