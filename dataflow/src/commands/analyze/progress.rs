//! How far reading is, on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use smartlog_operators::fold::Outcomes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(100);

pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar where it is known how much there is to read, else a count.
    pub fn start(inputs: &[PathBuf], outcomes: Arc<Outcomes>) -> Self {
        // Draws nothing where stderr is no terminal.
        let (bar, style) = match bytes_of(inputs) {
            Some(bytes) => {
                (ProgressBar::new(bytes), "{bar:40} {percent}%  {binary_bytes_per_sec}  {msg}  {eta} to go")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {msg}  {binary_bytes_per_sec}  {elapsed}"),
        };
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(LOOK);
        let shown = bar.downgrade();
        std::thread::spawn(move || {
            while let Some(bar) = shown.upgrade().filter(|bar| !bar.is_finished()) {
                // Line breaks are no part of the records.
                let records = outcomes.records.load(Ordering::Relaxed);
                bar.set_position(outcomes.bytes.load(Ordering::Relaxed) + records);
                bar.set_message(format!("{} lines", indicatif::HumanCount(records)));
                drop(bar);
                std::thread::sleep(LOOK);
            }
        });
        Progress { bar }
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes of plain files together; `None` where there is a pipe or a compressed file among them.
fn bytes_of(inputs: &[PathBuf]) -> Option<u64> {
    let size = |path: &PathBuf| {
        let is_packed = path.extension().is_some_and(|ending| ending == "gz" || ending == "zst");
        let metadata = std::fs::metadata(path).ok().filter(|_| !is_packed && path != Path::new("-"))?;
        metadata.is_file().then_some(metadata.len())
    };
    inputs.iter().map(size).sum()
}
