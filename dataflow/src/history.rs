//! History through the same operators as live logs.
//!
//! ```text
//!   Kafka range ─┐                                   ┌─▶ feature rows ─▶ those in [since, until]
//!   files       ─┼─▶ the pipeline, without a store ──┤
//!   a store's logs, exported ones ─ as a file ─┘     └─▶ commits
//! ```

use crate::commands::job;
use crate::config::Config;
use crate::coordinator::Begin;
use crate::engine::{Engine, Job};
use crate::models::{Scoring, check_counted, training_row};
use crate::sources::Sources;
use anyhow::Context as _;
use jiff::Timestamp;
use smartlog_models::rows::{Row, Rows};
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::features::Columns;
use smartlog_schema::commit::EpochCommit;
use smartlog_schema::window::{MICROS, WINDOW_SECONDS};
use smartlog_sinks::parquet::{Kept, read_exported};
use std::fmt;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rows of a history at the most: a month of a hundred services, about 4 GB. More is told, not kept.
const ROWS_MAX: usize = 30_000_000;
/// How late a log may be in Kafka and still belong to the interval, milliseconds.
const EARLIER_MS: i64 = 900_000;

/// Where history is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The topics of `[kafka]`, from `since` on to what is their end now.
    Kafka,
    /// The table `logs` of `[store]`.
    Store,
    /// What was exported as Parquet: to the folder of `[export]`, to another, or one file of it.
    Parquet(Option<PathBuf>),
    /// JSON lines, plain, .gz or .zst; - is stdin.
    File(PathBuf),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected kafka, postgres, sqlite, parquet or a file, found nothing".into()),
            "kafka" => Ok(From::Kafka),
            "postgres" | "sqlite" => Ok(From::Store),
            "parquet" => Ok(From::Parquet(None)),
            file if file.ends_with(".parquet") || Path::new(file).is_dir() => {
                Ok(From::Parquet(Some(file.into())))
            }
            file => Ok(From::File(file.into())),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Kafka => f.write_str("kafka"),
            From::Store => f.write_str("store"),
            From::Parquet(None) => f.write_str("parquet"),
            From::Parquet(Some(path)) | From::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Which windows are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interval {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Interval {
    /// Begins `time` earlier.
    #[must_use]
    pub fn begun_earlier(self, time: Duration) -> Self {
        let since = self.since.map(|since| since.saturating_sub(time).unwrap_or(Timestamp::UNIX_EPOCH));
        Interval { since, ..self }
    }

    /// As epoch seconds; from 1970 to far in the future where nothing is said.
    pub fn seconds(&self) -> (i64, i64) {
        let second = |time: Option<Timestamp>, or: i64| time.map_or(or, Timestamp::as_second);
        // The end of the year 9999.
        (second(self.since, 0), second(self.until, 253_402_300_799))
    }

    /// Whether a second lies in it.
    pub fn holds_second(&self, second: i64) -> bool {
        let (since, until) = self.seconds();
        (since..until).contains(&second)
    }

    fn holds(&self, end: i64) -> bool {
        // A window that begins before is not whole.
        self.since.is_none_or(|since| end - WINDOW_SECONDS >= since.as_second())
            && self.until.is_none_or(|until| end <= until.as_second())
    }
}

/// A history that can be read, again and again.
pub struct History {
    sources: Sources,
    begin: Begin,
    interval: Interval,
    /// Logs of a store or of Parquet, kept until the dataflow has read them.
    _file: Option<tempfile::NamedTempFile>,
}

impl History {
    /// The logs of `from` that windows in `interval` hold, and perhaps more.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(config: &Config, from: &From, interval: Interval) -> anyhow::Result<Self> {
        let file = match from {
            From::Kafka | From::File(_) => None,
            From::Store | From::Parquet(_) => Some(stored_logs(config, from, interval)?),
        };
        let (sources, begin) = match (from, &file) {
            (From::File(path), _) => (Sources::Files(vec![path.clone()]), Begin::Earliest),
            (_, Some(file)) => (Sources::Files(vec![file.path().to_owned()]), Begin::Earliest),
            _ => {
                let at = |since: Timestamp| Begin::At(since.as_millisecond() - EARLIER_MS);
                let begin = interval.since.map_or(Begin::Earliest, at);
                (Sources::Kafka(Arc::new(job::kafka_settings(config))), begin)
            }
        };
        Ok(History { sources, begin, interval, _file: file })
    }

    /// Runs all of it through the pipeline, as `job` changes that. `observer` is told of every commit, and tells how far it
    /// is and how many `units` it has.
    ///
    /// # Errors
    /// What went wrong, or that it was stopped.
    pub fn replay(
        &self,
        config: &Config,
        units: &'static str,
        job: impl FnOnce(Job) -> Job,
        mut observer: impl FnMut(&EpochCommit, &Reached) + Send + 'static,
    ) -> anyhow::Result<()> {
        let runtime = job::runtime()?;
        let reached = Arc::new(Reached::default());
        let reaching = Arc::clone(&reached);
        let job = job(Job {
            sources: self.sources.clone(),
            // Most look at no patterns.
            parser: job::parser(config)?.with_shapes(false),
            storage: None,
            retention: None,
            windows_file: None,
            begin: self.begin,
            until_end: true,
            ..job::from_config(config, None, Kept::default())?
        });
        let observer = Box::new(move |commit: &EpochCommit| observer(commit, &reaching));
        let engine = Engine::start(job, runtime.handle(), observer)?;
        crate::commands::run::stop_on_signal(&runtime, engine.stop_flag());
        let stopped = engine.stop_flag();
        let progress = Progress::start(Arc::clone(&engine.gauges().outcomes), units, reached, self.interval);
        let result = engine.join(config.engine.shutdown_grace);
        progress.finish();
        result?;
        anyhow::ensure!(!stopped.load(Ordering::Relaxed), "stopped before the history was read to its end");
        Ok(())
    }
}

/// How far a replay is.
#[derive(Debug, Default)]
pub struct Reached {
    second: AtomicI64,
    units: AtomicUsize,
}

impl Reached {
    /// Event time, epoch seconds, and how many of what it is after there are so far.
    pub fn reach(&self, second: i64, units: usize) {
        self.second.fetch_max(second, Ordering::Relaxed);
        self.units.store(units, Ordering::Relaxed);
    }
}

/// Reads `from` to its end; the rows of the windows in `interval`, with the features of `columns`.
///
/// # Errors
/// What cannot be read, or no window at all.
pub fn rows(config: &Config, from: &From, interval: Interval, columns: &Columns) -> anyhow::Result<Rows> {
    check_counted(columns, config.patterns.enabled)?;
    let counts_patterns = columns.of_patterns().is_some();
    // What is new is known only of services that were watched for some time.
    let earlier = if counts_patterns { config.detection.new_pattern.warm_up } else { Duration::ZERO };
    let history = History::open(config, from, interval.begun_earlier(earlier))?;
    let collected: Arc<Mutex<Vec<Row>>> = Arc::default();
    let (into, counting, of) = (Arc::clone(&collected), Arc::clone(&collected), columns.clone());
    let tap = Arc::new(move |rows: &mut Vec<FeatureRow>| {
        let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ROWS_MAX - into.len();
        let wanted = rows.iter().filter(|row| interval.holds(row.end)).take(room);
        into.extend(wanted.map(|row| training_row(row, &of)));
    });
    let lag = config.time.settings().max_lateness;
    let parser = job::parser(config)?.with_shapes(counts_patterns);
    let job = |job| Job { scoring: Some(Scoring { lag, counts_patterns, tap }), parser, ..job };
    history.replay(config, "windows", job, move |commit, reached| {
        let rows = counting.lock().unwrap_or_else(PoisonError::into_inner).len();
        reached.reach(commit.clock.clock_us.div_euclid(MICROS), rows);
    })?;
    let rows = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
    anyhow::ensure!(
        rows.len() < ROWS_MAX,
        "expected at most {ROWS_MAX} windows, found more; narrow --since and --until"
    );
    anyhow::ensure!(
        !rows.is_empty(),
        "expected windows in the interval, found none; check --from, --since and --until"
    );
    Ok(Rows::new(&columns.names().collect::<Vec<_>>(), rows))
}

/// The store's logs, or exported ones, as JSON lines in the order of their times.
fn stored_logs(config: &Config, from: &From, interval: Interval) -> anyhow::Result<tempfile::NamedTempFile> {
    let file =
        tempfile::Builder::new().suffix(".ndjson.zst").tempfile().context("making a file for the logs")?;
    let mut lines = zstd::Encoder::new(BufWriter::new(file.as_file().try_clone()?), 1)?;
    let since_us = interval.since.map_or(0, |since| since.as_microsecond());
    let until_us = interval.until.map_or(i64::MAX / 2, |until| until.as_microsecond().saturating_add(MICROS));
    let mut written = 0_u64;
    let mut fault = None;
    let mut write = |line: &str| {
        written += 1;
        let result = lines.write_all(line.as_bytes()).and_then(|()| lines.write_all(b"\n"));
        fault = fault.take().or(result.err());
        fault.is_none()
    };
    let place = match from {
        From::Parquet(path) => {
            let folder = path.clone().map_or_else(|| export_folder(config), Ok)?;
            read_exported(&folder, since_us, until_us, &mut write)?;
            folder.display().to_string()
        }
        _ => {
            let store = crate::commands::store_config(config)?;
            let read = smartlog_sinks::read_logs(&store, since_us, until_us, &mut write);
            crate::commands::block_on(read)??;
            config.store.url.to_string()
        }
    };
    if let Some(fault) = fault {
        return Err(fault).context("writing the logs to a temporary file");
    }
    lines.finish()?.flush()?;
    tracing::info!("{written} logs read from {place}");
    Ok(file)
}

/// The folder of `[export]`.
fn export_folder(config: &Config) -> anyhow::Result<PathBuf> {
    let target = config.export.target.as_str();
    anyhow::ensure!(
        target != "none" && !target.contains("://"),
        "expected a folder of exported Parquet files, found export.target = {target:?}; name the folder with --export \
         or --from FOLDER (of a bucket, a copy: aws s3 sync s3://BUCKET/PREFIX/logs FOLDER/logs)"
    );
    Ok(target.into())
}

/// How much there is so far, and how long it will take, on a terminal.
struct Progress(indicatif::ProgressBar);

impl Progress {
    fn start(
        outcomes: Arc<smartlog_operators::fold::Outcomes>,
        units: &'static str,
        reached: Arc<Reached>,
        interval: Interval,
    ) -> Self {
        let visible = std::io::stderr().is_terminal();
        let span =
            interval.since.zip(interval.until).map(|(since, until)| (since.as_second(), until.as_second()));
        let bar = match span {
            _ if !visible => indicatif::ProgressBar::hidden(),
            Some((since, until)) => indicatif::ProgressBar::new((until - since).max(1).unsigned_abs()),
            None => indicatif::ProgressBar::new_spinner(),
        };
        let style = match span {
            Some(_) => "{bar:30} {percent}%  {msg}  {eta} left",
            None => "{spinner} {msg}  {elapsed}",
        };
        let default = indicatif::ProgressStyle::default_spinner();
        bar.set_style(indicatif::ProgressStyle::with_template(style).unwrap_or(default));
        bar.enable_steady_tick(Duration::from_millis(100));
        let shown = bar.downgrade();
        std::thread::spawn(move || {
            let logs: &AtomicU64 = &outcomes.logs;
            while let Some(bar) = shown.upgrade() {
                let (logs, count) = (logs.load(Ordering::Relaxed), reached.units.load(Ordering::Relaxed));
                bar.set_message(format!("{logs} logs, {count} {units}"));
                if let Some((since, _)) = span {
                    bar.set_position((reached.second.load(Ordering::Relaxed) - since).max(0).unsigned_abs());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Progress(bar)
    }

    fn finish(self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        assert_eq!("kafka".parse(), Ok(From::Kafka));
        assert_eq!("sqlite".parse(), Ok(From::Store));
        assert_eq!("logs.ndjson.zst".parse(), Ok(From::File("logs.ndjson.zst".into())));
        assert_eq!("parquet".parse(), Ok(From::Parquet(None)));
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(here.parse(), Ok(From::Parquet(Some(here.into()))), "a folder");
        assert_eq!("day.parquet".parse(), Ok(From::Parquet(Some("day.parquet".into()))));
        assert!("".parse::<From>().is_err());
    }

    #[test]
    fn a_window_counts_only_when_all_of_it_lies_in_the_interval() {
        let at = |second| Timestamp::from_second(second).ok();
        let interval = Interval { since: at(1_000), until: at(2_000) };
        let held: Vec<i64> =
            [1_290, 1_300, 2_000, 2_010].into_iter().filter(|&end| interval.holds(end)).collect();
        assert_eq!(held, [1_300, 2_000]);
        assert!(Interval::default().holds(5));
    }
}
