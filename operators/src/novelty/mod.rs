//! `new_pattern`: messages of a kind that a service never logged before, as errors or in bursts.
//!
//! ```text
//!   Gathered ─▶ Known: when each shape came first ─┐
//!                                                  ├─ Story ─▶ findings, alarm ── reconcile ─▶ episode changes
//!   Breakdown: minutes, counts by shape ───────────┘
//! ```
//!
//! Judged are windows that end with a whole minute, and the one that is open. What is new is told by shapes, which are
//! functions of messages alone, and by when each came first in event time: so it depends on the logs, not on their order,
//! on ticks or on workers. Nothing else is kept between two looks: what late logs can still change is judged anew from
//! the counts and from the episodes that were published, and both are stored.

mod again;
mod known;
mod story;

use crate::breakdown::{Breakdown, Gathered};
use crate::detect::{Settings, reach};
use crate::detector::{Alarm, Finding};
use crate::episodes::{Evaluation, forget_settled, reconcile};
use crate::peak::Peak;
use crate::record::{OVERFLOW, Tick, WHOLE_STREAM};
use crate::rules::{Measure, Rule, Side, Verdict};
use again::Decided;
pub use again::decide;
use compact_str::CompactString;
use known::Known;
pub use known::{FirstSeen, Limits};
use smartlog_schema::anomaly::{AnomalyType, Episode, EpisodeChange, Severity, Status};
use smartlog_schema::commit::Evidence;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, ceil_to, floor_to, provisional_end};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use story::{Running, Story};

/// A shape is new for so long after its first log, seconds.
const FRESH: i64 = 2 * WINDOW_SECONDS;

/// How its episodes are spoken of. No detector asks it: one service's sums do not tell patterns.
pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::NewPattern,
    severity,
    side: Side::Above,
    measure: Measure { name: "New pattern", unit: "logs/min", scale: 1.0 },
    is_enabled: |settings| settings.new_pattern.enabled,
    judge: |_, _| None,
};

/// By how many times as much as it takes there is of it.
fn severity(times: f64) -> Severity {
    match times {
        many if many >= 10.0 => Severity::High,
        some if some >= 3.0 => Severity::Medium,
        _ => Severity::Low,
    }
}

/// A service, as far as new patterns go.
#[derive(Debug, Default)]
struct Service {
    known: Known,
    published: Vec<Episode>,
}

impl Service {
    /// Whether anything can be new in windows that end after `second`, or is under way.
    fn is_watched(&self, second: i64) -> bool {
        let fresh_until = self.known.newest().saturating_add(FRESH + WINDOW_SECONDS);
        !self.published.is_empty() || fresh_until >= second
    }
}

/// What one worker knows of its services.
#[derive(Debug)]
pub struct Novelty {
    settings: Settings,
    special: BTreeMap<CompactString, Settings>,
    limits: Limits,
    services: BTreeMap<CompactString, Service>,
    /// What the whole stream has logged; nothing is raised of it.
    stream: Known,
    /// Shapes of all services.
    shapes: usize,
    /// Those of all workers of the process, for whoever publishes it.
    gauge: Arc<AtomicUsize>,
    /// Services to look at for what came since the last look.
    touched: BTreeSet<CompactString>,
    /// What was decided at or before this stays so.
    settled: i64,
    looked_through: i64,
}

impl Novelty {
    pub fn new(settings: Settings, limits: Limits, gauge: Arc<AtomicUsize>) -> Self {
        Novelty {
            gauge,
            special: settings.of_services(),
            settings,
            limits,
            services: BTreeMap::new(),
            stream: Known::default(),
            shapes: 0,
            touched: BTreeSet::new(),
            settled: i64::MIN / 2,
            looked_through: i64::MIN,
        }
    }

    /// Takes back an episode that was published.
    pub fn restore(&mut self, episode: &Episode) {
        let Some(service) = &episode.key.service else { return };
        if episode.key.anomaly_type == AnomalyType::NewPattern {
            self.services.entry(service.clone()).or_default().published.push(episode.clone().unexpected());
        }
    }

    /// Takes back what is stored of a shape.
    pub fn remember(&mut self, FirstSeen { service, shape, minute }: &FirstSeen) {
        if *service == WHOLE_STREAM {
            self.stream.began(*minute);
            self.stream.note(*shape, *minute, true);
            return;
        }
        self.services.entry(service.clone()).or_default().known.began(*minute);
        self.note(service, *shape, *minute);
    }

    fn note(&mut self, service: &CompactString, shape: u64, minute: i64) {
        let Some(service) = self.services.get_mut(service) else { return };
        if service.known.note(shape, minute, self.shapes < self.limits.shapes) {
            self.shapes += 1;
            self.gauge.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes note of what was gathered, and which service it was counted for; `None`: it was too old to be counted.
    pub fn take(&mut self, gathered: &Gathered, counted_for: Option<&CompactString>) {
        let Gathered { service, minute, shapes, .. } = gathered;
        if *service == WHOLE_STREAM {
            self.stream.logged(*minute);
            for (shape, _) in shapes {
                self.stream.note(*shape, *minute, true);
            }
        }
        if *service == WHOLE_STREAM || *service == OVERFLOW || shapes.is_empty() {
            return;
        }
        if counted_for == Some(service) {
            // Each service has a shape, so that bounds the services, too.
            let is_known = self.services.contains_key(service);
            if !is_known && self.shapes >= self.limits.shapes {
                return;
            }
            self.services.entry(service.clone()).or_default().known.logged(*minute);
        }
        shapes.iter().for_each(|(shape, _)| self.note(service, *shape, *minute));
        self.touched.insert(service.clone());
    }

    /// Judges the services of which something came, and once a minute all that are watched: what became of their
    /// episodes, and what is to be kept of the decisions.
    pub fn look(&mut self, breakdown: &Breakdown, tick: &Tick) -> (Vec<EpisodeChange>, Vec<Evidence>) {
        let (mut changes, mut evidence) = (Vec::new(), Vec::new());
        let final_through = tick.final_through();
        let through =
            if tick.ended { ceil_to(final_through, MINUTE) } else { floor_to(final_through, MINUTE) };
        let touched = std::mem::take(&mut self.touched);
        let resumed = tick.resumed_from.map_or(self.settled, |second| reach(second, &self.settings));
        let settled = resumed.max(self.settled);
        let next = reach(final_through, &self.settings).max(settled);
        let is_time = (self.looked_through, self.settled) != (through, next) || tick.ended;
        for (name, service) in &mut self.services {
            if (is_time || touched.contains(name)) && service.is_watched(settled) {
                let settings = self.special.get(name).unwrap_or(&self.settings);
                let look = Look { name, breakdown, tick, settled, through, settings };
                let (changed, decided) = look.at(service);
                changes.extend(changed);
                evidence.extend(decided);
            }
        }
        if is_time {
            self.retire(final_through);
        }
        (self.looked_through, self.settled) = (through, next);
        (changes, evidence)
    }

    /// Tells which shapes are new to `service` in a window of whole minutes that ends at `end`.
    pub fn is_new(&self, service: &str, end: i64) -> impl Fn(u64) -> bool {
        let settings = self.special.get(service).unwrap_or(&self.settings);
        let known = match service {
            name if name == WHOLE_STREAM => Some(&self.stream),
            name => self.services.get(name).map(|service| &service.known),
        };
        let warm_up = settings.detection.new_pattern.warm_up;
        let is_new = known.map(|known| known.is_new(end - FRESH, warm_up));
        move |shape| is_new.as_ref().is_some_and(|is_new| is_new(shape))
    }

    /// Forgets the services that were silent for long.
    fn retire(&mut self, final_through: i64) {
        let before = final_through - self.settings.detection.retire_after;
        let forgotten = self.services.extract_if(.., |_, service| {
            service.published.is_empty() && service.known.is_silent_since(before)
        });
        let shapes = forgotten.map(|(_, service)| service.known.len()).sum::<usize>();
        self.shapes -= shapes;
        self.gauge.fetch_sub(shapes, Ordering::Relaxed);
    }

    /// The shapes that an episode is about, those that came up with it.
    pub fn news(&self, episode: &Episode) -> Vec<u64> {
        let name = episode.key.service.as_ref();
        let Some(service) = name.and_then(|name| self.services.get(name)) else { return Vec::new() };
        if episode.key.anomaly_type != AnomalyType::NewPattern {
            return Vec::new();
        }
        let settings = name.and_then(|name| self.special.get(name)).unwrap_or(&self.settings);
        let after = episode.started_at - FRESH;
        service.known.since(after, settings.detection.new_pattern.warm_up).map(|(shape, _)| shape).collect()
    }
}

/// What one look at a service needs.
struct Look<'a> {
    name: &'a CompactString,
    breakdown: &'a Breakdown,
    tick: &'a Tick,
    /// What was decided at or before this stays so.
    settled: i64,
    /// Windows that end at or before this are final.
    through: i64,
    settings: &'a Settings,
}

impl Look<'_> {
    fn at(&self, service: &mut Service) -> (Vec<EpisodeChange>, Vec<Evidence>) {
        let Look { name, tick, settled, through, settings, .. } = *self;
        let detection = &settings.detection;
        forget_settled(&mut service.published, settled, detection.calm);
        let open = service.published.iter().find_map(|episode| open_at(episode, settled, detection.calm));
        let oldest = open.as_ref().map_or(settled, |open| open.finding.started_at.min(settled)) - FRESH;
        let fresh: BTreeMap<u64, i64> = service.known.since(oldest, detection.new_pattern.warm_up).collect();
        if fresh.is_empty() && service.published.is_empty() {
            return Default::default();
        }
        let clock = tick.clock_second();
        let last = through.max(floor_to(clock, MINUTE) + MINUTE);
        let earliest = fresh.values().copied().min().unwrap_or(through);
        let from = if open.is_some() { settled } else { settled.max(earliest) };
        let story = Story::new(self.breakdown, name, from..last, &fresh, detection);
        let findings = story.findings(from, through, open);
        let is_open = findings.last().is_some_and(|finding| finding.ended_at.is_none());
        let verdict = if tick.ended || is_open || last == through { None } else { story.fresh(last) };
        let alarm = verdict.map(|verdict| alarm(verdict, last));
        let evaluation = Evaluation {
            service: Some(name),
            findings: &findings,
            alarms: alarm.as_slice(),
            final_through: through,
            provisional_end: provisional_end(clock),
            clock_us: tick.clock.clock_us,
            last: tick.ended,
        };
        let changes = reconcile(&mut service.published, &evaluation);
        let decided = Decided { detection, fresh: &fresh, tick, through };
        let evidence = decided.evidence(&changes);
        (changes, evidence)
    }
}

/// Of the open window, which ends with the minute of the clock at `end`.
fn alarm(verdict: Verdict, end: i64) -> Alarm {
    Alarm { anomaly_type: AnomalyType::NewPattern, verdict, peak: peak(verdict.value, end) }
}

/// What an episode was at `second`; `None`: it was not yet, or over.
fn open_at(episode: &Episode, second: i64, calm: i64) -> Option<Running> {
    let is_over = match (episode.status, episode.ended_at) {
        (Status::Open, _) => false,
        (Status::Resolved, Some(ended_at)) => ended_at + calm <= second,
        (Status::Expired, Some(ended_at)) => ended_at <= second,
        _ => true,
    };
    let calm_since = episode.ended_at.filter(|ended_at| *ended_at <= second);
    (episode.started_at <= second && !is_over).then(|| Running { finding: finding(episode), calm_since })
}

/// What was found when an episode was published.
fn finding(episode: &Episode) -> Finding {
    let Episode { metric_value: value, threshold, baseline, .. } = *episode;
    let window = crate::explain::read(&episode.explanation).window;
    let end = window.map_or(episode.started_at, |window| window.to.as_second());
    Finding {
        anomaly_type: AnomalyType::NewPattern,
        started_at: episode.started_at,
        last_seen: episode.last_seen,
        ended_at: None,
        expired: false,
        verdict: Verdict { value, threshold, baseline, seconds: WINDOW_SECONDS },
        peak: peak(episode.peak_value, end),
    }
}

fn peak(value: f64, end: i64) -> Peak {
    Peak { value, end, seconds: WINDOW_SECONDS, ..Peak::default() }
}
