//! Makes the tables say of one object what is true of it, whatever came before, comes twice, or stops half-way.
//!
//! ```text
//!  load head and contributions ─▶ settled? done
//!        │                          read the object (empty when void)
//!        │                          differences by service, 49 at most in a transaction:
//!        └─ again, on conflict ◀──  { head has the version that was loaded;  contributions;  sums }
//! ```
//!
//! Why it is right: every write names the head's version that was loaded *before* the object was read, and raises it. So of
//! two writers one goes on, what was read later wins, and what the last of them read is what the last event was about. The sequencer only saves
//! work: an event that is not newer than the head's cannot know anything new. A change of more services than fit into one
//! transaction first takes the head as its own (`applied` = false); cut short, whoever comes next works from the
//! contributions that are there, which are changed in the same transactions as the sums.

use std::time::Duration;

use jiff::Timestamp;
use rand::Rng;

use crate::bucket::{self, RangedFile};
use crate::contribution::{ByService, Change, changes};
use crate::event::Sequencer;
use crate::failure::{Failure, Fault};
use crate::manifest;
use crate::object::{Kind, Object};
use crate::parquet;
use crate::store::{Head, MAX_SERVICES_PER_TRANSACTION, State, Store, SumChange, Written};

/// How often a conflict is tried again within one call; Lambda repeats the call twice.
const MAX_ATTEMPTS: u32 = 24;
/// The first pause is up to this long, each further one up to twice as long.
const FIRST_PAUSE_MS: u64 = 20;
const LAST_PAUSE_MS: u64 = 2_000;

/// What shall be true of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It adds what it holds.
    Counts,
    /// It adds nothing, from now on.
    Void,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it was true already.
    Known,
    /// The tables were changed.
    Changed { services: usize, logs: i64 },
}

/// The bucket and the tables.
pub struct Reconciler {
    pub s3: aws_sdk_s3::Client,
    pub store: Store,
}

/// What an object held when it was read.
struct Content {
    counts: ByService,
    etag: String,
    /// The head's version before it was read: good for a write only while that stands.
    good_for: u64,
}

impl Reconciler {
    /// Makes the goal true of the object.
    ///
    /// # Errors
    /// Why it could not; the tables hold together all the same.
    pub async fn reach(
        &self,
        object: &Object,
        goal: Goal,
        sequencer: Option<&Sequencer>,
    ) -> Result<Outcome, Failure> {
        let mut content: Option<Content> = None;
        for attempt in 0..MAX_ATTEMPTS {
            pause(attempt).await;
            let state = self.store.load(&object.id()).await?;
            if settled(&state.head, goal, sequencer) {
                return Ok(Outcome::Known);
            }
            let good = content.take().filter(|content| content.good_for == state.head.version);
            let read = match good {
                Some(content) => Ok(Some(content)),
                None => self.read(object, goal, &state.head).await,
            };
            let mut read = match read {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(Outcome::Known),
                Err(failure) if failure.fault == Fault::Contended => continue, // replaced while it was read
                Err(failure) => return Err(failure),
            };
            if let Some(outcome) = self.write(object, goal, sequencer, &state, &mut read).await? {
                return Ok(outcome);
            }
            content = Some(read);
        }
        Err(Failure::contended(format!("{} changed under every one of {MAX_ATTEMPTS} attempts", object.id())))
    }

    /// What the object adds; `None` when that is what the tables say.
    async fn read(&self, object: &Object, goal: Goal, head: &Head) -> Result<Option<Content>, Failure> {
        let good_for = head.version;
        if goal == Goal::Void {
            return Ok(Some(Content { counts: ByService::new(), etag: String::new(), good_for }));
        }
        let Some(found) = bucket::find(&self.s3, &object.bucket, &object.key).await? else {
            return if manifest::voids(&self.s3, object).await? {
                Ok(None)
            } else {
                Err(Failure::transient(format!(
                    "{} is gone, and no manifest says that it no longer counts",
                    object.id()
                )))
            };
        };
        if head.applied && head.etag == found.etag {
            return Ok(None);
        }
        let etag = found.etag.clone();
        let file = RangedFile::new(self.s3.clone(), &object.bucket, &object.key, found);
        let counts = match object.kind {
            Kind::Episodes => parquet::episodes(file).await,
            Kind::Logs | Kind::Manifest => parquet::logs(file, object.date).await,
        };
        let counts = counts.map_err(|f| Failure { text: format!("{}: {}", object.id(), f.text), ..f })?;
        Ok(Some(Content { counts, etag, good_for }))
    }

    /// The transactions; `None` when one of them met a conflict.
    async fn write(
        &self,
        object: &Object,
        goal: Goal,
        sequencer: Option<&Sequencer>,
        state: &State,
        content: &mut Content,
    ) -> Result<Option<Outcome>, Failure> {
        let changes = changes(&state.contributions, &content.counts);
        let newest = state.head.sequencer.clone().max(sequencer.cloned());
        let mut head = Head {
            version: state.head.version,
            sequencer: newest,
            etag: content.etag.clone(),
            applied: false,
            voided: goal == Goal::Void,
        };
        let steps = changes.chunks(MAX_SERVICES_PER_TRANSACTION).map(<[Change]>::to_vec).collect::<Vec<_>>();
        let steps = if steps.is_empty() { vec![Vec::new()] } else { steps };
        for (at, chunk) in steps.iter().enumerate() {
            head.applied = at + 1 == steps.len();
            let expected = state.head.version + at as u64;
            // Each step: who loaded the contributions between two of them must not write after the next.
            head.version = expected + 1;
            let services: Vec<&str> = chunk.iter().map(|change| change.service.as_str()).collect();
            let sums = self.store.sums(object.date, &services).await?;
            let sum = |change| SumChange { change, sum: sums.get(&change.service).copied() };
            let chunk: Vec<SumChange<'_>> = chunk.iter().map(sum).collect();
            let written = self
                .store
                .write(&object.id(), object.date, (expected, &head), &chunk, Timestamp::now())
                .await?;
            if written == Written::Conflict {
                return Ok(None);
            }
            content.good_for = head.version;
        }
        let logs = content.counts.values().map(|counts| counts.logs).sum();
        Ok(Some(Outcome::Changed { services: changes.len(), logs }))
    }
}

/// Whether nothing can be left to do.
fn settled(head: &Head, goal: Goal, sequencer: Option<&Sequencer>) -> bool {
    let stale = || matches!((sequencer, &head.sequencer), (Some(event), Some(known)) if event <= known);
    head.applied && (head.voided || (goal == Goal::Counts && stale()))
}

async fn pause(attempt: u32) {
    if attempt > 0 {
        let longest = (FIRST_PAUSE_MS << attempt.min(10)).min(LAST_PAUSE_MS);
        let pause = rand::rng().random_range(0..longest);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(applied: bool, voided: bool, sequencer: &str) -> Head {
        Head { version: 3, sequencer: Sequencer::new(sequencer), etag: "e".into(), applied, voided }
    }

    #[test]
    fn only_what_cannot_know_anything_new_is_left_out() {
        let event = Sequencer::new("0055");
        let event = event.as_ref();
        assert!(!settled(&Head::default(), Goal::Counts, event), "never seen");
        assert!(settled(&head(true, false, "0055"), Goal::Counts, event), "the same event again");
        assert!(settled(&head(true, false, "0056"), Goal::Counts, event), "an older event");
        assert!(!settled(&head(true, false, "0054"), Goal::Counts, event), "a newer event");
        assert!(!settled(&head(false, false, "0055"), Goal::Counts, event), "the same event, cut short");
        assert!(!settled(&head(true, false, "0055"), Goal::Counts, None), "a server without sequencers");
        assert!(!settled(&head(true, false, "0055"), Goal::Void, None), "not void yet");
        assert!(settled(&head(true, true, ""), Goal::Counts, event), "void stays void");
        assert!(settled(&head(true, true, ""), Goal::Void, None), "void already");
        assert!(!settled(&head(false, true, ""), Goal::Counts, event), "voiding was cut short");
    }
}
