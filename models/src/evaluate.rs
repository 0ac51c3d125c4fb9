//! How good a model is, told from time that it was not fitted on.
//!
//! A second model is fitted on the first part of the time and judged on the rest: the share that it flags there, the
//! alarms that it would raise on what nobody called an incident, and how many made-up incidents it finds. The
//! made-up ones are changes of the features themselves: what the forest is asked to notice, told apart from what
//! the rules notice.

use crate::bundle::Bundle;
use crate::fit::{FitError, Settings, fit, group, windows_to_hold};
use crate::rows::{Row, Rows, WHOLE_STREAM};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Share of the time that the judged model is fitted on.
const FITTED_SHARE: f64 = 0.8;
/// Made-up incidents of each kind.
const INJECTED_PER_KIND: usize = 25;
/// How long each lasts, seconds of event time.
const INJECTED_SECONDS: i64 = 300;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Windows of the held-out time.
    pub held_out_rows: usize,
    /// Share of them beyond the threshold; contamination, if the time is like the time before.
    pub flagged_share: f64,
    /// Alarms per day over all services, on held-out time as it is.
    pub false_episodes_per_day: f64,
    /// By kind of made-up incident: found, of how many.
    pub injected: BTreeMap<&'static str, (usize, usize)>,
    /// Time to fit all forests.
    pub fit: Duration,
    /// Time to score one window, on average.
    pub score: Duration,
}

impl Report {
    /// Share of the made-up incidents that was found; 0 when there were none.
    pub fn recall(&self) -> f64 {
        let (found, all) = self.injected.values().fold((0, 0), |(f, a), (found, all)| (f + found, a + all));
        if all == 0 { 0.0 } else { found as f64 / all as f64 }
    }
}

/// What a made-up incident does to a window's values, told which feature is which.
type Inject = fn(&mut [f64], &dyn Fn(&str) -> Option<usize>);

const KINDS: [(&str, Inject); 4] = [
    ("errors", |values, of| change(values, of("error_rate"), |rate| (rate * 10.0).clamp(0.3, 1.0))),
    ("volume up", |values, of| change(values, of("log_rate"), |rate| rate * 6.0)),
    ("volume down", |values, of| change(values, of("log_rate"), |rate| rate * 0.05)),
    ("long messages", |values, of| change(values, of("avg_message_length"), |length| length * 2.0)),
];

fn change(values: &mut [f64], feature: Option<usize>, by: fn(f64) -> f64) {
    if let Some(value) = feature.and_then(|feature| values.get_mut(feature)) {
        *value = by(*value);
    }
}

/// Fits on the first part of `rows` and judges on the rest.
///
/// # Errors
/// As [`fit`]: where the first part is too short to be fitted on, there is nothing to tell.
pub fn evaluate(rows: &Rows, settings: &Settings) -> Result<Report, FitError> {
    let (early, late) = rows.split(FITTED_SHARE);
    let began = Instant::now();
    let bundle = fit(&early, settings, "")?;
    let fit_time = began.elapsed();
    let began = Instant::now();
    let scores: Vec<_> = late.rows.iter().map(|row| bundle.score(&row.service, &row.values)).collect();
    let score_time = began.elapsed() / u32::try_from(late.rows.len().max(1)).unwrap_or(u32::MAX);
    let judged: Vec<_> = scores.iter().flatten().collect();
    let flagged = judged.iter().filter(|scored| scored.score > scored.threshold).count();
    Ok(Report {
        held_out_rows: late.rows.len(),
        flagged_share: flagged as f64 / judged.len().max(1) as f64,
        false_episodes_per_day: false_per_day(&bundle, &late, settings),
        injected: inject(&bundle, &late, settings),
        fit: fit_time,
        score: score_time,
    })
}

/// What a model would raise on its own: a stretch of windows beyond its alert threshold that lasts long enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Empty: the whole stream.
    pub service: String,
    /// Ends of the first and the last window of the stretch, epoch seconds.
    pub started_at: i64,
    pub ended_at: i64,
    pub peak: f64,
}

impl Alarm {
    fn overlaps(&self, other: &Alarm) -> bool {
        self.service == other.service
            && self.started_at <= other.ended_at
            && other.started_at <= self.ended_at
    }
}

/// Everything that `bundle` would raise on `rows`, by service and time.
pub fn alarms(bundle: &Bundle, rows: &Rows) -> Vec<Alarm> {
    let hold = bundle.origin.hold_seconds;
    let mut alarms = Vec::new();
    for (service, rows) in group(&rows.rows) {
        let mut open: Option<Alarm> = None;
        let mut before: Option<i64> = None;
        // Two windows further apart than any hop: a gap ends a stretch.
        let gap = hold.max(60);
        for row in rows {
            let scored =
                bundle.score(service, &row.values).filter(|scored| scored.score > scored.alert_threshold);
            let broken = before.is_some_and(|before| row.end - before >= gap);
            if scored.is_none() || broken {
                alarms.extend(open.take().filter(|alarm| alarm.ended_at - alarm.started_at >= hold));
            }
            if let Some(scored) = scored {
                let first =
                    || Alarm { service: service.into(), started_at: row.end, ended_at: row.end, peak: 0.0 };
                let alarm = open.get_or_insert_with(first);
                (alarm.ended_at, alarm.peak) = (row.end, alarm.peak.max(scored.score));
            }
            before = Some(row.end);
        }
        alarms.extend(open.filter(|alarm| alarm.ended_at - alarm.started_at >= hold));
    }
    alarms
}

/// How what one model raises differs from what another does.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Added(Alarm),
    Removed(Alarm),
    /// Before and after.
    Changed(Alarm, Alarm),
    Same(Alarm),
}

/// From `before` to `after`; alarms of a service that overlap in time are the same trouble.
pub fn changes(before: &[Alarm], after: &[Alarm]) -> Vec<Change> {
    let mut taken = vec![false; after.len()];
    let mut changes = Vec::new();
    for alarm in before {
        let found = after.iter().zip(&taken).position(|(other, taken)| !taken && alarm.overlaps(other));
        changes.push(match found {
            None => Change::Removed(alarm.clone()),
            Some(at) => {
                taken[at] = true;
                let is_same =
                    (alarm.started_at, alarm.ended_at) == (after[at].started_at, after[at].ended_at);
                if is_same {
                    Change::Same(after[at].clone())
                } else {
                    Change::Changed(alarm.clone(), after[at].clone())
                }
            }
        });
    }
    changes.extend(
        after.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(alarm, _)| Change::Added(alarm.clone())),
    );
    let key = |change: &Change| match change {
        Change::Added(a) | Change::Removed(a) | Change::Changed(_, a) | Change::Same(a) => {
            (a.started_at, a.service.clone())
        }
    };
    changes.sort_by_key(key);
    changes
}

fn is_alarming(bundle: &Bundle, row: &Row) -> bool {
    bundle.score(&row.service, &row.values).is_some_and(|scored| scored.score > scored.alert_threshold)
}

fn false_per_day(bundle: &Bundle, late: &Rows, settings: &Settings) -> f64 {
    let Some((first, last)) = late.interval() else { return 0.0 };
    let days = (last - first).max(settings.hop_seconds) as f64 / 86_400.0;
    let episodes: usize = group(&late.rows).values().map(|rows| episodes_in(bundle, rows, settings)).sum();
    episodes as f64 / days
}

/// Stretches of alarming windows that last long enough to be raised.
fn episodes_in(bundle: &Bundle, rows: &[&Row], settings: &Settings) -> usize {
    let needed = windows_to_hold(settings);
    let (mut episodes, mut run, mut before) = (0, 0, i64::MIN);
    for row in rows {
        let goes_on = row.end.saturating_sub(before) == settings.hop_seconds;
        run = if is_alarming(bundle, row) { if goes_on { run + 1 } else { 1 } } else { 0 };
        episodes += usize::from(run == needed);
        before = row.end;
    }
    episodes
}

/// Changes stretches of the held-out windows, and counts those that the model would raise.
fn inject(bundle: &Bundle, late: &Rows, settings: &Settings) -> BTreeMap<&'static str, (usize, usize)> {
    let feature = |name: &str| late.features.iter().position(|feature| feature == name);
    let length = (INJECTED_SECONDS / settings.hop_seconds).max(1).unsigned_abs() as usize;
    let by_service = group(&late.rows);
    let long_enough: Vec<&Vec<&Row>> = by_service
        .iter()
        .filter(|(service, rows)| **service != WHOLE_STREAM && rows.len() >= length)
        .map(|(_, rows)| rows)
        .collect();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut found = BTreeMap::new();
    for (kind, inject) in KINDS {
        let counts: &mut (usize, usize) = found.entry(kind).or_default();
        for _ in 0..if long_enough.is_empty() { 0 } else { INJECTED_PER_KIND } {
            let rows = long_enough[random.random_range(0..long_enough.len())];
            let from = random.random_range(0..=rows.len() - length);
            let changed: Vec<Row> = rows[from..from + length]
                .iter()
                .map(|row| {
                    let mut row = Row::clone(row);
                    inject(&mut row.values, &feature);
                    row
                })
                .collect();
            let changed: Vec<&Row> = changed.iter().collect();
            counts.0 += usize::from(episodes_in(bundle, &changed, settings) > 0);
            counts.1 += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(service: &str, started_at: i64, ended_at: i64) -> Alarm {
        Alarm { service: service.into(), started_at, ended_at, peak: 0.9 }
    }

    #[test]
    fn alarms_that_overlap_are_the_same_trouble_and_each_is_told_once() {
        let before = [alarm("a", 0, 100), alarm("a", 500, 600), alarm("b", 0, 100)];
        let after = [alarm("a", 50, 200), alarm("a", 500, 600), alarm("c", 0, 100)];
        let told = changes(&before, &after);
        assert_eq!(
            told,
            [
                Change::Removed(alarm("b", 0, 100)),
                Change::Added(alarm("c", 0, 100)),
                Change::Changed(alarm("a", 0, 100), alarm("a", 50, 200)),
                Change::Same(alarm("a", 500, 600)),
            ]
        );
        assert!(changes(&[], &[]).is_empty());
    }
}
