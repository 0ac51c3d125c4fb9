//! `smartlog run --processes N`: starts the processes of a set on this host and keeps them together. When one ends,
//! the others are ended too, and the whole set starts again.

use crate::cli::exit;
use crate::config::Config;
use anyhow::Context;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A set that ran for less than this before it failed is started again more and more slowly.
const SETTLED: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the set until it ends by itself or is stopped.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = super::job::runtime()?;
    let stop = Arc::new(AtomicBool::new(false));
    super::run::stop_on_signal(&runtime, Arc::clone(&stop));
    let mut pause = Duration::from_millis(500);
    loop {
        let began = Instant::now();
        let hosts = host_file(config)?;
        let mut set = start(config, hosts.path())?;
        let first = wait_for_first(&mut set, &stop)?;
        end_all(&mut set, config.engine.shutdown_grace + Duration::from_secs(2));
        match first {
            None => return Ok(ExitCode::SUCCESS),
            Some((_, status)) if status.success() => return Ok(ExitCode::SUCCESS),
            Some((_, status)) if status.code() == Some(i32::from(exit::CONFIG)) => {
                return Ok(ExitCode::from(exit::CONFIG));
            }
            Some((process, status)) => {
                pause = if began.elapsed() > SETTLED {
                    Duration::from_millis(500)
                } else {
                    (pause * 2).min(LONGEST_PAUSE)
                };
                tracing::error!(
                    "process {process} of the set ended ({status}); the set starts again in {pause:?}"
                );
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(ExitCode::SUCCESS);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// A host file with a free local port for each process.
fn host_file(config: &Config) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().context("creating the set's host file")?;
    let processes = config.engine.processes.get();
    // All are held at once, so that all differ.
    let mut held = Vec::new();
    for process in 0..processes {
        let port = match config.engine.base_port {
            0 => {
                let listener =
                    TcpListener::bind(("127.0.0.1", 0)).context("finding a free port for the set")?;
                let port = listener.local_addr()?.port();
                held.push(listener);
                port
            }
            base => {
                base.checked_add(u16::try_from(process)?).context("engine.base_port leaves too few ports")?
            }
        };
        writeln!(file, "127.0.0.1:{port}")?;
    }
    Ok(file)
}

fn start(config: &Config, hosts: &std::path::Path) -> anyhow::Result<Vec<Child>> {
    let program = std::env::current_exe().context("finding the program's own file")?;
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut set = Vec::new();
    for process in 0..config.engine.processes.get() {
        let child = Command::new(&program)
            .args(&arguments)
            .env("SMARTLOG_ENGINE_PROCESS", process.to_string())
            .env("SMARTLOG_ENGINE_HOSTFILE", hosts)
            .spawn()
            .with_context(|| format!("starting process {process} of the set"))?;
        set.push(child);
    }
    Ok(set)
}

/// The first process that ended with a failure, or the last one that ended well; `None` when told to stop.
fn wait_for_first(set: &mut [Child], stop: &AtomicBool) -> anyhow::Result<Option<(usize, ExitStatus)>> {
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut running = 0;
        let mut ended = None;
        for (process, child) in set.iter_mut().enumerate() {
            match child.try_wait()? {
                Some(status) if !status.success() => return Ok(Some((process, status))),
                Some(status) => ended = Some((process, status)),
                None => running += 1,
            }
        }
        if running == 0 {
            return Ok(ended);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks every process to end, and ends those that do not.
fn end_all(set: &mut [Child], grace: Duration) {
    for child in set.iter_mut() {
        if matches!(child.try_wait(), Ok(None)) {
            terminate(child);
        }
    }
    let deadline = Instant::now() + grace;
    for child in set {
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Fails only when it has ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    // Fails only when it has ended meanwhile.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
}
