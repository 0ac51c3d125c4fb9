//! What an operator sees: every metric, panel, rule and alert, tried on the running pipeline with the real Prometheus,
//! Alertmanager and PostgreSQL.
//!
//! ```text
//!   Traffic ─▶ Kafka ─▶ smartlog run ─▶ PostgreSQL ◀─ SQL of the panels
//!                          │ /metrics        ▲
//!                          ▼                 └─ smartlog api ─ /metrics ─┐
//!                      Prometheus ◀───────────────────────────────────────┘ ◀─ PromQL of the panels, rules, alerts
//! ```

use serde_json::{Value, json};
use smartlog_test_services::{Service, tool};
use smartlog_tests::program::Program;
use smartlog_tests::scene::{PATIENCE, SECOND_US, STOP, Scene};
use smartlog_tests::store::Kind;
use smartlog_tests::web::{self, Receiver, Reply, encoded};
use smartlog_tests::{eventually, now_us};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The address that stands between `before` and `after` in what the program says.
fn told_address(program: &Program, before: &str, after: &str) -> String {
    program.wait_for_words(before, PATIENCE);
    let said = program.said();
    let (_, rest) = said.split_once(before).expect("it was waited for");
    rest.split(after).next().unwrap_or_default().trim().to_owned()
}

/// The pipeline and the API, and Prometheus, which scrapes them until this is dropped.
struct Watched {
    scene: Scene,
    run: Program,
    api: Program,
    /// `host:port` of each one's `/metrics`.
    of_run: String,
    of_api: String,
    prometheus: Service,
    targets: PathBuf,
}

const METRICS: [&str; 2] = ["--metrics-listen", "127.0.0.1:0"];

impl Watched {
    fn start(mut scene: Scene, more: &[&str]) -> Option<Self> {
        let prometheus = Service::require("prometheus")?;
        scene.incident();
        let run = scene.start(&[&METRICS[..], more].concat());
        let api = Program::start(&["api", "--listen", "127.0.0.1:0", "--store", &scene.store.url]);
        let of_run = told_address(&run, "metrics are at http://", "/metrics");
        let of_api = told_address(&api, "address=", " ");
        let folder = PathBuf::from(prometheus.variable("TARGETS"));
        let targets = folder.join(format!("{}.json", smartlog_tests::unique("observe")));
        let target = |address: &str, job: &str| json!({ "targets": [address], "labels": { "job": job } });
        let list = json!([target(&of_run, "smartlog"), target(&of_api, "smartlog-api")]);
        // Prometheus may look at any moment: the file appears whole.
        let draft = scene.store.folder().join("targets.json");
        std::fs::write(&draft, list.to_string()).expect("a file can be written");
        std::fs::copy(&draft, targets.with_extension("draft")).expect("a file can be copied");
        std::fs::rename(targets.with_extension("draft"), &targets).expect("a file can be moved");
        Some(Watched { scene, run, api, of_run, of_api, prometheus, targets })
    }

    /// What an instant query gives.
    fn query(&self, query: &str) -> Vec<Value> {
        query_at(&self.prometheus.address(), query)
    }

    /// Waits until Prometheus gives a value for `query`, while logs go on coming.
    fn live_until_seen(&mut self, query: &str) {
        let address = self.prometheus.address();
        self.scene.live_until(query, 200, PATIENCE, |_| !query_at(&address, query).is_empty());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Gone already where the test removed it.
        let _ = std::fs::remove_file(&self.targets);
    }
}

fn query_at(prometheus: &str, query: &str) -> Vec<Value> {
    let answer = web::json(&format!("{prometheus}/api/v1/query?query={}", encoded(query)));
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// The families of a page in the text format, and each sample line by its series.
fn page(address: &str) -> (BTreeSet<String>, BTreeMap<String, f64>) {
    let (status, text) = web::get(&format!("http://{address}/metrics")).expect("/metrics answers");
    assert_eq!(status, 200, "{text}");
    let family = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    (text.lines().filter_map(family).collect(), text.lines().filter_map(sample).collect())
}

/// The sum of the series of `metric` whose labels hold `label`.
fn sum(samples: &BTreeMap<String, f64>, metric: &str, label: &str) -> f64 {
    let of = |series: &str| series.split('{').next() == Some(metric) && series.contains(label);
    samples.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
}

// ---------------------------------------------------------------------------------------------------- panels

/// `text` with Grafana's variables filled in. `services`: those chosen; none: all.
fn filled(text: &str, services: &[&str]) -> String {
    let quoted: Vec<String> = services.iter().map(|service| format!("'{service}'")).collect();
    let (pattern, raw, list) = match services {
        [] => (".*".to_owned(), ".*".to_owned(), "'.*'".to_owned()),
        some => (some.join("|"), some.join(","), quoted.join(",")),
    };
    text.replace("$__rate_interval", "10s")
        .replace("$__range", "60s")
        .replace("${service:raw}", &raw)
        .replace("${service:sqlstring}", &list)
        .replace("$service", &pattern)
        .replace("$job", "smartlog|smartlog-api")
        .replace("$instance", ".+")
}

/// `sql` as Grafana's PostgreSQL plugin expands its macros, over the last six hours.
fn expanded(sql: &str) -> String {
    let mut sql = sql.to_owned();
    while let Some((before, column, after)) = macro_call(&sql, "$__timeFilter(") {
        sql = format!(
            "{before}{column} BETWEEN now() - interval '6 hours' AND now() + interval '1 hour'{after}"
        );
    }
    while let Some((before, arguments, after)) = macro_call(&sql, "$__timeGroupAlias(") {
        let column = arguments.split(',').next().unwrap_or_default().to_owned();
        sql = format!("{before}floor(extract(epoch from {column}) / 3600) * 3600 AS \"time\"{after}");
    }
    assert!(!sql.contains("$__") && !sql.contains("${"), "a macro that this test does not know: {sql}");
    sql
}

fn macro_call(sql: &str, opening: &str) -> Option<(String, String, String)> {
    let (before, rest) = sql.split_once(opening)?;
    let (arguments, after) = rest.split_once(')')?;
    Some((before.to_owned(), arguments.to_owned(), after.to_owned()))
}

fn dashboards() -> Vec<Value> {
    let read =
        |name: &str| serde_json::from_str(&read(&format!("grafana/dashboards/{name}.json"))).expect("JSON");
    ["logs", "pipeline"].map(read).to_vec()
}

fn items<'a>(value: &'a Value, of: &str) -> impl Iterator<Item = &'a Value> {
    value[of].as_array().into_iter().flatten()
}

/// What is wrong with the answer to a target of a panel, if anything is.
fn fault_of(target: &Value, services: &[&str], watched: &mut Watched) -> Option<String> {
    if let Some(sql) = target["rawSql"].as_str() {
        let sql = expanded(&filled(sql, services));
        return match watched.scene.store.try_rows(&sql) {
            Err(error) => Some(format!("{sql}: {error}")),
            Ok(rows) if rows.is_empty() => Some(format!("{sql}: no row")),
            Ok(_) => None,
        };
    }
    let query = filled(target["expr"].as_str().unwrap_or_default(), services);
    let end = now_us() / SECOND_US;
    let url = format!(
        "{}/api/v1/query_range?query={}&start={}&end={end}&step=1",
        watched.prometheus.address(),
        encoded(&query),
        end - 8
    );
    match web::get(&url) {
        Ok((200, body)) => {
            let answer: Value = serde_json::from_str(&body).expect("Prometheus answers in JSON");
            let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let has_number = series.iter().flat_map(|s| items(s, "values")).any(|value| value[1] != "NaN");
            (!has_number).then(|| format!("{query}: no data"))
        }
        Ok((status, body)) => Some(format!("{query}: {status}: {body}")),
        Err(error) => Some(format!("{query}: {error}")),
    }
}

#[test]
fn every_panel_shows_data_of_the_running_pipeline() {
    let Some(scene) = Scene::create(Kind::Postgres, "panels") else { return };
    let receiver = Receiver::start(|_, _| Reply::of(200));
    let url = format!("oncall={}", receiver.url("/"));
    let more =
        ["--metrics-services", "3", "--workers", "2", "--alerts-hooks", "oncall=json", "--alerts-urls", &url];
    let Some(mut watched) = Watched::start(scene, &more) else { return };
    // What the panels of anomalies and of the API rest on.
    watched.live_until_seen(r#"smartlog_episodes{status="open"} > 0"#);
    watched.live_until_seen("smartlog_window_logs > 0");
    // Rates want some seconds of logs and requests: how many, depends on what else the machine does.
    let began = Instant::now();
    loop {
        busy_for(&mut watched, Duration::from_secs(4));
        let faults = faults_of_panels(&mut watched);
        if faults.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{} panels show nothing:\n{}", faults.len(), faults.join("\n"));
    }

    // Three services by name, the others as one, and together what the table says.
    let (_, samples) = page(&watched.of_run);
    let named: Vec<&String> =
        samples.keys().filter(|series| series.starts_with("smartlog_window_logs{")).collect();
    assert_eq!(named.len(), 4, "{named:?}");
    assert!(named.iter().any(|series| series.contains("__other__")), "{named:?}");
    let Watched { run, api, .. } = &watched;
    run.terminate();
    api.terminate();
}

/// Logs as they happen, and requests of every kind.
fn busy_for(watched: &mut Watched, time: Duration) {
    let (api, until) = (watched.of_api.clone(), Instant::now() + time);
    watched.scene.live_until("time passes", 200, PATIENCE, |_| {
        for path in ["/api/v1/anomalies", "/api/v1/metrics/hourly", "/nothing/here"] {
            web::get(&format!("http://{api}{path}")).expect("the API answers");
        }
        Instant::now() >= until
    });
}

/// The panels, annotations and variables of all dashboards that show nothing, each with why.
fn faults_of_panels(watched: &mut Watched) -> Vec<String> {
    let mut faults = Vec::new();
    for dashboard in dashboards() {
        for panel in items(&dashboard, "panels") {
            for target in items(panel, "targets") {
                for services in [&[][..], &["checkout", "payment"]] {
                    if let Some(fault) = fault_of(target, services, watched) {
                        faults.push(format!("{} / {}: {fault}", dashboard["title"], panel["title"]));
                    }
                }
            }
        }
        for annotation in
            items(&dashboard["annotations"], "list").filter(|a| a["target"]["rawSql"].is_string())
        {
            faults.extend(fault_of(&annotation["target"], &[], watched));
        }
        for variable in items(&dashboard["templating"], "list").filter(|v| v["type"] == "query") {
            let query = filled(variable["definition"].as_str().unwrap_or_default(), &[]);
            let selector = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", "));
            let (selector, label) = selector.unwrap_or_else(|| panic!("{query} is no label_values"));
            let found = watched.query(&format!("count by ({}) ({selector})", label.trim_end_matches(')')));
            if found.is_empty() {
                faults.push(format!("{}: ${} offers nothing", dashboard["title"], variable["name"]));
            }
        }
    }
    faults
}

// --------------------------------------------------------------------------------------------------- metrics

#[test]
fn metrics_are_named_as_prometheus_wants_and_what_comes_in_is_accounted_for() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "metrics") else { return };
    scene.traffic.unruly.malformed = 50;
    let Some(mut watched) = Watched::start(scene, &["--workers", "2"]) else { return };
    let Some(promtool) = tool("promtool") else { return };
    for address in [&watched.of_run, &watched.of_api] {
        let (_, text) = web::get(&format!("http://{address}/metrics")).expect("/metrics answers");
        let checking = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut checking = checking.expect("promtool runs");
        checking.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
        let output = checking.wait_with_output().expect("promtool ends");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{address}: {said}");
    }
    watched.scene.settle();
    let sent = watched.scene.traffic.made() as f64;
    let rows = watched.scene.store.number("select count(*) from logs") as f64;
    let letters = watched.scene.store.number("select count(*) from dead_letters") as f64;
    let of_run = watched.of_run.clone();
    let samples = eventually("the sinks' counters follow the commit", PATIENCE, || {
        let (_, samples) = page(&of_run);
        let stored = sum(&samples, "smartlog_sink_rows_total", "logs-");
        (stored + sum(&samples, "smartlog_sink_dead_letters_total", "logs-") == sent).then_some(samples)
    });
    let total = |metric: &str| sum(&samples, metric, "");
    assert_eq!(total("smartlog_records_total"), sent);
    assert_eq!(total("smartlog_logs_total"), rows);
    assert_eq!(total("smartlog_dead_letters_total"), letters);
    assert_eq!(rows + letters, sent);
    assert!(letters > 0.0 && sum(&samples, "smartlog_dead_letters_total", "reason=\"not_json\"") < letters);
    assert_eq!(sum(&samples, "smartlog_sink_rows_total", "logs-"), rows);
    assert_eq!(total("smartlog_lag_records"), 0.0);
    let ticks = total("smartlog_tick_duration_seconds_count");
    let took = total("smartlog_tick_duration_seconds_sum") / ticks;
    assert!(ticks > 0.0 && took < 60.0, "a tick took {took} s: since when was it counted?");
    eventually("what is stored waits in no lane", PATIENCE, || {
        (sum(&page(&of_run).1, "smartlog_lane_bytes", "") == 0.0).then_some(())
    });

    // Time goes on, so episodes change between two looks.
    let store = &mut watched.scene.store;
    eventually("episodes and their changes are counted as the tables have them", PATIENCE, || {
        let open = store.number("select count(*) from anomalies where status = 'open'") as f64;
        let told = store.number("select count(*) from anomaly_events") as f64;
        let (_, samples) = page(&of_run);
        let counted = sum(&samples, "smartlog_episodes", "status=\"open\"");
        let changes = sum(&samples, "smartlog_episode_changes_total", "");
        (open > 0.0 && (counted, changes) == (open, told)).then_some(())
    });
    watched.run.terminate();
    watched.run.succeed(STOP);
}

/// `a_total` and `a_bucket` are samples; the page of documents names families, counters with their `_total`.
#[test]
fn the_documents_list_every_metric_and_no_other() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "listed") else { return };
    scene.backlog(500);
    let models = scene.store.folder().join("models").to_string_lossy().into_owned();
    let run = scene.start(&[&METRICS[..], &["--models-enabled", "--models-folder", &models]].concat());
    let of_run = told_address(&run, "metrics are at http://", "/metrics");
    scene.settle();
    let api = Program::start(&["api", "--listen", "127.0.0.1:0", "--store", &scene.store.url]);
    let of_api = told_address(&api, "address=", " ");
    // What counts requests shows nothing before the first.
    page(&of_api);
    let exported: BTreeSet<String> = [&of_run, &of_api].iter().flat_map(|address| page(address).0).collect();
    let operations = read("docs/OPERATIONS.md");
    let (_, list) = operations.split_once("## Every metric").expect("the list");
    let rows = list.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    let listed: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(exported.len() > 50, "{exported:?}");
    let missing: Vec<_> = exported.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md does not list {missing:?}");
    let gone: Vec<_> = listed.difference(&exported).collect();
    assert!(gone.is_empty(), "docs/OPERATIONS.md lists what nobody exports: {gone:?}");
}

/// What lag tools print for the group: the end of each partition less the offset that the group committed.
fn lag_by_tools(scene: &Scene, group: &str) -> BTreeMap<i32, i64> {
    let committed = scene.topic.committed(group);
    scene
        .topic
        .ends()
        .into_iter()
        .map(|(partition, (_, end))| (partition, end - committed[&partition]))
        .collect()
}

fn lag_by_metrics(address: &str) -> BTreeMap<i32, i64> {
    let (_, samples) = page(address);
    let lag = |(series, value): (&String, &f64)| {
        let labels = series.strip_prefix("smartlog_partition_lag_records{")?;
        let partition = labels.split_once("partition=\"")?.1.split('"').next()?.parse().ok()?;
        Some((partition, *value as i64))
    };
    samples.iter().filter_map(lag).collect()
}

#[test]
fn lag_by_partition_is_what_kafkas_tools_say() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "lag") else { return };
    scene.backlog(4_000);
    let run = scene.start(&[&METRICS[..], &["--workers", "2"]].concat());
    let address = told_address(&run, "metrics are at http://", "/metrics");
    scene.settle();
    // Nothing more becomes durable, while reading goes on.
    let locked = scene.store.lock("pipeline_state");
    scene.backlog(3_000);
    let group = "smartlog-default";
    let agreed = eventually("both say the same of a lag", PATIENCE, || {
        let (tools, metrics) = (lag_by_tools(&scene, group), lag_by_metrics(&address));
        (tools == metrics && tools.values().sum::<i64>() == 3_000).then_some(metrics)
    });
    assert_eq!(agreed.len(), 4, "{agreed:?}");
    assert!(agreed.values().all(|lag| *lag > 0), "{agreed:?}");
    drop(locked);
    eventually("both say that there is no lag", PATIENCE, || {
        let (tools, metrics) = (lag_by_tools(&scene, group), lag_by_metrics(&address));
        (tools == metrics && metrics.values().all(|lag| *lag == 0)).then_some(())
    });
    scene.end_and_judge(run);
}

#[test]
fn metrics_answer_while_a_worker_is_stalled() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "stalled") else { return };
    // A worker writes the windows by itself: where nobody reads them, it stands still.
    let pipe = scene.store.folder().join("windows.csv");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    let reader =
        std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe can be opened");
    scene.backlog(20_000);
    let windows = pipe.to_string_lossy().into_owned();
    let mut run =
        scene.start(&[&METRICS[..], &["--workers", "1", "--windows-out", &windows, "--hop", "1s"]].concat());
    let address = told_address(&run, "metrics are at http://", "/metrics");
    let clock = || sum(&page(&address).1, "smartlog_clock_timestamp_seconds", "");
    let mut stood = Vec::new();
    scene.live_until("the worker stands still for two seconds", 200, PATIENCE, |_| {
        stood.push((now_us(), clock()));
        let recent: Vec<_> = stood.iter().filter(|(at, _)| *at > now_us() - 2 * SECOND_US).collect();
        let same = recent.iter().all(|(_, clock)| *clock == recent[0].1);
        recent[0].1 > 0.0 && same && now_us() - stood[0].0 > 3 * SECOND_US
    });
    let (delay, health) = (
        sum(&page(&address).1, "smartlog_clock_delay_seconds", ""),
        web::get(&format!("http://{address}/health")),
    );
    assert!(delay > 1.0, "the clock stands still and is {delay} s behind");
    assert_eq!(health.expect("it answers").0, 200);
    // Somebody reads: it goes on.
    let stalled_at = clock();
    std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    scene.live_until("the clock goes on", 200, PATIENCE, |_| clock() > stalled_at);
    run.terminate();
    run.succeed(STOP);
}

#[test]
fn metrics_answer_while_the_store_is_down() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "storeless") else { return };
    let Some(postgres) = Service::require("postgres") else { return };
    scene.backlog(2_000);
    let run = scene.start(&METRICS);
    let address = told_address(&run, "metrics are at http://", "/metrics");
    // Whoever waits for the store waits long.
    let patient = ["--api-statement-timeout", "1m"];
    let api = ["api", "--listen", "127.0.0.1:0", "--store", &scene.store.url];
    let api = Program::start(&[&api[..], &patient].concat());
    let of_api = told_address(&api, "address=", " ");
    scene.settle();
    let read_before = sum(&page(&address).1, "smartlog_records_total", "");
    let paused = postgres.pause();
    // Silent, with its connections open: the worst way to be away.
    let now = now_us();
    scene.traffic.send(&scene.topic, 1_000, (now - SECOND_US, now));
    scene.topic.flush();
    eventually("reading goes on, and says so", PATIENCE, || {
        (sum(&page(&address).1, "smartlog_records_total", "") == read_before + 1_000.0).then_some(())
    });
    let began = Instant::now();
    let (families, _) = page(&of_api);
    assert!(families.contains("smartlog_api_connections"), "{families:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "a scrape of the API waited for the store");
    drop(paused);
    scene.end_and_judge(run);
}

// ---------------------------------------------------------------------------------------------------- alerts

/// Puts the rules into Prometheus, with nothing to wait for, until dropped.
struct Rules {
    files: Vec<PathBuf>,
    prometheus: String,
}

impl Rules {
    fn install(prometheus: &Service) -> Self {
        let folder = PathBuf::from(prometheus.variable("RULES"));
        let install = |name: &str| {
            let rules = read(&format!("grafana/prometheus/rules/{name}.yml"));
            let hasty = rules.lines().map(|line| match line.split_once("for: ") {
                Some((before, _)) => format!("{before}for: 1s\n"),
                None => format!("{line}\n"),
            });
            let path = folder.join(format!("{name}.yml"));
            std::fs::write(&path, hasty.collect::<String>()).expect("a file can be written");
            path
        };
        let rules =
            Rules { files: ["alerts", "recording"].map(install).to_vec(), prometheus: prometheus.address() };
        rules.reload();
        rules
    }

    fn reload(&self) {
        let (status, said) =
            web::post(&format!("{}/-/reload", self.prometheus), "").expect("Prometheus answers");
        assert_eq!(status, 200, "{said}");
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        if !std::thread::panicking() {
            self.reload();
        }
    }
}

#[test]
fn an_alert_reaches_a_webhook_through_prometheus_and_alertmanager_and_is_resolved() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "alert") else { return };
    let Some(alertmanager) = Service::require("alertmanager") else { return };
    scene.backlog(500);
    let receiver = Receiver::start(|_, _| Reply::of(200));
    let shipped = read("grafana/prometheus/alertmanager.yml");
    let hook = format!(
        "  - name: nobody\n    webhook_configs: [{{ url: '{}', send_resolved: true }}]\n",
        receiver.url("/")
    );
    let config = shipped
        .replace("  - name: nobody\n", &hook)
        .replace("group_wait: 30s", "group_wait: 1s")
        .replace("group_interval: 5m", "group_interval: 1s");
    std::fs::write(alertmanager.variable("CONFIG"), config).expect("a file can be written");
    let (status, said) =
        web::post(&format!("{}/-/reload", alertmanager.address()), "").expect("Alertmanager answers");
    assert_eq!(status, 200, "{said}");

    let Some(mut watched) = Watched::start(scene, &[]) else { return };
    let rules = Rules::install(&watched.prometheus);
    watched.live_until_seen(r#"up{job="smartlog"} == 1 and smartlog_records_total > 0"#);
    watched.run.kill();
    let told = |status: &str, alert: &str| {
        let (status, alert) = (status.to_owned(), alert.to_owned());
        let receiver = &receiver;
        move || {
            let bodies = receiver.received();
            let alerts =
                bodies.iter().flat_map(|r| r.json()["alerts"].as_array().cloned().unwrap_or_default());
            let mut alerts = alerts.filter(|a| a["status"] == *status && a["labels"]["alertname"] == *alert);
            alerts.find(|a| a["labels"]["job"] == "smartlog" || alert == "SmartlogAnomaly")
        }
    };
    let alert = eventually("the alert is told", PATIENCE, told("firing", "SmartlogDown"));
    assert_eq!(alert["labels"]["severity"], "critical", "{alert}");
    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
    assert!(runbook.ends_with("docs/OPERATIONS.md#smartlogdown"), "{alert}");
    // Up again, at the same address.
    let listen = ["--metrics-listen", &watched.of_run];
    let again = watched.scene.start(&listen);
    eventually("its end is told", PATIENCE, told("resolved", "SmartlogDown"));
    drop(rules);
    drop(again);
}
