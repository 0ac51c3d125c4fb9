//! `grafana/` without a running Grafana: what its dashboard linter would say, whether the parts fit together, and the rules
//! of Prometheus by promtool. What the panels show is tried in `observe.rs`.

use serde_json::Value;
use smartlog_test_services::tool;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} has no .{ending}");
    found
}

fn dashboards() -> Vec<(String, Value)> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a dashboard can be read");
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        (name, serde_json::from_str(&text).expect("a dashboard is JSON"))
    };
    files("grafana/dashboards", "json").into_iter().map(read).collect()
}

fn list<'a>(value: &'a Value, of: &str) -> &'a Vec<Value> {
    value[of].as_array().unwrap_or_else(|| panic!("no list `{of}` in {value}"))
}

fn text<'a>(value: &'a Value, of: &str) -> &'a str {
    value[of].as_str().unwrap_or_default()
}

/// Every panel that shows something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| text(panel, "type") != "row")
}

/// The rules of Grafana's dashboard linter, by its names.
fn lint(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut demand = |holds: bool, rule: &str, at: &str| {
        if !holds {
            faults.push(format!("{rule}: {at}"));
        }
    };
    demand(dashboard["editable"] == false, "uneditable-dashboard", "editable");
    let variables = &dashboard["templating"];
    let variable = |name: &str| list(variables, "list").iter().find(|v| text(v, "name") == name);
    let source = variable("datasource");
    let is_source =
        source.is_some_and(|v| text(v, "type") == "datasource" && text(v, "label") == "Data source");
    demand(is_source, "template-datasource-rule", "datasource");
    for (name, label, rule) in
        [("job", "Job", "template-job-rule"), ("instance", "Instance", "template-instance-rule")]
    {
        let fits = variable(name).is_some_and(|v| {
            let own = v["datasource"]["uid"] == "${datasource}" && text(v, "type") == "query";
            own && text(v, "label") == label && v["multi"] == true && text(v, "allValue") == ".+"
        });
        demand(fits, rule, name);
    }
    for query in list(variables, "list").iter().filter(|v| text(v, "type") == "query") {
        demand(query["refresh"] == 2, "template-on-time-change-reload-rule", text(query, "name"));
    }
    for panel in panels(dashboard) {
        let title = text(panel, "title");
        demand(
            !title.is_empty() && !text(panel, "description").is_empty(),
            "panel-title-description-rule",
            title,
        );
        let uid = text(&panel["datasource"], "uid");
        demand(uid == "${datasource}" || uid == "${postgres}", "panel-datasource-rule", title);
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        demand(UNITS.contains(&unit), "panel-units-rule", &format!("{title}: `{unit}`"));
        demand(!list(panel, "targets").is_empty(), "panel-no-targets-rule", title);
        for target in
            list(panel, "targets").iter().filter(|target| target["datasource"]["uid"] == "${datasource}")
        {
            for (rule, fault) in lint_query(text(target, "expr")) {
                demand(false, rule, &format!("{title}: {fault}"));
            }
        }
    }
    faults
}

/// Units of Grafana that these dashboards use.
const UNITS: [&str; 7] = ["short", "percentunit", "s", "bytes", "Bps", "cps", "reqps"];

/// What a query of Prometheus breaks.
fn lint_query(query: &str) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    for selector in selectors(query) {
        let (metric, labels) = selector.split_once('{').unwrap_or((&selector, ""));
        if !labels.contains(r#"job=~"$job""#) {
            faults.push(("target-job-rule", selector.clone()));
        }
        if !labels.contains(r#"instance=~"$instance""#) {
            faults.push(("target-instance-rule", selector.clone()));
        }
        let wrapped = |function: &str| query.contains(&format!("{function}({selector}"));
        if metric.ends_with("_total") && !["rate", "irate", "increase"].iter().any(|f| wrapped(f)) {
            faults.push(("target-counter-agg-rule", selector.clone()));
        }
        let ranged = ["rate", "irate", "increase"].iter().any(|f| wrapped(f));
        let steady = query.contains(&format!("{selector}[$__rate_interval]"))
            || query.contains(&format!("{selector}[$__range]"));
        if ranged && !steady {
            faults.push(("target-rate-interval-rule", selector.clone()));
        }
    }
    faults
}

/// The parts of `query` that select series: names of metrics with their labels.
fn selectors(query: &str) -> Vec<String> {
    let starts = ["smartlog_", "process_", "up"];
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let word_end = rest[at..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(rest.len(), |n| at + n);
        let word = &rest[at..word_end];
        let labels_end =
            rest[word_end..].strip_prefix('{').and_then(|labels| labels.find('}')).map(|n| word_end + n + 2);
        if starts.iter().any(|start| word == *start || (start.ends_with('_') && word.starts_with(start))) {
            found.push(rest[at..labels_end.unwrap_or(word_end)].to_owned());
        }
        rest = &rest[labels_end.unwrap_or(word_end)..];
    }
    found
}

#[test]
fn dashboards_keep_the_rules_of_grafanas_linter() {
    for (name, dashboard) in dashboards() {
        assert_eq!(lint(&dashboard), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_lint_finds_what_it_is_there_for() {
    let rules = |query: &str| lint_query(query).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
    let on = r#"{job=~"$job", instance=~"$instance"}"#;
    assert!(rules(&format!("sum by (a) (rate(smartlog_logs_total{on}[$__rate_interval]))")).is_empty());
    assert_eq!(rules(&format!("smartlog_logs_total{on}")), ["target-counter-agg-rule"]);
    assert_eq!(rules(&format!("rate(smartlog_logs_total{on}[5m])")), ["target-rate-interval-rule"]);
    assert_eq!(rules("smartlog_lag_records"), ["target-job-rule", "target-instance-rule"]);
    assert_eq!(rules(r#"up{job=~"$job"}"#), ["target-instance-rule"]);
    let (_, mut dashboard) = dashboards().remove(0);
    dashboard["editable"] = true.into();
    dashboard["panels"][0]["description"] = "".into();
    dashboard["panels"][1]["fieldConfig"]["defaults"]["unit"] = "parsecs".into();
    dashboard["templating"]["list"][0]["label"] = "x".into();
    let faults = lint(&dashboard);
    assert_eq!(faults.len(), 4, "{faults:?}");
}

#[test]
fn dashboards_are_what_their_source_writes() {
    let output = Command::new("python3").arg(root().join("grafana/dashboards.py")).arg("--check").output();
    let output = output.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn dashboards_have_names_of_their_own_and_panels_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(text(&dashboard, "uid").to_owned()), "{name}: its uid is taken");
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            assert!(ids.insert(panel["id"].to_string()), "{name}: an id twice");
            let at = |of: &str| panel["gridPos"][of].as_u64().unwrap_or_else(|| panic!("{name}: no {of}"));
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        x < 24 && taken.insert((x, y)),
                        "{name}: {} lies on another",
                        text(panel, "title")
                    );
                }
            }
        }
        let links = list(&dashboard, "links");
        assert!(links.iter().any(|link| link["tags"][0] == "smartlog"), "{name}: no link to the others");
    }
}

#[test]
fn data_sources_that_dashboards_name_are_provisioned() {
    let sources = read("grafana/provisioning/datasources/smartlog.yml");
    for (name, dashboard) in dashboards() {
        for variable in
            list(&dashboard["templating"], "list").iter().filter(|v| text(v, "type") == "datasource")
        {
            let (uid, kind) = (text(&variable["current"], "value"), text(variable, "query"));
            assert!(sources.contains(&format!("uid: {uid}\n    type: {kind}\n")), "{name}: {kind} {uid}");
        }
    }
}

/// `promtool` with `arguments` must be content.
fn promtool(program: &str, arguments: &[&str]) {
    let output =
        Command::new(program).args(arguments).current_dir(root().join("grafana/prometheus")).output();
    let output = output.expect("promtool runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
}

#[test]
fn rules_are_rules_and_pass_their_own_tests() {
    let Some(program) = tool("promtool") else { return };
    for rules in files("grafana/prometheus/rules", "yml") {
        promtool(&program, &["check", "rules", "--lint=all", "--lint-fatal", &rules.to_string_lossy()]);
    }
    for tests in files("grafana/prometheus/tests", "yml") {
        promtool(&program, &["test", "rules", &tests.to_string_lossy()]);
    }
    promtool(&program, &["check", "config", "--syntax-only", "prometheus.yml"]);
}

/// The alerts of the rule files: name and link to what to do.
fn alerts() -> Vec<(String, String)> {
    let rules = read("grafana/prometheus/rules/alerts.yml");
    let after = |line: &str, key: &str| line.trim().strip_prefix(key).map(|rest| rest.trim().to_owned());
    let names: Vec<String> = rules.lines().filter_map(|line| after(line, "- alert:")).collect();
    let links: Vec<String> = rules.lines().filter_map(|line| after(line, "runbook_url:")).collect();
    assert_eq!(names.len(), links.len(), "an alert without a link");
    names.into_iter().zip(links).collect()
}

#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let tests: String = files("grafana/prometheus/tests", "yml")
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("a test can be read"))
        .collect();
    let operations = read("docs/OPERATIONS.md");
    let anchors: BTreeSet<String> = operations
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    for (name, link) in alerts() {
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has no test");
        let (page, anchor) = link.split_once('#').unwrap_or_else(|| panic!("{link} has no anchor"));
        assert!(page.ends_with("docs/OPERATIONS.md"), "{link}");
        assert_eq!(anchor, name.to_lowercase(), "{link}");
        assert!(anchors.contains(anchor), "docs/OPERATIONS.md has no heading {name}");
    }
}
