//! One bench for both stores: a database of its own, seeded by plain SQL, and the real server on a free port.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod redis;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use smartlog_api::{Api, ApiConfig, StoreUrl, routes::ROUTES};
pub use smartlog_test_services::database::PATIENCE;
use smartlog_test_services::database::{Database, connect};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// 2026-01-15T10:30:00Z, microseconds: the seeded clock.
pub const CLOCK_US: i64 = 1_768_473_000_000_000;
pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;

pub const SERVICES: [&str; 4] = ["auth-service", "payment-service", "search", "web ü"];
pub const TYPES: [&str; 5] =
    ["error_rate_spike", "log_volume_spike", "log_volume_drop", "multivariate_outlier", "new_pattern"];
pub const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];
pub const STATUSES: [&str; 5] = ["provisional", "open", "resolved", "expired", "retracted"];

/// A store with the tables of the migrations; clones are of the same one.
#[derive(Clone)]
pub struct Bench {
    pub url: StoreUrl,
    kind: Arc<Kind>,
}

enum Kind {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

/// The migrations in order.
fn migrations(store: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/migrations").join(store);
    let listed = std::fs::read_dir(&folder).expect("the migrations");
    let mut files: Vec<_> = listed.map(|entry| entry.expect("a file").path()).collect();
    let version = |file: &std::path::PathBuf| -> u32 {
        let name = file.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        let (number, _) = name.trim_start_matches('V').split_once("__").expect("V1__name.sql");
        number.parse().expect("a version")
    };
    files.sort_by_key(version);
    files.iter().map(|file| std::fs::read_to_string(file).expect("SQL")).collect::<Vec<_>>().join("\n")
}

impl Bench {
    pub async fn sqlite() -> Self {
        let bench = Self::empty_sqlite();
        bench.create().await;
        bench
    }

    /// The file does not exist yet.
    pub fn empty_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Bench { url: StoreUrl::Sqlite(folder.path().join("state.db")), kind: Arc::new(Kind::Sqlite(folder)) }
    }

    /// A new database on the server of `SMARTLOG_TEST_POSTGRES`; `None` when the user said to go without.
    pub async fn postgres() -> Option<Self> {
        let bench = Self::empty_postgres()?;
        bench.create().await;
        Some(bench)
    }

    /// The database does not exist yet.
    pub fn empty_postgres() -> Option<Self> {
        let database = Database::reserve()?;
        Some(Bench {
            url: StoreUrl::Postgres(database.url.clone()),
            kind: Arc::new(Kind::Postgres(database)),
        })
    }

    /// Makes the database and its tables.
    pub async fn create(&self) {
        match &*self.kind {
            Kind::Sqlite(_) => {
                self.execute("pragma journal_mode = wal").await;
                self.execute(&migrations("sqlite")).await;
            }
            Kind::Postgres(database) => {
                database.make().await;
                self.execute(&migrations("postgres")).await;
                self.execute("create table logs_default partition of logs default").await;
            }
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(*self.kind, Kind::Postgres(_))
    }

    /// A time column's value in SQL.
    pub fn at(&self, micros: i64) -> String {
        match *self.kind {
            Kind::Sqlite(_) => micros.to_string(),
            Kind::Postgres(_) => format!("timestamptz 'epoch' + {micros} * interval '1 microsecond'"),
        }
    }

    /// Runs SQL for its effect, committed when this returns.
    pub async fn execute(&self, sql: &str) {
        match &self.url {
            StoreUrl::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file).expect("the file");
                connection.busy_timeout(PATIENCE).expect("a timeout");
                connection.execute_batch(sql).expect(sql);
            }
            StoreUrl::Postgres(url) => connect(url).await.batch_execute(sql).await.expect(sql),
        }
    }

    pub fn database(&self) -> &Database {
        match &*self.kind {
            Kind::Postgres(database) => database,
            Kind::Sqlite(_) => panic!("it is SQLite"),
        }
    }

    /// The one column of whole numbers that `sql` selects.
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        match &self.url {
            StoreUrl::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file).expect("the file");
                let mut statement = connection.prepare(sql).expect(sql);
                let rows = statement.query_map([], |row| row.get(0)).expect(sql);
                rows.collect::<Result<_, _>>().expect(sql)
            }
            StoreUrl::Postgres(url) => {
                connect(url).await.query(sql, &[]).await.expect(sql).iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// The one text that `sql` selects.
    pub async fn text(&self, sql: &str) -> String {
        match &self.url {
            StoreUrl::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file).expect("the file");
                connection.query_row(sql, [], |row| row.get(0)).expect(sql)
            }
            StoreUrl::Postgres(url) => connect(url).await.query_one(sql, &[]).await.expect(sql).get(0),
        }
    }

    /// One row of `pipeline_state`, as the aggregates leave it at [`CLOCK_US`].
    pub async fn seed_pipeline(&self) {
        let (clock, watermark) = (CLOCK_US, CLOCK_US - 5 * SECOND);
        self.execute(&format!(
            "insert into pipeline_state (pipeline, sequence, event_seq, epoch, clock_us, watermark_us, wall_us, partition_clocks)
             values ('default', 10, 0, 99, {clock}, {watermark}, {clock}, '[[\"logs\", 0, {clock}], [\"logs\", 1, {watermark}]]');
             insert into sink_positions (sink, topic, partition, next_offset, watermark_us) values
             ('state', 'logs', 0, 1000, null), ('raw', 'logs', 0, 990, {})",
            watermark - 2 * SECOND
        ))
        .await;
    }

    /// `count` anomalies and one event for each; see [`Seeded::number`].
    pub async fn seed_anomalies(&self, count: i64) {
        let (mut rows, mut events) = (Vec::new(), Vec::new());
        for seeded in (1..=count).map(Seeded::number) {
            rows.push(seeded.row(self));
            events.push(seeded.event(self, seeded.id, "raised"));
        }
        for chunk in rows.chunks(500) {
            self.execute(&format!("{}{}", Seeded::INSERT, chunk.join(","))).await;
        }
        for chunk in events.chunks(500) {
            self.execute(&format!("{}{}", Seeded::INSERT_EVENT, chunk.join(","))).await;
        }
    }

    /// Hours back from 10:00 for each service, 100 logs and `hour` errors each.
    pub async fn seed_hours(&self, hours: i64) {
        let mut sql = String::from(
            "insert into hourly_metrics (hour, service, log_count, error_count, anomaly_count) values ",
        );
        for hour in 0..hours {
            for service in SERVICES {
                let at = self.at(CLOCK_US - 30 * MINUTE - hour * HOUR);
                let _ = write!(sql, "({at}, '{service}', 6000, {hour}, 1),");
            }
        }
        self.execute(sql.trim_end_matches(',')).await;
    }

    /// 15 minutes of seconds: `payment-service` 2 logs a second, half of them errors in the last minute; `search`
    /// 1 a second and nothing in the last 5 minutes.
    pub async fn seed_windows(&self) {
        let end = CLOCK_US / SECOND;
        let mut sql =
            String::from("insert into window_state (second, service, logs, errors, message_chars) values ");
        for back in 0..900 {
            let errors = i64::from(back < 60);
            let _ = write!(sql, "({}, 'payment-service', 2, {errors}, 80),", end - back);
            if back >= 300 {
                let _ = write!(sql, "({}, 'search', 1, 0, 10),", end - back);
            }
        }
        self.execute(sql.trim_end_matches(',')).await;
    }

    /// Baselines: of one service there is not yet enough, of one there is, one is too young to tell, one was retired.
    pub async fn seed_baselines(&self) {
        let nothing = if self.is_postgres() { "''::bytea" } else { "x''" };
        let sql = format!(
            "insert into baseline_state (service, state, known_minutes, needed_minutes) values
             ('payment-service', {nothing}, 12, 60), ('search', {nothing}, 60, 60),
             ('web ü', {nothing}, null, null), ('retired', {nothing}, 1, 60)"
        );
        self.execute(&sql).await;
    }

    /// `count` logs, one a second back from the clock.
    pub async fn seed_logs(&self, count: i64) {
        let columns =
            "timestamp, level, service, host, message, metadata, kafka_topic, kafka_partition, kafka_offset";
        let mut sql = format!("insert into logs ({columns}) values ");
        for i in 0..count {
            let level = ["INFO", "WARN", "ERROR"][i as usize % 3];
            let service = SERVICES[i as usize % SERVICES.len()];
            let at = self.at(CLOCK_US - i * SECOND);
            let _ = write!(
                sql,
                "({at}, '{level}', '{service}', 'server-01', 'Database TIMEOUT no {i}', '{{\"n\": {i}}}', 'logs', 0, {i}),"
            );
        }
        self.execute(sql.trim_end_matches(',')).await;
    }

    /// `count` templates of two shapes each, `template N` seen N times; shape of log `i` is `i` modulo 60.
    pub async fn seed_patterns(&self, count: i64) {
        let mut sql = String::from(
            "insert into pattern_counts (shape, service, first_seen, last_seen, log_count) values ",
        );
        let mut shapes = String::from("insert into patterns (shape, template_id, template) values ");
        for shape in 0..2 * count {
            let (first, last) = (self.at(CLOCK_US - HOUR), self.at(CLOCK_US - (shape / 4) * MINUTE));
            let template = shape / 2;
            let _ = write!(sql, "({shape}, 'service-{}', {first}, {last}, {template}),", shape % 3);
            let _ = write!(shapes, "({shape}, {template}, 'template {template}'),");
        }
        self.execute(shapes.trim_end_matches(',')).await;
        self.execute(sql.trim_end_matches(',')).await;
        self.execute("update logs set shape = kafka_offset % 60").await;
    }

    /// Version 1 from 08:30, version 2 from 09:30; a challenger that was given up.
    pub async fn seed_models(&self) {
        let (first, second) = (self.at(CLOCK_US - 2 * HOUR), self.at(CLOCK_US - HOUR));
        self.execute(&format!(
            "insert into model_swaps (role, effective, version, digest) values ('champion', {first}, '1', 'aa'),
             ('champion', {second}, '2', 'bb'), ('challenger', {first}, '3', 'cc'), ('challenger', {second}, '3', '');
             insert into model_status (pipeline, state, detail, registry, models)
             values ('default', 'ready', 'version 2 scores', 'models', '[{{\"version\":\"2\"}}]')"
        ))
        .await;
    }

    pub async fn seed_dead_letters(&self, count: i64) {
        let mut sql = String::from(
            "insert into dead_letters (kafka_topic, kafka_partition, kafka_offset, reason, detail, payload) values ",
        );
        let payload = if self.is_postgres() { "'\\x7b22ff'::bytea" } else { "x'7b22ff'" };
        for i in 0..count {
            let reason = ["invalid_json", "missing_service"][i as usize % 2];
            let _ = write!(sql, "('logs', {}, {i}, '{reason}', 'expected a quote', {payload}),", i % 2);
        }
        self.execute(sql.trim_end_matches(',')).await;
    }

    pub fn config(&self) -> ApiConfig {
        let mut config = ApiConfig::new(self.url.clone());
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config
    }

    pub async fn serve(self) -> Server {
        let config = self.config();
        Server::start(self, config).await
    }
}

/// The explanation of every seeded anomaly: the documented one.
pub fn explanation() -> serde_json::Value {
    let route = ROUTES.iter().find(|route| route.path == "/api/v1/anomalies/{id}").expect("the route");
    route.example.expect("it has an example")()["explanation"].take()
}

/// An anomaly as the tests know it, made from its number alone.
pub struct Seeded {
    pub id: i64,
    pub detected_us: i64,
    pub service: Option<&'static str>,
    pub anomaly_type: &'static str,
    pub severity: &'static str,
    pub status: &'static str,
}

impl Seeded {
    pub const INSERT: &'static str = "insert into anomalies (id, detected_at, anomaly_type, service, severity, description, \
        metric_value, threshold, model_version, started_at, last_seen, ended_at, status, revision, baseline, peak_value, \
        score, explanation, provenance, first_raised_at) values ";
    pub const INSERT_EVENT: &'static str = "insert into anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode) values ";

    /// Pairs share a time, so that the id decides between them; later numbers are older.
    pub fn number(i: i64) -> Seeded {
        let pick = |words: &[&'static str], i: i64| words[i as usize % words.len()];
        Seeded {
            id: i,
            detected_us: CLOCK_US - (i / 2) * MINUTE,
            service: (i % 5 != 4).then(|| pick(&SERVICES, i)),
            anomaly_type: pick(&TYPES, i),
            severity: pick(&SEVERITIES, i / 2),
            status: pick(&STATUSES, i / 3),
        }
    }

    pub fn row(&self, bench: &Bench) -> String {
        let Seeded { id, anomaly_type, severity, status, .. } = self;
        let service = self.service.map_or("null".to_owned(), |service| format!("'{service}'"));
        let detected = bench.at(self.detected_us);
        // One microsecond apart: the episode's key must be unique.
        let raised = bench.at(self.detected_us + id);
        format!(
            "({id}, {detected}, '{anomaly_type}', {service}, '{severity}', 'it''s number {id}', 0.15, 0.05, '1.2.0', \
             {detected}, {detected}, null, '{status}', 1, 0.012, 0.21, 0.7, '{explanation}', \
             '{{\"rule\": \"r\"}}', {raised})",
            explanation = explanation(),
        )
    }

    pub fn event(&self, bench: &Bench, seq: i64, kind: &str) -> String {
        let second = self.detected_us / SECOND;
        let episode = serde_json::json!({
            "key": {"service": self.service, "anomaly_type": self.anomaly_type, "first_raised_at": second},
            "status": self.status, "severity": self.severity, "revision": 1, "detected_at_us": self.detected_us,
            "started_at": second, "last_seen": second, "ended_at": null, "metric_value": 0.15, "threshold": 0.05,
            "baseline": null, "peak_value": 0.21, "score": null, "model_version": null,
            "description": "it's so", "explanation": "{}", "provenance": "{}"
        });
        let episode = episode.to_string().replace('\'', "''");
        let (id, status, clock) = (self.id, self.status, bench.at(self.detected_us));
        format!("({seq}, {id}, '{kind}', 1, '{status}', null, {clock}, '{episode}')")
    }
}

/// The real server over a bench.
pub struct Server {
    pub bench: Bench,
    pub address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start(bench: Bench, config: ApiConfig) -> Server {
        let source = |out: &mut String| {
            out.write_str("# HELP demo_logs Logs.\n# TYPE demo_logs counter\ndemo_logs_total 7\n")
        };
        let api = Api::bind(config, Arc::new(source)).await.expect("the server starts");
        let address = api.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let task = Some(tokio::spawn(api.serve(stop.clone())));
        Server { bench, address, stop, task }
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the server's end; its store stays.
    pub async fn stop(mut self) -> Bench {
        self.stop.cancel();
        self.task.take().expect("it ran").await.expect("the server ends well");
        self.bench
    }

    /// Waits for the server's end and drops the database.
    pub async fn end(mut self) {
        self.stop.cancel();
        self.task.take().expect("it ran").await.expect("the server ends well");
        if let Kind::Postgres(database) = &*self.bench.kind {
            database.remove().await;
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send("POST", path, &all, Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// The JSON of a 200.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json", "{path}");
        reply.json()
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
        let response = self.open(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// An answer whose body is not read yet.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        sender.send_request(request).await.expect("an answer")
    }

    /// The status of a GET over HTTP/2 without TLS.
    pub async fn get_h2c(&self, path: &str) -> StatusCode {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let uri = format!("http://{}{path}", self.address);
        let request = Request::get(uri).body(Full::<Bytes>::default()).expect("a request");
        sender.send_request(request).await.expect("an answer").status()
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The empty text where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Reads server-sent events one by one.
pub struct Events {
    body: Incoming,
    text: String,
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<i64>,
    pub name: String,
    pub data: String,
}

impl Events {
    pub async fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Events {
        let response = server.open("GET", path, headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    /// The next event of this name; `None` when the stream ended.
    pub async fn next(&mut self, name: &str) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let event = Event::parse(&block);
                if event.name == name {
                    return Some(event);
                }
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
            }
        }
    }

    pub async fn next_anomaly(&mut self) -> (i64, serde_json::Value) {
        let event = self.next("anomaly").await.expect("an event");
        (event.id.expect("an id"), serde_json::from_str(&event.data).expect("JSON"))
    }
}

impl Event {
    fn parse(block: &str) -> Event {
        let mut event = Event::default();
        for (field, value) in block.lines().filter_map(|line| line.split_once(": ")) {
            match field {
                "id" => event.id = value.parse().ok(),
                "event" => event.name = value.to_owned(),
                "data" => event.data.push_str(value),
                _ => {}
            }
        }
        event
    }
}
