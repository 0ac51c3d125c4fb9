//! What the windows and episodes must be, by brute force: it knows the logs sorted by event time and the documented
//! meaning of the rules, and looks at every single second. What is normal: [`super::usual`]. Shares no code with the
//! product.

use super::settings::Settings;
use super::usual::{Past, Scale, Usual, nats_of, nats_of_errors, too_few, too_many, too_many_errors};
use std::collections::{BTreeMap, BTreeSet};

const WINDOW: i64 = 300;

/// Logs, errors, characters.
pub type Count = (i64, i64, i64);

fn add(a: Count, b: Count) -> Count {
    (a.0 + b.0, a.1 + b.1, a.2 + b.2)
}

/// Counts per second; those of a window are added up anew whenever asked for.
#[derive(Debug, Clone, Default)]
pub struct Seconds(pub BTreeMap<i64, Count>);

impl Seconds {
    pub fn log(&mut self, second: i64, error: bool, chars: usize) {
        let count = self.0.entry(second).or_default();
        *count = add(*count, (1, i64::from(error), chars as i64));
    }

    pub fn between(&self, from: i64, to: i64) -> Count {
        self.0.range(from..to).fold((0, 0, 0), |sum, (_, count)| add(sum, *count))
    }

    /// Every window that ends at a multiple of `hop` and holds a log.
    pub fn windows(&self, hop: i64) -> BTreeMap<i64, Count> {
        let mut ends = BTreeSet::new();
        for second in self.0.keys() {
            ends.extend((second + 1..=second + WINDOW).filter(|end| end % hop == 0));
        }
        ends.into_iter().map(|end| (end, self.between(end - WINDOW, end))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Errors,
    Spike,
    Drop,
}

const KINDS: [Kind; 3] = [Kind::Errors, Kind::Spike, Kind::Drop];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Resolved,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    pub kind: Kind,
    pub started_at: i64,
    pub last_seen: i64,
    pub ended_at: Option<i64>,
    pub state: State,
    pub value: f64,
    pub threshold: f64,
    pub baseline: f64,
    pub peak: f64,
}

/// What a rule measures now.
#[derive(Clone, Copy)]
struct Measured {
    value: f64,
    threshold: f64,
    baseline: f64,
}

struct Running {
    trouble: Trouble,
    calm_since: Option<i64>,
}

/// How often a rule raised something: as of the last minute, and since.
#[derive(Clone, Copy, Default)]
struct Often {
    fading: f64,
    since: f64,
}

impl Often {
    /// A minute passes.
    fn fade(&mut self) {
        self.fading = self.fading * (1.0 - 1.0 / 10_080.0) + self.since;
        self.since = 0.0;
    }
}

/// What has lasted for too long ends.
fn expired(slot: &mut Option<Running>, end: i64, max_episode: i64) -> Option<Trouble> {
    let open = slot.take_if(|open| end - open.trouble.started_at >= max_episode)?;
    Some(Trouble { ended_at: Some(end), state: State::Expired, ..open.trouble })
}

/// Who logged in each second.
pub type Stream = BTreeMap<i64, Vec<String>>;

/// Whether the stream stood still in a second: nobody logged in it and in the five seconds before, and who logged last
/// was not this service alone.
fn stood_still(others: Option<(&str, &Stream)>, second: i64) -> bool {
    let Some((service, stream)) = others.filter(|(_, stream)| !stream.contains_key(&second)) else {
        return false;
    };
    let Some((&last, _)) = stream.range(..second).next_back() else { return true };
    let alone = || stream.range(last - 60..=last).all(|(_, who)| who.iter().all(|name| name == service));
    second - last > 5 && !alone()
}

/// How long the stream stood still, and how long it may: seconds of the window and of the minute, and whole minutes of the
/// drift.
fn still_and_allowed(end: i64, drift: i64, stills: &impl Fn(i64, i64) -> i64) -> [(i64, i64); 3] {
    let whole = end.div_euclid(60) * 60;
    let minutes = (0..drift / 60).map(|back| whole - 60 * back);
    let of_drift = minutes.filter(|end| stills(end - 60, *end) > 6).count() as i64;
    [(stills(end - WINDOW, end), WINDOW / 10), (stills(end - 60, end), 6), (of_drift, 0)]
}

/// Every episode of one service in the windows that end at or before `through`.
pub fn episodes(
    seconds: &Seconds,
    others: Option<(&str, &Stream)>,
    through: i64,
    settings: &Settings,
) -> Vec<Trouble> {
    let detection = &settings.detection;
    let mut found = Vec::new();
    let Some(mut first) = seconds.0.keys().next().copied() else { return found };
    let mut last_log = first;
    let mut past = Past::default();
    let mut usual = Usual::default();
    let mut running: [Option<Running>; 3] = [None, None, None];
    let mut often = [Often::default(); 3];
    let start = first - WINDOW;
    let each: Vec<Count> =
        (start..through).map(|second| seconds.0.get(&second).copied().unwrap_or_default()).collect();
    let newest = |length: i64, end: i64| {
        let slice = &each[(end - length - start) as usize..(end - start) as usize];
        slice.iter().fold((0, 0, 0), |sum, count| add(sum, *count))
    };
    let still: Vec<bool> = (start..through).map(|second| stood_still(others, second)).collect();
    let stills = |from: i64, to: i64| {
        (from.max(start)..to).filter(|second| still[(second - start) as usize]).count() as i64
    };
    let mut missed = 0;
    for end in first + 1..=through {
        let calm = running.iter().all(Option::is_none);
        if seconds.0.contains_key(&(end - 1)) {
            let now = end - 1;
            if now > first && calm && now - last_log >= detection.retire_after {
                // Forgotten: it starts over.
                first = now;
                past = Past::default();
                usual = Usual::default();
                often = [Often::default(); 3];
            } else if calm {
                past.longest_pause = past.longest_pause.max(missed as f64);
            }
            last_log = now;
            missed = 0;
        } else {
            missed += 1 - stills(end - 1, end);
        }
        if end % 60 == 0 {
            // The minute of the first log is not a whole one.
            if end - 60 > first.div_euclid(60) * 60 {
                let (logs, errors, _) = seconds.between(end - 60, end);
                let left_out = !calm || stills(end - 60, end) > 6;
                past.minute(end, logs as f64, errors as f64, left_out, &usual, detection);
            }
            usual = past.usual(end, detection);
            often.iter_mut().for_each(Often::fade);
        }
        for (slot, often) in running.iter_mut().zip(&mut often) {
            let Some(trouble) = expired(slot, end, detection.max_episode) else { continue };
            found.push(trouble);
            often.since += 1.0;
            past.adopt(detection);
            usual = past.usual(end.div_euclid(60) * 60, detection);
        }
        let now = Now {
            minute: newest(60, end),
            window: newest(WINDOW, end),
            silent: if running[2].is_some() { end - 1 - last_log } else { missed },
            masked: running[2].is_none(),
            stills: still_and_allowed(end, detection.baseline.drift, &stills),
            pause: past.longest_pause,
            old_enough: end - first >= WINDOW,
            usual: &usual,
            settings,
        };
        for (index, kind) in KINDS.into_iter().enumerate() {
            let ease = if running[index].is_some() { detection.hysteresis } else { 1.0 };
            let demand = 6.0 * f64::max(0.0, often[index].fading - detection.episodes_per_week);
            let measured = now.beyond(kind, ease, demand, running[index].is_none());
            let before = found.len();
            judge(kind, &mut running[index], measured, end, settings, &mut found);
            often[index].since += (found.len() - before) as f64;
        }
    }
    found.extend(running.into_iter().flatten().map(|open| open.trouble));
    found.sort_by_key(|trouble| (trouble.kind, trouble.started_at));
    found
}

fn judge(
    kind: Kind,
    slot: &mut Option<Running>,
    measured: Option<Measured>,
    end: i64,
    settings: &Settings,
    found: &mut Vec<Trouble>,
) {
    let Some(open) = slot else {
        if let Some(m) = measured {
            let trouble = Trouble {
                kind,
                started_at: end,
                last_seen: end,
                ended_at: None,
                state: State::Open,
                value: m.value,
                threshold: m.threshold,
                baseline: m.baseline,
                peak: m.value,
            };
            *slot = Some(Running { trouble, calm_since: None });
        }
        return;
    };
    if let Some(m) = measured {
        open.calm_since = None;
        open.trouble.last_seen = end;
        let worse =
            if kind == Kind::Drop { m.value < open.trouble.peak } else { m.value > open.trouble.peak };
        if worse {
            open.trouble.peak = m.value;
        }
        return;
    }
    let since = *open.calm_since.get_or_insert(end);
    if end - since >= settings.detection.calm {
        let mut trouble = open.trouble;
        trouble.ended_at = Some(since);
        trouble.state = State::Resolved;
        found.push(trouble);
        *slot = None;
    }
}

/// All that is known at the end of one second.
struct Now<'a> {
    minute: Count,
    window: Count,
    silent: i64,
    /// Whether a drop is only begun while the stream goes on.
    masked: bool,
    /// Of the window, the minute and the drift; see [`still_and_allowed`].
    stills: [(i64, i64); 3],
    pause: f64,
    old_enough: bool,
    usual: &'a Usual,
    settings: &'a Settings,
}

/// What is to be crossed; the threshold is worked out only where it is told.
#[derive(Clone, Copy)]
struct Bar {
    ratio: f64,
    nats: f64,
    ease: f64,
    tell: bool,
}

impl Now<'_> {
    /// What is beyond its threshold, that eased by `ease`; the window before the minute before the drift.
    fn beyond(&self, kind: Kind, ease: f64, demand: f64, tell: bool) -> Option<Measured> {
        let detection = &self.settings.detection;
        let drift = detection.baseline.drift as f64 / 60.0;
        let scales = [
            (5.0, Some(self.window), &self.usual.window),
            (1.0, Some(self.minute), &self.usual.minute),
            (
                drift,
                self.usual.drifted.map(|(logs, errors)| (logs as i64, errors as i64, 0)),
                &self.usual.drift,
            ),
        ];
        let tests = match kind {
            Kind::Errors => {
                let rule = &detection.error_rate_spike;
                [rule.window, rule.minute, rule.drift]
            }
            Kind::Spike => {
                let rule = &detection.log_volume_spike;
                [rule.window, rule.minute, rule.drift]
            }
            Kind::Drop => {
                let rule = &detection.log_volume_drop;
                [rule.window, rule.minute, rule.drift]
            }
        };
        for (index, ((minutes, count, scale), test)) in scales.into_iter().zip(tests).enumerate() {
            let Some(count) = count else { continue };
            let (still, allowed) = self.stills[index];
            if kind == Kind::Drop && self.masked && still > allowed {
                continue;
            }
            let (logs, errors) = (count.0 as f64, count.1 as f64);
            let bar = Bar { ratio: test.ratio, nats: demand - test.significance.ln(), ease, tell };
            let measured = match kind {
                Kind::Errors => self.errors(logs, errors, scale, bar),
                Kind::Spike => self.spike(logs, minutes, scale, bar),
                Kind::Drop => self.drop(logs, minutes, scale, bar),
            };
            if measured.is_some() {
                return measured;
            }
        }
        if kind == Kind::Drop { self.silence(demand) } else { None }
    }

    fn errors(&self, logs: f64, errors: f64, scale: &Scale, bar: Bar) -> Option<Measured> {
        let Bar { ratio, nats, ease, tell } = bar;
        let rule = &self.settings.detection.error_rate_spike;
        let baseline = scale.error_rate?;
        let expected = baseline.max(rule.baseline_floor) * logs;
        if errors < rule.min_errors as f64 || logs == 0.0 {
            return None;
        }
        let eased = errors / ease;
        // No threshold is beyond the logs themselves: that is what is eased, and nothing but errors crosses it.
        let is_strange =
            nats_of_errors(eased, expected, scale.error_spread) > nats || eased > logs || errors == logs;
        if eased <= ratio * expected || !is_strange {
            return None;
        }
        let chance = if tell { too_many_errors(expected, nats, scale.error_spread) } else { 0.0 };
        let threshold = f64::min(logs, f64::max(ratio * expected, chance));
        let shown = f64::max(threshold, rule.min_errors as f64) / logs;
        Some(Measured { value: errors / logs, threshold: shown, baseline })
    }

    fn spike(&self, logs: f64, minutes: f64, scale: &Scale, bar: Bar) -> Option<Measured> {
        let Bar { ratio, nats, ease, tell } = bar;
        let (_, level) = scale.level.filter(|_| self.old_enough)?;
        let least = self.settings.detection.log_volume_spike.min_logs * f64::max(minutes / 5.0, 1.0);
        let expected = level * minutes;
        let eased = logs / ease;
        let is_strange =
            if level > 0.0 { nats_of(eased, expected, scale.spread) > nats } else { eased > least };
        if logs < least || eased <= ratio * expected || !is_strange {
            return None;
        }
        let chance = if level > 0.0 && tell { too_many(expected, nats, scale.spread) } else { least };
        let shown = [ratio * expected, chance, least].into_iter().fold(0.0, f64::max) / minutes;
        Some(Measured { value: logs / minutes, threshold: shown, baseline: level })
    }

    fn drop(&self, logs: f64, minutes: f64, scale: &Scale, bar: Bar) -> Option<Measured> {
        let Bar { ratio, nats, ease, tell } = bar;
        let (level, _) = scale.level.filter(|_| self.old_enough)?;
        let expected = level * minutes;
        let eased = logs * ease;
        if expected < self.settings.detection.log_volume_drop.min_logs
            || eased >= ratio * expected
            || nats_of(eased, expected, scale.spread) < nats
        {
            return None;
        }
        let chance = if tell { too_few(expected, nats, scale.spread) } else { 0.0 };
        let threshold = f64::min(ratio * expected, chance);
        Some(Measured { value: logs / minutes, threshold: threshold / minutes, baseline: level })
    }

    /// So long without a log that it takes neither chance nor a usual pause.
    fn silence(&self, demand: f64) -> Option<Measured> {
        let rule = &self.settings.detection.log_volume_drop;
        let (level, _) = self.usual.minute.level.filter(|_| self.old_enough)?;
        let missing = level * self.silent as f64 / 60.0;
        let nats = demand - rule.minute.significance.ln();
        let is_long = self.silent as f64 >= f64::max(15.0, 2.0 * self.pause);
        let far = level * 5.0 >= rule.min_logs
            && is_long
            && missing > 0.0
            && nats_of(0.0, missing, self.usual.minute.spread) >= nats;
        far.then_some(Measured { value: 0.0, threshold: rule.window.ratio * level, baseline: level })
    }
}
