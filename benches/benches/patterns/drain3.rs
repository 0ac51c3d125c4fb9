//! The other side: Drain3 in a Python of its own, made on first use and kept in the cache.

use anyhow::{Context as _, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Pinned, with all that it needs.
const REQUIREMENTS: &str = "drain3==0.9.11\njsonpickle==1.5.1\ncachetools==4.2.1\n";

/// A line asks for one pass over the messages; the answer is its processor time in seconds.
const SCRIPT: &str = r#"
import importlib.metadata, logging, sys, time
from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig
logging.disable(logging.CRITICAL)
messages = open(sys.argv[1], encoding="utf-8").read().splitlines()
print(importlib.metadata.version("drain3"), flush=True)
for _ in sys.stdin:
    miner = TemplateMiner(config=TemplateMinerConfig())
    start = time.process_time()
    for message in messages:
        miner.add_log_message(message)
    print(time.process_time() - start, flush=True)
"#;

pub struct Peer {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub version: String,
    _messages: tempfile::NamedTempFile,
}

impl Peer {
    pub fn start(messages: &[String]) -> anyhow::Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        messages.iter().try_for_each(|message| writeln!(file, "{message}"))?;
        let mut command = Command::new(interpreter()?);
        command.arg("-c").arg(SCRIPT).arg(file.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting Drain3")?;
        let jobs = child.stdin.take().context("its standard input")?;
        let answers = BufReader::new(child.stdout.take().context("its standard output")?);
        let mut peer = Peer { child, jobs, answers, version: String::new(), _messages: file };
        peer.version = peer.answer()?;
        Ok(peer)
    }

    /// Processor time of one pass over the messages.
    pub fn seconds(&mut self) -> anyhow::Result<f64> {
        writeln!(self.jobs, "go")?;
        Ok(self.answer()?.parse()?)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "Drain3 ended early; its message is above");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interpreter() -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("SMARTLOG_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("SMARTLOG_CACHE or HOME must be set")?)
            .join(".cache/smartlog"),
    };
    let venv = cache.join("venv-patterns");
    let (python, stamp) = (venv.join("bin/python"), venv.join("requirements.txt"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(python);
    }
    std::fs::create_dir_all(&cache)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let wanted = venv.join("wanted.txt");
    std::fs::write(&wanted, REQUIREMENTS)?;
    install(&python, &wanted)?;
    std::fs::rename(&wanted, &stamp)?;
    Ok(python)
}

fn install(python: &Path, wanted: &Path) -> anyhow::Result<()> {
    run(Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(wanted))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed; its message is above");
    Ok(())
}
