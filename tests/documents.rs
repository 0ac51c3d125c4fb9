//! What the documents say: each command is understood by the program, each block of commands is followed by a test or named
//! here with what it needs, and each link leads somewhere. tries.rs and walks.rs follow them.

use smartlog_tests::document::{Block, INDENTED, blocks, documents, read};
use smartlog_tests::manifest::repository;
use smartlog_tests::program::{binary, binary_with_s3};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

/// What becomes of a block of commands.
enum Proof {
    /// This test runs it, or what it stands for: a file, and words of it.
    Test(&'static str, &'static str),
    /// It cannot run here: what it needs, in the words of docs/VERIFIED.md.
    Owed(&'static str),
    /// Nothing but a measurement, or an example: run by hand, as docs/VERIFIED.md says.
    ByHand,
}

use Proof::{ByHand, Owed, Test};

/// Document, section, and what becomes of its commands.
const PROOFS: &[(&str, &str, Proof)] = &[
    ("README.md", "See it", Test("tests/tries.rs", "the_demo_shows_an_anomaly")),
    ("README.md", "On your Kafka and PostgreSQL", Test("tests/walks.rs", "the_readme_leads_to_a_pipeline")),
    ("README.md", "Kill it", Test("tests/walks.rs", "the_readme_leads_to_a_pipeline")),
    ("README.md", "With Docker, on Kubernetes, as a service", Owed("Docker")),
    ("README.md", "Without services: a file", Test("tests/tries.rs", "the_section_on_files")),
    ("README.md", "Logs as Parquet", Test("tests/walks.rs", "a_day_as_parquet")),
    (
        "README.md",
        "Logs in Elasticsearch or OpenSearch",
        Test("tests/walks.rs", "logs_go_into_a_search_index"),
    ),
    ("README.md", "Models", Test("tests/tries.rs", "the_section_on_models")),
    ("README.md", "Watch it, and be told", Test("tests/walks.rs", "people_are_told")),
    ("compose/README.md", "The Compose set", Owed("Docker")),
    ("dbt/README.md", "dbt: tables for analysts", Test("tests/dbt.rs", "the_project_builds")),
    ("docs/ALERTS.md", "What is promised", Test("tests/walks.rs", "people_are_told")),
    ("docs/API.md", "Anomalies", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Live", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Feedback", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Calendar", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Who may ask", Test("tests/tries.rs", "a_token_lets_in")),
    ("docs/API.md", "Conventions", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Costs", Test("tests/tries.rs", "every_example_of_the_api")),
    ("docs/API.md", "Several API processes", Test("api/tests/redis.rs", "changes_come_by_redis")),
    ("docs/AWS_SETUP.md", "2. The budget first", Owed("an account")),
    ("docs/AWS_SETUP.md", "3. The rest", Owed("an account")),
    ("docs/AWS_SETUP.md", "Files on Google Cloud Storage", Owed("an account")),
    ("docs/AWS_SETUP.md", "Costs", Test("tests/aws.rs", "the_commands_of_the_document")),
    ("docs/BENCHMARKS.md", "Benchmarks", ByHand),
    (
        "docs/BENCHMARKS.md",
        "A log sink at 1 % of its speed",
        Test("tests/lanes.rs", "a_sink_at_a_hundredth_of_its_speed"),
    ),
    ("docs/BENCHMARKS.md", "Parquet", ByHand),
    ("docs/BENCHMARKS.md", "Recovery: killed again and again", Test("tests/recovery.rs", "survives_kills")),
    ("docs/DEPLOY.md", "Docker Compose", Owed("Docker")),
    ("docs/DEPLOY.md", "Without Docker", Test("tests/walks.rs", "the_walk_without_docker")),
    ("docs/DEPLOY.md", "systemd", Owed("a machine that systemd started")),
    ("docs/DEPLOY.md", "The image", Owed("Docker")),
    ("docs/DEPLOY.md", "Render and Railway", Owed("accounts there")),
    ("docs/DETECTION.md", "Detection", Test("tests/tries.rs", "the_section_on_files")),
    ("docs/DETECTION.md", "A decision made again", Test("tests/replay.rs", "every_decision_is_made_again")),
    (
        "docs/DETECTION.md",
        "Other rules, tried on history",
        Test("tests/replay.rs", "what_was_raised_is_raised_again"),
    ),
    ("docs/EXPORT.md", "Export: every log as Parquet", Test("tests/walks.rs", "a_day_as_parquet")),
    ("docs/EXPORT.md", "One day anew", Test("tests/walks.rs", "a_day_as_parquet")),
    ("docs/MODELS.md", "Features", Test("tests/models.rs", "new_pattern_rate,pattern_entropy")),
    ("docs/MODELS.md", "Try it", Test("tests/tries.rs", "a_model_that_is_tried")),
    ("docs/OPERATIONS.md", "Positions", Test("tests/walks.rs", "positions_are_shown_and_changed")),
    ("docs/OPERATIONS.md", "Retention", Test("tests/walks.rs", "a_day_of_logs_is_dropped")),
    ("docs/OPERATIONS.md", "Backup and restore", Test("tests/walks.rs", "a_restored_backup")),
    ("docs/PATTERNS.md", "Patterns", Test("tests/tries.rs", "the_commands_on_patterns")),
    (
        "docs/SEARCH.md",
        "Logs in Elasticsearch or OpenSearch",
        Test("tests/walks.rs", "logs_go_into_a_search_index"),
    ),
    ("forest/README.md", "Use", ByHand),
    ("fuzz/README.md", "Fuzzing", Owed("a nightly toolchain")),
    ("k8s/README.md", "On Kubernetes", Owed("a cluster")),
    (
        "terraform/README.md",
        "The cloud part",
        Test("tests/terraform.rs", "the_configuration_is_formatted_valid"),
    ),
    ("tests/services/README.md", "Real services in tests", Test("Makefile", "scripts/test")),
];

/// Whether somebody may type what stands in a block.
fn is_commands(block: &Block) -> bool {
    let programs =
        ["smartlog", "make", "docker", "curl", "redis-cli", "cargo", "kubectl", "aws", "systemctl"];
    let begins = |line: &str| {
        let word = line.trim_start_matches("$ ").split(' ').next().unwrap_or_default();
        programs.contains(&word) || word.starts_with("SMARTLOG_")
    };
    let typed = ["sh", "text", "", INDENTED].contains(&block.language.as_str());
    ["sh", "sql"].contains(&block.language.as_str()) || typed && block.text.lines().any(begins)
}

#[test]
fn every_block_of_commands_is_followed_or_named_with_what_it_needs() {
    let mut found = BTreeSet::new();
    for document in documents() {
        let of_it = blocks(&document).into_iter().filter(is_commands);
        found.extend(of_it.map(|block| (document.clone(), block.section)));
    }
    let listed = PROOFS.iter().map(|(document, section, _)| ((*document).to_owned(), (*section).to_owned()));
    let listed: BTreeSet<_> = listed.collect();
    let unproven: Vec<_> = found.difference(&listed).collect();
    assert!(unproven.is_empty(), "no test follows them, and no row of PROOFS says why: {unproven:?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "PROOFS lists what is not there: {gone:?}");
    let verified = read("docs/VERIFIED.md");
    let by_hand = verified.split("\n## ").find(|part| part.starts_with("Run by hand")).expect("a section");
    for (document, section, proof) in PROOFS {
        match proof {
            Test(file, words) => {
                assert!(read(file).contains(words), "{document}, {section}: {file} has no {words}")
            }
            Owed(need) => assert!(verified.contains(need), "docs/VERIFIED.md owes nothing that needs {need}"),
            ByHand => {
                assert!(by_hand.contains(document), "docs/VERIFIED.md has nothing by hand of {document}")
            }
        }
    }
}

/// The lines between fences, of any language.
fn fenced(document: &str) -> Vec<String> {
    let fenced = blocks(document).into_iter().filter(|block| block.language != INDENTED);
    fenced.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The commands within sentences, without what may be left out.
fn in_sentences(document: &str) -> Vec<String> {
    let text = read(document);
    let spans = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| span.starts_with("smartlog ") && !span.contains('\n'));
    spans.map(|span| span.replace(['[', ']'], "")).collect()
}

/// What a line tells smartlog: its variables and its arguments. `None` where the line is no command of smartlog.
fn command_in(line: &str) -> Option<(Vec<String>, Vec<String>)> {
    // What is indented is a picture of a screen.
    if line.starts_with(' ') {
        return None;
    }
    let line = line.trim_end().trim_start_matches("$ ");
    let line = line.split("  #").next().unwrap_or_default();
    let mut words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']).to_owned()).peekable();
    let mut variables = Vec::new();
    while let Some(word) = words.next_if(|word| word.starts_with("SMARTLOG_") && word.contains('=')) {
        variables.push(word.replace(['\'', '"'], ""));
    }
    (words.next()? == "smartlog").then_some(())?;
    let ends = |word: &String| ["&", "|", ">", "&&", ";", "\\"].contains(&word.as_str());
    Some((variables, words.take_while(|word| !ends(word)).collect()))
}

/// Runs smartlog in `folder` with these variables alone.
fn smartlog(folder: &Path, variables: &[(&str, &str)], arguments: &[String]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_clear().envs(variables.iter().copied());
    command.output().expect("smartlog starts")
}

fn said(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What stands where the reader is to put something of their own. The folder has a file `secret` and a file `own.toml`.
fn of_the_reader(word: &str, folder: &Path) -> String {
    let (secret, settings) = (folder.join("secret"), folder.join("own.toml"));
    // Of several words that are possible, the first.
    match word.split('|').next().unwrap_or_default() {
        "URL" | "$SMARTLOG_TEST_POSTGRES_PROXY" => "sqlite:own.db".to_owned(),
        "/etc/smartlog/smartlog.toml" => settings.display().to_string(),
        "/etc/smartlog/postgres-password" => secret.display().to_string(),
        "COMMAND" => "run".to_owned(),
        "D" | "DAY" => "2026-01-15".to_owned(),
        "T" => "2026-01-15T08:00:00Z".to_owned(),
        "…" => "app.ndjson".to_owned(),
        word => word.replace("/run/secrets/slack", &secret.display().to_string()).replace('$', ""),
    }
}

/// What makes a command say whether it is understood, and do nothing. `api token` has no settings, and the name of a command
/// alone may lack what it needs.
fn asks(arguments: &[String]) -> Option<&'static str> {
    let is_name =
        |word: &String| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with("--");
    let grouped = ["sinks", "models", "export", "train", "patterns", "analyze", "backtest", "replay"];
    let named = arguments.iter().all(is_name) && arguments.len() <= 2;
    match arguments.first() {
        Some(first) if first == "api" && arguments.len() > 1 => Some("--help"),
        Some(first) if grouped.contains(&first.as_str()) && named => Some("--help"),
        _ => (!arguments.iter().any(|word| word == "--show-config")).then_some("--show-config"),
    }
}

#[test]
fn every_command_of_every_document_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("secret", "https://hooks.example/secret\n");
    write("own.toml", "[store]\nurl = \"postgres://smartlog@db/logs\"\n");
    write("hosts.txt", "host-1:2101\nhost-2:2101\n");
    let mut found = 0;
    for document in documents() {
        for line in fenced(&document).into_iter().chain(in_sentences(&document)) {
            let Some((variables, arguments)) = command_in(&line) else { continue };
            let variables = variables.iter().filter_map(|variable| variable.split_once('='));
            let exported = ("SMARTLOG_STORE_URL", "postgres://smartlog@db/logs");
            let variables: Vec<(&str, &str)> = std::iter::once(exported).chain(variables).collect();
            let own = |word: &String| of_the_reader(word, folder.path());
            let mut arguments: Vec<String> = arguments.iter().map(own).collect();
            arguments.extend(asks(&arguments).map(str::to_owned));
            let output = smartlog(folder.path(), &variables, &arguments);
            assert!(output.status.success(), "{document}: `{line}`: {}", said(&output));
            found += 1;
        }
    }
    assert!(found > 30, "{found} commands were found");
}

#[test]
fn a_command_that_is_not_understood_would_be_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in ["smartlog run --tpoic logs", "smartlog modles list", "smartlog export --date tomorrow"] {
        let (_, mut arguments) = command_in(wrong).expect("a command");
        arguments.push("--show-config".to_owned());
        let output = smartlog(folder.path(), &[], &arguments);
        assert!(!output.status.success(), "{wrong}: {}", said(&output));
    }
    let line = "SMARTLOG_STORE_URL='sqlite:x' smartlog migrate       # first";
    assert_eq!(
        command_in(line),
        Some((vec!["SMARTLOG_STORE_URL=sqlite:x".to_owned()], vec!["migrate".to_owned()]))
    );
    assert_eq!(command_in("cargo run"), None);
}

/// Blocks of TOML that are no `smartlog.toml`: document, section, what they are.
const OTHER_TOML: &[(&str, &str, &str)] =
    &[("docs/DETECTION.md", "What is expected", "a calendar: the file that detection.calendar names")];
/// Variables that are no settings, beside those of the tests (`SMARTLOG_TEST_…`): names, and who hears them.
const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("SMARTLOG_BIN", "tests and benchmarks: the program to run"),
    ("SMARTLOG_LAMBDA_LARGE_MB", "lambda/tests"),
    ("SMARTLOG_RECOVERY_KILLS", "tests/recovery.rs"),
    ("SMARTLOG_SERVICES", "tests: none leaves out what needs services"),
];
/// A store that every setting goes with.
const STORE: (&str, &str) = ("SMARTLOG_STORE_URL", "postgres://smartlog@db/logs");

/// The settings in each section of a document, as files, with a file of this folder in place of each secret and certificate.
fn settings_in(document: &str, folder: &Path) -> Vec<(String, String)> {
    let other = |block: &Block| {
        OTHER_TOML.iter().any(|(whose, section, _)| *whose == document && *section == block.section)
    };
    let toml = blocks(document).into_iter().filter(|block| block.language == "toml" && !other(block));
    let here = format!("\"{}\"", folder.join("secret").display());
    let file = |text: String| {
        let own = |(n, part): (usize, &str)| match part {
            part if n % 2 == 1 && part.starts_with('/') => here.clone(),
            part if n % 2 == 1 => format!("\"{part}\""),
            part => part.to_owned(),
        };
        text.split('"').enumerate().map(own).collect::<String>()
    };
    toml.map(|block| (block.section, file(block.text))).collect()
}

/// A folder of a reader: a secret, which may be the address of a webhook, and settings.
fn readers_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "https://hooks.example/secret\n").expect("written");
    folder
}

/// Whether `smartlog run` takes this file of settings and these variables; with all its features, for a document may want them.
fn judged(folder: &Path, settings: &str, variables: &[(String, String)]) -> Result<(), String> {
    std::fs::write(folder.join("smartlog.toml"), settings).expect("written");
    let mut command = Command::new(binary_with_s3());
    command.args(["run", "--config", "smartlog.toml", "--show-config"]).current_dir(folder).env_clear();
    let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let output = command.envs(std::iter::once(STORE).chain(variables)).output().expect("smartlog starts");
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

#[test]
fn every_file_of_settings_in_a_document_is_taken() {
    let folder = readers_folder();
    let mut found = 0;
    for document in documents() {
        for (section, settings) in settings_in(&document, folder.path()) {
            let taken = judged(folder.path(), &settings, &[]);
            taken.unwrap_or_else(|said| panic!("{document}, {section}: {settings}{said}"));
            found += 1;
        }
    }
    assert!(found >= 5, "{found} blocks of settings were found");
    for (document, section, what) in OTHER_TOML {
        let there = |block: &Block| block.section == *section && block.language == "toml";
        assert!(blocks(document).iter().any(there), "{document}, {section} has no {what}");
    }
}

/// What each section of a document sets by variables, with a value where it leaves that to the reader.
fn variables_in(document: &str, folder: &Path) -> BTreeMap<String, Vec<(String, String)>> {
    let (mut section, mut fenced, mut found) = (String::new(), false, BTreeMap::<_, Vec<_>>::new());
    for line in read(document).lines() {
        fenced ^= line.trim_start().starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !fenced) {
            heading.trim_start_matches('#').trim().clone_into(&mut section);
        }
        for (name, value) in line.split("SMARTLOG_").skip(1).filter_map(|rest| rest.split_once('=')) {
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let name = format!("SMARTLOG_{name}");
            let other = OTHER_VARIABLES.iter().any(|(known, _)| *known == name);
            if other || name.starts_with("SMARTLOG_TEST_") || !name.chars().all(is_name) {
                continue;
            }
            let value = value.split([' ', '`']).next().unwrap_or_default();
            let value = value.trim_matches(['\'', '"', ',', ';', ')']);
            found.entry(section.clone()).or_default().push((name, value_of(value, folder)));
        }
    }
    found
}

/// A value, or one in its place where the reader is to put something of their own: `$NAME` and `${{…}}` are addresses, `…` a
/// part of one, and files are those of this folder.
fn value_of(written: &str, folder: &Path) -> String {
    match written {
        address if address.starts_with('$') => STORE.1.to_owned(),
        path if path.starts_with('/') || path.starts_with("%d/") => {
            folder.join("secret").display().to_string()
        }
        value => value.replace('…', "host.example"),
    }
}

#[test]
fn every_variable_in_a_document_is_taken_with_the_others_of_its_section() {
    let folder = readers_folder();
    let mut found = 0;
    for document in documents() {
        let files = settings_in(&document, folder.path());
        for (section, variables) in variables_in(&document, folder.path()) {
            let file = files.iter().find(|(of, _)| *of == section).map_or("", |(_, settings)| settings);
            let taken = judged(folder.path(), file, &variables);
            taken.unwrap_or_else(|said| panic!("{document}, {section}: {variables:?}: {said}"));
            found += variables.len();
        }
    }
    assert!(found > 20, "{found} variables were found");
}

#[test]
fn a_setting_that_is_not_understood_would_be_found() {
    let folder = readers_folder();
    let wrong = |settings: &str, name: &str, value: &str| {
        judged(folder.path(), settings, &[(name.to_owned(), value.to_owned())]).expect_err("refused")
    };
    let said = wrong("[mapping]\npreset = \"ecs\"\n", "SMARTLOG_KAFKA_TOPICS", "logs");
    assert!(said.contains("there is no setting `mapping`"), "{said}");
    let said = wrong("", "SMARTLOG_ALERTS_HOOKS", "oncall=slack");
    assert!(said.contains("SMARTLOG_ALERTS_HOOKS__NAME"), "{said}");
    let said = wrong("", "SMARTLOG_ALERTS_HOOKS__ONCALL", "slack");
    assert!(said.contains("`oncall` has no address"), "{said}");
}

/// The targets that are named after `make`.
fn made(text: &str) -> impl Iterator<Item = &str> {
    let named = text
        .split('`')
        .skip(1)
        .step_by(2)
        .chain(text.lines())
        .filter_map(|span| span.trim_start().strip_prefix("make "));
    named.filter_map(|rest| {
        rest.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')).next()
    })
}

#[test]
fn every_target_of_make_is_there() {
    let makefile = read("Makefile");
    let mut found = 0;
    for document in documents() {
        for target in made(&read(&document)).filter(|target| !target.is_empty()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{document}: make {target}");
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}

#[test]
fn every_link_of_every_document_leads_somewhere() {
    let mut found = 0;
    for document in documents() {
        for link in links(&read(&document)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let base = repository().join(&document);
            let target = if path.is_empty() { base } else { base.with_file_name("").join(path) };
            assert!(target.exists(), "{document}: {link} leads nowhere");
            let known = || anchors(&std::fs::read_to_string(&target).unwrap_or_default());
            assert!(anchor.is_empty() || known().iter().any(|known| known == anchor), "{document}: {link}");
            found += 1;
        }
    }
    assert!(found > 100, "{found} links");
}

/// Targets of links within the checkout.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local =
        |target: &&str| !target.contains("://") && !target.contains(' ') && !target.starts_with("mailto:");
    targets.filter(local).map(str::to_owned).collect()
}

/// What headings are called in links: small letters, digits and hyphens for blanks.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let letters = heading.trim_start_matches('#').trim().to_lowercase();
        letters
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(name).collect()
}
