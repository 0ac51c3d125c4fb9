//! Brings what people say into the dataflow, in the order in which the store numbered it.
//!
//! ```text
//!   API ──▶ table feedback ──▶ follower (leading process) ──Said──▶ coordinator ──▶ operator `expected` on every worker
//! ```
//!
//! The position is committed with the epoch that a word entered with. A start enters first what was in force at the stored
//! position, and what was said since.

use crate::committer::wait;
use anyhow::Context as _;
use compact_str::CompactString;
use jiff::Timestamp;
use serde::Deserialize;
use smartlog_operators::expected::Memory;
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::commit::Snapshot;
use smartlog_schema::feedback::{Applies, Expectation, Hours, Said, Weekday};
use smartlog_schema::window::MICROS;
use smartlog_sinks::{CancellationToken, FeedbackLog, StoreConfig};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

pub use smartlog_sinks::KnownEvent;

/// How soon the dataflow hears what was said, at most.
const PAUSE: Duration = Duration::from_millis(250);
/// What may wait for the dataflow, which takes all that is there at every tick.
const WAITING: usize = 4;

/// What people say, on its way.
pub struct Followed {
    pub said: Receiver<Said>,
    /// Follows the store, where there is one.
    pub task: Option<tokio::task::JoinHandle<()>>,
}

/// Puts `calendar` into the store's, reads what was in force and what was said since, and follows from then on until
/// `stop`. Without a store `calendar` is all that there is.
///
/// # Errors
/// As any question to the store.
pub fn start(
    runtime: &tokio::runtime::Handle,
    store: Option<&StoreConfig>,
    snapshot: &Snapshot,
    calendar: &[KnownEvent],
    memory: Memory,
    stop: CancellationToken,
) -> anyhow::Result<Followed> {
    let (sender, receiver) = sync_channel(WAITING);
    let Some(store) = store else {
        let known = |(seq, event): (i64, &KnownEvent)| {
            let (note, applies) = (event.name.clone(), event.applies.clone());
            Expectation { seq, note, applies }
        };
        let expected = (1..).zip(calendar).map(known).collect();
        // There is room for it.
        let _ = sender.try_send(Said { expected, ..Said::default() });
        return Ok(Followed { said: receiver, task: None });
    };
    let clock = snapshot.clock.as_ref().map_or(i64::MIN / 2, |clock| clock.clock_us.div_euclid(MICROS));
    let mut log = FeedbackLog::new(store, snapshot.feedback_seq, stop.clone())?;
    let first = wait(runtime, async {
        log.announce(calendar).await?;
        let in_force = log.in_force(memory.horizon(clock)).await?;
        Ok::<_, smartlog_sinks::SinkError>([Some(in_force), log.next().await?])
    })?;
    for said in first.into_iter().flatten() {
        // There is room for both.
        let _ = sender.try_send(said);
    }
    Ok(Followed { said: receiver, task: Some(runtime.spawn(follow(log, sender, stop))) })
}

/// A file of known events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalendarFile {
    #[serde(default)]
    event: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    services: Option<Vec<CompactString>>,
    r#type: Option<AnomalyType>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    hours: Option<Hours>,
    #[serde(default)]
    weekdays: Vec<Weekday>,
}

/// Reads the known events of a file.
///
/// # Errors
/// A file that cannot be read; its text says where and what was expected.
pub fn read_calendar(path: &Path) -> anyhow::Result<Vec<KnownEvent>> {
    let reading = || format!("reading the calendar {}", path.display());
    let text = std::fs::read_to_string(path).with_context(reading)?;
    let file: CalendarFile = toml::from_str(&text).with_context(reading)?;
    file.event.into_iter().map(|entry| known(entry).with_context(reading)).collect()
}

/// What is not said is not bounded: an entry of a file stands until it is taken out.
fn known(entry: Entry) -> anyhow::Result<KnownEvent> {
    let Entry { name, services, r#type, since, until, hours, weekdays } = entry;
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    // The last second that every store can hold.
    let until = until.unwrap_or_else(|| "9999-12-31T23:59:59Z".parse().unwrap_or(Timestamp::MAX));
    anyhow::ensure!(
        until > since,
        "event `{name}`: expected until to be later than since, found {until} and {since}"
    );
    anyhow::ensure!(!name.trim().is_empty(), "an event has an empty name: expected what it is, in words");
    let (since, until) = (since.as_second(), until.as_second());
    let applies =
        Applies { services, anomaly_type: r#type, since, until, hours, weekdays, first_raised_at: None };
    Ok(KnownEvent { name, applies })
}

async fn follow(mut log: FeedbackLog, sender: SyncSender<Said>, stop: CancellationToken) {
    let mut unsent: Option<Said> = None;
    while !stop.is_cancelled() {
        if unsent.is_none() {
            unsent = log.next().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what people say is heard later");
                None
            });
        }
        match unsent.take().map_or(Ok(()), |said| sender.try_send(said)) {
            Err(TrySendError::Disconnected(_)) => return,
            Err(TrySendError::Full(said)) => unsent = Some(said),
            Ok(()) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<KnownEvent>> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        read_calendar(file.path())
    }

    #[test]
    fn a_calendar_is_read_and_what_is_wrong_is_said() {
        let events = read(
            "[[event]]\nname = \"release\"\nservices = [\"shop\"]\ntype = \"error_rate_spike\"\n\
             since = \"2026-01-15T10:00:00Z\"\nuntil = \"2026-01-15T11:00:00Z\"\n\
             [[event]]\nname = \"backup\"\nhours = \"22-6\"\nweekdays = [\"sat\", \"sun\"]\n",
        )
        .expect("reads");
        assert_eq!(events.len(), 2);
        let first = &events[0].applies;
        assert_eq!((first.since, first.until), (1_768_471_200, 1_768_474_800));
        assert_eq!(first.services.as_deref(), Some(&["shop".into()][..]));
        assert_eq!(events[1].applies.weekdays, [Weekday::Sat, Weekday::Sun]);
        assert_eq!(read("").expect("reads"), []);
        for (text, words) in [
            ("[[event]]\n", "missing field `name`"),
            ("[[event]]\nname = \" \"", "expected what it is, in words"),
            ("[[event]]\nname = \"a\"\nhour = \"1-2\"", "unknown field `hour`"),
            ("[[event]]\nname = \"a\"\nhours = \"1\"", "expected hours of the day (UTC)"),
            ("[[event]]\nname = \"a\"\nweekdays = [\"someday\"]", "unknown variant `someday`"),
            ("[[event]]\nname = \"a\"\nuntil = \"1969-01-01T00:00:00Z\"", "expected until to be later"),
        ] {
            let fault = format!("{:#}", read(text).expect_err("refused"));
            assert!(fault.contains("reading the calendar") && fault.contains(words), "{fault}");
        }
    }
}
