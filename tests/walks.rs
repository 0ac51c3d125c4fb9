//! The documents, followed: their commands run as they stand there, in order, against real services, and lead to what is said there.
//!
//! tries.rs follows those that need no pipeline; documents.rs knows which block is followed where, and which cannot be here.

use smartlog_test_services::{Service, free_port, tool};
use smartlog_tests::document::{Reader, blocks_of, lines, numbers};
use smartlog_tests::program::Program;
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::web::{self, Receiver, Reply};
use smartlog_tests::{eventually, now_us, unique};
use std::time::Duration;

/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// A reader with a Kafka, a topic `app-logs` in it, and a store, in the variables that the README exports.
struct Site {
    reader: Reader,
    topic: Topic,
    store: Store,
}

impl Site {
    fn with(kind: Kind, partitions: i32) -> Option<Self> {
        let kafka = Service::require("kafka")?;
        let (store, brokers) = (Store::create(kind)?, kafka.address());
        let topic = Topic::create(&brokers, &unique("app-logs"), partitions);
        let mut reader = Reader::default();
        if let Some(psql) = tool("psql") {
            reader.has_postgres(&psql);
        }
        reader.sets("SMARTLOG_STORE_URL", &store.url);
        reader.sets("SMARTLOG_KAFKA_BROKERS", &brokers);
        reader.sets("SMARTLOG_KAFKA_TOPICS", &topic.name);
        reader.sets("SMARTLOG_API_LISTEN", &format!("127.0.0.1:{}", free_port()));
        reader.has("postgres://smartlog@localhost/logs", &store.url);
        reader.has("localhost:9092", &brokers);
        reader.has("app-logs", &topic.name);
        Some(Site { reader, topic, store })
    }

    /// Logs of twenty minutes from then on.
    fn fill(&self, count: usize, from_us: i64) {
        let mut traffic = Traffic::new(7, self.topic.ends().len());
        traffic.send(&self.topic, count, (from_us, from_us + 20 * MINUTE_US));
        self.topic.flush();
    }

    fn end(&self) -> i64 {
        self.topic.ends().values().map(|(_, end)| end).sum()
    }

    /// Waits until a sink has done with all that is in the topic now.
    fn settle(&mut self, sink: &str) {
        let (end, store) = (self.end(), &mut self.store);
        eventually(&format!("{sink} has done with {end} records"), PATIENCE, || {
            (store.progress(sink) == end).then_some(())
        });
    }
}

/// A day that is over, and ten o'clock on it: nothing of a test at midnight falls on two days.
fn yesterday() -> (String, i64) {
    let ten = now_us().div_euclid(DAY_US) * DAY_US - 14 * 60 * MINUTE_US;
    let day = smartlog_tests::oracle::rfc3339(ten).split('T').next().expect("a date").to_owned();
    (day, ten)
}

fn stop(mut program: Program) {
    program.terminate();
    program.succeed(PATIENCE);
}

#[test]
fn the_readme_leads_to_a_pipeline_that_survives_its_kill() {
    let Some(mut site) = Site::with(Kind::Postgres, 2) else { return };
    site.reader.has("make build\n", "");
    let section = blocks_of("README.md", "On your Kafka and PostgreSQL", "sh");
    let [told, check, run, api, generate] = section.as_slice() else { panic!("five blocks: {section:?}") };
    let said = site.reader.follows(&format!("{told}{check}"));
    for name in ["store", "lease", "kafka", "topic app-logs"] {
        let name = name.replace("app-logs", &site.topic.name);
        assert!(said.lines().any(|line| line.starts_with("ok") && line.contains(&name)), "{name}: {said}");
    }
    let running = site.reader.starts(&format!("{told}{run}"));
    let _api = site.reader.starts(&format!("{told}{api}"));
    let generator = site.reader.starts(&format!("{told}{generate}"));
    let store = &mut site.store;
    eventually("logs are stored", PATIENCE, || (store.progress("logs") > 0).then_some(()));
    let page = site.reader.follows("echo $SMARTLOG_API_LISTEN");
    let services = format!("http://{}/api/v1/services", page.trim());
    eventually("the API tells of services", PATIENCE, || {
        web::get(&services).ok().filter(|(status, body)| *status == 200 && body.contains("log_rate"))
    });
    stop(running);

    let kill = blocks_of("README.md", "Kill it", "sh");
    let [killed, counted] = kill.as_slice() else { panic!("two blocks: {kill:?}") };
    let [first, again] = lines(killed);
    site.reader.follows(&format!("{told}{first}"));
    let running = site.reader.starts(&format!("{told}{again}"));
    site.settle_after(generator);
    let found = numbers(&site.reader.follows(&format!("{told}{counted}")));
    let refused = site.store.number("select count(*) from dead_letters");
    assert_eq!(found[..2], [site.end() - refused; 2], "every record once: {found:?}");
    stop(running);
}

impl Site {
    fn settle_after(&mut self, mut generator: Program) {
        generator.terminate();
        generator.wait(PATIENCE);
        self.settle("logs");
        self.settle("aggregates");
    }
}

#[test]
fn the_walk_without_docker_leads_to_a_page_with_numbers_in_prometheus() {
    let Some(prometheus) = Service::require("prometheus") else { return };
    let Some(mut site) = Site::with(Kind::Postgres, 2) else { return };
    let section = blocks_of("docs/DEPLOY.md", "Without Docker", "sh");
    let [build, tell, start, scrape, look, stop] = section.as_slice() else {
        panic!("six blocks: {section:?}")
    };
    assert!(build.contains("make build") && build.contains("make services"), "the tests have done that");
    for (name, value) in [
        ("KAFKA", Service::require("kafka").expect("it was there").address()),
        ("POSTGRES", site.store.url.clone()),
        ("PROMETHEUS", prometheus.address()),
        ("PROMETHEUS_TARGETS", prometheus.variable("TARGETS")),
    ] {
        site.reader.sets(&format!("SMARTLOG_TEST_{name}"), &value);
    }
    for port in ["127.0.0.1:9464", "127.0.0.1:8000"] {
        site.reader.has(port, &format!("127.0.0.1:{}", free_port()));
    }
    site.reader.has("TOPICS=logs", &format!("TOPICS={}", site.topic.name));
    site.reader.has("/smartlog.json", &format!("/{}.json", unique("walk")));
    // What the document leaves to the reader's patience.
    let wait = "patiently() { for n in $(seq 600); do \"$@\" && return; sleep 0.1; done; \"$@\"; }";
    let seen = ["ready.200", "[-]service", "__name__.:.smartlog_lag_records"];
    let asked: [&str; 3] = lines(look);
    let asked =
        asked.iter().zip(seen).map(|(line, words)| format!("patiently sh -c '{line} | grep {words}'\n"));
    let asked: String = asked.collect();
    site.reader.follows(&format!("set -m\n{wait}\n{tell}\n{start}\n{scrape}\n{asked}\n{stop}\nwait\n"));
    assert!(site.store.number("select count(*) from logs") > 900);
}

#[test]
fn a_day_as_parquet_is_read_verified_and_written_anew_from_postgres() {
    a_day_as_parquet_is_read_verified_and_written_anew(Kind::Postgres);
}

#[test]
fn a_day_as_parquet_is_read_verified_and_written_anew_from_sqlite() {
    a_day_as_parquet_is_read_verified_and_written_anew(Kind::Sqlite);
}

fn a_day_as_parquet_is_read_verified_and_written_anew(kind: Kind) {
    let Some(python) = Service::require("python") else { return };
    let Some(mut site) = Site::with(kind, 2) else { return };
    let (day, ten) = yesterday();
    site.fill(3_000, ten);
    let query = "import duckdb, sys; [print(*row) for row in duckdb.sql(sys.argv[2]).fetchall()]";
    site.reader.has_program("duckdb", &format!("{} -c '{query}' \"$@\"", python.address()));
    site.reader.has("2026-01-15", &day);
    let section = blocks_of("README.md", "Logs as Parquet", "sh").concat();
    let [run, read_back, verify] = lines(&section);
    let running = site.reader.starts(run);
    site.settle("aggregates");
    stop(running); // what is under way is completed
    let logs = site.store.number("select count(*) from logs");
    let in_files = |printed: &str| -> i64 {
        printed.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
    };
    assert!(logs > 2_500);
    assert_eq!(in_files(&site.reader.follows(read_back)), logs);
    site.reader.follows(verify);

    let anew = blocks_of("docs/EXPORT.md", "One day anew", "sh").concat();
    site.reader.follows(&anew);
    assert_eq!(in_files(&site.reader.follows(read_back)), logs, "replaced, not doubled");
    let bad = blocks_of("docs/EXPORT.md", "Export: every log as Parquet", "sql").concat();
    let errors = in_files(&site.reader.follows(&format!("duckdb -c \"$(cat <<'END'\n{bad}\nEND\n)\"")));
    assert_eq!(errors, site.store.number("select count(*) from logs where level in ('ERROR', 'FATAL')"));
}

#[test]
fn logs_go_into_a_search_index_as_both_documents_say() {
    let Some(search) = Service::require("opensearch") else { return };
    let Some(mut site) = Site::with(Kind::Postgres, 2) else { return };
    let prefix = unique("walk");
    site.reader.sets("SMARTLOG_SEARCH_PREFIX", &prefix);
    site.reader.has("http://localhost:9200", &search.address());
    site.fill(2_000, yesterday().1);
    let block = blocks_of("docs/SEARCH.md", "Logs in Elasticsearch or OpenSearch", "sh").concat();
    let [doctor, run] = lines(&block);
    assert_eq!(run, blocks_of("README.md", "Logs in Elasticsearch or OpenSearch", "sh").concat().trim_end());
    site.reader.follows("smartlog migrate");
    let said = site.reader.follows(doctor);
    assert!(said.lines().any(|line| line.starts_with("ok") && line.contains(&search.address())), "{said}");
    let running = site.reader.starts(run);
    site.settle("search");
    site.settle("logs");
    let all = format!("{}/{prefix}-*", search.address());
    web::send_json("POST", &format!("{all}/_refresh"), "").expect("an answer");
    let count = web::json(&format!("{all}/_count"))["count"].as_i64();
    assert_eq!(count, Some(site.store.number("select count(*) from logs")));
    stop(running);
}

#[test]
fn people_are_told_as_the_readme_says() {
    let Some(mut site) = Site::with(Kind::Postgres, 1) else { return };
    let slack = Receiver::start(|_, _| Reply::of(200));
    let secret = site.reader.has_file("slack", &slack.url("/services/secret"));
    site.reader.has("/run/secrets/slack", &secret.display().to_string());
    let section = blocks_of("README.md", "Watch it, and be told", "sh").concat();
    let [run, doctor] = lines(&section);
    site.fill(100, now_us() - 20 * MINUTE_US);
    let running = site.reader.starts(run);
    site.settle("logs");
    let said = site.reader.follows(doctor);
    assert!(!said.contains("secret"), "{said}");
    let told = slack.received();
    assert!(
        told.iter().any(|request| request.path == "/services/secret" && request.body.contains("text")),
        "{told:?}"
    );
    for sql in blocks_of("docs/ALERTS.md", "What is promised", "sql") {
        site.store.rows(&sql);
    }
    stop(running);
}

#[test]
fn positions_are_shown_and_changed_as_the_document_says_on_postgres() {
    positions_are_shown_and_changed_as_the_document_says(Kind::Postgres);
}

#[test]
fn positions_are_shown_and_changed_as_the_document_says_on_sqlite() {
    positions_are_shown_and_changed_as_the_document_says(Kind::Sqlite);
}

fn positions_are_shown_and_changed_as_the_document_says(kind: Kind) {
    let Some(mut site) = Site::with(kind, 1) else { return };
    site.fill(1_500, yesterday().1);
    let (url, run) = (site.store.url.clone(), "smartlog run --until-end --export lake");
    site.reader.follows(run);
    site.reader.has("--store URL", &format!("--store {url}"));
    site.reader.has("forget NAME", "forget parquet");
    let section = blocks_of("docs/OPERATIONS.md", "Positions", "sh").concat();
    let [list, set_start, accept, forget] = lines(&section);
    let shown = site.reader.follows(list);
    let rows = |sink: &str| shown.lines().filter(|line| line.starts_with(sink)).count();
    assert_eq!(["aggregates", "logs", "parquet"].map(rows), [1, 1, 1], "{shown}");
    site.reader.follows(set_start);
    assert_eq!(site.store.progress("logs"), 1_200);
    site.reader.follows(accept);
    assert_eq!(
        site.store.number("select count(next_offset) from sink_positions"),
        0,
        "every sink begins anew"
    );
    site.reader.follows(&run.replace("lake", "lake-2"));
    site.reader.follows(forget);
    assert_eq!(site.store.number("select count(*) from sink_positions where sink = 'parquet'"), 0);
}

#[test]
fn a_day_of_logs_is_dropped_as_the_document_says() {
    let Some(mut site) = Site::with(Kind::Postgres, 1) else { return };
    let (day, ten) = yesterday();
    site.fill(500, ten);
    let running = site.reader.starts("smartlog run");
    site.settle("logs");
    assert!(site.store.number("select count(*) from logs") > 0);
    site.reader.has("20260115", &day.replace('-', ""));
    let drop = blocks_of("docs/OPERATIONS.md", "Retention", "sql").concat();
    site.reader.follows(&format!("psql \"$SMARTLOG_STORE_URL\" -c '{}'", drop.trim_end()));
    assert_eq!(site.store.number("select count(*) from logs"), 0);
    stop(running);
}

#[test]
fn a_restored_backup_goes_on_where_it_was_on_postgres() {
    a_restored_backup_goes_on_where_it_was(Kind::Postgres);
}

#[test]
fn a_restored_backup_goes_on_where_it_was_on_sqlite() {
    a_restored_backup_goes_on_where_it_was(Kind::Sqlite);
}

/// The backup is taken while everything runs, the store lost, and everything is there once afterwards.
fn a_restored_backup_goes_on_where_it_was(kind: Kind) {
    let Some(python) = Service::require("python") else { return };
    let Some(mut site) = Site::with(kind, 2) else { return };
    // The command's own engine, by the library that Python has of it.
    let copy = "import sqlite3, sys; to = sqlite3.connect(sys.argv[2].split()[1]); sqlite3.connect(sys.argv[1]).backup(to)";
    site.reader.has_program("sqlite3", &format!("{} -c '{copy}' \"$@\"", python.address()));
    site.reader.has("smartlog.db", site.store.url.trim_start_matches("sqlite:"));
    let begin = now_us() - 60 * MINUTE_US;
    site.fill(3_000, begin);
    let running = site.reader.starts("smartlog run");
    site.settle("logs");
    let section = blocks_of("docs/OPERATIONS.md", "Backup and restore", "sh");
    let [postgres, sqlite] = section.as_slice() else { panic!("two blocks: {section:?}") };
    let block = if kind == Kind::Postgres { postgres } else { sqlite };
    let (back_up, restore) = block.split_once('\n').expect("one line to back up, others to restore");
    site.reader.follows(back_up);
    site.fill(3_000, begin + 20 * MINUTE_US);
    site.settle("logs");
    stop(running);
    site.reader.follows(restore);
    assert!(site.store.progress("logs") < site.end(), "it is a state that once was");
    site.reader.follows("smartlog run --until-end");
    let (logs, refused) = ("select count(*) from logs", "select count(*) from dead_letters");
    let places = "select count(*) from (select distinct kafka_partition, kafka_offset from logs) places";
    let found = [logs, refused, places].map(|sql| site.store.number(sql));
    assert_eq!((found[0] + found[1], found[2]), (site.end(), found[0]), "everything is there, once");
}
