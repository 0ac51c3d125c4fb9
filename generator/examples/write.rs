//! Writes labelled traffic to a file and its labels beside it.
//!
//!     cargo run --release -p smartlog-generator --example write -- traffic.ndjson.zst settings.json
//!
//! `settings.json` is a `GeneratorConfig`; what it leaves out has its default. Without it: two hours of 200 logs/s with an
//! incident about every ten minutes.

use smartlog_generator::output::{Pace, to_file};
use smartlog_generator::{Generator, GeneratorConfig};
use std::error::Error;
use std::path::Path;

const SETTINGS: &str = r#"{
    "duration": "2h",
    "rate_per_s": 200.0,
    "learn": "20m",
    "incidents": {"auto": {"per_day": 144.0, "disturbances_per_day": 24.0}}
}"#;

#[expect(clippy::print_stderr, reason = "a program for people")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: write FILE[.gz|.zst] [SETTINGS.json]")?;
    let settings = arguments.next().map_or(Ok(SETTINGS.to_owned()), std::fs::read_to_string)?;
    let config: GeneratorConfig = serde_json::from_str(&settings)?;
    let mut traffic = Generator::new(config)?;
    let began = std::time::Instant::now();
    let done = to_file(&mut traffic, Path::new(&path), &Pace::full_speed(), &mut |_| {})?;
    let labels = traffic.labels();
    std::fs::write(format!("{path}.labels.json"), labels.to_json())?;
    let per_second = done.lines as f64 / began.elapsed().as_secs_f64();
    eprintln!("{} lines, {} bytes, {per_second:.0} lines/s", done.lines, done.bytes);
    for label in &labels.incidents {
        eprintln!("{} {} {} {}: {}", label.start, label.end, label.service, label.type_name, label.how);
    }
    Ok(())
}
