//! What is normal for a service: what its past minutes and hours say robustly.
//!
//! ```text
//!               ◀── recent: 60 minutes ──▶◀ lag: 10 ▶│
//!   ◀── 60 minutes ──▶◀ drift: 15 ▶◀────── lag ─────▶│ now         level = mean of their middle half
//!   7 days × 24 hours: median minute of each hour ───┘             season = median over the days, from three on
//! ```
//!
//! A minute counts once it ended `lag` ago, so that an incident does not become its own baseline, and only when no
//! episode was open at its end. The level of the minutes is moved to the present by the season, and the band of what is
//! usual spans that, the plain level and the season itself: what either the last hours or the same hour of other days
//! explain is no news. Until there are enough minutes, all so far serve.

use crate::dispersion::Dispersion;
use crate::settings;
use crate::sums::Sums;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::{DAY, HOUR, MINUTE, floor_to};
use std::cell::Cell;
use std::collections::VecDeque;

/// Days of which the hours are remembered.
const DAYS: usize = 7;
/// Trusted minutes that an hour must have to be remembered.
const ENOUGH_OF_AN_HOUR: usize = 30;
/// The variance of a median over that of a mean, for a normal sample.
const MEDIAN_VARIANCE: f64 = std::f64::consts::FRAC_PI_2;
/// Errors that all former time may add to those of the recent minutes.
const FORMER_ERRORS: f64 = 10.0;
/// Share of the former errors that is kept from one minute to the next: a week's memory.
const FORMER_KEPT: f64 = 1.0 - 1.0 / 10_080.0;
/// Minutes of a block that the dispersion of windows is learned from.
const BLOCK: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Minute {
    logs: u32,
    errors: u32,
    /// An episode was open at its end, or the stream stood still in it.
    left_out: bool,
    /// The stream stood still in it.
    stood_still: bool,
}

/// Logs per minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Band {
    /// The least level that is usual, and the greatest.
    pub down: f64,
    pub up: f64,
    /// Squared relative spread that not knowing the level exactly adds.
    doubt: f64,
}

/// Errors per log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ErrorRate {
    pub rate: f64,
    /// Squared relative spread that not knowing the rate exactly adds.
    doubt: f64,
}

/// What one length of window is compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    /// `None` while too few minutes are known.
    pub volume: Option<Band>,
    /// Squared relative spread of a window's level.
    pub spread: f64,
    pub errors: Option<ErrorRate>,
    pub error_spread: f64,
    /// Thresholds of the volume, once they were worked out: spike, drop.
    pub thresholds: [Cell<Option<f64>>; 2],
}

/// A value's level and its mean deviation from that, minute by minute, both fading. Steps are cut at 3 deviations
/// (Winsorised, as in [`Dispersion`]), so that one wild minute moves neither far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub level: f64,
    pub deviation: f64,
    /// How many minutes it is of, up to as many as are remembered.
    minutes: u32,
}

impl Level {
    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        self.minutes > 0
    }

    fn observe(&mut self, value: f64) {
        if self.minutes == 0 {
            *self = Level { level: value, deviation: value * FIRST_DEVIATION, minutes: 1 };
            return;
        }
        self.minutes = (self.minutes + 1).min(LEVEL_MINUTES);
        let step = 1.0 / f64::from(self.minutes);
        let least = (self.level * LEAST_DEVIATION).max(f64::MIN_POSITIVE);
        let most = WILD * self.deviation.max(least);
        let off = (value - self.level).clamp(-most, most);
        self.level += step * off;
        self.deviation = (self.deviation + step * (off.abs() - self.deviation)).max(least);
    }
}

/// Deviations beyond this multiple of the mean one count as this multiple.
const WILD: f64 = 3.0;
/// Minutes that a level remembers.
const LEVEL_MINUTES: u32 = 120;
/// The relative deviation that is assumed of one minute, and the least of many.
const FIRST_DEVIATION: f64 = 0.1;
const LEAST_DEVIATION: f64 = 0.01;

/// What is normal right now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Normal {
    pub minute: Expected,
    pub window: Expected,
    /// For the last `drift` minutes.
    pub drift: Expected,
    /// The sums of the last `drift` closed minutes.
    pub drifted: Option<Sums>,
    /// Whether the stream stood still in one of those minutes.
    pub drift_stood_still: bool,
    /// The longest usual pause between two logs, seconds.
    pub longest_pause: f64,
    /// Characters of a message.
    pub length: Level,
    /// Trusted minutes that ended `lag` ago, up to as many as are enough.
    pub known: usize,
}

/// The past of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    minutes: VecDeque<Minute>,
    /// Start of the minute that is being counted; `None` before the first log.
    open_start: Option<i64>,
    logs: u32,
    errors: u32,
    message_chars: i64,
    /// The first minute is cut off by the first log: it is not counted.
    cut_off: bool,
    /// Trusted minutes of the current hour.
    hour: Vec<u32>,
    /// The median minute of each hour of the last days, by hour since 1970 modulo their number; see [`packed`].
    hours: Vec<u16>,
    /// Logs and errors of trusted minutes that are remembered no more, fading.
    former: (f64, f64),
    of_minute: Dispersion,
    of_window: Dispersion,
    of_drift: Dispersion,
    of_errors: Dispersion,
    /// Decaying maximum of the pauses between logs, seconds.
    longest_pause: f64,
    length: Level,
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
        self.logs = self.logs.saturating_add(clamped(sums.logs));
        self.errors = self.errors.saturating_add(clamped(sums.errors));
        self.message_chars = self.message_chars.saturating_add(sums.message_chars);
    }

    /// Takes note of seconds without a log that no episode explains.
    pub fn pause(&mut self, seconds: i64) {
        self.longest_pause = self.longest_pause.max(seconds as f64);
        self.normal.longest_pause = self.longest_pause;
    }

    /// Closes every minute that ended at or before `end`, and looks at them anew. `stood_still`: the stream did.
    pub fn close_through(
        &mut self,
        end: i64,
        in_episode: bool,
        stood_still: bool,
        settings: &settings::Baseline,
    ) {
        let Some(mut start) = self.open_start else { return };
        let oldest_kept = floor_to(end, MINUTE) - kept(settings) as i64 * MINUTE;
        let left_out = in_episode || stood_still;
        while start + MINUTE <= end {
            let minute = Minute { logs: self.logs, errors: self.errors, left_out, stood_still };
            let length = self.message_chars as f64 / f64::from(self.logs.max(1));
            (self.logs, self.errors, self.message_chars) = (0, 0, 0);
            if minute.logs > 0 && !left_out {
                self.length.observe(length);
            }
            if !std::mem::take(&mut self.cut_off) && start >= oldest_kept {
                self.close(minute, start + MINUTE, settings);
            }
            start += MINUTE;
            if start < oldest_kept {
                // A long silence: the minutes in between will not be remembered anyway.
                start = oldest_kept;
            }
        }
        self.open_start = Some(start);
        self.normal = self.look(end, settings);
    }

    fn close(&mut self, minute: Minute, end: i64, settings: &settings::Baseline) {
        self.minutes.push_back(minute);
        self.learn(end, settings);
        if !minute.left_out {
            self.hour.push(minute.logs);
        }
        if end % HOUR == 0 {
            self.close_hour(end - HOUR);
        }
        while self.minutes.len() > kept(settings) {
            self.forget_one(settings);
        }
        self.longest_pause *= PAUSE_KEPT;
    }

    /// Compares the blocks that end with this minute with what was expected of them.
    fn learn(&mut self, end: i64, settings: &settings::Baseline) {
        let Normal { minute, window, drift, .. } = &self.normal;
        if let (Some(band), Some((logs, _))) = (minute.volume, self.block(1)) {
            self.of_minute.observe(logs, band.middle(), &settings.minute_prior());
        }
        if let (Some(band), Some((logs, errors))) =
            (window.volume, self.block(BLOCK).filter(|_| end % (BLOCK as i64 * MINUTE) == 0))
        {
            self.of_window.observe(logs, band.middle() * BLOCK as f64, &settings.window_prior());
            if let Some(rate) = window.errors {
                self.of_errors.observe(errors, logs * rate.rate, &settings.error_prior());
            }
        }
        let minutes = drift_minutes(settings);
        if let (Some(band), Some((logs, _))) =
            (drift.volume, self.block(minutes).filter(|_| end % settings.drift == 0))
        {
            self.of_drift.observe(logs, band.middle() * minutes as f64, &settings.drift_prior());
        }
    }

    /// Logs and errors of the newest `minutes`, if none of them lies in an episode.
    fn block(&self, minutes: usize) -> Option<(f64, f64)> {
        let newest = self.minutes.iter().rev().take(minutes);
        (self.minutes.len() >= minutes && newest.clone().all(|m| !m.left_out)).then(|| total(newest))
    }

    fn close_hour(&mut self, start: i64) {
        if self.hours.is_empty() {
            self.hours = vec![0; DAYS * 24];
        }
        let index = hour_index(start);
        let enough = self.hour.len() >= ENOUGH_OF_AN_HOUR;
        let mut minutes: Vec<f64> = self.hour.drain(..).map(f64::from).collect();
        self.hours[index] = if enough { packed(median(&mut minutes)) } else { 0 };
    }

    /// Forgets the oldest minute; of those that neither serve nor may be adopted the oldest before any other, or a long
    /// episode would wear away what is normal, and be over for want of it.
    fn forget_one(&mut self, settings: &settings::Baseline) {
        let settled = self.minutes.len().saturating_sub(adoptable(settings));
        let useless = self.minutes.iter().take(settled).position(|minute| minute.left_out);
        let Some(forgotten) = self.minutes.remove(useless.unwrap_or(0)) else { return };
        if !forgotten.left_out {
            let (logs, errors) = self.former;
            self.former = (
                logs * FORMER_KEPT + f64::from(forgotten.logs),
                errors * FORMER_KEPT + f64::from(forgotten.errors),
            );
        }
    }

    /// What is normal, as of the last closed minute.
    pub fn normal(&self) -> &Normal {
        &self.normal
    }

    /// Restores what is not stored, as of `end`.
    pub fn refresh(&mut self, end: i64, settings: &settings::Baseline) {
        self.normal = self.look(floor_to(end, MINUTE), settings);
    }

    /// Makes the present level the new normal. What was before is forgotten, but for the same hour of other days: the
    /// level that returns to it is no news.
    pub fn adopt(&mut self, end: i64, settings: &settings::Baseline) {
        let keep_from = self.minutes.len().saturating_sub(adoptable(settings));
        self.minutes.drain(..keep_from);
        self.minutes.iter_mut().for_each(|minute| minute.left_out = false);
        self.hour.clear();
        self.former = (0.0, 0.0);
        self.normal = self.look(floor_to(end, MINUTE), settings);
    }

    fn look(&self, end: i64, settings: &settings::Baseline) -> Normal {
        let lag = (settings.lag / MINUTE) as usize;
        let drift = drift_minutes(settings);
        let recent = self.used(lag, settings);
        let known = recent.len().min(settings.enough_minutes);
        let recent = match recent.len() >= settings.enough_minutes {
            true => Used { minutes: recent, lag, cold: false },
            false => Used { minutes: self.used(0, settings), lag: 0, cold: true },
        };
        let older = Used { minutes: self.used(lag + drift, settings), lag: lag + drift, cold: false };
        let [of_minute, of_window, of_drift, of_errors] = [
            self.of_minute.spread(&settings.minute_prior()),
            self.of_window.spread(&settings.window_prior()),
            self.of_drift.spread(&settings.drift_prior()),
            self.of_errors.spread(&settings.error_prior()),
        ];
        let volume = self.band(&recent, end, of_window, settings);
        let errors = self.rate(&recent);
        let expected = |volume: Option<Band>, errors: Option<ErrorRate>, spread: f64| Expected {
            spread: spread + volume.map_or(0.0, |band| band.doubt),
            error_spread: of_errors + errors.map_or(0.0, |rate| rate.doubt),
            volume,
            errors: errors.filter(|_| volume.is_some()),
            thresholds: Default::default(),
        };
        let is_old = older.minutes.len() >= settings.enough_minutes;
        let drifting = if is_old { self.band(&older, end, of_window, settings) } else { None };
        Normal {
            minute: expected(volume, errors, of_minute),
            window: expected(volume, errors, of_window),
            drift: expected(drifting, self.rate(&older).filter(|_| is_old), of_drift),
            drifted: drifting.map(|_| self.newest(drift)),
            drift_stood_still: self.minutes.iter().rev().take(drift).any(|minute| minute.stood_still),
            longest_pause: self.longest_pause,
            length: self.length,
            known,
        }
    }

    /// The trusted minutes that ended `lag` minutes ago, the newest of them, as many as serve.
    fn used(&self, lag: usize, settings: &settings::Baseline) -> Vec<Minute> {
        let lagged = self.minutes.len().saturating_sub(lag);
        let trusted = self.minutes.iter().take(lagged).rev().filter(|m| !m.left_out);
        trusted.take(settings.minutes).copied().collect()
    }

    fn newest(&self, minutes: usize) -> Sums {
        let (logs, errors) = total(self.minutes.iter().rev().take(minutes));
        Sums { logs: logs as i64, errors: errors as i64, message_chars: 0 }
    }

    fn band(&self, used: &Used, end: i64, spread: f64, settings: &settings::Baseline) -> Option<Band> {
        let minutes = &used.minutes;
        if minutes.iter().filter(|m| m.logs > 0).count() < settings.first_minutes {
            return None;
        }
        let level = level(minutes);
        let mut band = Band { down: level, up: level, doubt: 0.0 };
        if used.cold {
            // A log that comes long before the others makes empty minutes, and no level.
            band.up = band.up.max(self::level(&minutes[..settings.first_minutes]));
        }
        let middle = end - (used.lag + minutes.len() / 2) as i64 * MINUTE;
        if let (Some(now), Some(then)) = (self.season(end, settings), self.season(middle, settings)) {
            let moved = if then > 0.0 { level * now / then } else { level };
            band = Band { down: level.min(now).min(moved), up: level.max(now).max(moved), doubt: 0.0 };
        }
        let count = minutes.len() as f64;
        let chance = 1.0 / (count * level.max(0.5));
        band.doubt = MEDIAN_VARIANCE * (spread * BLOCK as f64 / count + chance);
        Some(band)
    }

    fn rate(&self, used: &Used) -> Option<ErrorRate> {
        let (logs, errors) = total(used.minutes.iter());
        if logs == 0.0 {
            return None;
        }
        let (former_logs, former_errors) = self.former;
        let share = if former_errors > FORMER_ERRORS { FORMER_ERRORS / former_errors } else { 1.0 };
        // Jeffreys' prior: half an error that nobody saw.
        let errors = errors + former_errors * share + 0.5;
        Some(ErrorRate { rate: errors / (logs + former_logs * share + 1.0), doubt: 1.0 / errors })
    }

    /// Logs per minute at this time of day, between the middles of two hours, once there are enough days.
    fn season(&self, at: i64, settings: &settings::Baseline) -> Option<f64> {
        let from = floor_to(at - HOUR / 2, HOUR);
        let (before, after) = (self.usual_hour(from, settings)?, self.usual_hour(from + HOUR, settings)?);
        let part = (at - HOUR / 2 - from) as f64 / HOUR as f64;
        Some(before + (after - before) * part)
    }

    fn usual_hour(&self, start: i64, settings: &settings::Baseline) -> Option<f64> {
        if self.hours.is_empty() {
            return None;
        }
        let of_days = (0..DAYS).map(|day| self.hours[hour_index(start + day as i64 * DAY)]);
        let mut known: Vec<f64> = of_days.filter(|hour| *hour > 0).map(unpacked).collect();
        (known.len() >= settings.season_days).then(|| median(&mut known))
    }
}

/// Pauses fade: in a day to about half.
const PAUSE_KEPT: f64 = 0.9995;

/// The minutes that a level is taken from, newest first.
struct Used {
    minutes: Vec<Minute>,
    /// How many minutes ago the newest of them ended.
    lag: usize,
    /// Not enough yet, so what there is.
    cold: bool,
}

impl Band {
    /// What `logs` in so many minutes are to be compared with: the nearer edge; inside, it is as expected.
    pub fn nearest(&self, logs: f64, minutes: f64) -> (f64, f64) {
        (logs, logs.clamp(self.down * minutes, self.up * minutes))
    }

    /// The level that bursts are learned around: the middle, by ratio. Around the nearer edge whatever lies within a wide
    /// band would count as steadier than chance, and the service as one without bursts.
    fn middle(&self) -> f64 {
        (self.down * self.up).sqrt()
    }
}

/// How many minutes are remembered.
fn kept(settings: &settings::Baseline) -> usize {
    settings.minutes + adoptable(settings)
}

/// How many of the newest minutes are the present level.
fn adoptable(settings: &settings::Baseline) -> usize {
    settings.first_minutes.max((settings.lag / MINUTE) as usize + drift_minutes(settings))
}

fn drift_minutes(settings: &settings::Baseline) -> usize {
    (settings.drift / MINUTE) as usize
}

fn clamped(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

fn total<'a>(minutes: impl Iterator<Item = &'a Minute>) -> (f64, f64) {
    minutes.fold((0.0, 0.0), |(logs, errors), m| (logs + f64::from(m.logs), errors + f64::from(m.errors)))
}

/// The mean of the middle half.
fn level(minutes: &[Minute]) -> f64 {
    let mut counts: Vec<f64> = minutes.iter().map(|m| f64::from(m.logs)).collect();
    counts.sort_unstable_by(f64::total_cmp);
    let cut = counts.len() / 4;
    let middle = &counts[cut..counts.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, *upper)
}

fn hour_index(start: i64) -> usize {
    start.div_euclid(HOUR).rem_euclid((DAYS * 24) as i64) as usize
}

/// A level in two bytes: its logarithm in steps of 0.04 %; 0 is none.
fn packed(level: f64) -> u16 {
    (level.ln_1p() * STEPS_PER_E).round().clamp(0.0, f64::from(u16::MAX - 1)) as u16 + 1
}

fn unpacked(hour: u16) -> f64 {
    (f64::from(hour - 1) / STEPS_PER_E).exp_m1()
}

const STEPS_PER_E: f64 = 2_500.0;
