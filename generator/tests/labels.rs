//! The labels read as the evaluation expects them, and say the same to it as to us.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::plain;
use jiff::SignedDuration;
use serde_json::Value;
use smartlog_generator::{Generator, GeneratorConfig, IncidentPlan, Labels};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

fn labels() -> Labels {
    let config = GeneratorConfig {
        incidents: IncidentPlan::Auto { per_day: 48.0, disturbances_per_day: 12.0, kinds: Vec::new() },
        learn: SignedDuration::from_hours(2),
        malformed_share: 0.01,
        ..plain(21, 24 * 60, 3.0)
    };
    let mut traffic = Generator::new(config).unwrap();
    traffic.by_ref().for_each(drop);
    traffic.labels()
}

#[test]
fn labels_come_back_from_json_the_same_and_make_the_same_traffic_again() {
    let labels = labels();
    let text = labels.to_json();
    let back: Labels = serde_json::from_str(&text).unwrap();
    assert_eq!(back, labels);
    let mut again = Generator::new(back.config).unwrap();
    again.by_ref().for_each(drop);
    assert_eq!(again.labels(), labels);
}

#[test]
fn labels_hold_what_an_evaluation_reads() {
    let text = labels().to_json();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["evaluate_from"], "2026-03-04T08:00:00Z");
    assert_eq!(value["facts"]["end"], "2026-03-05T06:00:00Z");
    assert_eq!(value["services"].as_array().unwrap().len(), 26);
    let incidents = value["incidents"].as_array().unwrap();
    assert!(incidents.len() > 10);
    for incident in incidents {
        assert!(incident["id"].is_u64() && incident["type"].is_string() && incident["expected"] == true);
        let time = |name: &str| incident[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(time("start") < time("end"));
        assert!(value["services"].as_array().unwrap().contains(&incident["service"]));
    }
}

/// The evaluation program, where the shared data is.
fn evaluate() -> Option<PathBuf> {
    let shared = std::env::var_os("SMARTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let program = shared.join("data/replay/evaluate.py");
    program.is_file().then_some(program)
}

fn run(program: &PathBuf, labels: &Labels, alarms: &[(String, String, jiff::Timestamp)]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (labels_path, alarms_path) = (folder.path().join("labels.json"), folder.path().join("alarms.csv"));
    std::fs::write(&labels_path, labels.to_json()).unwrap();
    let mut csv = "service,type,at\n".to_owned();
    for (service, kind, at) in alarms {
        writeln!(csv, "{service},{kind},{at}").unwrap();
    }
    std::fs::write(&alarms_path, csv).unwrap();
    let output = Command::new("python3")
        .arg(program)
        .args([&labels_path, &alarms_path])
        .arg("--json")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_evaluation_program_scores_alarms_against_our_labels() {
    let Some(program) = evaluate() else {
        // Straight to the terminal: what a passing test prints is swallowed.
        let notice =
            "SKIPPED: no data/replay/evaluate.py in ../shared (SMARTLOG_SHARED names another folder)";
        writeln!(std::io::stderr(), "{notice}").unwrap();
        return;
    };
    let labels = labels();
    let minute = SignedDuration::from_mins(1);
    let perfect: Vec<_> = labels
        .incidents
        .iter()
        .map(|incident| (incident.service.clone(), incident.type_name.clone(), incident.start + minute))
        .collect();
    let score = run(&program, &labels, &perfect);
    assert_eq!(score["found"], labels.incidents.len());
    assert_eq!((&score["recall"], &score["precision"]), (&1.0.into(), &1.0.into()));
    assert_eq!(score["false_episodes"], 0);
    assert_eq!(score["delay_median_s"], 60.0);

    let benign = labels.benign.iter();
    let noisy: Vec<_> = benign.map(|b| (b.service.clone(), "x".to_owned(), b.start + minute)).collect();
    let score = run(&program, &labels, &[noisy.clone(), perfect].concat());
    let punished = labels.benign.len() - labels.excused.len();
    assert!(punished > 0 && !labels.excused.is_empty());
    assert_eq!(score["false_episodes"], punished, "all disturbances but level shifts are false alarms");
    assert_eq!(score["recall"], 1.0);
    assert_eq!(run(&program, &labels, &noisy)["found"], 0, "no disturbance lies on an incident");
}
