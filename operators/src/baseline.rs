//! What is normal for a service: counts of its past minutes, and what they say robustly (median and median absolute
//! deviation, Rousseeuw & Croux 1993, "Alternatives to the Median Absolute Deviation").
//!
//! A minute counts once it ended `lag` ago, so that an incident does not become its own baseline, and only when no
//! episode was open at its end. Until there are enough of those, all such minutes so far serve.

use crate::settings;
use crate::sums::Sums;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::{MINUTE, floor_to};
use std::collections::VecDeque;

/// Makes the median absolute deviation of a normal sample estimate its standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Minute {
    logs: i64,
    errors: i64,
    /// An episode was open at its end.
    left_out: bool,
}

/// Volume per minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Volume {
    pub median: f64,
    /// Standard deviation, robustly estimated; never below that of a Poisson count.
    pub deviation: f64,
}

/// What is normal right now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Normal {
    /// `None` while too few minutes are known.
    pub volume: Option<Volume>,
    /// Errors per log, pooled; `None` before the first log.
    pub error_rate: Option<f64>,
    /// Minutes that it rests on, of those that it should.
    pub minutes: usize,
}

/// The past minutes of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    minutes: VecDeque<Minute>,
    /// Start of the minute that is being counted; `None` before the first log.
    open_start: Option<i64>,
    open: Sums,
    /// The first minute is cut off by the first log: it is not counted.
    cut_off: bool,
    #[serde(skip)]
    normal: Normal,
}

impl Baseline {
    /// Counts the logs of one second. Seconds come in order.
    pub fn observe(&mut self, second: i64, sums: Sums) {
        if self.open_start.is_none() {
            self.open_start = Some(floor_to(second, MINUTE));
            self.cut_off = true;
        }
        self.open += sums;
    }

    /// Closes every minute that ended at or before `end`, and looks at them anew.
    pub fn close_through(&mut self, end: i64, in_episode: bool, settings: &settings::Baseline) {
        let Some(mut start) = self.open_start else { return };
        let oldest_kept = floor_to(end, MINUTE) - settings.minutes as i64 * MINUTE;
        while start + MINUTE <= end {
            if !std::mem::take(&mut self.cut_off) && start >= oldest_kept {
                let Sums { logs, errors, .. } = self.open;
                self.minutes.push_back(Minute { logs, errors, left_out: in_episode });
            }
            self.open = Sums::default();
            start += MINUTE;
            if start < oldest_kept {
                // A long silence: the minutes in between will not be remembered anyway.
                start = oldest_kept;
            }
        }
        self.open_start = Some(start);
        while self.minutes.len() > settings.minutes {
            self.forget_one(settings);
        }
        self.normal = self.look(settings);
    }

    /// Forgets the oldest minute; of those that neither serve nor may be adopted the oldest before any other, or a long
    /// episode would wear away what is normal, and be over for want of it.
    fn forget_one(&mut self, settings: &settings::Baseline) {
        let settled = self.minutes.len().saturating_sub(adoptable(settings));
        let useless = self.minutes.iter().take(settled).position(|minute| minute.left_out);
        self.minutes.remove(useless.unwrap_or(0));
    }

    /// What is normal, as of the last closed minute.
    pub fn normal(&self) -> &Normal {
        &self.normal
    }

    /// Restores what is not stored.
    pub fn refresh(&mut self, settings: &settings::Baseline) {
        self.normal = self.look(settings);
    }

    /// Makes the present level the new normal: what was before is forgotten.
    pub fn adopt(&mut self, settings: &settings::Baseline) {
        let keep_from = self.minutes.len().saturating_sub(adoptable(settings));
        self.minutes.drain(..keep_from);
        self.minutes.iter_mut().for_each(|minute| minute.left_out = false);
        self.normal = self.look(settings);
    }

    fn look(&self, settings: &settings::Baseline) -> Normal {
        let lagged = self.minutes.len().saturating_sub((settings.lag / MINUTE) as usize);
        let trusted: Vec<Minute> =
            self.minutes.iter().take(lagged).filter(|m| !m.left_out).copied().collect();
        let minutes = if trusted.len() >= settings.enough_minutes {
            trusted
        } else {
            self.minutes.iter().filter(|m| !m.left_out).copied().collect()
        };
        let logs: i64 = minutes.iter().map(|m| m.logs).sum();
        let errors: i64 = minutes.iter().map(|m| m.errors).sum();
        Normal {
            volume: (minutes.len() >= settings.first_minutes).then(|| volume(&minutes)),
            error_rate: (logs > 0).then(|| errors as f64 / logs as f64),
            minutes: minutes.len(),
        }
    }
}

/// How many of the newest minutes are the present level.
fn adoptable(settings: &settings::Baseline) -> usize {
    settings.first_minutes.max((settings.lag / MINUTE) as usize)
}

fn volume(minutes: &[Minute]) -> Volume {
    let mut counts: Vec<f64> = minutes.iter().map(|m| m.logs as f64).collect();
    let center = median(&mut counts);
    let mut deviations: Vec<f64> = counts.iter().map(|count| (count - center).abs()).collect();
    let spread = median(&mut deviations) * MAD_TO_DEVIATION;
    Volume { median: center, deviation: spread.max(center.sqrt()).max(1.0) }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(per_minute: &[i64]) -> Baseline {
        let mut baseline = Baseline::default();
        let settings = settings::Baseline::default();
        for (minute, &logs) in per_minute.iter().enumerate() {
            let start = minute as i64 * MINUTE;
            baseline.observe(start + 1, Sums { logs, errors: 0, message_chars: 0 });
            baseline.close_through(start + MINUTE, false, &settings);
        }
        baseline
    }

    #[test]
    fn the_first_minute_is_cut_off_and_not_counted() {
        assert_eq!(fed(&[1, 10, 10, 10, 10]).normal().volume, None);
        let normal = *fed(&[1, 10, 10, 10, 10, 10]).normal();
        assert_eq!(normal.volume.map(|v| v.median), Some(10.0));
        assert_eq!(normal.minutes, 5);
    }

    #[test]
    fn one_wild_minute_does_not_move_what_is_normal() {
        let mut counts = vec![100; 60];
        counts[30] = 100_000;
        let volume = fed(&counts).normal().volume.expect("enough minutes");
        assert_eq!(volume, Volume { median: 100.0, deviation: 10.0 });
    }

    #[test]
    fn once_there_is_enough_the_last_minutes_wait_for_the_lag() {
        let mut counts = vec![100; 60];
        counts.extend([900; 9]);
        assert_eq!(fed(&counts).normal().volume.map(|v| v.median), Some(100.0));
    }

    #[test]
    fn a_long_silence_costs_no_more_than_what_is_remembered() {
        let mut baseline = fed(&[5; 30]);
        baseline.close_through(1_000_000_000 * MINUTE, false, &settings::Baseline::default());
        assert_eq!(baseline.minutes.len(), settings::Baseline::default().minutes);
        assert!(baseline.minutes.iter().all(|m| m.logs == 0));
    }
}
