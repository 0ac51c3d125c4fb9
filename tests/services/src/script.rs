//! A page in a real browser: a script does what a user does (`tests/services/browser.mjs`), and asks the test for what must
//! happen behind the page.
//!
//! ```text
//!   script ── ASK words ──▶ test: does it ── answer ──▶ script ── DONE ──▶ test
//! ```

use crate::Service;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running script. It ends by itself when something takes too long.
#[derive(Debug)]
pub struct Script {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    is_done: bool,
}

impl Script {
    /// Starts `script` on the page at `address`; `scenario` is the part of it to play.
    ///
    /// # Panics
    /// When Node cannot be started.
    pub fn start(browser: &Service, script: &Path, address: &str, scenario: &str) -> Self {
        let mut child = Command::new(browser.variable("NODE"))
            .arg(script)
            .args([address, &browser.variable("MODULES"), &browser.address(), scenario])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let input = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Script { child, input, lines, is_done: false }
    }

    /// What the script asks for next; `None` when it has ended. What it says besides goes to standard error.
    ///
    /// # Panics
    /// When what it says is no text.
    pub fn asked(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            let line = line.expect("text");
            if let Some(words) = line.strip_prefix("ASK ") {
                return Some(words.to_owned());
            }
            self.is_done |= line == "DONE";
            if line != "DONE" {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
        None
    }

    /// Answers what it asked.
    ///
    /// # Panics
    /// When it does not listen any more.
    pub fn answer(&mut self, words: &str) {
        writeln!(self.input, "{words}").expect("the script listens");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it did not come to its own end.
    pub fn end(mut self) {
        let status = self.child.wait().expect("node ends");
        assert!(self.is_done && status.success(), "{status}; what was wrong stands above");
    }
}
