//! The Compose set: what `docker compose` makes of it, and each of its command lines by the program that it is for.
//!
//! No engine runs here: images are not pulled. Brokers run with the settings of the Compose file
//! (`scripts/provision/services/composed.py`), smartlog with its very commands and variables.

use serde_json::Value;
use smartlog_test_services::{Service, free_port};
use smartlog_tests::manifest::{Reader, copied, members, repository, strings, variables_of};
use smartlog_tests::program::{Program, binary, host_file};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::{eventually, unique};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);
/// The file that each variant is started with, and what then runs beside or in place of the plain set.
const VARIANTS: [(&str, &[&str], &[&str]); 5] = [
    ("redpanda.env", &["redpanda"], &["kafka"]),
    ("zookeeper.env", &["zookeeper", "kafka-zookeeper"], &["kafka"]),
    ("cluster.env", &["dataflow-0", "dataflow-1"], &["dataflow"]),
    ("elk.env", &["opensearch", "opensearch-dashboards", "opensearch-setup"], &[]),
    ("aws.env", &["minio", "dynamodb", "aws-setup", "log-processor"], &[]),
];
/// Services that end by themselves, or that answer nobody.
const WITHOUT_HEALTH: [&str; 5] = ["migrate", "aws-setup", "opensearch-setup", "generator", "log-processor"];

fn variant(file: &str) -> BTreeMap<String, String> {
    variables_of(&repository().join("compose").join(file))
}

fn everything() -> BTreeMap<String, String> {
    BTreeMap::from([("COMPOSE_PROFILES".to_owned(), "*".to_owned())])
}

/// The whole set, all profiles, or `None` when tests of services are switched off.
fn set() -> Option<Value> {
    Some(Reader::require()?.compose(repository(), &everything()).expect("docker compose takes it"))
}

/// Names of the services that would run.
fn running(project: &Value) -> BTreeSet<&str> {
    let services = members(&project["services"]);
    services.filter(|(_, service)| service["scale"] != 0).map(|(name, _)| name.as_str()).collect()
}

/// smartlog's own services.
fn ours(project: &Value) -> impl Iterator<Item = (&String, &Value)> {
    members(&project["services"]).filter(|(_, service)| service["image"] == "smartlog:local")
}

/// The variables of a service, as its container would have them.
fn environment(service: &Value) -> BTreeMap<String, String> {
    let given = members(&service["environment"]);
    given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[test]
fn the_plain_set_and_each_variant_are_what_they_say() {
    let Some(reader) = Reader::require() else { return };
    let plain = reader.compose(repository(), &BTreeMap::new()).expect("docker compose takes it");
    let expected = [
        "alertmanager",
        "api",
        "dataflow",
        "generator",
        "grafana",
        "kafka",
        "migrate",
        "mlflow",
        "postgres",
        "prometheus",
        "redis",
    ];
    assert_eq!(running(&plain), BTreeSet::from(expected));
    for (file, more, fewer) in VARIANTS {
        let project = reader.compose(repository(), &variant(file)).expect(file);
        let mut expected = BTreeSet::from(expected);
        expected.extend(more);
        expected.retain(|name| !fewer.contains(name));
        assert_eq!(running(&project), expected, "{file}");
        let brokers = environment(&project["services"]["generator"])["SMARTLOG_KAFKA_BROKERS"].clone();
        let broker = brokers.split(':').next().expect("a host");
        assert!(running(&project).contains(broker), "{file}: nobody is called {broker}");
    }
}

#[test]
fn every_service_is_pinned_bounded_watched_and_shown_to_this_host_only() {
    let Some(project) = set() else { return };
    for (name, service) in members(&project["services"]) {
        let image = service["image"].as_str().expect("an image");
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        assert!(tag == "local" || tag.chars().any(|c| c.is_ascii_digit()), "{name}: {image} is not pinned");
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(limits["memory"].is_string() && limits["cpus"].is_number(), "{name} has no limits: {limits}");
        let watched = service["healthcheck"]["test"].is_array();
        assert!(watched || WITHOUT_HEALTH.contains(&name.as_str()), "{name} has no health check");
        assert!(service["restart"].is_string(), "{name} does not start again");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} is shown to the network: {port}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter(|v| v["type"] == "bind") {
            let source = Path::new(volume["source"].as_str().expect("a path"));
            assert!(source.exists(), "{name} mounts what is not there: {}", source.display());
        }
    }
    let ports: Vec<&str> = members(&project["services"])
        .flat_map(|(_, service)| service["ports"].as_array().into_iter().flatten())
        .filter_map(|port| port["published"].as_str())
        .collect();
    assert_eq!(
        ports.iter().collect::<BTreeSet<_>>().len(),
        ports.len(),
        "a port is published twice: {ports:?}"
    );
}

/// `docker compose up --wait` takes the end of a service for a failure unless another one waits for it.
#[test]
fn somebody_waits_for_each_service_that_ends() {
    let Some(reader) = Reader::require() else { return };
    let mut found = BTreeSet::new();
    for file in VARIANTS.map(|(file, ..)| file) {
        let project = reader.compose(repository(), &variant(file)).expect(file);
        let dependencies =
            members(&project["services"]).flat_map(|(_, service)| members(&service["depends_on"]));
        let waited = dependencies.filter(|(_, how)| how["condition"] == "service_completed_successfully");
        let waited: BTreeSet<&String> = waited.map(|(name, _)| name).collect();
        for (name, service) in members(&project["services"]) {
            let runs_on = service["restart"] == "unless-stopped" || service["restart"] == "always";
            if !runs_on && service["healthcheck"].is_null() {
                assert!(waited.contains(name), "{file}: {name} ends, and nobody waits for it");
                found.insert(name.clone());
            }
        }
    }
    assert_eq!(found, ["aws-setup", "migrate", "opensearch-setup"].map(str::to_owned).into());
}

#[test]
fn every_variable_is_explained_with_its_default() {
    let mut used = BTreeMap::new();
    for entry in std::fs::read_dir(repository().join("compose")).expect("compose/").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            used.extend(variables_in(&std::fs::read_to_string(path).expect("text")));
        }
    }
    let text = std::fs::read_to_string(repository().join(".env.example")).expect(".env.example");
    let explained: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, default) in &used {
        let shown = explained.get(name).unwrap_or_else(|| panic!("{name} is not in .env.example"));
        // Where two defaults differ (AWS's keys: none, but MinIO's own), the empty one is shown.
        assert!(shown == default || shown.is_empty(), "{name} is {default}, and .env.example says {shown}");
    }
    let unused: Vec<&String> =
        explained.keys().filter(|name| !used.contains_key(*name) && *name != "COMPOSE_PROFILES").collect();
    assert!(unused.is_empty(), "nothing reads {unused:?}");
    assert!(used.len() > 25, "{used:?}");
}

/// `${NAME:-DEFAULT}` and the bare `NAME:` of an environment, with the default.
fn variables_in(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut found = BTreeMap::new();
    for line in lines {
        for part in line.split("${").skip(1) {
            let (name, default) =
                part.split_once('}').expect("it ends").0.split_once(":-").expect("a default");
            found.insert(name.to_owned(), default.to_owned());
        }
        let name = line.trim().strip_suffix(':').unwrap_or_default();
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        {
            found.insert(name.to_owned(), String::new());
        }
    }
    found
}

#[test]
fn a_broken_set_is_refused() {
    let Some(reader) = Reader::require() else { return };
    for (right, wrong, complaint) in [
        ("restart: unless-stopped", "restrat: unless-stopped", "restrat"),
        ("migrate: {condition", "migarte: {condition", "migarte"),
        ("{condition: service_completed_successfully}", "{condition: service_done}", "condition"),
        ("networks: [smartlog]", "networks: [smartlgo]", "smartlgo"),
    ] {
        let folder = copied(&["compose.yaml", "compose"]);
        let file = folder.path().join("compose/smartlog.yaml");
        let text = std::fs::read_to_string(&file).expect("text");
        assert!(text.contains(right), "{right}");
        std::fs::write(&file, text.replacen(right, wrong, 1)).expect("written");
        let error = reader.compose(folder.path(), &everything()).expect_err("refused");
        assert!(error.contains(complaint), "expected `{complaint}`, found {error}");
    }
}

/// What smartlog is told on its command line.
fn command_of(service: &Value) -> Vec<String> {
    let command = strings(&service["command"]);
    assert_eq!(command.first().map(String::as_str), Some("smartlog"), "the image has no entry point");
    command[1..].to_vec()
}

/// Runs smartlog as a service of the set would, up to where its settings are judged.
fn settings_of(arguments: &[String], variables: &BTreeMap<String, String>) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(binary());
    command.args(arguments).arg("--show-config").current_dir(folder.path()).env_clear().envs(variables);
    let output = command.output().expect("smartlog starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Secrets and other files lie elsewhere here than in a container.
fn on_this_host(mut variables: BTreeMap<String, String>, hosts: &Path) -> BTreeMap<String, String> {
    let password = repository().join("compose/secrets/postgres_password");
    for (name, path) in
        [("SMARTLOG_STORE_PASSWORD_FILE", password.as_path()), ("SMARTLOG_ENGINE_HOSTFILE", hosts)]
    {
        if let Some(value) = variables.get_mut(name) {
            *value = path.display().to_string();
        }
    }
    variables
}

#[test]
fn smartlog_understands_every_command_and_variable_that_the_set_gives_it() {
    let Some(reader) = Reader::require() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = host_file(folder.path(), 2);
    let mut seen = BTreeSet::new();
    for file in VARIANTS.map(|(file, ..)| file) {
        let project = reader.compose(repository(), &variant(file)).expect(file);
        for (name, service) in ours(&project) {
            let variables = on_this_host(environment(service), &hosts);
            let told = settings_of(&command_of(service), &variables);
            let told = told.unwrap_or_else(|error| panic!("{file}: {name} would not start: {error}"));
            assert!(told.contains("SMARTLOG_"), "{name}: its variables are heard: {told}");
            let check = strings(&service["healthcheck"]["test"]);
            if let [_, program, arguments @ ..] = check.as_slice() {
                assert_eq!(program, "smartlog", "{name}");
                settings_of(arguments, &variables).expect("the health check is understood");
            }
            seen.insert(name.clone());
        }
    }
    let expected = ["api", "dataflow", "dataflow-0", "dataflow-1", "generator", "migrate"];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn a_variable_that_smartlog_does_not_know_would_be_found() {
    let Some(project) = set() else { return };
    let service = &project["services"]["generator"];
    let mut variables = environment(service);
    variables.insert("SMARTLOG_GENERATE_RAET".into(), "5".into());
    let error = settings_of(&command_of(service), &variables).expect_err("refused");
    assert!(error.contains("did you mean") && error.contains("RATE"), "{error}");
}

/// A service of smartlog's on this host: its command, its variables, and what must differ here.
fn start(service: &Value, hosts: &Path, here: &[(&str, &str)]) -> Program {
    let mut variables = on_this_host(environment(service), hosts);
    variables.extend(here.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Program::start_with(&command_of(service), &variables)
}

/// Generator, dataflow (one process, or the two of `cluster`) and API of the set, on a broker with the set's settings.
fn the_set_works(broker: &str, dataflows: &[&str]) {
    const LOGS: &str = "20000";
    let Some(project) = set() else { return };
    let Some(brokers) = Service::require(broker).map(|service| service.address()) else { return };
    let Some(mut store) = Store::create(Kind::Postgres) else { return };
    let topic = unique("compose");
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = host_file(folder.path(), dataflows.len());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let kafka = [("SMARTLOG_KAFKA_BROKERS", brokers.as_str()), ("SMARTLOG_KAFKA_TOPICS", &topic)];

    let Some(redis) = Service::require("redis").map(|service| service.address()) else { return };

    let quick = [("SMARTLOG_GENERATE_SPEED", "0"), ("SMARTLOG_GENERATE_COUNT", LOGS)];
    start(&project["services"]["generator"], &hosts, &[kafka.as_slice(), &quick].concat()).succeed(PATIENCE);

    let url = store.url.clone();
    start(&project["services"]["migrate"], &hosts, &[("SMARTLOG_STORE_URL", &url)]).succeed(PATIENCE);
    let mut programs: Vec<Program> = dataflows
        .iter()
        .map(|name| {
            // As in the set, processes of a cluster share them.
            let (lake, models, spool) = (path("lake"), path("models"), path("spool"));
            let here = [
                ("SMARTLOG_STORE_URL", url.as_str()),
                ("SMARTLOG_REDIS_URL", &redis),
                ("SMARTLOG_EXPORT_TARGET", &lake),
                ("SMARTLOG_EXPORT_SPOOL_DIR", &spool),
                ("SMARTLOG_MODELS_FOLDER", &models),
                ("SMARTLOG_MODELS_MLFLOW", "http://127.0.0.1:1"), // away: the folder serves meanwhile
                ("SMARTLOG_METRICS_LISTEN", "127.0.0.1:0"),
                ("SMARTLOG_ENGINE_UNTIL_END", "true"),
            ];
            start(&project["services"][*name], &hosts, &[kafka.as_slice(), &here].concat())
        })
        .collect();
    programs.iter_mut().for_each(|program| program.succeed(PATIENCE));
    let stored = store.number("select (select count(*) from logs) + (select count(*) from dead_letters)");
    assert_eq!(stored.to_string(), LOGS, "every line of the generator is a log or a dead letter");

    the_api_is_well(&project["services"]["api"], &url, &redis);
}

/// The API of the set starts, and its health check sees it.
fn the_api_is_well(service: &Value, url: &str, redis: &str) {
    let free = format!("127.0.0.1:{}", free_port());
    let here =
        [("SMARTLOG_STORE_URL", url), ("SMARTLOG_API_LISTEN", free.as_str()), ("SMARTLOG_REDIS_URL", redis)];
    let check = strings(&service["healthcheck"]["test"]);
    let healthy = || {
        let output = Command::new(binary())
            .args(&check[2..])
            .env_clear()
            .envs(here)
            .output()
            .expect("smartlog starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (well, said) = healthy();
    assert!(!well && said.contains("nobody answers at http://"), "nobody serves yet, but: {said}");
    let mut api = start(service, Path::new(""), &here);
    eventually("the API is well", PATIENCE, || healthy().0.then_some(()));
    api.terminate();
    api.succeed(PATIENCE);
}

#[test]
fn the_set_works_on_kafka_with_its_settings() {
    the_set_works("kafkacompose", &["dataflow"]);
}

#[test]
fn the_cluster_works_on_kafka_with_its_settings() {
    the_set_works("kafkacompose", &["dataflow-0", "dataflow-1"]);
}

#[test]
fn the_set_works_on_kafka_with_zookeeper() {
    if Service::require("zookeeper").is_some() {
        the_set_works("kafkazookeeper", &["dataflow"]);
    }
}

fn ran(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

#[test]
fn prometheus_and_alertmanager_take_their_files() {
    if Service::require("prometheus").and(Service::require("alertmanager")).is_none() {
        return;
    }
    let file = |path: &str| repository().join("compose").join(path);
    ran(Command::new("promtool").args(["check", "config"]).arg(file("prometheus/prometheus.yml")));
    ran(Command::new("amtool")
        .arg("check-config")
        .arg(repository().join("grafana/prometheus/alertmanager.yml")));
}

/// The options of a service, each with the part that names a folder or port of its container replaced.
fn options(project: &Value, service: &str, replaced: &[(&str, &str)]) -> Vec<String> {
    let replace =
        |option: String| replaced.iter().fold(option, |option, (from, to)| option.replace(from, to));
    strings(&project["services"][service]["command"]).into_iter().map(replace).collect()
}

/// Starts a program with the set's options on a free port, and gives what an HTTP GET with this `Host` answers once it does.
fn answers(mut command: Command, port: u16, path: &str, hosts: &[&str]) -> Vec<u16> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let first = eventually("it answers", PATIENCE, || {
        if let Ok(Some(status)) = child.try_wait() {
            panic!("{command:?} ended with {status}");
        }
        status_of(port, path, hosts[0])
    });
    let rest = hosts[1..].iter().map(|host| status_of(port, path, host).expect("it answers"));
    let all = std::iter::once(first).chain(rest).collect();
    let _ = child.kill();
    let _ = child.wait();
    all
}

fn status_of(port: u16, path: &str, host: &str) -> Option<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn prometheus_and_alertmanager_understand_their_options() {
    let (Some(project), Some(_), Some(_)) =
        (set(), Service::require("prometheus"), Service::require("alertmanager"))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let here = |name: &str| folder.path().join(name).display().to_string();
    let compose = |path: &str| repository().join("compose").join(path).display().to_string();

    let (port, data, file) = (free_port(), here("prometheus"), compose("prometheus/prometheus.yml"));
    let replaced = [("/etc/prometheus/prometheus.yml", file.as_str()), ("=/prometheus", &format!("={data}"))];
    let mut prometheus = Command::new("prometheus");
    prometheus
        .args(options(&project, "prometheus", &replaced))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    assert_eq!(answers(prometheus, port, "/-/healthy", &["localhost"]), [200]);

    let (port, data, file) = (
        free_port(),
        here("alertmanager"),
        repository().join("grafana/prometheus/alertmanager.yml").display().to_string(),
    );
    let replaced =
        [("/etc/alertmanager/alertmanager.yml", file.as_str()), ("=/alertmanager", &format!("={data}"))];
    let mut alertmanager = Command::new("prometheus-alertmanager");
    alertmanager
        .args(options(&project, "alertmanager", &replaced))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    assert_eq!(answers(alertmanager, port, "/-/healthy", &["localhost"]), [200]);
}

#[test]
fn mlflow_understands_its_options_and_answers_to_the_names_of_the_set() {
    let (Some(project), Some(mlflow)) = (set(), Service::require("mlflow")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (port, data) = (free_port(), folder.path().display().to_string());
    let (host, port_option) = ("--host=127.0.0.1", format!("--port={port}"));
    let replaced =
        [("--host=0.0.0.0", host), ("--port=5000", &port_option), ("/mlflow/", &format!("{data}/"))];
    let mut command = Command::new(mlflow.variable("PYTHON"));
    command
        .arg("-m")
        .args(options(&project, "mlflow", &replaced))
        .envs(environment(&project["services"]["mlflow"]));
    let hosts = ["localhost:5000", "mlflow:5000", "evil.example"];
    assert_eq!(
        answers(command, port, "/api/2.0/mlflow/experiments/get?experiment_id=0", &hosts),
        [200, 200, 403]
    );
}

#[test]
fn redis_and_postgres_understand_their_options() {
    let (Some(project), Some(mut store)) = (set(), Store::create(Kind::Postgres)) else { return };
    for setting in options(&project, "postgres", &[]).iter().filter_map(|option| option.split_once('=')) {
        let known = format!("select count(*) from pg_settings where name = '{}'", setting.0);
        assert_eq!(store.number(&known), 1, "PostgreSQL has no setting {}", setting.0);
    }
    if Service::require("redis").is_none() {
        return;
    }
    let (words, port) = (options(&project, "redis", &[]), free_port().to_string());
    let mut redis = Command::new(&words[0]);
    redis.args(&words[1..]).args(["--port", &port, "--bind", "127.0.0.1"]).stdout(Stdio::null());
    let mut child = redis.spawn().expect("it starts");
    eventually("Redis answers", PATIENCE, || {
        assert!(child.try_wait().expect("a child").is_none(), "Redis refused its options");
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).ok()
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
