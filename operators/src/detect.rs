//! Detection in the dataflow: which services to look at, and what each of them came to.
//!
//! ```text
//!   seconds ──▶ final windows   ── Detector::fold ─▶ findings ─┐
//!   rolling ──▶ the open window ── Detector::peek ─▶ alarms ───┼─ reconcile ─▶ episode changes
//!   ticks   ──▶ deadlines                                      └─ checkpoints ─▶ detector states
//! ```
//!
//! Only services whose sums changed or whose deadline has come are looked at. Each has two states: `base`, as of
//! watermark − `max_lateness`, where no late log can reach, and `head`, as of the watermark. A late log winds the
//! service back to `base` and folds it anew.

use crate::closed_ticks::ClosedTicks;
use crate::detector::{Alarm, Detector, Finding};
use crate::episodes::{Evaluation, forget_settled, reconcile};
use crate::evidence;
use crate::flow::{Flow, Others, Who};
use crate::record::{Change, Epoch, Keyed, Tick, WHOLE_STREAM};
use crate::rules;
use crate::seconds::{Seconds, each_addition};
use crate::settings;
use crate::sums::{Diff, Sums, sums};
use crate::window::{RollingTrace, SecondsTrace, kept_seconds};
use compact_str::CompactString;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::cursor::{Cursor, cursor_list};
use differential_dataflow::trace::{Navigable, TraceReader};
use smartlog_schema::anomaly::{Episode, EpisodeChange, Status};
use smartlog_schema::commit::{Evidence, Warmth};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, floor_to, provisional_end};
use std::collections::{BTreeMap, BTreeSet};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::AntichainRef;

/// What detection needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub time: settings::Time,
    pub detection: settings::Detection,
    /// Services whose rules differ from that; nothing but their rules may.
    pub services: BTreeMap<CompactString, settings::Detection>,
}

impl Settings {
    /// The settings of each service that has its own.
    pub(crate) fn of_services(&self) -> BTreeMap<CompactString, Settings> {
        let of = |detection: &settings::Detection| {
            let (time, detection) = (self.time.clone(), detection.clone());
            Settings { time, detection, services: BTreeMap::new() }
        };
        self.services.iter().map(|(service, detection)| (service.clone(), of(detection))).collect()
    }

    /// How far behind the clock an episode may have ended and still change, seconds: closed episodes of at least this
    /// age must be brought back by a restart.
    pub fn settled_after(&self) -> i64 {
        let settings::Time { watermark_delay, max_lateness, .. } = self.time;
        // The checkpoint moves in steps of a minute, and lags behind its due time by less than another.
        watermark_delay + max_lateness + self.detection.calm + 2 * MINUTE
    }
}

/// One service's state.
#[derive(Debug)]
struct Service {
    base: Detector,
    head: Detector,
    /// Episodes that ended after `base`.
    ended: Vec<Finding>,
    published: Vec<Episode>,
    /// When to look again though nothing changes, final second.
    due: i64,
    /// How many minutes its baseline was last said to know.
    told: Option<usize>,
}

/// What one look at a service needs from outside.
struct Look<'a> {
    tick: &'a Tick,
    /// The service's sums, ascending by second.
    seconds: &'a [(i64, Sums)],
    /// Over the open window.
    rolling: Sums,
    /// The earliest second that changed since the last look.
    changed: Option<i64>,
    /// The stream around it; `None` for the stream itself.
    others: Option<Others<'a>>,
}

/// What a look came to.
struct Looked {
    changes: Vec<EpisodeChange>,
    evidence: Vec<Evidence>,
    /// Whether `base` moved.
    moved: bool,
}

impl Service {
    fn new(first_second: i64) -> Self {
        let base = Detector::new(first_second);
        Service::restored(base)
    }

    fn restored(base: Detector) -> Self {
        Service {
            head: base.clone(),
            base,
            ended: Vec::new(),
            published: Vec::new(),
            due: i64::MIN,
            told: None,
        }
    }

    /// What is to be said of how much its baseline knows; `None` while that is what was said before.
    fn warmth(&mut self, name: &CompactString, settings: &settings::Baseline) -> Option<Warmth> {
        let known = self.head.baseline().normal().known;
        let is_news = self.told.replace(known) != Some(known);
        let (minutes, needed) = (known as i64, settings.enough_minutes as i64);
        is_news.then(|| Warmth { service: name.clone(), minutes, needed })
    }

    /// The first second that a look may need.
    fn needs_from(&self, changed: Option<i64>, final_through: i64, settings: &Settings) -> i64 {
        let is_late = changed.is_some_and(|second| second < self.head.at());
        let from =
            if is_late || reach(final_through, settings) > self.base.at() { &self.base } else { &self.head };
        from.at() - WINDOW_SECONDS
    }

    /// Looks at the service.
    fn look(&mut self, name: &CompactString, look: &Look<'_>, settings: &Settings) -> Looked {
        let final_through = look.tick.final_through();
        self.rewind_if_late(look);
        // A restart brings back more episodes than late logs can reach.
        self.forget_settled(settings);
        let ended = self.head.fold(look.seconds, look.others, final_through, &settings.detection);
        self.ended.extend(ended);
        let end = provisional_end(look.tick.clock_second());
        let alarms = if look.tick.ended { Vec::new() } else { self.peek(look, end, settings) };
        let findings: Vec<Finding> = self.ended.iter().copied().chain(self.head.open()).collect();
        let evaluation = Evaluation {
            service: Some(name).filter(|name| **name != WHOLE_STREAM),
            findings: &findings,
            alarms: &alarms,
            final_through,
            provisional_end: end,
            clock_us: look.tick.clock.clock_us,
            last: look.tick.ended,
        };
        let changes = reconcile(&mut self.published, &evaluation);
        let evidence = evidence::of_changes(&changes, &self.base, look.tick, &settings.detection);
        let moved = self.move_base(look, settings);
        self.due = self.next_due(look.seconds, final_through, settings);
        Looked { changes, evidence, moved }
    }

    /// Judges the windows that end at `end` and are not complete.
    fn peek(&self, look: &Look<'_>, end: i64, settings: &Settings) -> Vec<Alarm> {
        let from = |second: i64| look.seconds.partition_point(|(s, _)| *s < second);
        let so_far = &look.seconds[..from(end)];
        let minute = so_far[from(end - MINUTE)..].iter().fold(Sums::default(), |sum, (_, s)| sum + *s);
        let last_seen = so_far.last().map_or(self.head.last_seen(), |(s, _)| self.head.last_seen().max(*s));
        self.head.peek([minute, look.rolling], last_seen, look.others, end, &settings.detection)
    }

    fn rewind_if_late(&mut self, look: &Look<'_>) {
        let Some(changed) = look.changed else { return };
        if self.base.is_fresh() && changed < self.base.at() {
            self.base = Detector::new(changed);
        }
        if changed < self.head.at() {
            self.head = self.base.clone();
            self.ended.clear();
        }
    }

    /// Moves `base` on in steps of a minute, up to where late logs can still reach.
    fn move_base(&mut self, look: &Look<'_>, settings: &Settings) -> bool {
        let reach = reach(look.tick.final_through(), settings);
        if reach <= self.base.at() {
            return false;
        }
        self.base.fold(look.seconds, look.others, reach, &settings.detection);
        self.base.remember(look.others);
        self.ended.retain(|finding| finding.decided_at(&settings.detection) > Some(reach));
        self.forget_settled(settings);
        true
    }

    /// Forgets the episodes that `base` has behind it. One whose calm is not over there may still go on.
    fn forget_settled(&mut self, settings: &Settings) {
        forget_settled(&mut self.published, self.base.at(), settings.detection.calm);
    }

    fn next_due(&self, seconds: &[(i64, Sums)], final_through: i64, settings: &Settings) -> i64 {
        let first_from =
            |second: i64| seconds.get(seconds.partition_point(|(s, _)| *s < second)).map(|(s, _)| *s);
        let enters = first_from(final_through).map(|second| second + 1);
        let leaves = |length| first_from(final_through - length).map(|second| second + length + 1);
        let provisional = self.published.iter().filter(|episode| episode.status == Status::Provisional);
        let decided = provisional.map(|episode| episode.key.first_raised_at.max(final_through + 1)).min();
        let base_moves = self.base.at() + settings.time.max_lateness + MINUTE;
        // The open window is ahead of the watermark: it shows silence that much earlier.
        let ahead = settings.time.watermark_delay + 1;
        let silence = self.head.silence(&settings.detection).map(|end| end - ahead);
        let deadlines = [
            enters,
            leaves(MINUTE),
            leaves(WINDOW_SECONDS),
            self.head.deadline(&settings.detection),
            silence.filter(|end| *end > final_through),
            decided,
            Some(base_moves),
        ];
        deadlines.into_iter().flatten().fold(i64::MAX, i64::min)
    }

    /// Whether nothing is left to tell or to expect.
    fn is_retired(&self, settings: &Settings) -> bool {
        !self.base.is_fresh()
            && self.base.at() - self.base.last_seen() >= settings.detection.retire_after
            && self.published.is_empty()
            && self.base.last_seen() == self.head.last_seen()
    }
}

/// Up to where `base` may move: late logs do not reach it, and it goes in steps of a minute.
pub(crate) fn reach(final_through: i64, settings: &Settings) -> i64 {
    floor_to(final_through - settings.time.max_lateness, MINUTE)
}

/// All services of one worker.
struct Services {
    settings: Settings,
    /// Of the services that have their own.
    special: BTreeMap<CompactString, Settings>,
    /// When the stream went on.
    flow: Flow,
    services: BTreeMap<CompactString, Service>,
    /// Services by the final second at which they want to be looked at.
    due: BTreeMap<i64, BTreeSet<CompactString>>,
    /// No window was judged that ends later.
    judged_through: i64,
}

impl Services {
    fn restore(&mut self, seed: Keyed) {
        match seed {
            Keyed::SeedDetector { service, state } => {
                if let Ok(base) = Detector::from_bytes(&state, &self.settings.detection) {
                    self.schedule(&service, base.at());
                    self.services.insert(service, Service::restored(base));
                }
            }
            // What no rule raised is somebody else's.
            Keyed::SeedEpisode(episode) if rules::of(episode.key.anomaly_type).is_some() => {
                let name = episode.key.service.clone().unwrap_or_else(|| WHOLE_STREAM.clone());
                let first = episode.key.first_raised_at;
                let service = self.services.entry(name).or_insert_with(|| Service::new(first));
                // What people say of it is judged later on its way.
                service.published.push(episode.unexpected());
            }
            Keyed::Partial(_) | Keyed::SeedSecond(_) | Keyed::SeedEpisode(_) | Keyed::SeedMinute { .. } => {}
        }
    }

    fn schedule(&mut self, service: &CompactString, due: i64) {
        if due < i64::MAX {
            self.due.entry(due).or_default().insert(service.clone());
        }
    }

    /// The services whose deadline has come.
    fn take_due(&mut self, final_through: i64) -> BTreeSet<CompactString> {
        let later = self.due.split_off(&(final_through + 1));
        std::mem::replace(&mut self.due, later).into_values().flatten().collect()
    }

    /// Takes the seconds in which the stream went on. The earliest after which what was judged may be judged anew.
    fn take_flow(&mut self, logged: impl Iterator<Item = (i64, Who)>) -> Option<i64> {
        logged.filter(|(second, who)| self.flow.observe(*second, *who)).map(|(second, _)| second).min()
    }

    /// Has the services looked at again that were judged beyond a second after which the stream went on after all.
    fn change_after(&self, second: Option<i64>, changed: &mut Changed) {
        let Some(second) = second.filter(|second| *second < self.judged_through) else { return };
        for (name, _) in self.services.iter().filter(|(_, service)| service.head.at() > second) {
            let earliest = changed.entry(name.clone()).or_default();
            *earliest = Some(earliest.map_or(second, |earliest| earliest.min(second)));
        }
    }

    /// Every service that had to be looked at was: forgets what none of them needs any more.
    fn conclude(&mut self, tick: &Tick) {
        self.judged_through = tick.final_through();
        let reach = reach(self.judged_through, &self.settings);
        // A base lags behind its due time by less than a minute, and looks back a window and how a pause began.
        self.flow.forget_before(reach - kept_seconds(0));
    }

    fn look(&mut self, name: &CompactString, look: Look<'_>, out: &mut Vec<Change>) {
        let others = (*name != WHOLE_STREAM).then(|| Others::of(name, &self.flow));
        let look = &Look { others, ..look };
        let first = look.changed.or(look.seconds.first().map(|(second, _)| *second));
        let Some(first) = first.or_else(|| self.services.contains_key(name).then_some(0)) else { return };
        let service = self.services.entry(name.clone()).or_insert_with(|| Service::new(first));
        let old_due = service.due;
        let settings = self.special.get(name).unwrap_or(&self.settings);
        let Looked { changes, evidence, moved } = service.look(name, look, settings);
        out.extend(evidence.into_iter().map(|evidence| Change::Evidence(Box::new(evidence))));
        out.extend(changes.into_iter().map(|change| Change::Episode(Box::new(change))));
        if service.is_retired(settings) {
            self.services.remove(name);
        } else {
            out.extend(service.warmth(name, &settings.detection.baseline).map(Change::Warmth));
            if moved && let Ok(state) = service.base.to_bytes() {
                out.push(Change::Detector { service: name.clone(), state: Some(state) });
            }
            let due = service.due;
            self.schedule(name, due);
        }
        if let Some(waiting) =
            self.due.get_mut(&old_due).filter(|_| self.services.get(name).map(|s| s.due) != Some(old_due))
        {
            waiting.remove(name);
        }
    }
}

/// Sums per second of `service` from `from` on, and over the open window, as of `epoch`.
struct Reader<'a> {
    seconds: &'a mut SecondsTrace,
    rolling: &'a mut RollingTrace,
    epoch: Epoch,
}

impl Reader<'_> {
    /// Calls `read` for every service in `wanted` (ascending) with its sums.
    fn each(
        &mut self,
        wanted: &BTreeMap<CompactString, Wanted>,
        mut read: impl FnMut(&CompactString, &Wanted, &[(i64, Sums)], Sums),
    ) {
        let mut seconds = Seconds::as_of(self.seconds, self.epoch);
        let everything = AntichainRef::new(&[]);
        let (mut rolling, rolling_in) =
            cursor_list(self.rolling.batches_through(everything).unwrap_or_default());
        for (service, want) in wanted {
            rolling.seek_key(&rolling_in, service);
            let mut open = Sums::default();
            if rolling.get_key(&rolling_in) == Some(service) {
                open = accumulate(|add| rolling.map_times(&rolling_in, |t, d| add(*t, *d)), self.epoch);
            }
            read(service, want, seconds.of(service, want.from), open);
        }
    }

    /// Lets the traces forget what no later reader will ask for.
    fn compact(&mut self) {
        let frontier = [self.epoch + 1];
        self.seconds.set_logical_compaction(AntichainRef::new(&frontier));
        self.seconds.set_physical_compaction(AntichainRef::new(&frontier));
        self.rolling.set_logical_compaction(AntichainRef::new(&frontier));
        self.rolling.set_physical_compaction(AntichainRef::new(&frontier));
    }
}

fn accumulate(visit: impl FnOnce(&mut dyn FnMut(Epoch, Diff)), epoch: Epoch) -> Sums {
    let mut total = Sums::default();
    visit(&mut |time, diff| {
        if time <= epoch {
            total += sums(diff);
        }
    });
    total
}

/// Why a service is looked at.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    changed: Option<i64>,
    from: i64,
}

/// Judges every service of this worker whenever there is a reason to.
pub fn detect<'scope>(
    seconds: Arranged<'scope, SecondsTrace>,
    rolling: Arranged<'scope, RollingTrace>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    seeds: StreamVec<'scope, Epoch, Keyed>,
    flow: StreamVec<'scope, Epoch, (i64, Who)>,
    settings: Settings,
) -> StreamVec<'scope, Epoch, Change> {
    let mut builder = OperatorBuilder::new("detect".to_owned(), ticks.scope());
    let mut seconds_in = builder.new_input(seconds.stream, Pipeline);
    let mut rolling_in = builder.new_input(rolling.stream, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let mut seeds_in = builder.new_input(seeds, Pipeline);
    let mut flow_in = builder.new_input(flow, Pipeline);
    let (changes_out, changes) = builder.new_output();
    let mut changes_out = OutputBuilder::from(changes_out);
    let (mut seconds_trace, mut rolling_trace) = (seconds.trace, rolling.trace);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut all = Services {
            special: settings.of_services(),
            settings,
            flow: Flow::default(),
            services: BTreeMap::new(),
            due: BTreeMap::new(),
            judged_through: i64::MIN,
        };
        let mut changed: BTreeMap<Epoch, Changed> = BTreeMap::new();
        let mut ticks = ClosedTicks::default();
        let mut flowed: BTreeMap<Epoch, Vec<(i64, Who)>> = BTreeMap::new();
        move |frontiers| {
            flow_in.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                flowed.entry(epoch).or_default().append(data);
            });
            seeds_in.for_each(|_, data| data.drain(..).for_each(|seed| all.restore(seed)));
            seconds_in.for_each(|_, spans| {
                for batch in spans.drain(..).filter_map(|span| span.inner) {
                    each_addition(&batch, |epoch, service, second| {
                        let of_epoch: &mut Changed = changed.entry(epoch).or_default();
                        let earliest = of_epoch.entry(service.clone()).or_default();
                        *earliest = earliest.map_or(Some(second), |earliest| Some(earliest.min(second)));
                    });
                }
            });
            rolling_in.for_each(|_, spans| {
                for batch in spans.drain(..).filter_map(|span| span.inner) {
                    let mut cursor = batch.cursor();
                    while let Some(service) = cursor.get_key(&batch) {
                        cursor.map_times(&batch, |epoch, _| {
                            changed.entry(*epoch).or_default().entry(service.clone()).or_default();
                        });
                        cursor.step_key(&batch);
                    }
                }
            });
            ticks_in.for_each(|cap, data| {
                if let (Some(cap), Some(tick)) = (cap.retain_least(0), data.drain(..).next_back()) {
                    ticks.push(cap, tick);
                }
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, tick)) = ticks.next(is_closed) {
                let later = flowed.split_off(&(*cap.time() + 1));
                let logged = std::mem::replace(&mut flowed, later).into_values().flatten();
                let again = all.take_flow(logged);
                let mut changed = take_through(&mut changed, *cap.time());
                all.change_after(again, &mut changed);
                let wanted = wanted(&mut all, changed, &tick);
                let mut out = Vec::new();
                let mut reader =
                    Reader { seconds: &mut seconds_trace, rolling: &mut rolling_trace, epoch: *cap.time() };
                reader.each(&wanted, |service, want, seconds, rolling| {
                    let look = Look { tick: &tick, seconds, rolling, changed: want.changed, others: None };
                    all.look(service, look, &mut out);
                });
                reader.compact();
                all.conclude(&tick);
                changes_out.activate().session(&cap).give_iterator(out.into_iter());
            }
        }
    });
    changes
}

/// What changed and is not looked at yet: each service, and the earliest second to which something was added.
type Changed = BTreeMap<CompactString, Option<i64>>;

/// What changed in `epoch` and before.
fn take_through(changed: &mut BTreeMap<Epoch, Changed>, epoch: Epoch) -> Changed {
    let later = changed.split_off(&(epoch + 1));
    let mut all = Changed::new();
    for (service, second) in std::mem::replace(changed, later).into_values().flatten() {
        let earliest = all.entry(service).or_default();
        *earliest = [*earliest, second].into_iter().flatten().min();
    }
    all
}

fn wanted(all: &mut Services, changed: Changed, tick: &Tick) -> BTreeMap<CompactString, Wanted> {
    let due = all.take_due(tick.final_through());
    let everybody = all.services.keys().filter(|_| tick.ended).cloned();
    let mut names: BTreeMap<CompactString, Option<i64>> =
        due.into_iter().chain(everybody).map(|s| (s, None)).collect();
    names.extend(changed);
    let from = |service: &CompactString, changed: Option<i64>| {
        let service = all.services.get(service);
        let needed = service.map(|s| s.needs_from(changed, tick.final_through(), &all.settings));
        needed.unwrap_or(i64::MIN).min(changed.unwrap_or(i64::MAX).saturating_sub(WINDOW_SECONDS))
    };
    names
        .into_iter()
        .map(|(name, changed)| (name.clone(), Wanted { changed, from: from(&name, changed) }))
        .collect()
}
