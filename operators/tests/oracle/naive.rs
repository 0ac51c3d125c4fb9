//! What the windows and episodes must be, by brute force: it knows the logs sorted by event time and the documented
//! meaning of the rules, and looks at every single second. Shares no code with the product.

use super::settings::Settings;
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

struct Minute {
    end: i64,
    count: Count,
    in_trouble: bool,
}

struct Normal {
    /// Median and spread of logs per minute.
    volume: Option<(f64, f64)>,
    error_rate: Option<f64>,
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

/// Every episode of one service in the windows that end at or before `through`.
pub fn episodes(seconds: &Seconds, through: i64, settings: &Settings) -> Vec<Trouble> {
    let detection = &settings.detection;
    let mut found = Vec::new();
    let Some(mut first) = seconds.0.keys().next().copied() else { return found };
    let mut last_log = first;
    let mut minutes: Vec<Minute> = Vec::new();
    let mut normal = Normal { volume: None, error_rate: None };
    let mut running: [Option<Running>; 3] = [None, None, None];
    let start = first - WINDOW;
    let each: Vec<Count> =
        (start..through).map(|second| seconds.0.get(&second).copied().unwrap_or_default()).collect();
    for end in first + 1..=through {
        let window = each[(end - WINDOW - start) as usize..(end - start) as usize]
            .iter()
            .fold((0, 0, 0), |sum, count| add(sum, *count));
        if seconds.0.contains_key(&(end - 1)) {
            if end - 1 - last_log >= detection.retire_after && running.iter().all(Option::is_none) {
                // Forgotten: it starts over.
                first = end - 1;
                minutes.clear();
                normal = Normal { volume: None, error_rate: None };
            }
            last_log = end - 1;
        }
        if end % 60 == 0 {
            // The minute of the first log is not a whole one.
            if end - 60 > first.div_euclid(60) * 60 {
                let in_trouble = running.iter().any(Option::is_some);
                let count = seconds.between(end - 60, end);
                minutes.push(Minute { end, count, in_trouble });
                if minutes.len() > detection.baseline.minutes {
                    // Minutes of trouble give way first, but those that may still become the new normal.
                    let newest = (detection.baseline.lag / 60).max(detection.baseline.first_minutes as i64);
                    let old = minutes.iter().position(|m| m.in_trouble && m.end <= end - newest * 60);
                    minutes.remove(old.unwrap_or(0));
                }
            }
            normal = look(&minutes, end, settings);
        }
        for slot in &mut running {
            let Some(open) = slot else { continue };
            if end - open.trouble.started_at < detection.max_episode {
                continue;
            }
            let mut trouble = open.trouble;
            trouble.ended_at = Some(end);
            trouble.state = State::Expired;
            found.push(trouble);
            *slot = None;
            let adopted = (detection.baseline.lag / 60).max(detection.baseline.first_minutes as i64);
            let keep = minutes.len().saturating_sub(adopted as usize);
            minutes.drain(..keep);
            minutes.iter_mut().for_each(|minute| minute.in_trouble = false);
            normal = look(&minutes, end.div_euclid(60) * 60, settings);
        }
        for (kind, slot) in KINDS.into_iter().zip(&mut running) {
            let measured = measure(kind, window, &normal, end - first >= WINDOW, settings);
            judge(kind, slot, measured, end, settings, &mut found);
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
        if let Some(m) = measured.filter(|m| is_beyond(kind, m.value, m.threshold)) {
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
    let hysteresis = settings.detection.hysteresis;
    let eased = |m: &Measured| match kind {
        Kind::Drop => m.threshold / hysteresis,
        _ => m.threshold * hysteresis,
    };
    if let Some(m) = measured.filter(|m| is_beyond(kind, m.value, eased(m))) {
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

fn is_beyond(kind: Kind, value: f64, threshold: f64) -> bool {
    if kind == Kind::Drop { value < threshold } else { value > threshold }
}

fn look(minutes: &[Minute], now: i64, settings: &Settings) -> Normal {
    let baseline = &settings.detection.baseline;
    let quiet: Vec<&Minute> = minutes.iter().filter(|minute| !minute.in_trouble).collect();
    let old: Vec<&Minute> = quiet.iter().filter(|minute| minute.end + baseline.lag <= now).copied().collect();
    let used = if old.len() >= baseline.enough_minutes { old } else { quiet };
    let logs: i64 = used.iter().map(|minute| minute.count.0).sum();
    let errors: i64 = used.iter().map(|minute| minute.count.1).sum();
    let volume = (used.len() >= baseline.first_minutes).then(|| {
        let middle = median(used.iter().map(|minute| minute.count.0 as f64).collect());
        let away = median(used.iter().map(|minute| (minute.count.0 as f64 - middle).abs()).collect());
        // A normal distribution's deviation, and no less than a Poisson distribution has.
        (middle, f64::max(away * 1.4826, middle.sqrt()).max(1.0))
    });
    Normal { volume, error_rate: (logs > 0).then(|| errors as f64 / logs as f64) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).expect("counts are numbers"));
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

fn measure(
    kind: Kind,
    window: Count,
    normal: &Normal,
    is_old_enough: bool,
    settings: &Settings,
) -> Option<Measured> {
    let detection = &settings.detection;
    let (logs, errors) = (window.0 as f64, window.1 as f64);
    let (per_minute, spread) = normal.volume?;
    let (usual, deviation) = (per_minute * 5.0, spread * 5.0_f64.sqrt());
    let rate = |logs: f64| logs * 60.0 / 300.0;
    match kind {
        Kind::Errors => {
            let rule = &detection.error_rate_spike;
            let baseline = normal.error_rate?;
            if window.0 == 0 {
                return None;
            }
            let floored = baseline.max(rule.baseline_floor);
            let chance = unlikely(floored, logs, rule.significance);
            let threshold = (rule.ratio * floored).max(rule.min_errors as f64 / logs).max(chance).min(1.0);
            Some(Measured { value: errors / logs, threshold, baseline })
        }
        Kind::Spike => {
            let rule = &detection.log_volume_spike;
            let threshold = (rule.ratio * usual).max(usual + rule.deviations * deviation).max(rule.min_logs);
            is_old_enough.then(|| Measured {
                value: rate(logs),
                threshold: rate(threshold),
                baseline: rate(usual),
            })
        }
        Kind::Drop => {
            let rule = &detection.log_volume_drop;
            let threshold = (rule.ratio * usual).min(usual - rule.deviations * deviation);
            (is_old_enough && usual >= rule.min_logs).then(|| Measured {
                value: rate(logs),
                threshold: rate(threshold),
                baseline: rate(usual),
            })
        }
    }
}

/// The share of errors among `n` logs that has probability `significance` at the most when `p` is usual, by Chernoff's
/// bound: the `q` above `p` with `n · KL(q ‖ p) = −ln significance`. Solved by Newton's method.
fn unlikely(p: f64, n: f64, significance: f64) -> f64 {
    let wanted = -significance.ln() / n;
    if p >= 1.0 || -p.ln() <= wanted {
        return 1.0;
    }
    // KL is convex in q: from the right, Newton's method falls on the root without passing it.
    let mut q = 1.0 - 1e-12;
    for _ in 0..200 {
        let value = q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln() - wanted;
        let slope = (q * (1.0 - p) / (p * (1.0 - q))).ln();
        let next = q - value / slope;
        if (next - q).abs() < 1e-15 {
            break;
        }
        q = next.clamp(p + 1e-15, 1.0);
    }
    q
}
