//! The commands of the documents: each is understood by the program, and those that need nothing but the program do what is
//! said there. Others run in the tests of what they are about: docs/DEPLOY.md in install.rs, docs/API.md in the API's.

use smartlog_tests::manifest::repository;
use smartlog_tests::program::binary;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn read(document: &str) -> String {
    std::fs::read_to_string(repository().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Every document, by its path in the repository.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    for folder in ["docs", "k8s", "compose", "dbt", "terraform"] {
        let entries = std::fs::read_dir(repository().join(folder)).expect("a folder").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    found.sort();
    found
}

/// The lines between fences, of any language.
fn fenced(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        inside && !fence
    })
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
    match word {
        "URL" | "$SMARTLOG_TEST_POSTGRES_PROXY" => "sqlite:own.db".to_owned(),
        "/etc/smartlog/smartlog.toml" => settings.display().to_string(),
        "/etc/smartlog/postgres-password" => secret.display().to_string(),
        word => word.replace("/run/secrets/slack", &secret.display().to_string()).replace('$', ""),
    }
}

#[test]
fn every_command_of_every_document_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("secret", "https://hooks.example/secret\n");
    write("own.toml", "[store]\nurl = \"postgres://smartlog@db/logs\"\n");
    let mut found = 0;
    for document in documents() {
        for line in fenced(&read(&document)) {
            let Some((variables, arguments)) = command_in(line) else { continue };
            let variables: Vec<(&str, &str)> =
                variables.iter().filter_map(|variable| variable.split_once('=')).collect();
            let own = |word: &String| of_the_reader(word, folder.path());
            let mut arguments: Vec<String> = arguments.iter().map(own).collect();
            // `api token` has no settings.
            let shows = arguments.first().is_none_or(|command| command != "api" || arguments.len() == 1);
            arguments.push(if shows { "--show-config" } else { "--help" }.to_owned());
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

/// The first `sh` block of a section.
fn block_of(document: &str, section: &str) -> String {
    let text = read(document);
    let rest =
        text.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("{document}: {section}")).1;
    rest.split_once("```sh\n").expect("a block").1.split("```").next().unwrap_or_default().to_owned()
}

/// Runs a block as a reader would, in an empty folder, and ends at the first line that fails. What it printed, and the folder.
fn follow(document: &str, section: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = binary().parent().map(PathBuf::from).expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("set -e\n{}", block_of(document, section));
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(folder.path()).env_clear().env("PATH", path);
    let output = bash.output().expect("bash starts");
    assert!(output.status.success(), "{document}: {script}\n----\n{}", said(&output));
    (said(&output), folder)
}

#[test]
fn the_section_on_models_leads_to_a_champion() {
    let (said, folder) = follow("README.md", "Models");
    assert!(said.contains("Version 2 is the champion now"), "{said}");
    assert!(said.lines().any(|line| line.contains("windows;") && line.contains("the same")), "{said}");
    let list = ["models", "list", "--format", "json"].map(str::to_owned);
    let listed = smartlog(folder.path(), &[], &list);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let newest = listed.lines().next().expect("a version");
    assert!(newest.contains(r#""version":"2""#) && newest.contains(r#""champion""#), "{listed}");
}

#[test]
fn the_section_on_files_finds_what_is_made_up() {
    let (said, _) = follow("README.md", "Without services: a file");
    let last = said.lines().rfind(|line| line.contains(" episodes in ")).unwrap_or_else(|| panic!("{said}"));
    let episodes: u32 = last.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(episodes > 0, "{said}");
}
