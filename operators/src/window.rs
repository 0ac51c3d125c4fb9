//! Rolling windows, kept incrementally by differential dataflow.
//!
//! ```text
//!   Keyed ──┐            ┌─ seconds: sums per (service, second), for window + lateness  ─▶ final windows
//!           ├─ schedule ─┤
//!   Tick ───┘            └─ rolling: sums per service over the window at the clock      ─▶ provisional windows
//! ```
//!
//! A partial enters `seconds` at once and `rolling` when the clock reaches its second; its negation enters `rolling`
//! when the second leaves the window, and `seconds` when no late log can need it any more. The arrangements are the
//! only aggregates: the schedule holds differences that are still to come, nothing that is read.

use crate::flow::{Who, hash};
use crate::record::{Change, Epoch, Keyed, Partial, Tick, WHOLE_STREAM};
use crate::sums::{Diff, Sums, minus, plus};
use compact_str::CompactString;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{KeySpine, ValSpine};
use differential_dataflow::{AsCollection, Hashable};
use smartlog_schema::window::{WINDOW_SECONDS, provisional_end, window_holds};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Sums per (service, second).
pub type SecondsTrace = TraceAgent<ValSpine<CompactString, i64, Epoch, Diff>>;
/// Sums per service over the window that is open at the clock.
pub type RollingTrace = TraceAgent<KeySpine<CompactString, Epoch, Diff>>;

/// Seconds kept beyond window and lateness: the detector's checkpoint moves in steps of a minute.
const SLACK: i64 = 180;

/// Memory that one waiting partial takes, roughly, bytes.
const WAITING_BYTES: usize = 96;

/// How long a second's sums are needed after the watermark passed it.
pub fn kept_seconds(max_lateness: i64) -> i64 {
    WINDOW_SECONDS + max_lateness + SLACK
}

/// Differences still to come, by the second that brings them.
#[derive(Debug, Default)]
pub struct Schedule {
    clock: Option<i64>,
    max_lateness: i64,
    watermark: Option<i64>,
    enter: BTreeMap<i64, BTreeMap<CompactString, Sums>>,
    leave: BTreeMap<i64, BTreeMap<CompactString, Sums>>,
    forget: BTreeMap<i64, BTreeMap<CompactString, Sums>>,
    waiting: usize,
}

/// An update of `rolling`: the service and by how much.
pub type RollingUpdate = (CompactString, Diff);
/// An update of `seconds`.
pub type SecondsUpdate = ((CompactString, i64), Diff);

impl Schedule {
    pub fn new(max_lateness: i64) -> Self {
        Schedule { max_lateness, ..Schedule::default() }
    }

    /// Takes a partial; the update of `seconds` that it makes at once, or `None` when it is too late to count.
    pub fn accept(&mut self, partial: &Partial) -> Option<SecondsUpdate> {
        let Partial { service, second, sums } = partial;
        if self.watermark.is_some_and(|watermark| *second < watermark - self.max_lateness) {
            return None;
        }
        Some(self.take(service, *second, *sums))
    }

    /// Takes sums that a restart brings back, whatever their age.
    pub fn restore(&mut self, partial: &Partial) -> SecondsUpdate {
        self.take(&partial.service, partial.second, partial.sums)
    }

    /// Takes note of where a former run stood, so that what is too late stays so across a restart.
    pub fn resume(&mut self, tick: &Tick) {
        self.watermark = self.watermark.or(tick.resumed_from);
    }

    fn take(&mut self, service: &CompactString, second: i64, sums: Sums) -> SecondsUpdate {
        let entering = self.enter.entry(second).or_default();
        let others = entering.len();
        *entering.entry(service.clone()).or_default() += sums;
        self.waiting += entering.len() - others;
        *self.forget.entry(second).or_default().entry(service.clone()).or_default() += sums;
        ((service.clone(), second), plus(sums))
    }

    /// Moves to `tick`; what enters and leaves `rolling`, and what `seconds` forgets.
    pub fn advance(&mut self, tick: &Tick) -> (Vec<RollingUpdate>, Vec<SecondsUpdate>) {
        let end = provisional_end(tick.clock_second());
        let mut rolling = Vec::new();
        // `leave` first: it holds what entered at earlier ticks only.
        for (_, sums) in take_through(&mut self.leave, end - WINDOW_SECONDS - 1) {
            rolling.extend(sums.into_iter().map(|(service, sums)| (service, minus(sums))));
        }
        for (second, sums) in take_through(&mut self.enter, end - 1) {
            self.waiting -= sums.len();
            if !window_holds(end, second) {
                continue;
            }
            rolling.extend(sums.iter().map(|(service, sums)| (service.clone(), plus(*sums))));
            let leaving = self.leave.entry(second).or_default();
            for (service, sums) in sums {
                *leaving.entry(service).or_default() += sums;
            }
        }
        // What the previous tick's detection may still have read is forgotten now.
        let mut forgotten = Vec::new();
        if let Some(watermark) = self.watermark {
            for (second, sums) in
                take_through(&mut self.forget, watermark - kept_seconds(self.max_lateness) - 1)
            {
                forgotten.extend(sums.into_iter().map(|(service, sums)| ((service, second), minus(sums))));
            }
        }
        self.clock = Some(tick.clock_second());
        self.watermark = Some(tick.final_through());
        (rolling, forgotten)
    }

    /// Takes what one epoch brought.
    fn take_all(&mut self, items: Vec<Keyed>) -> Taken {
        let mut taken = Taken::default();
        for item in items {
            let (update, change) = match item {
                Keyed::Partial(partial) => match self.accept(&partial) {
                    Some(update) => (update, Some(Change::Second(partial))),
                    None => continue,
                },
                Keyed::SeedSecond(partial) => (self.restore(&partial), None),
                seed => {
                    taken.seeds.push(seed);
                    continue;
                }
            };
            let (service, second) = &update.0;
            if *service != WHOLE_STREAM {
                let who = Who::One(hash(service));
                taken.logged.entry(*second).and_modify(|known| *known = known.and(who)).or_insert(who);
            }
            taken.seconds.push(update);
            taken.changes.extend(change);
        }
        taken
    }

    /// Memory that waits for the clock, bytes: what pauses partitions that run ahead.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting * WAITING_BYTES
    }
}

/// What came of one epoch's partials and seeds.
#[derive(Default)]
struct Taken {
    seconds: Vec<SecondsUpdate>,
    changes: Vec<Change>,
    seeds: Vec<Keyed>,
    /// The seconds with logs of services, and whose.
    logged: BTreeMap<i64, Who>,
}

fn take_through<V>(map: &mut BTreeMap<i64, V>, last: i64) -> BTreeMap<i64, V> {
    let later = map.split_off(&last.saturating_add(1));
    std::mem::replace(map, later)
}

/// What [`window`] makes.
pub struct Windows<'scope> {
    pub seconds: Arranged<'scope, SecondsTrace>,
    pub rolling: Arranged<'scope, RollingTrace>,
    /// What the store must remember of the partials that were taken.
    pub changes: StreamVec<'scope, Epoch, Change>,
    /// Seeds that are not sums, for detection.
    pub seeds: StreamVec<'scope, Epoch, Keyed>,
    /// The seconds in which this worker's services logged, and who; to be broadcast.
    pub flow: StreamVec<'scope, Epoch, (i64, Who)>,
}

/// Keeps the windows of the services that hash to this worker.
pub fn window<'scope>(
    keyed: StreamVec<'scope, Epoch, Keyed>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    max_lateness: i64,
    waiting_bytes: Arc<AtomicUsize>,
) -> Windows<'scope> {
    let mut builder = OperatorBuilder::new("window".to_owned(), keyed.scope());
    let mut keyed = builder.new_input(keyed, Exchange::new(|keyed: &Keyed| keyed.service().hashed()));
    let mut ticks = builder.new_input(ticks, Pipeline);
    let (seconds_out, seconds) = builder.new_output::<Vec<((CompactString, i64), Epoch, Diff)>>();
    let (rolling_out, rolling) = builder.new_output::<Vec<(CompactString, Epoch, Diff)>>();
    let (changes_out, changes) = builder.new_output();
    let (seeds_out, seeds) = builder.new_output();
    let (flow_out, flow) = builder.new_output();
    let mut seconds_out = OutputBuilder::from(seconds_out);
    let mut rolling_out = OutputBuilder::from(rolling_out);
    let mut changes_out = OutputBuilder::from(changes_out);
    let mut seeds_out = OutputBuilder::from(seeds_out);
    let mut flow_out = OutputBuilder::from(flow_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut schedule = Schedule::new(max_lateness);
        let mut reported_waiting = 0;
        let mut arrived: BTreeMap<Epoch, (Vec<Capability<Epoch>>, Vec<Keyed>)> = BTreeMap::new();
        let mut ticked: BTreeMap<Epoch, (Vec<Capability<Epoch>>, Tick)> = BTreeMap::new();
        move |frontiers| {
            let mut seconds_out = seconds_out.activate();
            let mut rolling_out = rolling_out.activate();
            let mut changes_out = changes_out.activate();
            let mut seeds_out = seeds_out.activate();
            let mut flow_out = flow_out.activate();
            let capabilities = |retain: &dyn Fn(usize) -> Option<Capability<Epoch>>| {
                (0..5).filter_map(retain).collect::<Vec<_>>()
            };
            keyed.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                let held = || capabilities(&|port| cap.retain_least(port));
                arrived.entry(epoch).or_insert_with(|| (held(), Vec::new())).1.append(data);
            });
            ticks.for_each(|cap, data| {
                let (Some(&epoch), Some(tick)) = (cap.least(), data.drain(..).next_back()) else { return };
                ticked.insert(epoch, (capabilities(&|port| cap.retain_least(port)), tick));
            });
            let closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some(epoch) = next_epoch(&arrived, &ticked).filter(closed) {
                if let Some((_, tick)) = ticked.get(&epoch) {
                    schedule.resume(tick);
                }
                if let Some((caps, items)) = arrived.remove(&epoch) {
                    let taken = schedule.take_all(items);
                    let at = |(data, diff)| (data, epoch, diff);
                    seconds_out.session(&caps[0]).give_iterator(taken.seconds.into_iter().map(at));
                    changes_out.session(&caps[2]).give_iterator(taken.changes.into_iter());
                    seeds_out.session(&caps[3]).give_iterator(taken.seeds.into_iter());
                    flow_out.session(&caps[4]).give_iterator(taken.logged.into_iter());
                }
                if let Some((caps, tick)) = ticked.remove(&epoch).filter(|(_, tick)| tick.is_known()) {
                    let (rolled, forgotten) = schedule.advance(&tick);
                    let at = |(data, diff)| (data, epoch, diff);
                    rolling_out.session(&caps[1]).give_iterator(rolled.into_iter().map(at));
                    let at = |(data, diff)| (data, epoch, diff);
                    seconds_out.session(&caps[0]).give_iterator(forgotten.into_iter().map(at));
                }
            }
            let waiting = schedule.waiting_bytes();
            waiting_bytes.fetch_add(waiting.wrapping_sub(reported_waiting), Ordering::Relaxed);
            reported_waiting = waiting;
        }
    });
    Windows {
        seconds: seconds.as_collection().arrange_by_key_named("seconds"),
        rolling: rolling.as_collection().arrange_by_self_named("rolling"),
        changes,
        seeds,
        flow,
    }
}

fn next_epoch<A, B>(a: &BTreeMap<Epoch, A>, b: &BTreeMap<Epoch, B>) -> Option<Epoch> {
    let first = |epoch: Option<&Epoch>| epoch.copied();
    [first(a.keys().next()), first(b.keys().next())].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::commit::ClockState;
    use std::rc::Rc;

    fn tick(clock: i64, resumed_from: Option<i64>) -> Tick {
        let clock = ClockState {
            clock_us: clock * 1_000_000,
            watermark_us: clock * 1_000_000,
            ..ClockState::default()
        };
        Tick { clock: Rc::new(clock), ended: false, resumed_from }
    }

    fn partial(second: i64) -> Partial {
        Partial { service: "a".into(), second, sums: Sums { logs: 1, errors: 0, message_chars: 0 } }
    }

    #[test]
    fn what_waits_is_counted_once_per_service_and_second_however_many_workers_saw_it() {
        let mut schedule = Schedule::new(60);
        // One event of a wrong clock waits for long; meanwhile each second's sums come in pieces.
        schedule.accept(&partial(100_000));
        for second in 1_000..2_000 {
            (0..4).for_each(|_| {
                schedule.accept(&partial(second));
            });
            schedule.advance(&tick(second, None));
        }
        assert_eq!(schedule.waiting_bytes(), WAITING_BYTES);
    }

    #[test]
    fn what_was_too_late_before_a_restart_is_so_afterwards() {
        let mut schedule = Schedule::new(60);
        schedule.resume(&tick(2_000, Some(1_000)));
        assert!(schedule.accept(&partial(939)).is_none());
        assert!(schedule.accept(&partial(940)).is_some());
        let (key, _) = schedule.restore(&partial(100));
        assert_eq!(key, ("a".into(), 100), "what is stored came in time");
    }
}
