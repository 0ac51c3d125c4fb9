//! The program's own log: lines on stderr for a person, or JSON for a collector.
//!
//! ```text
//!   tracing events ──filter──▶ RepeatLimit ──▶ one line ──▶ stderr
//!   (librdkafka's too)              │ warnings and errors that come by the thousand: the first few of each
//!                                   └ kind in a stretch of time, then how many were left out
//! ```

use crate::config::{Log, LogFormat};
use anyhow::Context as _;
use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Lines of one kind that are let through in a stretch.
const BURST: u32 = 10;
/// How long a stretch lasts.
const STRETCH: Duration = Duration::from_secs(10);
/// Kinds that are told apart; what comes beyond is counted as one kind.
const KINDS: usize = 1024;

/// One of those that hear what the program says.
pub type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging for the process. `traces`: who hears of spans, where somebody collects them.
///
/// # Errors
/// When the filter cannot be read (which loading the configuration has checked), or logging was started already.
pub fn start(log: &Log, traces: Option<BoxedLayer>) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&log.filter)
        .with_context(|| format!("log.filter `{}` cannot be read", log.filter))?;
    let lines = layer(log.format).with_filter(filter).boxed();
    let layers: Vec<BoxedLayer> = std::iter::once(lines).chain(traces).collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok(())
}

fn layer(format: LogFormat) -> BoxedLayer {
    let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = tracing_subscriber::fmt::format().with_ansi(colours);
            plain.with_ansi(colours).event_format(Limited::new(lines, note_for_people)).boxed()
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::format().json().flatten_event(true);
            plain
                .with_ansi(false)
                .fmt_fields(JsonFields::new())
                .event_format(Limited::new(lines, note_for_programs))
                .boxed()
        }
    }
}

/// Writes events by `inner`, without the repetitions.
struct Limited<F> {
    inner: F,
    /// The line that tells how many were left out.
    note: fn(u64) -> String,
    limit: RepeatLimit<Kind>,
}

/// What makes two events repetitions of each other: the line of code, and the target. The target for its own sake: all
/// lines that come by way of the `log` crate share one line of code.
type Kind = (Identifier, String);

impl<F> Limited<F> {
    fn new(inner: F, note: fn(u64) -> String) -> Self {
        Limited { inner, note, limit: RepeatLimit::new(BURST, STRETCH, KINDS) }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if *event.metadata().level() > Level::WARN {
            return self.inner.format_event(context, writer, event);
        }
        let target =
            event.normalized_metadata().map_or(event.metadata().target().into(), |m| m.target().to_string());
        match self.limit.admit((event.metadata().callsite(), target), Instant::now()) {
            Admission::LeftOut => Ok(()),
            Admission::Told { left_out: 0 } => self.inner.format_event(context, writer, event),
            Admission::Told { left_out } => {
                self.inner.format_event(context, writer.by_ref(), event)?;
                writeln!(writer, "{}", (self.note)(left_out))
            }
        }
    }
}

fn note_for_people(left_out: u64) -> String {
    format!("  ... {left_out} more lines of this kind were left out before this one")
}

fn note_for_programs(left_out: u64) -> String {
    format!(
        r#"{{"level":"WARN","target":"smartlog::logging","message":"repeated lines left out","left_out":{left_out}}}"#
    )
}

/// Whether an event becomes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// It does; so many of its kind did not since the last that did.
    Told {
        left_out: u64,
    },
    LeftOut,
}

/// Lets through the first few of each kind in each stretch of time.
struct RepeatLimit<K> {
    burst: u32,
    stretch: Duration,
    capacity: usize,
    kinds: Mutex<HashMap<Option<K>, Repeats>>,
}

struct Repeats {
    since: Instant,
    told: u32,
    left_out: u64,
}

impl<K: std::hash::Hash + Eq> RepeatLimit<K> {
    fn new(burst: u32, stretch: Duration, capacity: usize) -> Self {
        RepeatLimit { burst, stretch, capacity, kinds: Mutex::new(HashMap::new()) }
    }

    fn admit(&self, kind: K, now: Instant) -> Admission {
        // A panic while the lock was held leaves counts behind that are as good as any.
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Some(kind);
        let kind = if kinds.len() < self.capacity || kinds.contains_key(&kind) { kind } else { None };
        let repeats = kinds.entry(kind).or_insert(Repeats { since: now, told: 0, left_out: 0 });
        if now.saturating_duration_since(repeats.since) >= self.stretch {
            (repeats.since, repeats.told) = (now, 0);
        }
        if repeats.told >= self.burst {
            repeats.left_out += 1;
            return Admission::LeftOut;
        }
        repeats.told += 1;
        Admission::Told { left_out: std::mem::take(&mut repeats.left_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(left_out: u64) -> Admission {
        Admission::Told { left_out }
    }

    #[test]
    fn the_first_few_of_a_kind_are_told_and_the_rest_counted() {
        let limit = RepeatLimit::new(2, 10 * SECOND, 8);
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(limit.admit("a", at(0)), told(0));
        assert_eq!(limit.admit("a", at(1)), told(0));
        assert_eq!(limit.admit("a", at(2)), Admission::LeftOut);
        assert_eq!(limit.admit("b", at(3)), told(0), "another kind has its own count");
        assert_eq!(limit.admit("a", at(9)), Admission::LeftOut);
        assert_eq!(limit.admit("a", at(10)), told(2), "a new stretch tells what the last one left out");
        assert_eq!(limit.admit("a", at(11)), told(0));
        assert_eq!(limit.admit("a", at(12)), Admission::LeftOut);
    }

    #[test]
    fn kinds_beyond_the_capacity_share_one_count() {
        let limit = RepeatLimit::new(1, SECOND, 4);
        let now = Instant::now();
        let told_kinds = (0..1_000_000).filter(|kind| limit.admit(*kind, now) != Admission::LeftOut).count();
        assert_eq!(told_kinds, 5, "four of their own, one for all others");
        assert_eq!(limit.kinds.lock().expect("no panic").len(), 5);
    }

    /// What a subscriber with this format writes for `events`.
    fn lines<F>(format: F, events: impl FnOnce()) -> String
    where
        F: FormatEvent<Registry, tracing_subscriber::fmt::format::DefaultFields> + Send + Sync + 'static,
    {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let writer = Mutex::new(file.reopen().expect("the same file"));
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(writer)
            .event_format(Limited::new(format, note_for_people));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        std::fs::read_to_string(file.path()).expect("text")
    }

    #[test]
    fn a_storm_of_errors_is_a_few_lines_and_information_is_never_left_out() {
        let text = lines(tracing_subscriber::fmt::format(), || {
            for n in 0..1000 {
                tracing::error!(n, "the broker is away");
                tracing::info!(n, "tick");
            }
        });
        assert_eq!(text.lines().filter(|line| line.contains("the broker is away")).count(), BURST as usize);
        assert_eq!(text.lines().filter(|line| line.contains("tick")).count(), 1000);
    }
}
