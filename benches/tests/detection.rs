//! Detection does not get worse: the short form of `make detect`, with bars that must hold.

use std::process::Command;

#[test]
fn detection_holds_its_bars_on_the_short_seeds() {
    let output = Command::new(env!("CARGO_BIN_EXE_detect"))
        .args(["--set", "short", "--check", "--worst", "5"])
        .output()
        .expect("the harness starts");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}\n{said}");
    assert!(output.status.success(), "{said}");
}
