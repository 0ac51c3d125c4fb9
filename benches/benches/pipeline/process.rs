//! Processes, and what they cost: wall time from start to end, processor time, largest resident memory.

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often the memory of a process is looked at; the kernel keeps the largest value itself.
const LOOK: Duration = Duration::from_millis(10);

/// What a process cost from its start to its end.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    pub cpu: Duration,
    pub peak_mib: f64,
}

/// A child in a folder of its own, killed when dropped.
pub struct Process {
    child: Child,
    folder: TempDir,
    started: Instant,
    name: String,
}

impl Process {
    /// Starts `command` with nothing of this program's settings in its environment.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = format!("{command:?}");
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SMARTLOG_") || variable == "RUST_LOG" {
                command.env_remove(variable);
            }
        }
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(File::create(folder.path().join("stdout"))?);
        command.stderr(File::create(folder.path().join("stderr"))?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Process { child, folder, started, name })
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn printed(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("stdout"))?)
    }

    /// Waits for a good end.
    pub fn finish(&mut self) -> anyhow::Result<Cost> {
        let pid = Pid::from_child(&self.child);
        let over = AtomicBool::new(false);
        let (ended, peak_mib) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak_mib = 0.0_f64;
                while !over.load(Ordering::Relaxed) {
                    peak_mib = peak_mib.max(memory_mib(pid, "VmHWM").unwrap_or(0.0));
                    std::thread::sleep(LOOK);
                }
                peak_mib
            });
            // It stays a zombie, whose processor time can be read, until it is waited for below.
            let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
                .map(|_| Instant::now());
            over.store(true, Ordering::Relaxed);
            (ended, watch.join())
        });
        let wall = ended?.duration_since(self.started);
        let cpu = cpu_time(pid)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status} and said:\n{}", self.name, self.said());
        let peak_mib = peak_mib.map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        Ok(Cost { wall, cpu, peak_mib })
    }

    /// SIGTERM, and waits for a good end.
    pub fn stop(&mut self) -> anyhow::Result<Cost> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.finish()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Processor time so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_time(Pid::from_child(&self.child))
    }

    /// Resident memory now.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        memory_mib(Pid::from_child(&self.child), "VmRSS").context("its memory cannot be read")
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended with {status} and said:\n{}", self.name, self.said()),
        }
    }

    /// Waits until `ask` has an answer, while it runs.
    pub fn until<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            self.check()?;
            ensure!(began.elapsed() < patience, "not within {patience:?}: {what}; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it wrote to stderr.
    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of all threads, also of a zombie.
fn cpu_time(pid: Pid) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat names the program")?;
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); the rest begins with field 3.
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn memory_mib(pid: Pid, key: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
