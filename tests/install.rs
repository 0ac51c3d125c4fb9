//! What else smartlog is installed by: systemd units, Render and Railway, the image, the release's archive and bill of materials,
//! deployment.

use serde_json::Value;
use smartlog_test_services::Service;
use smartlog_tests::manifest::{Reader, members, repository};
use smartlog_tests::program::{binary, binary_with_s3};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

const UNITS: [&str; 2] = ["smartlog.service", "smartlog-api.service"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).expect(path)
}

/// smartlog up to where it has judged its settings.
fn settings(arguments: &[&str], variables: &BTreeMap<String, String>) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(binary());
    command.args(arguments).arg("--show-config").current_dir(folder.path()).env_clear().envs(variables);
    command.output().expect("smartlog starts")
}

/// Values of a key of a unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn systemd_takes_the_units_and_smartlog_what_they_say() {
    let Some(analyze) = Service::require("systemd") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (config, secret) = (folder.path().join("smartlog.toml"), folder.path().join("postgres-password"));
    let example = read("smartlog.example.toml");
    let filled =
        example.replace("#url = \"sqlite:smartlog.db\"", "url = \"postgres://smartlog@localhost/logs\"");
    assert_ne!(filled, example, "the document says to set store.url");
    std::fs::write(&config, filled).expect("written");
    std::fs::write(&secret, "secret\n").expect("written");
    for name in UNITS {
        let unit = read(&format!("deploy/systemd/{name}"));
        let here = unit.replace("/usr/local/bin/smartlog", &binary().display().to_string());
        let path = folder.path().join(name);
        std::fs::write(&path, here).expect("written");
        let output = Command::new(analyze.address()).args(["verify", "--man=no"]).arg(&path).output();
        let output = output.expect("systemd-analyze starts");
        let said = text(&[output.stdout, output.stderr].concat());
        assert!(output.status.success() && !said.contains(name), "{said}");
        let command: Vec<&str> = values(&unit, "ExecStart")[0].split(' ').collect();
        let arguments: Vec<String> = command[1..]
            .iter()
            .map(|word| word.replace("/etc/smartlog/smartlog.toml", &config.display().to_string()))
            .collect();
        let variables = values(&unit, "Environment").into_iter().map(|pair| {
            let (name, value) = pair.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.replace("%d", &folder.path().display().to_string()))
        });
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = settings(&arguments, &variables.collect());
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn restarts_follow_the_exit_codes() {
    let wrong = BTreeMap::from([("SMARTLOG_ENGINE_WORKERS".to_owned(), "no".to_owned())]);
    let refused = settings(&["run"], &wrong).status.code().expect("a code");
    let misused = settings(&["run", "--no-such-option"], &BTreeMap::new()).status.code().expect("a code");
    assert_ne!(refused, misused);
    for name in UNITS {
        let unit = read(&format!("deploy/systemd/{name}"));
        let prevented = values(&unit, "RestartPreventExitStatus")[0];
        let prevented: Vec<i32> = prevented.split(' ').map(|code| code.parse().expect("a number")).collect();
        assert!(prevented.contains(&refused) && prevented.contains(&misused), "{name}: {refused}, {misused}");
        assert!(!prevented.contains(&75) && !prevented.contains(&1), "{name}: those are to be started again");
    }
}

#[test]
fn render_and_railway_start_what_smartlog_understands() {
    let Some(reader) = Reader::require() else { return };
    let render = reader.yaml("render.yaml");
    let service = &render["services"][0];
    let database = render["databases"][0]["name"].as_str().expect("a name");
    let mut variables = BTreeMap::new();
    for entry in service["envVars"].as_array().expect("variables") {
        let value = entry["value"].as_str().map_or_else(
            || {
                assert_eq!(entry["fromDatabase"]["name"], database);
                "postgresql://smartlog:secret@dpg-1/smartlog".to_owned()
            },
            str::to_owned,
        );
        variables.insert(entry["key"].as_str().expect("a key").to_owned(), value);
    }
    let port = variables.remove("PORT").expect("the port that Render asks at");
    assert!(variables["SMARTLOG_API_LISTEN"].ends_with(&format!(":{port}")));
    let railway: Value = serde_json::from_str(&read("railway.json")).expect("JSON");
    let commands = [
        &service["dockerCommand"],
        &railway["deploy"]["startCommand"],
        &railway["deploy"]["preDeployCommand"][0],
    ];
    for command in commands {
        let words: Vec<&str> = command.as_str().expect("a command").split(' ').collect();
        assert_eq!(words[0], "smartlog");
        let output = settings(&words[1..], &variables);
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
    let paths = [&service["healthCheckPath"], &railway["deploy"]["healthcheckPath"]];
    assert!(paths.iter().all(|path| **path == "/health/ready"), "{paths:?}");
}

#[test]
fn the_dependencies_of_the_image_are_decided_by_a_few_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = Command::new(repository().join("scripts/manifests-only"))
        .arg(repository())
        .arg(folder.path())
        .status();
    assert!(status.expect("it starts").success());
    let metadata = |folder: &Path| {
        let mut command = Command::new("cargo");
        command.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(folder);
        let output = command.output().expect("cargo starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        found["packages"].as_array().expect("packages").len()
    };
    assert_eq!(metadata(folder.path()), metadata(repository()));
}

/// Of the image's last stages: its base is stood in for by the libraries of this machine that the program loads.
#[test]
fn the_image_runs_smartlog_as_nobody_who_writes_into_its_own_folder_alone() {
    if Service::require("buildah").is_none() {
        return;
    }
    let mut check = Command::new(repository().join("scripts/image-check"));
    let said = printed(check.arg(binary_with_s3()).arg("--of-tests"));
    let version = printed(Command::new(binary_with_s3()).arg("--version"));
    for expected in [
        "user is '65532:65532'",
        "command is '[smartlog run]'",
        "health check is '[CMD smartlog health]'",
        &format!("version is '{}'", version.trim_end()),
        "all well",
    ] {
        let line = format!("image-check: {expected}");
        assert!(said.lines().any(|found| found == line), "expected `{line}`, found:\n{said}");
    }
}

#[test]
fn the_bill_of_materials_names_every_crate_of_the_program() {
    let output = Command::new(repository().join("scripts/sbom")).output().expect("it starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bill: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let named: Vec<&str> = bill["components"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|part| part["purl"].as_str())
        .collect();
    // cargo tree is asked by another way than cargo metadata.
    let tree = Command::new("cargo")
        .args([
            "tree",
            "--locked",
            "--offline",
            "-p",
            "smartlog",
            "--features",
            "s3,tls,otlp",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}", "--target", "x86_64-unknown-linux-gnu"])
        .current_dir(repository())
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "{}", text(&tree.stderr));
    for line in text(&tree.stdout).lines().filter(|line| !line.starts_with("smartlog v")) {
        let (name, version) = line.split_once(" v").expect("name and version");
        let version = version.split(' ').next().expect("a version");
        assert!(
            named.contains(&format!("pkg:cargo/{name}@{version}").as_str()),
            "{name} {version} is missing"
        );
    }
    assert!(named.len() > 200 && members(&bill["metadata"]["component"]).count() > 3);
}

/// What a command prints, which must end well.
fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Names of what lies in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_archive_of_a_release_holds_what_an_installation_takes() {
    let (folder, unpacked) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let out = folder.path();
    printed(Command::new(repository().join("scripts/dist")).arg("archive").arg(binary()).arg(out));
    let said = printed(Command::new(binary()).arg("--version"));
    let version = said.split_whitespace().nth(1).expect("a version");
    let written = names(out);
    let archive = written.iter().find(|name| name.ends_with(".tar.gz")).expect("an archive");
    let name = archive.trim_end_matches(".tar.gz");
    assert!(name.starts_with(&format!("smartlog-{version}-{}-", std::env::consts::ARCH)), "{name}");
    let bill = format!("{name}.sbom.cdx.json");
    assert_eq!(written, ["SHA256SUMS", &bill, archive]);
    let sums = printed(Command::new("sha256sum").args(["--strict", "-c", "SHA256SUMS"]).current_dir(out));
    assert_eq!(sums.lines().collect::<Vec<_>>(), [format!("{bill}: OK"), format!("{archive}: OK")]);
    let bill: Value = serde_json::from_slice(&std::fs::read(out.join(bill)).expect("a file")).expect("JSON");
    let component = &bill["metadata"]["component"];
    assert_eq!((&component["name"], &component["version"]), (&"smartlog".into(), &version.into()));

    // Nothing of who packed it, and when.
    let list =
        printed(Command::new("tar").args(["--utc", "--numeric-owner", "-tvzf"]).arg(out.join(archive)));
    let neutral = |line: &str| line.contains(" 0/0 ") && line.contains(" 1980-01-01 00:00 ");
    assert!(list.lines().all(neutral), "{list}");
    // As docs/DEPLOY.md unpacks it.
    printed(
        Command::new("tar")
            .arg("-C")
            .arg(unpacked.path())
            .args(["--strip-components=1", "-xzf"])
            .arg(out.join(archive)),
    );
    let mut documents =
        ["LICENSE", "README.md", "CHANGELOG.md", "smartlog.example.toml"].map(str::to_owned).to_vec();
    documents.extend(UNITS.map(|unit| format!("deploy/systemd/{unit}")));
    let mut expected = vec!["smartlog".to_owned()];
    for path in &documents {
        let name = path.rsplit('/').next().expect("a name");
        let packed = std::fs::read_to_string(unpacked.path().join(name)).expect(name);
        assert!(packed == read(path), "{name} is not {path}");
        expected.push(name.to_owned());
    }
    expected.sort();
    assert_eq!(names(unpacked.path()), expected);
    assert_eq!(printed(Command::new(unpacked.path().join("smartlog")).arg("--version")), said);
}

/// A host that is deployed to: the hook's POST makes it the next version, after two more questions.
fn host() -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while asked.len() < 4 {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines =
                BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
            asked.push(lines.next().expect("a request").replace(" HTTP/1.1", ""));
            let _ = lines.find(String::is_empty);
            let version = if asked.len() < 4 { "0.0.9" } else { "0.1.0" };
            let body = format!("{{\"status\":\"ok\",\"version\":\"{version}\"}}");
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .expect("it listens");
        }
        asked
    });
    (url, thread)
}

#[test]
fn a_deployment_is_over_when_the_api_says_its_new_version() {
    let (url, asked) = host();
    let output = Command::new(repository().join("scripts/deploy-api"))
        .envs([
            ("DEPLOY_HOOK", format!("{url}/deploy?key=secret")),
            ("API_URL", url),
            ("VERSION", "0.1.0".into()),
        ])
        .envs([("POLL", "0.05"), ("PATIENCE", "60")])
        .output()
        .expect("it starts");
    let said = text(&[output.stdout, output.stderr].concat());
    assert!(output.status.success() && said.contains("is version 0.1.0"), "{said}");
    assert!(!said.contains("secret"), "the hook's URL is a secret: {said}");
    assert_eq!(
        asked.join().expect("it ended"),
        ["POST /deploy?key=secret", "GET /health", "GET /health", "GET /health"]
    );
}
