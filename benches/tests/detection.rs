//! Detection does not get worse: the short form of `make detect`, with bars that must hold.

use std::process::{Command, Stdio};

#[test]
fn detection_holds_its_bars_on_the_short_seeds() {
    let output = Command::new(env!("CARGO_BIN_EXE_detect"))
        .args(["--set", "short", "--check", "--worst", "5"])
        // What could not be judged is said past the capture of test output.
        .stderr(Stdio::inherit())
        .output()
        .expect("the harness starts");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "a bar is missed, or the harness failed: see above");
}
