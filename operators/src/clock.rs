//! Event time: what each partition says, and what all of them together mean.
//!
//! ```text
//!   events ──▶ PartitionTime (one per partition, where it is read)
//!                   │ Report, broadcast at the end of every epoch
//!                   ▼
//!                 Clock (one per worker, all the same) ──▶ Tick
//! ```
//!
//! The clock is event time and never goes back. A partition with unread messages holds it at its own time; one that is
//! read to the end does not; when all are, the clock goes on with the wall, so that silence is noticed. The watermark
//! follows at a distance: windows behind it are final.

use crate::record::{Epoch, Report, Tick};
use crate::settings;
use smartlog_schema::commit::ClockState;
use smartlog_schema::position::TopicPartition;
use smartlog_schema::window::{MICROS, bucket_of};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

/// Events that are remembered per partition to tell which times are credible.
const RECENT: usize = 100;
/// The fewest recent events that the time is taken from.
const FEWEST: usize = 20;
/// A partition's time is this quantile of its recent credible event times: one fast host makes nobody late …
const QUANTILE: f64 = 0.9;
/// … and no more of them than the ones that are not set apart: a pause this many times as long as the usual one between
/// two events, and of this many microseconds, is passed only once half of them lie beyond it.
const SET_APART: i64 = 8;
const SET_APART_US: i64 = 10 * MICROS;
/// Events at the very end of the input that are believed, however far ahead, when they agree.
const LAST_WORDS: usize = 2;
/// A partition's time is never further than this beyond its Kafka record time, microseconds.
const BEYOND_RECORD_TIME_US: i64 = MICROS;
/// How long the first events of a partition are gathered before they are believed, microseconds of wall time.
const FIRST_GLANCE_US: i64 = MICROS;

/// One partition's event time, from the events read so far.
#[derive(Debug, Clone)]
pub struct PartitionTime {
    recent: [i64; RECENT],
    seen: u64,
    since_settled: u64,
    first_wall_us: Option<i64>,
    last_credible_wall_us: i64,
    record_time_us: Option<i64>,
    /// Events later than this are not credible for now.
    limit_us: i64,
    /// How many such events came since it was settled.
    beyond: u32,
    latest_credible_us: Option<i64>,
    time_us: Option<i64>,
}

impl PartitionTime {
    /// A partition that had come to `time_us` when its state was stored, or a new one.
    pub fn new(time_us: Option<i64>) -> Self {
        PartitionTime {
            recent: [0; RECENT],
            seen: 0,
            since_settled: 0,
            first_wall_us: None,
            last_credible_wall_us: 0,
            record_time_us: None,
            limit_us: i64::MAX,
            beyond: 0,
            latest_credible_us: None,
            time_us,
        }
    }

    /// Takes note of an event; cheap, once per log. Whether it is time to [`PartitionTime::settle`] before the epoch
    /// ends, because so many events came that what is credible is likely to change.
    pub fn observe(&mut self, event_us: i64, record_time_us: Option<i64>) -> bool {
        self.recent[(self.seen % RECENT as u64) as usize] = event_us;
        self.seen += 1;
        self.since_settled += 1;
        self.record_time_us = self.record_time_us.max(record_time_us);
        if event_us > self.limit_us {
            self.beyond += 1;
            return self.beyond > RECENT as u32 / 2;
        }
        self.latest_credible_us = self.latest_credible_us.max(Some(event_us));
        self.limit_us == i64::MAX && self.seen >= RECENT as u64
    }

    /// The partition's time at the end of an epoch. `clock_us`: the newest known clock. `exhausted`: no event will
    /// change the picture soon (read to the end, or over).
    pub fn settle(
        &mut self,
        clock_us: Option<i64>,
        wall_us: i64,
        exhausted: bool,
        settings: &settings::Time,
    ) -> Option<i64> {
        if self.seen == 0 {
            return self.time_us;
        }
        let first_wall_us = *self.first_wall_us.get_or_insert(wall_us);
        if self.last_credible_wall_us == 0 {
            // The patience with a lone event begins when there is something to be patient with.
            self.last_credible_wall_us = wall_us;
        }
        let jump_us = settings.max_clock_jump * MICROS;
        let known = self.time_us.max(clock_us);
        let recent = self.recent_sorted(RECENT);
        let limit_us = match known {
            None => {
                let glanced = self.seen >= RECENT as u64 || wall_us - first_wall_us >= FIRST_GLANCE_US;
                if !glanced && !exhausted {
                    return None;
                }
                median(&recent).saturating_add(jump_us)
            }
            Some(known) => {
                let near = known.saturating_add(jump_us);
                let beyond = recent.len() - recent.partition_point(|&t| t <= near);
                let alone = beyond > 0
                    && self.last_credible_wall_us > 0
                    && wall_us - self.last_credible_wall_us >= settings.lone_event_patience * MICROS;
                let majority = recent.len() >= RECENT / 2 && beyond * 2 > recent.len();
                if majority || alone {
                    median(&recent[recent.len() - beyond..]).saturating_add(jump_us)
                } else {
                    near
                }
            }
        };
        self.believe_up_to(limit_us, wall_us);
        self.time_us
    }

    /// The latest credible event so far, microseconds.
    pub fn latest_us(&self) -> Option<i64> {
        self.latest_credible_us
    }

    /// The latest credible event of all: where a partition's time ends when its input does. What came last is credible,
    /// too, when nothing contradicts it any more and two of them agree.
    pub fn finish(&mut self, settings: &settings::Time) -> Option<i64> {
        let newest = (0..self.seen.min(RECENT as u64))
            .map(|back| self.recent[((self.seen - 1 - back) % RECENT as u64) as usize]);
        let mut last_words: Vec<i64> = newest.take_while(|&t| t > self.limit_us).collect();
        last_words.sort_unstable();
        if last_words.len() >= LAST_WORDS {
            let limit_us = last_words[0].saturating_add(settings.max_clock_jump * MICROS);
            let agreeing = last_words.partition_point(|&t| t <= limit_us);
            if agreeing >= LAST_WORDS {
                self.latest_credible_us = self.latest_credible_us.max(Some(last_words[agreeing - 1]));
            }
        }
        self.time_us = self.time_us.max(self.latest_credible_us);
        self.time_us
    }

    fn believe_up_to(&mut self, limit_us: i64, wall_us: i64) {
        let newest = usize::try_from(self.since_settled).unwrap_or(RECENT).clamp(FEWEST, RECENT);
        let recent = self.recent_sorted(newest);
        let credible = &recent[..recent.partition_point(|&t| t <= limit_us)];
        if let Some(&latest) = credible.last() {
            if self.since_settled > 0 {
                self.last_credible_wall_us = wall_us;
            }
            self.latest_credible_us = self.latest_credible_us.filter(|&t| t <= limit_us).max(Some(latest));
            let at = measure(credible);
            let cap = self.record_time_us.map_or(i64::MAX, |t| t.saturating_add(BEYOND_RECORD_TIME_US));
            self.time_us = self.time_us.max(Some(credible[at].min(cap)));
        } else {
            self.latest_credible_us = self.latest_credible_us.filter(|&t| t <= limit_us);
        }
        self.limit_us = limit_us;
        self.since_settled = 0;
        self.beyond = 0;
    }

    /// The newest `count` event times, ascending.
    fn recent_sorted(&self, count: usize) -> Vec<i64> {
        let filled = usize::try_from(self.seen).unwrap_or(RECENT).min(RECENT);
        let count = count.min(filled) as u64;
        let slots = (self.seen - count..self.seen).map(|i| self.recent[(i % RECENT as u64) as usize]);
        let mut times: Vec<i64> = slots.collect();
        times.sort_unstable();
        times
    }
}

/// Which of some credible times, ascending, is where the partition has come to.
fn measure(credible: &[i64]) -> usize {
    let at = ((credible.len() as f64 * QUANTILE).ceil() as usize).clamp(1, credible.len()) - 1;
    let middle = credible.len() / 2;
    let mut pauses: Vec<i64> = credible[..=middle].windows(2).map(|pair| pair[1] - pair[0]).collect();
    if pauses.is_empty() {
        return at;
    }
    let usual = pauses.len() / 2;
    let (_, usual, _) = pauses.select_nth_unstable(usual);
    let limit = usual.saturating_mul(SET_APART).max(SET_APART_US);
    (middle..at).find(|&i| credible[i + 1] - credible[i] > limit).unwrap_or(at)
}

fn median(sorted: &[i64]) -> i64 {
    sorted[sorted.len() / 2]
}

/// All partitions together.
#[derive(Debug, Clone)]
pub struct Clock {
    settings: settings::Time,
    /// Every partition that must have reported before time can move; `None` until the plan is known.
    expected: Option<BTreeSet<TopicPartition>>,
    reports: BTreeMap<TopicPartition, Report>,
    state: ClockState,
    /// Whether all partitions were read to the end at the last tick.
    idle: bool,
    /// See [`Tick::resumed_from`].
    resumed_from: Option<i64>,
    stored: StoredTime,
}

impl Clock {
    /// A clock that goes on from `state` (default: a new one). `stored`: what the logs read before say of the time.
    pub fn new(settings: settings::Time, state: ClockState, stored: StoredTime) -> Self {
        // Until a report says that there is something unread, the downtime counts as silence.
        let idle = state.wall_us != 0;
        let resumed_from = (state.clock_us != 0).then(|| bucket_of(state.watermark_us));
        Clock { settings, expected: None, reports: BTreeMap::new(), state, idle, resumed_from, stored }
    }

    /// Names the partitions that exist; more may be added, none is ever taken away.
    pub fn expect(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.expected.get_or_insert_default().extend(partitions);
    }

    /// Takes a partition's newest report.
    pub fn report(&mut self, report: Report) {
        if let Some(time_us) = report.time_us {
            self.state.partitions.insert(report.source.clone(), time_us);
        }
        self.reports.insert(report.source.clone(), report);
    }

    /// Time at the end of an epoch.
    pub fn tick(&mut self) -> Tick {
        let complete = self
            .expected
            .as_ref()
            .is_some_and(|e| e.iter().all(|partition| self.reports.contains_key(partition)));
        let wall_us = self.reports.values().map(|r| r.wall_us).max().unwrap_or(self.state.wall_us);
        let ended = complete && self.reports.values().all(|r| r.ended);
        if complete {
            self.advance(wall_us, ended);
        }
        Tick { clock: Rc::new(self.state.clone()), ended, resumed_from: self.resumed_from }
    }

    fn advance(&mut self, wall_us: i64, ended: bool) {
        let idle = self.reports.values().all(|r| r.at_end || r.ended);
        let reached = if idle { self.reached_by_all() } else { self.held_by_the_unread() };
        if idle && reached.is_none() && self.state.clock_us == 0 {
            self.state.clock_us = self.stored.time_us.unwrap_or(0);
        }
        let reached = if ended { reached.max(self.stored.last_us) } else { reached };
        let mut clock_us = self.state.clock_us.max(reached.unwrap_or(0));
        if idle && self.idle && !ended && self.state.clock_us != 0 {
            clock_us = clock_us.max(self.state.clock_us + (wall_us - self.state.wall_us).max(0));
        }
        let delay_us = if ended { 0 } else { self.settings.watermark_delay * MICROS };
        if let Some(last_us) = reached.filter(|_| ended) {
            // The last second is over as well: it holds the last log.
            clock_us = clock_us.max((bucket_of(last_us) + 1) * MICROS);
        }
        self.idle = idle;
        self.state.clock_us = clock_us;
        self.state.wall_us = wall_us;
        if clock_us != 0 {
            self.state.watermark_us = self.state.watermark_us.max(clock_us - delay_us);
        }
    }

    fn reached_by_all(&self) -> Option<i64> {
        self.reports.values().filter_map(|r| r.time_us).max()
    }

    fn held_by_the_unread(&self) -> Option<i64> {
        let unread = self.reports.values().filter(|r| !r.at_end && !r.ended);
        // A partition whose time is undecided holds the clock altogether.
        unread.map(|r| r.time_us).min().flatten()
    }
}

/// The stream of ticks, one at the end of every epoch in which anything was reported. The same on every worker.
///
/// `plan` names partitions and the state to go on from; it comes before the first report.
pub fn clock<'scope>(
    reports: StreamVec<'scope, Epoch, Report>,
    plan: StreamVec<'scope, Epoch, Plan>,
    settings: settings::Time,
) -> StreamVec<'scope, Epoch, Tick> {
    reports.binary_frontier(plan, Pipeline, Pipeline, "clock", move |_, _| {
        let mut clock = Clock::new(settings.clone(), ClockState::default(), StoredTime::default());
        let mut started = false;
        let mut stash = BTreeMap::new();
        let mut plans: BTreeMap<Epoch, Vec<Plan>> = BTreeMap::new();
        move |(reports, reports_frontier), (plan, plan_frontier), output| {
            plan.for_each(|cap, data| {
                if let Some(&epoch) = cap.least() {
                    plans.entry(epoch).or_default().append(data);
                }
            });
            reports.for_each(|cap, data| {
                if let Some(cap) = cap.retain_least(0) {
                    let epoch = *cap.time();
                    stash.entry(epoch).or_insert_with(|| (cap, Vec::new())).1.append(data);
                }
            });
            while let Some(entry) = stash.first_entry() {
                let epoch = *entry.key();
                if reports_frontier.less_equal(&epoch) || plan_frontier.less_equal(&epoch) {
                    break;
                }
                let (cap, reports) = entry.remove();
                while let Some(entry) = plans.first_entry().filter(|e| *e.key() <= epoch) {
                    for plan in entry.remove() {
                        if !std::mem::replace(&mut started, true) {
                            clock = Clock::new(settings.clone(), plan.clock.clone(), plan.stored);
                        }
                        clock.expect(plan.partitions);
                    }
                }
                reports.into_iter().for_each(|report| clock.report(report));
                output.session(&cap).give(clock.tick());
            }
        }
    })
}

/// Which partitions there are, and where time stood.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Partitions to wait for, in addition to those already named.
    pub partitions: Vec<TopicPartition>,
    /// Where the clock goes on; only the first plan's counts.
    pub clock: ClockState,
    /// What the stored seconds say; only the first plan's counts.
    pub stored: StoredTime,
}

/// The time that the stored seconds tell. A process may be killed when all was read and no clock was known yet, or before
/// the last logs moved it: its successor has nothing left to read that would tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredTime {
    /// Where a clock begins that nothing else tells the time, microseconds; `None` where the clock or a partition's time is stored.
    pub time_us: Option<i64>,
    /// Begin of the latest credible second that holds a log, microseconds.
    pub last_us: Option<i64>,
}

impl StoredTime {
    /// `seconds` of the whole stream, ascending, each with its number of logs; `clock`: what else was stored.
    pub fn of(seconds: &[(i64, i64)], clock: &ClockState, settings: &settings::Time) -> Self {
        let sample = evenly(seconds);
        if sample.is_empty() {
            return StoredTime::default();
        }
        let told = clock.partitions.values().copied().max();
        let told = told.max(Some(clock.clock_us).filter(|clock_us| *clock_us != 0));
        let limit_us =
            told.unwrap_or_else(|| median(&sample)).saturating_add(settings.max_clock_jump * MICROS);
        let credible = &sample[..sample.partition_point(|&t| t <= limit_us)];
        let time_us = told.is_none().then(|| credible[measure(credible)]);
        let last_us = seconds.iter().map(|(second, _)| second * MICROS).rfind(|&t| t <= limit_us);
        StoredTime { time_us, last_us }
    }
}

/// The event times of at most [`RECENT`] logs, spread evenly over all of them, ascending, microseconds.
fn evenly(seconds: &[(i64, i64)]) -> Vec<i64> {
    let total: i64 = seconds.iter().map(|(_, logs)| logs).sum();
    let count = total.min(RECENT as i64);
    let mut sample = Vec::new();
    let mut passed = 0;
    for &(second, logs) in seconds {
        passed += logs;
        // The log of rank r (from 1) stands for all up to it.
        while (sample.len() as i64) < count && (sample.len() as i64 + 1) * total <= passed * count {
            sample.push(second * MICROS);
        }
    }
    sample
}
