//! What people say was to be expected is retracted for as long as they say so, and comes back when they take it back.
//!
//! ```text
//!   episode changes ─┐                              ┌─▶ covered: retracted, "expected: load test"
//!   what people say ─┼─ expected (by closed epoch) ─┼─▶ not covered: as detection has it
//!   seeds           ─┘                              └─▶ covered no more: reopened, as detection has it by now
//! ```
//!
//! Detection comes before and knows nothing of it: the minutes of a load test stay out of the baseline, for they are
//! unusual whether somebody expected them or not, and a retraction that is taken back changes no other episode. What
//! was said is committed with what it changed, so a restart knows as much as was known.

use crate::closed_epochs::ClosedEpochs;
use crate::record::{Change, Epoch, Keyed, Tick, WHOLE_STREAM};
use differential_dataflow::Hashable;
use smartlog_schema::anomaly::{ChangeKind, Episode, EpisodeChange, EpisodeKey, Expected, Status};
use smartlog_schema::feedback::{Expectation, MOST_IN_FORCE, Said};
use smartlog_schema::window::{MINUTE, floor_to};
use std::collections::BTreeMap;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// For how long episodes and what was said of them are remembered here; the store knows of older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// An episode that is over may change until this long after its end, seconds of event time.
    pub settled_after: i64,
    /// An episode lasts no longer than this, seconds.
    pub max_episode: i64,
    /// What is over is remembered for this many epochs besides: longer than a commit takes.
    pub epochs: Epoch,
}

impl Memory {
    /// What ended before this matters to no episode that may still change.
    pub fn horizon(&self, clock: i64) -> i64 {
        clock - self.settled_after - self.max_episode
    }
}

/// Why an episode is retracted, for people.
fn reason(expectation: &Expectation) -> String {
    let note = expectation.note.trim();
    if note.is_empty() { "expected".to_owned() } else { format!("expected: {note}") }
}

/// An episode as it was published last, and in which epoch.
struct Published {
    episode: Episode,
    epoch: Epoch,
}

/// What one worker knows of expectations, and of the episodes of its services.
#[derive(Default)]
struct Book {
    in_force: BTreeMap<i64, Expectation>,
    published: BTreeMap<EpisodeKey, Published>,
    /// The minute in which it was looked through for what can be forgotten.
    tidied: i64,
}

impl Book {
    /// The oldest expectation that covers the episode, so that the answer does not depend on what came later.
    fn cover(&self, episode: &Episode) -> Option<&Expectation> {
        self.in_force.values().find(|expectation| expectation.applies.covers(episode))
    }

    /// Takes back an episode as it was stored; what came of it since is newer.
    fn restore(&mut self, episode: Episode) {
        self.published.entry(episode.key.clone()).or_insert(Published { episode, epoch: 0 });
    }

    fn publish(&mut self, episode: &Episode, epoch: Epoch) {
        self.published.insert(episode.key.clone(), Published { episode: episode.clone(), epoch });
    }

    /// What people see of a change that detection made; `None`: nothing, what it is about stays retracted.
    fn take(&mut self, change: EpisodeChange, epoch: Epoch) -> Option<EpisodeChange> {
        let EpisodeChange { mut kind, mut episode, mut reason } = change;
        let before = self.published.get(&episode.key).map(|published| &published.episode);
        let expected = before.and_then(|before| before.expected);
        let revision = before.map_or(episode.revision, |before| before.revision + 1);
        episode.revision = revision;
        let cover = if episode.status == Status::Retracted { None } else { self.cover(&episode) };
        let told = match cover {
            Some(cover) => {
                let status = episode.status;
                let is_known = expected.is_some_and(|before| before.status == status);
                (kind, reason) = match expected {
                    Some(_) => (ChangeKind::Updated, None),
                    None => (ChangeKind::Retracted, Some(self::reason(cover))),
                };
                episode.expected = Some(Expected { by: cover.seq, status });
                episode.status = Status::Retracted;
                // How it goes on is not told, but for what it would be worth once nobody expects it any more.
                !is_known
            }
            None => {
                if expected.is_some() && episode.status != Status::Retracted {
                    kind = ChangeKind::Reopened;
                }
                true
            }
        };
        if !told {
            episode.revision -= 1;
        }
        self.publish(&episode, epoch);
        told.then_some(EpisodeChange { kind, episode, reason })
    }

    /// Takes what people say; what changes by that among the episodes known here and those of `said` that are `mine`.
    fn hear(&mut self, said: Said, mine: impl Fn(&Episode) -> bool, epoch: Epoch) -> Vec<EpisodeChange> {
        for seq in &said.revoked {
            self.in_force.remove(seq);
        }
        self.in_force.extend(said.expected.into_iter().map(|expectation| (expectation.seq, expectation)));
        while self.in_force.len() > MOST_IN_FORCE {
            self.in_force.pop_first();
        }
        let unknown = said.episodes.into_iter().filter(|e| !self.published.contains_key(&e.key) && mine(e));
        let unknown: Vec<Episode> = unknown.collect();
        let known = self.published.values().map(|published| published.episode.clone());
        let all: Vec<Episode> = known.chain(unknown).collect();
        all.into_iter().filter_map(|episode| self.reconsider(episode, epoch)).collect()
    }

    fn reconsider(&mut self, episode: Episode, epoch: Epoch) -> Option<EpisodeChange> {
        let before = episode.expected;
        let mut episode = episode.unexpected();
        let cover = if episode.status == Status::Retracted { None } else { self.cover(&episode) };
        let (kind, reason) = match (before, cover) {
            (None, None) => return None,
            (Some(before), Some(cover)) if before.by == cover.seq => return None,
            (Some(_), Some(cover)) => (ChangeKind::Updated, Some(reason(cover))),
            (None, Some(cover)) => (ChangeKind::Retracted, Some(reason(cover))),
            (Some(_), None) => (ChangeKind::Reopened, Some("no longer expected".to_owned())),
        };
        if let Some(cover) = cover {
            episode.expected = Some(Expected { by: cover.seq, status: episode.status });
            episode.status = Status::Retracted;
        }
        episode.revision += 1;
        self.publish(&episode, epoch);
        Some(EpisodeChange { kind, episode, reason })
    }

    /// Forgets what cannot change any more but by what people say, which comes with the episodes that it is about.
    fn forget(&mut self, clock: i64, epoch: Epoch, memory: Memory) {
        if std::mem::replace(&mut self.tidied, floor_to(clock, MINUTE)) == floor_to(clock, MINUTE) {
            return;
        }
        let horizon = memory.horizon(clock);
        self.in_force.retain(|_, expectation| expectation.applies.until >= horizon);
        self.published.retain(|_, Published { episode, epoch: at }| {
            let status = episode.expected.map_or(episode.status, |expected| expected.status);
            let end = episode.ended_at.unwrap_or(episode.last_seen);
            !status.is_closed() || end >= clock - memory.settled_after || *at + memory.epochs >= epoch
        });
    }
}

/// What one epoch brings.
#[derive(Default)]
struct Pending {
    seeds: Vec<Keyed>,
    changes: Vec<Change>,
    said: Vec<Said>,
    tick: Option<Tick>,
}

/// Lets `changes` pass, but episodes as people expect them. `said` is broadcast; episodes are those of the services that
/// hash to this worker.
pub fn expected<'scope>(
    changes: StreamVec<'scope, Epoch, Change>,
    said: StreamVec<'scope, Epoch, Said>,
    seeds: StreamVec<'scope, Epoch, Keyed>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    memory: Memory,
) -> StreamVec<'scope, Epoch, Change> {
    let (index, peers) = (changes.scope().index() as u64, changes.scope().peers() as u64);
    let is_mine =
        move |e: &Episode| e.key.service.as_ref().unwrap_or(&WHOLE_STREAM).hashed() % peers == index;
    let mut builder = OperatorBuilder::new("expected".to_owned(), changes.scope());
    let mut changes_in = builder.new_input(changes, Pipeline);
    let mut said_in = builder.new_input(said, Pipeline);
    let mut seeds_in = builder.new_input(seeds, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let (out, judged) = builder.new_output();
    let mut out = OutputBuilder::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut book = Book::default();
        let mut waiting = ClosedEpochs::<Pending>::new();
        move |frontiers| {
            seeds_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.seeds.append(data)));
            changes_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.changes.append(data)));
            said_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.said.append(data)));
            ticks_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.tick = data.pop()));
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, pending)) = waiting.next(is_closed) {
                let Pending { seeds, changes, said, tick } = pending;
                let epoch = *cap.time();
                seeds.into_iter().for_each(|seed| restore(&mut book, seed));
                let mut output = out.activate();
                let mut session = output.session(&cap);
                for said in said {
                    let through = said.through;
                    let heard = book.hear(said, is_mine, epoch);
                    session.give_iterator(heard.into_iter().map(|change| Change::Episode(Box::new(change))));
                    if index == 0 {
                        session.give(Change::Feedback(through));
                    }
                }
                for change in changes {
                    match change {
                        Change::Episode(change) => session.give_iterator(
                            book.take(*change, epoch)
                                .map(|change| Change::Episode(Box::new(change)))
                                .into_iter(),
                        ),
                        other => session.give(other),
                    }
                }
                if let Some(tick) = tick.filter(Tick::is_known) {
                    book.forget(tick.clock_second(), epoch, memory);
                }
            }
        }
    });
    judged
}

fn restore(book: &mut Book, seed: Keyed) {
    if let Keyed::SeedEpisode(episode) = seed {
        book.restore(*episode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::anomaly::{AnomalyType, Severity};
    use smartlog_schema::feedback::Applies;

    const MEMORY: Memory = Memory { settled_after: 600, max_episode: 3_600, epochs: 100 };

    fn episode(status: Status, started_at: i64) -> Episode {
        let anomaly_type = AnomalyType::ErrorRateSpike;
        Episode {
            key: EpisodeKey { service: Some("shop".into()), anomaly_type, first_raised_at: started_at },
            status,
            severity: Severity::High,
            revision: 1,
            detected_at_us: 0,
            started_at,
            last_seen: started_at,
            ended_at: status.is_closed().then_some(started_at + 60),
            metric_value: 0.0,
            threshold: 0.0,
            baseline: 0.0,
            peak_value: 0.0,
            score: None,
            model_version: None,
            description: String::new(),
            explanation: "{}".into(),
            provenance: "{}".into(),
            expected: None,
        }
    }

    fn change(kind: ChangeKind, status: Status) -> EpisodeChange {
        EpisodeChange { kind, episode: episode(status, 1_000), reason: None }
    }

    fn expectation(seq: i64, since: i64, until: i64) -> Expectation {
        let applies = Applies {
            services: Some(vec!["shop".into()]),
            anomaly_type: None,
            since,
            until,
            hours: None,
            weekdays: Vec::new(),
            first_raised_at: None,
        };
        Expectation { seq, note: format!("test {seq}"), applies }
    }

    fn said(through: i64, revoked: &[i64], expected: &[Expectation]) -> Said {
        Said { through, revoked: revoked.to_vec(), expected: expected.to_vec(), episodes: Vec::new() }
    }

    fn told(changes: &[EpisodeChange]) -> Vec<(ChangeKind, Status, i32)> {
        changes.iter().map(|c| (c.kind, c.episode.status, c.episode.revision)).collect()
    }

    #[test]
    fn what_nobody_expects_passes_as_it_is() {
        let mut book = Book::default();
        for (kind, status) in [
            (ChangeKind::Raised, Status::Provisional),
            (ChangeKind::Opened, Status::Open),
            (ChangeKind::Resolved, Status::Resolved),
        ] {
            let mut change = change(kind, status);
            change.episode.revision = book.published.len() as i32 + 1;
            let passed = book.take(change.clone(), 1).expect("passes");
            assert_eq!((passed.kind, passed.episode.status), (kind, status));
        }
    }

    #[test]
    fn an_open_episode_goes_and_comes_back_as_it_is_by_then() {
        let mut book = Book::default();
        book.take(change(ChangeKind::Raised, Status::Provisional), 1).expect("told");
        let gone = book.hear(said(1, &[], &[expectation(1, 900, 2_000)]), |_| true, 2);
        assert_eq!(told(&gone), [(ChangeKind::Retracted, Status::Retracted, 2)]);
        assert_eq!(gone[0].reason.as_deref(), Some("expected: test 1"));
        assert_eq!(gone[0].episode.expected, Some(Expected { by: 1, status: Status::Provisional }));
        let mut grown = change(ChangeKind::Updated, Status::Provisional);
        grown.episode.peak_value = 7.0;
        assert_eq!(book.take(grown, 3), None, "nobody is told how it goes on …");
        let over =
            book.take(change(ChangeKind::Resolved, Status::Resolved), 4).expect("… but that it is over");
        assert_eq!(told(&[over]), [(ChangeKind::Updated, Status::Retracted, 3)]);
        let back = book.hear(said(2, &[1], &[]), |_| true, 5);
        assert_eq!(told(&back), [(ChangeKind::Reopened, Status::Resolved, 4)]);
        assert_eq!(back[0].episode.expected, None);
        assert_eq!(book.hear(said(3, &[1], &[]), |_| true, 6), [], "once");
    }

    #[test]
    fn one_reason_of_two_is_enough_and_a_second_word_says_nothing_new() {
        let mut book = Book::default();
        book.take(change(ChangeKind::Opened, Status::Open), 1).expect("told");
        assert_eq!(book.hear(said(1, &[], &[expectation(1, 900, 2_000)]), |_| true, 2).len(), 1);
        assert_eq!(book.hear(said(2, &[], &[expectation(2, 900, 2_000)]), |_| true, 3), []);
        let other = book.hear(said(3, &[1], &[]), |_| true, 4);
        assert_eq!(told(&other), [(ChangeKind::Updated, Status::Retracted, 3)]);
        assert_eq!(other[0].episode.expected.map(|expected| expected.by), Some(2));
    }

    #[test]
    fn the_next_is_retracted_before_anybody_is_told_and_what_detection_takes_back_is_gone_for_good() {
        let mut book = Book::default();
        assert_eq!(book.hear(said(1, &[], &[expectation(1, 900, 2_000)]), |_| true, 1), []);
        let next = book.take(change(ChangeKind::Raised, Status::Provisional), 2).expect("kept");
        assert_eq!(told(&[next]), [(ChangeKind::Retracted, Status::Retracted, 1)]);
        let mut withdrawn = change(ChangeKind::Retracted, Status::Retracted);
        withdrawn.reason = Some("disproved".into());
        let withdrawn = book.take(withdrawn, 3).expect("told");
        assert_eq!((withdrawn.episode.expected, withdrawn.reason.as_deref()), (None, Some("disproved")));
        assert_eq!(book.hear(said(2, &[1], &[]), |_| true, 4), [], "detection's own retraction stays");
        let mut later = change(ChangeKind::Raised, Status::Provisional);
        (later.episode.started_at, later.episode.key.first_raised_at) = (2_000, 2_000);
        let later = book.take(later, 5).expect("told");
        assert_eq!(told(&[later]), [(ChangeKind::Raised, Status::Provisional, 1)], "it has run out");
    }

    #[test]
    fn episodes_of_the_store_count_where_none_newer_is_known() {
        let mut book = Book::default();
        book.take(change(ChangeKind::Opened, Status::Open), 1).expect("told");
        let mut old = said(1, &[], &[expectation(1, 0, 2_000)]);
        old.episodes = vec![episode(Status::Provisional, 1_000), episode(Status::Resolved, 500)];
        let gone = book.hear(old, |_| true, 2);
        let of = |at: i64| gone.iter().find(|c| c.episode.key.first_raised_at == at).expect("it is there");
        assert_eq!(of(1_000).episode.expected.map(|e| e.status), Some(Status::Open), "as it is here");
        assert_eq!(of(500).episode.expected.map(|e| e.status), Some(Status::Resolved));
        let mut others = said(2, &[], &[expectation(2, 0, 100)]);
        others.episodes = vec![episode(Status::Open, 50)];
        assert_eq!(book.hear(others, |_| false, 3), [], "of another worker");
    }

    #[test]
    fn what_is_long_over_is_forgotten_and_what_may_change_is_not() {
        let mut book = Book::default();
        book.take(change(ChangeKind::Opened, Status::Open), 1).expect("told");
        book.hear(said(1, &[], &[expectation(1, 900, 2_000)]), |_| true, 1);
        book.forget(6_200, 500, MEMORY);
        assert_eq!((book.published.len(), book.in_force.len()), (1, 1));
        book.take(change(ChangeKind::Resolved, Status::Resolved), 500).expect("told");
        book.forget(6_260, 550, MEMORY);
        assert_eq!((book.published.len(), book.in_force.len()), (1, 0), "the commit may be under way");
        book.forget(6_320, 601, MEMORY);
        assert_eq!(book.published.len(), 0);
    }
}
