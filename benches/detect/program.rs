//! The program as a child process: `smartlog analyze`, fed with a case's lines, asked for its episodes.

use crate::corpus::{Case, Labels, Lines, Second, is_closed_pipe};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An episode, as far as it is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    pub service: String,
    pub anomaly_type: String,
    /// End of the first window beyond the threshold.
    pub at: Second,
    pub ended: Option<Second>,
    pub description: String,
}

/// What `smartlog analyze --format json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    service: Option<String>,
    status: String,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    description: String,
}

/// The program and how it is set.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    /// Further arguments, such as flags of settings.
    pub arguments: Vec<String>,
}

impl Program {
    /// The program that detects without one detector.
    pub fn without(&self, detector: &str) -> Self {
        let flag = format!("--detection-{}-enabled=false", detector.replace('_', "-"));
        let arguments = self.arguments.iter().cloned().chain([flag]).collect();
        Program { path: self.path.clone(), arguments }
    }

    /// Whether `detector` has a switch.
    pub fn knows(&self, detector: &str) -> anyhow::Result<bool> {
        let output = Command::new(&self.path).args(["analyze", "--help"]).output()?;
        let flag = format!("--detection-{}-enabled", detector.replace('_', "-"));
        Ok(String::from_utf8_lossy(&output.stdout).contains(&flag))
    }

    /// The alarms of a case, in order of time, and what was true of it. Stream-wide episodes and retracted ones are left
    /// out.
    pub fn analyze(&self, case: &Case) -> anyhow::Result<(Vec<Alarm>, Labels)> {
        self.run(case).with_context(|| format!("{}: {}", self.path.display(), case.name))
    }

    fn run(&self, case: &Case) -> anyhow::Result<(Vec<Alarm>, Labels)> {
        let folder = tempfile::tempdir()?;
        let input: &Path = match &case.lines {
            Lines::File(path, _) => path,
            Lines::Made(_) => Path::new("-"),
        };
        let mut command = Command::new(&self.path);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SMARTLOG_") || variable == "RUST_LOG" {
                command.env_remove(variable);
            }
        }
        command.arg("analyze").arg(input).args(["--format", "json", "--workers", "1"]).args(&self.arguments);
        command.current_dir(folder.path());
        command.stdout(std::fs::File::create(folder.path().join("stdout"))?);
        command.stderr(std::fs::File::create(folder.path().join("stderr"))?);
        let made = matches!(case.lines, Lines::Made(_));
        command.stdin(if made { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn()?;
        let labels = match (&case.lines, child.stdin.take()) {
            (Lines::File(_, labels), _) => Ok(labels.clone()),
            (Lines::Made(write), Some(stdin)) => feed(write.as_ref(), stdin),
            (Lines::Made(_), None) => anyhow::bail!("its stdin is no pipe"),
        };
        let status = child.wait()?;
        let said = std::fs::read_to_string(folder.path().join("stderr"))?;
        ensure!(status.success(), "ended with {status} and said:\n{said}");
        // A case that the program did not understand is no quiet case.
        ensure!(!said.contains("lines were no logs"), "it could not read the case:\n{said}");
        Ok((alarms(&std::fs::read_to_string(folder.path().join("stdout"))?)?, labels?))
    }
}

fn feed(
    write: &(dyn Fn(&mut dyn Write) -> anyhow::Result<Labels> + Send + Sync),
    stdin: std::process::ChildStdin,
) -> anyhow::Result<Labels> {
    let mut stdin = BufWriter::with_capacity(1 << 16, stdin);
    let labels = write(&mut stdin).map_err(|error| match is_closed_pipe(&error) {
        true => error.context("it stopped reading"),
        false => error,
    })?;
    stdin.flush()?;
    Ok(labels)
}

fn alarms(printed: &str) -> anyhow::Result<Vec<Alarm>> {
    let mut alarms = Vec::new();
    for text in printed.lines() {
        let line: Line =
            serde_json::from_str(text).with_context(|| format!("expected an episode: {text}"))?;
        let Some(service) = line.service.filter(|_| line.status != "retracted") else { continue };
        alarms.push(Alarm {
            service,
            anomaly_type: line.r#type,
            at: line.started_at.as_second(),
            ended: line.ended_at.map(Timestamp::as_second),
            description: line.description,
        });
    }
    alarms.sort_by(|a, b| (a.at, &a.service, &a.anomaly_type).cmp(&(b.at, &b.service, &b.anomaly_type)));
    Ok(alarms)
}
