//! What the documents have a newcomer try before there is a pipeline: their commands run as they stand there, in order, and lead to
//! what is said there. walks.rs follows those that need a Kafka and a store.

use rustix::process::Signal;
use smartlog_test_services::{Service, free_port};
use smartlog_tests::document::{INDENTED, Reader, blocks, blocks_of, lines, numbers};
use smartlog_tests::manifest::repository;
use smartlog_tests::{eventually, web};
use std::process::Command;
use std::time::Duration;

/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn the_demo_shows_an_anomaly_and_answers_every_example_of_the_api() {
    let [made, asked]: [String; 2] =
        blocks_of("README.md", "See it", "sh").try_into().expect("two blocks: make demo, curl");
    assert!(made.contains("make demo"), "{made}");
    let listen = format!("127.0.0.1:{}", free_port());
    let recipe = Command::new("make")
        .args(["--dry-run", "demo", &format!("ARGS=--listen {listen}")])
        .current_dir(repository())
        .output()
        .expect("make starts");
    let recipe = String::from_utf8_lossy(&recipe.stdout).into_owned();
    let arguments = recipe.trim_end().rsplit_once("--bin smartlog -- ").expect("it runs smartlog").1;
    let mut reader = Reader::default();
    reader.has("localhost:8000", &listen);
    let _demo = reader.starts(&format!("smartlog {arguments}"));
    let patiently = format!("{} || true", asked.trim_end());
    eventually("the first anomaly is there", PATIENCE, || {
        let answer = reader.follows(&patiently);
        (answer.contains("\"total\":") && !answer.contains("\"total\":0")).then_some(())
    });
    let examples = blocks("docs/API.md").into_iter().filter(|block| block.language == "sh");
    let text: String = examples.map(|block| block.text).collect();
    assert!(text.lines().count() > 15, "{text}");
    for line in text.lines() {
        let (command, promised) = line.split_once('#').unwrap_or((line, "200"));
        // A stream never ends: what its head says is enough.
        let limit = if command.contains("-sN") { "--max-time 5 || true" } else { "" };
        let said = reader.follows(&format!("{} -o answer -w '%{{http_code}}' {limit}", command.trim_end()));
        let answer = std::fs::read_to_string(reader.folder().join("answer")).unwrap_or_default();
        assert_eq!(said, promised.trim(), "{line}: {answer}");
    }
}

/// On a slow machine: learning the history of the demo takes longer than a silence that is raised.
#[test]
fn a_demo_that_takes_long_to_learn_does_not_take_that_for_silence() {
    let mut reader = Reader::default();
    let listen = format!("127.0.0.1:{}", free_port());
    reader.has("LISTEN", &listen);
    let demo = reader.starts("smartlog demo --listen LISTEN");
    let began = reader.folder().join("smartlog-demo");
    eventually("it learns", PATIENCE, || began.exists().then_some(()));
    demo.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(20));
    demo.signal(Signal::CONT);
    let asked = |filter: &str| web::get(&format!("http://{listen}/api/v1/anomalies?{filter}")).ok();
    let found = |filter: &str| -> Option<u64> {
        let body = asked(filter).filter(|(status, _)| *status == 200)?.1;
        serde_json::from_str::<serde_json::Value>(&body).ok()?["total"].as_u64()
    };
    eventually("an incident is found", PATIENCE, || {
        found("type=error_rate_spike").filter(|total| *total > 0)
    });
    // One service may fall silent by then: that is among what goes wrong in the demo.
    let drops = found("type=log_volume_drop&status=provisional,open,resolved").expect("an answer");
    assert!(drops <= 1, "{:?}", asked("type=log_volume_drop"));
}

#[test]
fn a_token_lets_in_who_has_it() {
    let mut reader = Reader::default();
    let blocks = blocks_of("docs/API.md", "Who may ask", "text");
    let [made, asked] = blocks.as_slice() else { panic!("two blocks: {blocks:?}") };
    let command = |block: &str| {
        block.lines().find_map(|line| line.strip_prefix("$ ")).map(str::to_owned).expect("a command")
    };
    let printed = reader.follows(&command(made));
    let secret = printed
        .split_whitespace()
        .find(|word| word.starts_with("slt_"))
        .unwrap_or_else(|| panic!("{printed}"));
    let line = printed
        .split_whitespace()
        .find(|word| word.starts_with("ops:read+feedback:"))
        .unwrap_or_else(|| panic!("{printed}"));
    let listen = format!("127.0.0.1:{}", free_port());
    for (name, value) in [("STORE_URL", "sqlite:state.db"), ("API_TOKENS", line), ("API_LISTEN", &listen)] {
        reader.sets(&format!("SMARTLOG_{name}"), value);
    }
    reader.follows("smartlog migrate");
    let _api = reader.starts("smartlog api");
    eventually("the API answers", PATIENCE, || web::get(&format!("http://{listen}/health/live")).ok());
    reader.has("https://logs.example.org", &format!("http://{listen}"));
    let status = " -s -o answer -w '%{http_code}'";
    for (token, said) in [(secret, "200"), ("slt_wrong", "401")] {
        assert_eq!(reader.follows(&(command(asked).replace("slt_…", token) + status)), said);
    }
}

#[test]
fn the_section_on_files_finds_what_is_made_up_and_its_patterns_are_told() {
    let reader = Reader::default();
    let section = blocks_of("README.md", "Without services: a file", "sh");
    let said = reader.follows(&section.concat());
    let last = said.lines().rfind(|line| line.contains(" episodes in ")).unwrap_or_else(|| panic!("{said}"));
    assert!(numbers(last)[0] > 0, "{said}");

    let analyze = &blocks_of("docs/DETECTION.md", "Detection", INDENTED)[0];
    let (analyze, makes): (Vec<&str>, Vec<&str>) =
        analyze.lines().partition(|line| line.starts_with("smartlog "));
    assert!(analyze.len() == 1 && makes.iter().all(|line| line.starts_with("make detect")), "{makes:?}");
    let command = |line: &str| line.split("  ").next().unwrap_or_default().to_owned();
    let table = |said: &str| said.split("\n\n").next().map(str::to_owned);
    let again = reader.follows(&command(analyze[0]));
    assert_eq!(table(&again), table(&said), "the README's file, and its command");
    let shown = blocks_of("README.md", "Without services: a file", "text").concat();
    assert_eq!(shown.lines().next(), said.lines().next(), "the columns that the README shows");

    the_commands_on_patterns(reader);
}

fn the_commands_on_patterns(mut reader: Reader) {
    let messages = "zcat app.ndjson.gz | head -n 5000 | sed -n 's/.*\"message\":\"\\([^\"]*\\)\".*/\\1/p'";
    reader.follows(&format!(
        "{messages} > messages.txt\ncp messages.txt syslog\nzcat app.ndjson.gz > app.ndjson"
    ));
    reader.has("/var/log/syslog", "syslog");
    let commands = &blocks_of("docs/PATTERNS.md", "Patterns", INDENTED)[0];
    let [table, top, json, assign] =
        lines(commands).map(|line: &str| reader.follows(line.split("    ").next().expect("a command")));
    let objects: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let counted: u64 = objects.iter().filter_map(|object| object["count"].as_u64()).sum();
    // The fifty most frequent, without --top.
    assert!(objects.len() == 50 && counted > 500_000, "{} patterns of {counted} logs", objects.len());
    assert_eq!((table.lines().count() > 20, top.lines().count() > 5), (true, true), "{table}{top}");
    let messages = std::fs::read_to_string(reader.folder().join("messages.txt")).expect("it was written");
    assert_eq!(assign.lines().count(), messages.lines().count());
}

#[test]
fn the_section_on_models_leads_to_a_champion() {
    let reader = Reader::default();
    let said = reader.follows(&blocks_of("README.md", "Models", "sh").concat());
    assert!(said.contains("Version 2 is the champion now"), "{said}");
    assert!(said.lines().any(|line| line.contains("windows;") && line.contains("the same")), "{said}");
    let listed = reader.follows("smartlog models list --format json");
    let newest = listed.lines().next().expect("a version");
    assert!(newest.contains(r#""version":"2""#) && newest.contains(r#""champion""#), "{listed}");
}

#[test]
fn a_model_that_is_tried_as_the_document_says_can_be_loaded_from_mlflow() {
    let Some(mlflow) = Service::require("mlflow") else { return };
    let mut reader = Reader::default();
    let [generate, train, list] = lines(&blocks_of("docs/MODELS.md", "Try it", "sh")[0]).map(str::to_owned);
    let with = |line: &str| format!("{line} --mlflow {}", mlflow.address());
    reader.follows(&generate);
    reader.follows(&with(&train));
    let listed = reader.follows(&with(&list));
    assert!(listed.contains("champion"), "{listed}");
    reader.has("http://HOST:5000", &mlflow.address());
    reader.has_program("python", &format!("{} \"$@\"", mlflow.variable("PYTHON")));
    for (name, value) in [("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_TRACKING_URI", &mlflow.address())] {
        reader.sets(name, value);
    }
    let block = blocks_of("docs/MODELS.md", "Try it", "python").concat();
    let (before, scored) = block.trim_end().rsplit_once('\n').expect("several lines");
    let of_the_readme = blocks_of("README.md", "Models", "python").concat();
    let printed = reader.follows(&format!(
        "cat > load.py <<'END'\n{before}\n{of_the_readme}\nprint({scored})\nEND\npython load.py"
    ));
    assert!(printed.contains("scores") && printed.contains("label"), "{printed}");
}
