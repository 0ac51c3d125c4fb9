//! `smartlog` as a child process, in a folder of its own, with nothing of the tests' environment.

use crate::eventually;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use smartlog_test_services::free_port;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// The program: `SMARTLOG_BIN`, or the release build beside these tests, brought up to date first.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SMARTLOG_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// The program with S3 in it: `SMARTLOG_BIN`, which must have it, or built so.
pub fn binary_with_s3() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SMARTLOG_BIN") {
        Some(path) => path.into(),
        None => apart(&built(&["-p", "smartlog", "--bin", "smartlog", "--all-features"], "smartlog")),
    })
}

/// The function log-processor: what lies beside `SMARTLOG_BIN`, or the release build, brought up to date first.
pub fn bootstrap() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SMARTLOG_BIN") {
        Some(path) => Path::new(&path).with_file_name("bootstrap"),
        None => built(&["-p", "smartlog-lambda", "--bin", "bootstrap", "--all-features"], "bootstrap"),
    })
}

/// A build with other features takes the place of this one in the target folder.
fn apart(built: &Path) -> PathBuf {
    let copy = built.with_file_name("smartlog-with-s3");
    std::fs::copy(built, &copy).expect("a copy beside it");
    copy
}

fn build() -> PathBuf {
    built(&["-p", "smartlog", "--bin", "smartlog"], "smartlog")
}

/// A stale program would be judged by today's tests, so cargo is always asked.
fn built(what: &[&str], name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // .../<target>/<profile>/deps/<this program>
    let here = std::env::current_exe().expect("a program knows its path");
    let target = here.ancestors().nth(3).expect("a test program lies in a target folder").to_owned();
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet"])
        .args(what)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .status();
    assert!(status.expect("cargo runs").success(), "{name} could not be built; its errors stand above");
    target.join("release").join(name)
}

/// A running program, or set of processes. Ends, with all that it started, when dropped.
pub struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    /// Starts `smartlog` with `arguments`.
    pub fn start<A: AsRef<str>>(arguments: &[A]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// As [`Program::start`], with environment variables.
    pub fn start_with<A: AsRef<str>>(arguments: &[A], variables: &[(&str, &str)]) -> Self {
        Self::start_as(binary(), arguments, variables)
    }

    /// As [`Program::start_with`], another build of it.
    pub fn start_as<A: AsRef<str>>(program: &Path, arguments: &[A], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output =
            |name: &str| File::create(folder.path().join(name)).expect("a file in a temporary folder");
        let mut command = Command::new(program);
        command.args(arguments.iter().map(AsRef::as_ref)).current_dir(folder.path()).stdin(Stdio::null());
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("SMARTLOG_") || name == "RUST_LOG")
        {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).stdout(output("stdout")).stderr(output("stderr"));
        let child = command.process_group(0).spawn();
        Program { child: child.expect("the program starts"), folder }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on stderr so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// What it printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default()
    }

    /// Waits until stderr holds `words`.
    pub fn wait_for_words(&self, words: &str, patience: Duration) {
        let began = std::time::Instant::now();
        while !self.said().contains(words) {
            assert!(
                began.elapsed() < patience,
                "it did not say `{words}` within {patience:?}, but:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let (child, folder) = (&mut self.child, &self.folder);
        let began = std::time::Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if began.elapsed() > patience {
                let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
                panic!("it still runs after {patience:?}; it said:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn succeed(&mut self, patience: Duration) {
        let status = self.wait(patience);
        assert!(status.success(), "it ended with {status} and said:\n{}", self.said());
    }

    /// SIGTERM to the main process.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL to the main process, and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.wait(Duration::from_secs(60));
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself before the kill, and said:\n{}",
            self.said()
        );
    }

    /// Any signal to the main process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child that nobody has waited for can be signalled");
    }

    /// A figure of the main process' memory in MiB: `VmRSS`, resident now, or `VmHWM`, the most it ever was.
    pub fn memory_mib(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(figure)).expect("a line a figure");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of kB") / 1024
    }

    /// Processes that the main process started.
    pub fn children(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only when all of them have ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = format!("---- smartlog, process {}, said:\n{}\n", self.child.id(), self.said());
            let _ = std::io::stderr().write_all(said.as_bytes());
        }
    }
}

/// Runs `smartlog` to its end and gives its exit status, stdout and stderr.
pub fn run_to_end<A: AsRef<str>>(arguments: &[A], patience: Duration) -> (ExitStatus, String, String) {
    let mut program = Program::start(arguments);
    let status = program.wait(patience);
    (status, program.printed(), program.said())
}

/// `count` addresses of this host that are free now, one a line.
pub fn host_file(folder: &Path, count: usize) -> PathBuf {
    let lines: String = (0..count).map(|_| format!("127.0.0.1:{}\n", free_port())).collect();
    let path = folder.join("hosts");
    std::fs::write(&path, lines).expect("a file in a temporary folder");
    path
}

/// Waits until `pid` is no more.
pub fn wait_until_gone(pid: Pid, patience: Duration) {
    eventually("a killed process is gone", patience, || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}
