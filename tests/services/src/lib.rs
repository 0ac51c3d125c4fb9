//! Real services for tests: where they are, and how to crash, pause and restart them.
//!
//! ```text
//! make test ──> scripts/services start ──> SMARTLOG_TEST_KAFKA=127.0.0.1:… ──> Service::require("kafka")
//!                        ^                                                              │
//!                        └────────────── kill, start, pause, resume ────────────────────┘
//! ```
//!
//! A test that needs a service which is not there fails and says how to get it. Only `SMARTLOG_SERVICES=none`, which
//! `make test SERVICES=none` sets, lets it pass untested, and then a line on standard error says so.
//!
//! ```no_run
//! use smartlog_test_services::Service;
//!
//! # fn connect(url: &str) {}
//! fn rows_survive_a_crash_of_the_server() {
//!     let Some(postgres) = Service::require("postgres") else { return };
//!     connect(&postgres.address());
//!     postgres.kill();
//!     postgres.start(); // the same port, the same data
//! }
//! ```

pub mod database;
pub mod script;
pub mod tls;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many ports, from 10,000 on, [`free_port`] chooses from.
const FREE_PORTS: u16 = 10_000;

/// One service, running when it was asked for.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
}

impl Service {
    /// The service, or `None` when tests of services are switched off, which is printed.
    ///
    /// # Panics
    /// When the service is not there although nobody switched such tests off.
    pub fn require(name: &str) -> Option<Self> {
        if std::env::var("SMARTLOG_SERVICES").is_ok_and(|value| value == "none") {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Past the capture of the test program, which hides what a passing test prints.
            let line = format!("SKIPPED {test}: it needs {name}, and SMARTLOG_SERVICES=none\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let service = Self { name: name.to_owned() };
        service.variable_of(""); // panics with the way out
        Some(service)
    }

    /// Where it listens: `host:port` of Kafka, the URL of everything else.
    pub fn address(&self) -> String {
        self.variable_of("")
    }

    /// One of its other variables: `variable("SASL_USER")` of Kafka is `SMARTLOG_TEST_KAFKA_SASL_USER`.
    ///
    /// # Panics
    /// When there is no such variable.
    pub fn variable(&self, suffix: &str) -> String {
        self.variable_of(&format!("_{suffix}"))
    }

    /// SIGKILL to its main process, as in a crash. Returns when it is dead.
    pub fn kill(&self) {
        control(&["kill", &self.name]);
    }

    /// SIGKILL to its main process and its children, as when the machine dies.
    pub fn kill_all(&self) {
        control(&["kill", "--all", &self.name]);
    }

    /// Starts it if it is down, on the same port and data. Returns when it answers.
    pub fn start(&self) {
        control(&["start", &self.name]);
    }

    /// Stops it in good order. Returns when it has ended.
    pub fn stop(&self) {
        control(&["stop", &self.name]);
    }

    /// Stops it in good order and starts it again.
    pub fn restart(&self) {
        control(&["restart", &self.name]);
    }

    /// Nobody answers any more, and connections stay open, until the guard is dropped.
    #[must_use = "the service goes on when the guard is dropped"]
    pub fn pause(&self) -> Paused<'_> {
        control(&["pause", &self.name]);
        Paused(self)
    }

    fn variable_of(&self, suffix: &str) -> String {
        variable(&format!("{}{suffix}", self.name.to_uppercase()))
    }
}

/// A paused service; goes on when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Paused<'a>(&'a Service);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        control(&["resume", &self.0.name]);
    }
}

/// Path of a tool that tests call: `tool("kcat")`, `tool("python")`, `tool("psql")`. `None` as with [`Service::require`].
///
/// # Panics
/// When it is not there although nobody switched such tests off.
pub fn tool(name: &str) -> Option<String> {
    Service::require(name).map(|tool| tool.address())
}

/// A port of 127.0.0.1 that nobody listens on, for a program that must be told one. Below the ports that the kernel gives to
/// outgoing connections, and beside those of the services: nobody takes it before the program does.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs of two checkouts may run at the same time: each begins elsewhere.
    let begin = std::process::id().wrapping_mul(7919);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..FREE_PORTS)
        .map(|_| u32::from(NEXT.fetch_add(1, Ordering::Relaxed)))
        .map(|n| 10_000 + (begin.wrapping_add(n) % u32::from(FREE_PORTS)) as u16)
        .find(is_free)
        .expect("one of ten thousand ports is free")
}

/// Holds off other tests of this test program that disturb services (kill, pause, restart), until dropped.
///
/// Test programs run one after the other under `cargo test`, so this is enough.
pub fn disturbing() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner) // a failed test must not fail the next
}

fn variable(name: &str) -> String {
    let key = format!("SMARTLOG_TEST_{name}");
    std::env::var(&key).unwrap_or_else(|_| {
        panic!(
            "{key} is not set: this test needs a real service. Run it by `make test`, or run `make services` and source \
             the file that it names. To do without: SMARTLOG_SERVICES=none"
        )
    })
}

/// scripts/services; reads the state folder from the environment by itself.
fn control(arguments: &[&str]) {
    let program = variable("CONTROL");
    let output = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} could not be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {} failed:\n{said}", arguments.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_answers_where_the_environment_says() {
        let Some(kafka) = Service::require("kafka") else { return };
        std::net::TcpStream::connect(kafka.address()).expect("Kafka accepts a connection");
    }

    #[test]
    fn a_paused_service_is_reachable_and_silent_until_the_guard_goes() {
        use std::io::Read as _;
        use std::time::Duration;

        let Some(toxiproxy) = Service::require("toxiproxy") else { return };
        let _turn = disturbing();
        let address = toxiproxy.address().trim_start_matches("http://").to_owned();
        let paused = toxiproxy.pause();
        let mut connection = std::net::TcpStream::connect(address).expect("the kernel accepts a connection");
        connection.write_all(b"GET /version HTTP/1.0\r\n\r\n").expect("the kernel takes the request");
        connection.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
        let mut byte = [0];
        assert!(connection.read_exact(&mut byte).is_err(), "a paused service answered");
        drop(paused);
        connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        connection.read_exact(&mut byte).expect("it answers again");
    }

    #[test]
    fn a_killed_service_comes_back_at_its_address() {
        let Some(toxiproxy) = Service::require("toxiproxy") else { return };
        let _turn = disturbing();
        let address = toxiproxy.address().trim_start_matches("http://").to_owned();
        toxiproxy.kill();
        std::net::TcpStream::connect(&address).expect_err("nobody listens");
        toxiproxy.start();
        std::net::TcpStream::connect(&address).expect("it listens again");
    }

    #[test]
    #[should_panic(expected = "Run it by `make test`, or run `make services`")]
    fn a_missing_service_says_how_to_get_it() {
        if Service::require("a-service-that-nobody-has").is_none() {
            panic!("Run it by `make test`, or run `make services`: skipped");
        }
    }
}
