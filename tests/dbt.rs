//! `dbt/` on a PostgreSQL that the program filled: its own tests pass, its daily table equals `daily_summaries`, its page explains
//! columns that are there, and its tests can fail.

use serde_json::Value;
use smartlog_test_services::Service;
use smartlog_tests::manifest::{copied, members, repository};
use smartlog_tests::program::{Program, bootstrap};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::unique;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
/// The tables for analysts, as `dbt/README.md` lists them.
const MARTS: [&str; 3] = ["hourly_service_metrics", "daily_service_metrics", "anomalies_by_service"];

/// Thirty hours of a web shop over two or three days, with an incident every half hour.
fn fill(brokers: &str, topic: &str) {
    let arguments = [
        "generate",
        "--to",
        "kafka",
        "--brokers",
        brokers,
        "--topic",
        topic,
        "--for",
        "30h",
        "--rate",
        "1",
        "--speed",
        "0",
        "--seed",
        "11",
        "--incidents",
        "auto",
        "--generate-incidents-per-day",
        "48",
    ];
    Program::start(&arguments).succeed(PATIENCE);
}

fn analyse(brokers: &str, topic: &str, store: &Store, lake: &Path) {
    let lake = lake.display().to_string();
    let arguments = [
        "run",
        "--brokers",
        brokers,
        "--topic",
        topic,
        "--store",
        &store.url,
        "--export",
        &lake,
        "--until-end",
        "--workers",
        "2",
    ];
    Program::start(&arguments).succeed(PATIENCE);
}

/// Runs dbt on a copy of the project (it writes beside what it reads), and gives what it said and whether it was content.
fn dbt(project: &Path, store: &Store, verb: &str) -> Option<(bool, String)> {
    let program = Service::require("dbt")?.address();
    let (user, rest) =
        store.url.strip_prefix("postgres://").and_then(|url| url.split_once('@')).expect("a URL");
    let (address, database) = rest.split_once('/').expect("a database");
    let (host, port) = address.split_once(':').expect("a port");
    let output = Command::new(program)
        .args(verb.split(' '))
        .args(["--profiles-dir", ".", "--no-use-colors"])
        .current_dir(project.join("dbt"))
        .envs([("PGUSER", user), ("PGHOST", host), ("PGPORT", port), ("PGDATABASE", database)])
        .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        .output()
        .expect("dbt starts");
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn the_project_builds_and_its_days_equal_the_summaries_in_the_cloud() {
    let needed = ["kafka", "dbt", "python", "moto", "dynamodb"];
    if needed.iter().any(|name| Service::require(name).is_none()) {
        return;
    }
    let Some(mut store) = Store::create(Kind::Postgres) else { return };
    let (brokers, name) = (Service::require("kafka").expect("required").address(), unique("dbt"));
    let _topic = Topic::create(&brokers, &name, 2);
    let (lake, project) = (tempfile::tempdir().expect("a folder"), copied(&["dbt"]));
    fill(&brokers, &name);
    analyse(&brokers, &name, &store, lake.path());
    assert!(
        store.number("select count(*) from anomalies where status <> 'retracted'") > 5,
        "something went wrong in it"
    );

    let (content, said) = dbt(project.path(), &store, "build").expect("required");
    assert!(content && said.contains("ERROR=0") && said.contains("SKIP=0"), "{said}");
    the_page_holds_the_marts(&store, project.path());
    let output = Command::new(Service::require("python").expect("required").address())
        .arg("-B")
        .arg(repository().join("tests/dbt/daily.py"))
        .arg(&store.url)
        .arg(lake.path())
        .arg(bootstrap())
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the days of dbt are not those of daily_summaries:\n{said}");
    let rows: usize = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    assert!(rows >= 2 * 26, "each day has the services of the shop: {rows}");

    a_wrong_number_is_found(&mut store, project.path());
}

/// Each table is in what the page shows of the database, and each column that is explained is one of its table.
fn the_page_holds_the_marts(store: &Store, project: &Path) {
    let (content, said) = dbt(project, store, "docs generate").expect("required");
    let target = project.join("dbt/target");
    assert!(content && target.join("index.html").is_file(), "{said}");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(target.join(name)).expect(name);
        serde_json::from_str(&text).expect(name)
    };
    let (catalog, manifest) = (read("catalog.json"), read("manifest.json"));
    assert!(catalog["errors"].is_null(), "{}", catalog["errors"]);
    for mart in MARTS {
        let node = format!("model.smartlog.{mart}");
        let columns_in = |of: &Value| -> BTreeSet<String> {
            members(&of["nodes"][&node]["columns"]).map(|(name, _)| name.clone()).collect()
        };
        let (there, explained) = (columns_in(&catalog), columns_in(&manifest));
        assert!(
            !explained.is_empty() && explained.is_subset(&there),
            "{mart} has {there:?}, and explained are {explained:?}"
        );
        let description = manifest["nodes"][&node]["description"].as_str();
        assert!(description.is_some_and(|text| !text.is_empty()), "{mart} is not explained");
    }
}

/// Numbers that nobody counted are found by the project's tests, each by one of them.
fn a_wrong_number_is_found(store: &mut Store, project: &Path) {
    for (damage, repair, finder) in [
        (
            "update hourly_metrics set log_count = log_count + 1 where id = (select id from hourly_metrics order by hour, id offset 60 limit 1)",
            "update hourly_metrics set log_count = log_count - 1 where id = (select id from hourly_metrics order by hour, id offset 60 limit 1)",
            "hours_equal_a_recount_of_logs",
        ),
        (
            "update hourly_metrics set anomaly_count = anomaly_count + 1 where anomaly_count > 0",
            "update hourly_metrics set anomaly_count = anomaly_count - 1 where anomaly_count > 0",
            "hours_count_the_episodes_of_anomalies",
        ),
    ] {
        store.rows(damage);
        let (content, said) = dbt(project, store, "test").expect("required");
        let found = said.lines().filter(|line| line.contains("FAIL")).any(|line| line.contains(finder));
        assert!(!content && found, "{finder} did not see: {damage}\n{said}");
        store.rows(repair);
    }
}
