//! Kafka to Parquet on S3, to the function, to the table, to the estimate of costs: every number against a recount.
//!
//! ```text
//!   topic ─▶ smartlog ─▶ PostgreSQL ◀────── row by row ──────▶ files (pyarrow, DuckDB)
//!              └──────▶ S3 ──PUT──▶ function ─▶ daily_summaries ◀── recount of the files
//!                        └ requests, bytes ─┴─ calls, units ─▶ /api/v1/costs/estimate ◀── by hand
//! ```

use serde_json::{Value, json};
use smartlog_test_services::{Service, disturbing, free_port};
use smartlog_tests::cloud::World;
use smartlog_tests::judge::judge;
use smartlog_tests::program::{Program, binary_with_s3};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{eventually, now_us, unique};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// One pipeline into the local cloud.
struct Cloud {
    world: World,
    store: Store,
    topic: Topic,
    brokers: String,
}

impl Cloud {
    fn start(stem: &str, partitions: i32) -> Option<Self> {
        let kafka = Service::require("kafka")?;
        let (store, world) = (Store::create(Kind::Postgres)?, World::start()?);
        let brokers = kafka.address();
        let topic = Topic::create(&brokers, &unique(stem), partitions);
        Some(Cloud { world, store, topic, brokers })
    }

    fn smartlog(&self, arguments: &[&str]) -> Program {
        let all = [arguments, &["--store", &self.store.url]].concat();
        Program::start_as(binary_with_s3(), &all, &self.world.variables())
    }

    fn run(&self, more: &[&str]) -> Program {
        let base = ["run", "--until-end", "--brokers", &self.brokers, "--topic", &self.topic.name];
        self.smartlog(&[&base, more].concat())
    }

    /// Has `program` killed at its nth request of that kind: before it is done, or after and before the answer.
    fn kill_at(&mut self, program: &Program, request: &str, nth: u64, after: bool) {
        self.order(
            json!({"do": "kill_at", "match": request, "nth": nth, "after": after, "pid": program.pid()}),
        );
    }

    fn order(&mut self, order: Value) -> Value {
        self.world.order(&order)
    }

    /// The files hold what the table `logs` holds, row by row.
    fn assert_lake_is_store(&mut self) -> usize {
        let (found, expected) = (self.world.rows(), stored_rows(&mut self.store));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(&comparable(found), expected, "a row of the files (left) and of PostgreSQL (right)");
        }
        assert_eq!(found.len(), expected.len(), "rows of the files and of PostgreSQL");
        expected.len()
    }

    /// The table equals a recount of the files (the world sees to that), and of PostgreSQL.
    fn assert_summaries(&mut self) {
        let table = self.order(json!({"do": "settle"}));
        let number = |item: &Value, name: &str| item[name].as_f64().expect("a number") as i64;
        let key = |item: &Value| (text(&item["date"]), text(&item["service"]));
        let counts = |item: &Value| {
            (number(item, "total_logs"), number(item, "error_count"), number(item, "message_chars"))
        };
        let items = table.as_array().expect("a list");
        let logs = items.iter().filter(|item| number(item, "total_logs") > 0);
        let found: BTreeMap<_, _> = logs.map(|item| (key(item), counts(item))).collect();
        assert_eq!(found, stored_summaries(&mut self.store), "daily_summaries, and a recount of PostgreSQL");
        let anomalies = items.iter().filter(|item| number(item, "anomaly_count") > 0);
        let found: BTreeMap<_, _> =
            anomalies.map(|item| (key(item), number(item, "anomaly_count"))).collect();
        assert_eq!(found, stored_anomalies(&mut self.store), "anomalies of the table, and of PostgreSQL");
    }

    /// The newest files of episodes hold what the table `anomalies` holds: every column of each row.
    fn assert_episodes(&mut self) -> usize {
        let (found, expected) = (self.order(json!({"do": "episodes"})), stored_episodes(&mut self.store));
        let found: Vec<Value> = found.as_array().expect("rows").iter().map(with_real_numbers).collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "an episode of the files (left) and of PostgreSQL (right)");
        }
        assert_eq!(found.len(), expected.len(), "episodes of the files and of PostgreSQL");
        expected.len()
    }

    /// Runs with nothing new to read, so that what everything came to is measured: again, when the function worked
    /// meanwhile, for events may come late. What the function noted of itself, by day.
    fn measure(&mut self) -> Value {
        for _ in 0..5 {
            let before = (self.figures()["calls"].clone(), self.usage());
            self.run(&[]).succeed(PATIENCE);
            self.assert_summaries();
            self.assert_episodes();
            // Its notes too: a call that had begun before may still have been under way.
            if (self.figures()["calls"].clone(), self.usage()) == before {
                return before.1;
            }
        }
        panic!("the function is called again and again: {}", self.figures());
    }

    fn figures(&mut self) -> Value {
        self.order(json!({"do": "figures"}))
    }

    fn usage(&mut self) -> Value {
        self.order(json!({"do": "usage"}))
    }

    /// Writing and reading requests that S3 got so far.
    fn asked(&mut self) -> Requests {
        let figures = self.figures();
        ["puts", "gets"].map(|kind| figures[kind].as_i64().expect("a number"))
    }

    fn asked_since(&mut self, before: Requests) -> Requests {
        let [puts, gets] = self.asked();
        [puts - before[0], gets - before[1]]
    }

    /// Writing and reading requests that the exporter wrote down.
    fn noted(&mut self) -> Requests {
        ["puts", "gets"]
            .map(|kind| self.store.number(&format!("select coalesce(sum({kind}), 0) from export_usage")))
    }

    /// The estimate of an account without S3's free year.
    fn estimate(&mut self) -> Value {
        let address = format!("127.0.0.1:{}", free_port());
        let _api = self.smartlog(&["api", "--listen", &address]);
        let path = "/api/v1/costs/estimate?account=credits";
        eventually("the API answers", PATIENCE, || get(&address, path))
    }
}

/// Writing, and reading.
type Requests = [i64; 2];

fn plus(one: Requests, other: Requests) -> Requests {
    [one[0] + other[0], one[1] + other[1]]
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// PostgreSQL's rows as `read_lake.py` prints those of the files; metadata as a value, for jsonb keeps no spelling.
fn stored_rows(store: &mut Store) -> Vec<Value> {
    let id = |key: &str| {
        format!(
            "case when jsonb_typeof(metadata->'{key}') in ('string', 'number') then metadata->>'{key}' end"
        )
    };
    let sql = format!(
        "select json_build_array(kafka_topic, kafka_partition, kafka_offset, {}, level, service, host, message, \
         char_length(message), metadata, {}, {}, case when jsonb_typeof(metadata->'duration_ms') = 'number' then \
         (metadata->>'duration_ms')::float8 end, shape, to_char(timestamp at time zone 'UTC', 'YYYY-MM-DD')) \
         from logs order by kafka_topic, kafka_partition, kafka_offset",
        store.micros("timestamp"),
        id("request_id"),
        id("user_id"),
    );
    let parse = |row: Vec<Option<String>>| {
        let row: Value = serde_json::from_str(row[0].as_deref().expect("a row")).expect("JSON");
        with_real_duration(row)
    };
    store.rows(&sql).into_iter().map(parse).collect()
}

fn comparable(row: &Value) -> Value {
    let mut row = row.clone();
    row[9] = row[9].as_str().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
    with_real_duration(row)
}

/// 5 and 5.0 are the same.
fn with_real_duration(mut row: Value) -> Value {
    row[12] = json!(row[12].as_f64());
    row
}

/// PostgreSQL's episodes as the local cloud reads those of the files: the day, then the columns of docs/EXPORT.md.
fn stored_episodes(store: &mut Store) -> Vec<Value> {
    let times = ["detected_at", "started_at", "last_seen", "ended_at"].map(|column| store.micros(column));
    let sql = format!(
        "select json_build_array(to_char(started_at at time zone 'UTC', 'YYYY-MM-DD'), id, {}, anomaly_type, service, \
         severity, description, model_version, metric_value::text, threshold::text, baseline::text, peak_value::text, \
         score::text, status, revision, explanation::text, feedback) from anomalies \
         order by to_char(started_at at time zone 'UTC', 'YYYY-MM-DD'), id",
        times.join(", ")
    );
    let parse = |row: Vec<Option<String>>| {
        let row: Value = serde_json::from_str(row[0].as_deref().expect("a row")).expect("JSON");
        with_real_numbers(&row)
    };
    store.rows(&sql).into_iter().map(parse).collect()
}

/// Metric, threshold, baseline, peak and score come as text, for JSON's numbers are read with a rounding of their own.
fn with_real_numbers(episode: &Value) -> Value {
    let mut episode = episode.clone();
    for at in 11..16_usize {
        episode[at] = episode[at].as_str().map_or(Value::Null, |text| {
            let number: f64 = text.parse().expect("a number");
            json!(number)
        });
    }
    episode
}

type Counts = BTreeMap<(String, String), (i64, i64, i64)>;

fn stored_summaries(store: &mut Store) -> Counts {
    let sql = "select to_char(timestamp at time zone 'UTC', 'YYYY-MM-DD'), service, count(*), \
               count(*) filter (where level in ('ERROR', 'FATAL')), sum(char_length(message)) from logs group by 1, 2";
    let number =
        |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse().ok()).expect("a number");
    let name = |cell: &Option<String>| cell.clone().expect("text");
    let rows = store.rows(sql).into_iter();
    rows.map(|row| ((name(&row[0]), name(&row[1])), (number(&row[2]), number(&row[3]), number(&row[4]))))
        .collect()
}

fn stored_anomalies(store: &mut Store) -> BTreeMap<(String, String), i64> {
    let sql = "select to_char(started_at at time zone 'UTC', 'YYYY-MM-DD'), coalesce(service, '__stream__'), count(*) \
               from anomalies where status <> 'retracted' group by 1, 2";
    let name = |cell: &Option<String>| cell.clone().expect("text");
    let rows = store.rows(sql).into_iter();
    rows.map(|row| {
        ((name(&row[0]), name(&row[1])), row[2].as_deref().expect("a count").parse().expect("a number"))
    })
    .collect()
}

/// The day two days ago: its begin, and its name.
fn closed_day() -> (i64, String) {
    let begin = now_us() / DAY_US * DAY_US - 2 * DAY_US;
    (begin, smartlog_tests::oracle::rfc3339(begin)[..10].to_owned())
}

/// An evening of `day` with an incident, some of the evening before, and half an hour past midnight, so that both days
/// are over.
fn fill(topic: &Topic, seed: u64, day: i64) -> Traffic {
    let mut traffic = Traffic::new(seed, 2);
    let minute = |n: i64| day + DAY_US + n * MINUTE_US;
    traffic.send(topic, 600, (minute(-24 * 60 - 60), minute(-24 * 60 - 40)));
    traffic.send(topic, 12_000, (minute(-90), minute(-40)));
    traffic.failing = Some("checkout");
    traffic.send(topic, 900, (minute(-40), minute(-37)));
    traffic.failing = None;
    traffic.send(topic, 9_000, (minute(-37), minute(30)));
    topic.flush();
    traffic
}

#[test]
fn every_number_from_kafka_to_the_costs_equals_a_recount() {
    let Some(mut cloud) = Cloud::start("lake", 2) else { return };
    let _turn = disturbing();
    // Asked once: the test may run across midnight.
    let (day, date) = closed_day();
    let mut traffic = fill(&cloud.topic, 3, day);
    cloud.run(&["--workers", "2"]).succeed(PATIENCE);
    judge(&mut cloud.store, &cloud.topic, |_| {});
    assert!(cloud.assert_lake_is_store() > 20_000);
    cloud.assert_summaries();
    // Its share of errors rises while windows take it in: were the columns exchanged, it would show.
    let incident = "select count(*) from anomalies where status <> 'retracted' and metric_value < peak_value";
    assert!(cloud.store.number(incident) > 0, "an incident");
    assert!(cloud.assert_episodes() > 0);
    let closed = format!("select manifest_version from export_days where date = '{date}' and closed = 1");
    assert_eq!(cloud.store.number(&closed), 1, "the day is over and has a manifest");

    // Late logs, then the day anew: what it replaces is voided, and the function takes it away again.
    traffic.send(&cloud.topic, 200, (day + DAY_US - 95 * MINUTE_US, day + DAY_US - 94 * MINUTE_US));
    cloud.topic.flush();
    cloud.run(&["--workers", "1"]).succeed(PATIENCE);
    cloud.assert_lake_is_store();
    cloud.smartlog(&["export", "--date", &date, "--format", "json"]).succeed(PATIENCE);
    let stands = format!(
        "select count(*) from export_files where date = '{date}' and status = 'complete' and generation = 0"
    );
    assert_eq!(cloud.store.number(&stands), 0, "the stream's files of the day are replaced");
    cloud.smartlog(&["export", "--verify", &date]).succeed(PATIENCE);
    cloud.assert_lake_is_store();
    cloud.assert_summaries();
    assert_eq!(cloud.order(json!({"do": "uploads"})), 0);
    let usage = cloud.measure();
    assert_costs(&mut cloud, &usage);
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn used(estimate: &Value, meter: &str) -> f64 {
    number(&estimate["free_tier_usage"][meter]["used"])
}

/// What is stored, and what the function used and costs, by hand: prices of eu-west-1.
fn assert_storage_and_function(estimate: &Value, figures: &Value, usage: &Value) {
    let stored = used(estimate, "s3_storage_gb") * f64::from(1 << 30);
    assert!((stored - number(&figures["bytes"])).abs() < 1.0, "{figures} {estimate}");
    // A test may run across the end of a month, which begins anew.
    let month = text(&estimate["period"]);
    let days = usage.as_array().expect("days").iter();
    let days: Vec<&Value> = days.filter(|day| text(&day["day"]).starts_with(&month)).collect();
    let sum = |name: &str| days.iter().map(|day| number(&day[name])).sum::<f64>();
    assert!(sum("invocations") > 5.0 && sum("gb_seconds") > 0.0, "{usage}");
    assert_eq!(used(estimate, "lambda_invocations"), sum("invocations"), "calls that the function counted");
    near(used(estimate, "lambda_gb_seconds"), sum("gb_seconds"), 1e-9);
    let exact = &estimate["detail"]["exact_costs_usd"];
    let dynamodb = sum("write_units") * 0.705e-6 + sum("read_units") * 0.1415e-6;
    assert!(sum("write_units") > 0.0 && sum("read_units") > 0.0, "{usage}");
    near(number(&exact["dynamodb"]), dynamodb, 1e-12);
    assert_eq!(number(&exact["lambda"]), 0.0, "a million calls are free");
}

/// The estimate, by hand: prices of eu-west-1, an account without S3's free year.
fn assert_costs(cloud: &mut Cloud, usage: &Value) {
    let (estimate, figures) = (cloud.estimate(), cloud.figures());
    let asked = ["puts", "gets"].map(|kind| number(&figures[kind]));
    let noted = ["s3_put_requests", "s3_get_requests"].map(|meter| used(&estimate, meter));
    assert_eq!(noted, asked, "writing and reading requests that S3 got: {figures}");
    assert_storage_and_function(&estimate, &figures, usage);
    let (exact, detail) = (&estimate["detail"]["exact_costs_usd"], &estimate["detail"]);
    let requests = asked[0] * 0.005e-3 + asked[1] * 0.0004e-3;
    near(number(&exact["s3"]), requests + number(&detail["s3_gb_months"]) * 0.023, 1e-12);
    near(number(&exact["total"]), number(&exact["s3"]) + number(&exact["dynamodb"]), 1e-12);
    // All of it was stored within the last minutes.
    let at_most = used(&estimate, "s3_storage_gb") * number(&detail["month_passed"]) + 1e-9;
    assert!((0.0..=at_most).contains(&number(&detail["s3_gb_months"])), "{estimate}");
    for known in ["bucket_listed_at", "function_measured_at"] {
        assert!(detail[known].is_string(), "{detail}");
    }
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

/// The JSON that a GET answers; `None` while nobody listens.
fn get(address: &str, path: &str) -> Option<Value> {
    let mut connection = TcpStream::connect(address).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).expect("JSON"))
}

/// Requests to S3 at which the program dies, before the request (`false`) or after it was done and before its answer came;
/// then whether it must come to that:
///
/// - The first five die on the way to complete the first day's file, so each makes it anew, and no part of it can be left
///   out: its 24,000 messages of 1,000 characters, 56 kinds of them at random, have 17.4 MB however they are compressed, and
///   beyond 16 MiB a file goes in parts of 8.
/// - Whether the day is closed already by the run that completes this file depends on how its logs came in batches, so a
///   manifest may come one run later; and of what is at random nothing need become an episode.
/// - What is left for the runs after it depends on that.
const DEATHS: [(&str, u64, bool, bool); 9] = [
    (r"^POST .*[?&]uploads", 1, true, true),
    (r"^PUT .*partNumber=", 1, false, true),
    (r"^PUT .*partNumber=", 2, true, true),
    (r"^POST .*[?&]uploadId=", 1, false, true),
    (r"^POST .*[?&]uploadId=", 1, true, true),
    (r"^PUT .*/_manifest-", 1, true, false),
    (r"^PUT .*/_SUCCESS", 1, false, false),
    (r"^PUT .*/episodes\.parquet", 1, true, false),
    (r"^HEAD ", 1, false, false),
];

/// Logs whose messages do not compress, so that a file is uploaded in parts.
fn fill_with_noise(topic: &Topic, count: usize, (from_us, to_us): (i64, i64)) {
    for index in 0..count {
        let at = from_us + (to_us - from_us) * index as i64 / count as i64;
        let noise: String = (0..1_000).map(|_| char::from(rand::random_range(b'#'..b'['))).collect();
        let time = smartlog_tests::oracle::rfc3339(at);
        let level = if index % 50 == 0 { "ERROR" } else { "INFO" };
        let payload = format!(
            r#"{{"timestamp": "{time}", "level": "{level}", "service": "noise-{}", "host": "h", "message": "{noise}", "metadata": {{"request_id": "r-{index}", "duration_ms": {index}}}}}"#,
            index % 60
        );
        topic.send(0, Some(payload.as_bytes()), at / 1_000 + 5);
    }
    topic.flush();
}

/// Runs and dies, each time with logs of `late` more. Requests that the exporter may not have written down: at most all that a
/// killed one made.
fn kill_at_each_request(cloud: &mut Cloud, late: impl Fn(&Topic)) -> Requests {
    let (mut died, mut lost) = (0_u32, [0, 0]);
    for (request, nth, after, must) in DEATHS {
        let before = cloud.asked();
        let mut program = cloud.run(&["--workers", "1"]);
        cloud.kill_at(&program, request, nth, after);
        let has_died = !program.wait(PATIENCE).success();
        cloud.order(json!({"do": "spare"}));
        assert!(has_died || !must, "it never came to {request}: nothing was proven");
        if has_died {
            died += 1;
            lost = plus(lost, cloud.asked_since(before));
        }
        assert_eq!(
            cloud.figures()["crashes"]["program"],
            died,
            "it ends by a kill of ours, or well: {request}"
        );
        late(&cloud.topic);
    }
    lost
}

#[test]
fn after_a_crash_of_each_part_every_number_still_equals_a_recount() {
    let Some(mut cloud) = Cloud::start("crashes", 1) else { return };
    let _turn = disturbing();
    let (day, date) = closed_day();
    let minute = |n: i64| day + DAY_US + n * MINUTE_US;
    fill_with_noise(&cloud.topic, 40_000, (minute(-30), minute(20)));
    // Late ones too: there is something to write and a day to close again.
    let late = |topic: &Topic| fill_with_noise(topic, 200, (minute(-30), minute(21)));
    let mut lost = kill_at_each_request(&mut cloud, late);
    let mut fed = 40_000 + 200 * DEATHS.len();

    // The function dies within a change of more services than one transaction takes; MinIO sends the event again.
    cloud.order(json!({"do": "kill_function_at", "nth": 4, "after": true}));
    fill_with_noise(&cloud.topic, 2_000, (minute(-29), minute(-20)));
    fed += 2_000;
    cloud.run(&["--workers", "1"]).succeed(PATIENCE);
    cloud.assert_summaries();
    assert_eq!(cloud.figures()["crashes"]["function"], 1);

    // S3 goes away and comes back while the program works; then Kafka, then PostgreSQL.
    let (kafka, postgres) =
        (Service::require("kafka").expect("it is there"), Service::require("postgres").expect("it is there"));
    // Requests that the exporter may have written down twice, for the answer to the first time was lost.
    let mut twice = [0, 0];
    for part in ["s3", "kafka", "postgres"] {
        fill_with_noise(&cloud.topic, 3_000, (minute(-28), minute(-27)));
        fed += 3_000;
        let before = cloud.asked();
        let mut program = cloud.run(&["--workers", "1"]);
        program.wait_for_words("reading", PATIENCE);
        match part {
            "s3" => drop(cloud.order(json!({"do": "crash_minio"}))),
            "kafka" => {
                kafka.kill();
                kafka.start();
            }
            _ => {
                postgres.kill();
                postgres.start();
            }
        }
        program.succeed(PATIENCE);
        // A request that S3 did not answer is sent again, and counts there as two.
        if part != "kafka" {
            lost = plus(lost, cloud.asked_since(before));
        }
        if part == "postgres" {
            twice = cloud.asked_since(before);
        }
    }

    // A new generation, killed between its files and their exchange.
    let before = cloud.asked();
    let mut export = cloud.smartlog(&["export", "--date", &date]);
    cloud.kill_at(&export, "^PUT .*/export-g", 1, true);
    assert!(!export.wait(PATIENCE).success(), "it was killed");
    cloud.order(json!({"do": "spare"}));
    lost = plus(lost, cloud.asked_since(before));
    cloud.smartlog(&["export", "--date", &date]).succeed(PATIENCE);
    cloud.smartlog(&["export", "--verify", &date]).succeed(PATIENCE);
    assert_eq!(cloud.order(json!({"do": "uploads"})), 0, "uploads that nobody finishes");
    assert_eq!(cloud.assert_lake_is_store(), fed, "every log once");
    cloud.assert_summaries();

    let usage = cloud.measure();
    let (estimate, figures) = (cloud.estimate(), cloud.figures());
    assert_storage_and_function(&estimate, &figures, &usage);
    let (noted, asked) = (cloud.noted(), cloud.asked());
    for kind in [0, 1] {
        let possible = asked[kind] - lost[kind]..=asked[kind] + twice[kind];
        assert!(possible.contains(&noted[kind]), "{noted:?} noted of {asked:?}, {lost:?} may be lost");
    }
}
