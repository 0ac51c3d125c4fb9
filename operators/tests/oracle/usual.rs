//! What is normal for a service, the naive way: every whole minute of its life is kept, and everything is worked out
//! anew whenever it is asked for. Shares no code with the product.

use smartlog_operators::settings::{Baseline, Detection};

#[derive(Debug, Clone, Copy)]
struct Minute {
    end: i64,
    logs: f64,
    errors: f64,
    in_trouble: bool,
}

/// What a length of time is compared with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scale {
    /// The least and the greatest usual logs per minute.
    pub level: Option<(f64, f64)>,
    pub spread: f64,
    pub error_rate: Option<f64>,
    pub error_spread: f64,
}

#[derive(Debug, Clone, Default)]
pub struct Usual {
    pub minute: Scale,
    pub window: Scale,
    pub drift: Scale,
    /// Logs and errors of the last minutes that are watched for drift.
    pub drifted: Option<(f64, f64)>,
}

/// Observations of one length of block, each with the weight that is left of it.
#[derive(Debug, Clone, Default)]
struct Blocks(Vec<(f64, f64)>);

impl Blocks {
    fn add(&mut self, n: f64, m: f64, assumed: f64, worth: f64, memory: f64) {
        if m <= 0.0 {
            return;
        }
        let most = 4.0 * (m + self.spread(assumed, worth, memory) * m * m);
        let relative = (f64::min((n - m).powi(2), most) - m) / (m * m);
        self.0.push((relative, m / (m + 10.0)));
    }

    fn spread(&self, assumed: f64, worth: f64, memory: f64) -> f64 {
        let (mut sum, mut weights) = (assumed * worth, worth);
        let mut left = 1.0;
        for (relative, weight) in self.0.iter().rev() {
            sum += left * weight * relative;
            weights += left * weight;
            left *= 1.0 - 1.0 / memory;
        }
        f64::max(sum / weights, 0.0025)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Past {
    minutes: Vec<Minute>,
    hours: Vec<(i64, f64)>,
    this_hour: Vec<f64>,
    /// Logs and errors of minutes that serve no more.
    former: (f64, f64),
    remembered: usize,
    of_minutes: Blocks,
    of_windows: Blocks,
    of_drift: Blocks,
    of_errors: Blocks,
    pub longest_pause: f64,
}

impl Past {
    pub fn minute(
        &mut self,
        end: i64,
        logs: f64,
        errors: f64,
        in_trouble: bool,
        usual: &Usual,
        detection: &Detection,
    ) {
        let baseline = &detection.baseline;
        self.minutes.push(Minute { end, logs, errors, in_trouble });
        self.learn(end, usual, baseline);
        if !in_trouble {
            self.this_hour.push(logs);
        }
        if end % 3600 == 0 {
            let minutes = std::mem::take(&mut self.this_hour);
            self.hours.retain(|(hour, _)| *hour > end - 7 * 86_400);
            if minutes.len() >= 30 {
                self.hours.push((end, rounded(median(minutes))));
            }
        }
        self.forget(baseline);
        self.longest_pause *= 0.9995;
    }

    fn learn(&mut self, end: i64, usual: &Usual, baseline: &Baseline) {
        // Half way between the edges on a logarithmic scale; nothing is learned where an edge is nothing.
        let middle = |(low, high): (f64, f64)| {
            if low > 0.0 { f64::exp(0.5 * (low.ln() + high.ln())) } else { 0.0 }
        };
        let Baseline { spread, error_spread, drift, .. } = *baseline;
        if let (Some(level), Some((logs, _))) = (usual.minute.level, self.calm(1)) {
            self.of_minutes.add(logs, middle(level), spread, 30.0, 2880.0);
        }
        if let (Some(level), Some((logs, errors)), 0) = (usual.window.level, self.calm(5), end % 300) {
            self.of_windows.add(logs, 5.0 * middle(level), spread, 12.0, 576.0);
            if let Some(rate) = usual.window.error_rate {
                self.of_errors.add(errors, logs * rate, error_spread, 6.0, 576.0);
            }
        }
        let minutes = drift as usize / 60;
        if let (Some(level), Some((logs, _)), 0) = (usual.drift.level, self.calm(minutes), end % drift) {
            self.of_drift.add(logs, minutes as f64 * middle(level), spread, 6.0, 192.0);
        }
    }

    /// Logs and errors of the newest minutes, where none is in trouble.
    fn calm(&self, minutes: usize) -> Option<(f64, f64)> {
        let from = self.minutes.len().checked_sub(minutes)?;
        self.minutes[from..].iter().try_fold((0.0, 0.0), |(logs, errors), minute| {
            (!minute.in_trouble).then_some((logs + minute.logs, errors + minute.errors))
        })
    }

    /// Minutes beyond what is remembered go: those in trouble first, but for those that may become normal.
    fn forget(&mut self, baseline: &Baseline) {
        let newest = newest(baseline);
        if self.minutes.len() > baseline.minutes + newest {
            let settled = self.minutes.len() - newest;
            let goes = self.minutes[..settled].iter().position(|m| m.in_trouble).unwrap_or(0);
            let gone = self.minutes.remove(goes);
            if !gone.in_trouble {
                let (logs, errors) = self.former;
                let kept = 1.0 - 1.0 / 10_080.0;
                self.former = (logs * kept + gone.logs, errors * kept + gone.errors);
            }
        }
    }

    /// The present level becomes normal.
    pub fn adopt(&mut self, detection: &Detection) {
        let from = self.minutes.len().saturating_sub(newest(&detection.baseline));
        self.minutes.drain(..from);
        self.minutes.iter_mut().for_each(|minute| minute.in_trouble = false);
        self.this_hour.clear();
        self.former = (0.0, 0.0);
    }

    pub fn usual(&self, now: i64, detection: &Detection) -> Usual {
        let baseline = &detection.baseline;
        let (lag, drift) = ((baseline.lag / 60) as usize, (baseline.drift / 60) as usize);
        let recent = self.trusted(lag, baseline);
        let cold = recent.len() < baseline.enough_minutes;
        let (recent, lag_of_recent) = if cold { (self.trusted(0, baseline), 0) } else { (recent, lag) };
        let older = self.trusted(lag + drift, baseline);
        let spreads = [
            self.of_minutes.spread(baseline.spread, 30.0, 2880.0),
            self.of_windows.spread(baseline.spread, 12.0, 576.0),
            self.of_drift.spread(baseline.spread, 6.0, 192.0),
            self.of_errors.spread(baseline.error_spread, 6.0, 576.0),
        ];
        let scale = |used: &[Minute], lag: usize, cold: bool, spread: f64| {
            let Some((low, high, doubt)) = self.level(used, lag, cold, now, spreads[1], baseline) else {
                return Scale { spread, error_spread: spreads[3], ..Scale::default() };
            };
            let rate = self.error_rate(used);
            Scale {
                level: Some((low, high)),
                spread: spread + doubt,
                error_rate: rate.map(|(rate, _)| rate),
                error_spread: spreads[3] + rate.map_or(0.0, |(_, errors)| 1.0 / errors),
            }
        };
        let mut usual = Usual {
            minute: scale(&recent, lag_of_recent, cold, spreads[0]),
            window: scale(&recent, lag_of_recent, cold, spreads[1]),
            ..Usual::default()
        };
        if older.len() >= baseline.enough_minutes {
            usual.drift = scale(&older, lag + drift, false, spreads[2]);
            let from = self.minutes.len() - drift;
            let sum = |of: fn(&Minute) -> f64| self.minutes[from..].iter().map(of).sum::<f64>();
            usual.drifted = usual.drift.level.map(|_| (sum(|m| m.logs), sum(|m| m.errors)));
        }
        usual
    }

    /// The newest minutes without trouble that ended `lag` minutes ago, oldest first.
    fn trusted(&self, lag: usize, baseline: &Baseline) -> Vec<Minute> {
        let lagged = &self.minutes[..self.minutes.len().saturating_sub(lag)];
        let calm: Vec<Minute> = lagged.iter().filter(|minute| !minute.in_trouble).copied().collect();
        calm[calm.len().saturating_sub(baseline.minutes)..].to_vec()
    }

    fn level(
        &self,
        used: &[Minute],
        lag: usize,
        cold: bool,
        now: i64,
        spread: f64,
        baseline: &Baseline,
    ) -> Option<(f64, f64, f64)> {
        if used.iter().filter(|minute| minute.logs > 0.0).count() < baseline.first_minutes {
            return None;
        }
        let level = middle_half(used);
        let mut candidates = vec![level];
        if cold {
            let newest = middle_half(&used[used.len() - baseline.first_minutes..]);
            candidates.push(f64::max(level, newest));
        }
        let count = used.len() as f64;
        let then = now - (lag + used.len() / 2) as i64 * 60;
        if let (Some(today), Some(before)) = (self.season(now, baseline), self.season(then, baseline)) {
            let moved = if before > 0.0 { level * (today / before) } else { level };
            candidates = vec![level, today, moved];
        }
        let low = candidates.iter().copied().fold(f64::INFINITY, f64::min);
        let high = candidates.iter().copied().fold(0.0, f64::max);
        let doubt =
            std::f64::consts::PI / 2.0 * (5.0 * spread / count + 1.0 / (count * f64::max(level, 0.5)));
        Some((low, high, doubt))
    }

    /// Errors per log, and the errors that it rests on.
    fn error_rate(&self, used: &[Minute]) -> Option<(f64, f64)> {
        let logs: f64 = used.iter().map(|minute| minute.logs).sum();
        let errors: f64 = used.iter().map(|minute| minute.errors).sum();
        let share = if self.former.1 > 10.0 { 10.0 / self.former.1 } else { 1.0 };
        let errors = errors + self.former.1 * share + 0.5;
        (logs > 0.0).then(|| (errors / (logs + self.former.0 * share + 1.0), errors))
    }

    /// By the middles of the hours around `at`.
    fn season(&self, at: i64, baseline: &Baseline) -> Option<f64> {
        let hour = (at - 1800).div_euclid(3600);
        let of = |hour: i64| {
            let end_of_day = (hour + 1) * 3600;
            let same = self.hours.iter().filter(|(end, _)| (end - end_of_day).rem_euclid(86_400) == 0);
            let levels: Vec<f64> = same.map(|(_, level)| *level).collect();
            (levels.len() >= baseline.season_days).then(|| median(levels))
        };
        let (before, after) = (of(hour)?, of(hour + 1)?);
        let part = (at - 1800 - hour * 3600) as f64 / 3600.0;
        Some(before * (1.0 - part) + after * part)
    }
}

fn newest(baseline: &Baseline) -> usize {
    ((baseline.lag + baseline.drift) / 60).max(baseline.first_minutes as i64) as usize
}

/// The mean of what is left when a quarter of the minutes is cut off on either side.
fn middle_half(minutes: &[Minute]) -> f64 {
    let mut logs: Vec<f64> = minutes.iter().map(|minute| minute.logs).collect();
    logs.sort_by(|a, b| a.partial_cmp(b).expect("counts are numbers"));
    let quarter = logs.len() / 4;
    let rest = &logs[quarter..logs.len() - quarter];
    rest.iter().sum::<f64>() / rest.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).expect("counts are numbers"));
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

/// A level as it is stored: its logarithm in 2,500ths.
fn rounded(level: f64) -> f64 {
    (((level + 1.0).ln() * 2500.0).round() / 2500.0).exp() - 1.0
}

/// The nats of `n` where `m` are expected: the least of `a²/2 + KL` over all levels `m·exp(σa)`, by golden section.
pub fn nats_of(n: f64, m: f64, spread: f64) -> f64 {
    let sigma = (1.0 + spread).ln().sqrt();
    let at = |a: f64| {
        let level = m * f64::exp(sigma * a);
        let poisson = if n == 0.0 { level } else { n * (n / level).ln() - n + level };
        a * a / 2.0 + poisson
    };
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let reach = sigma * (n - m).abs() + 1.0;
    let (mut low, mut high) = (-f64::min(reach, 60.0), f64::min(reach, 60.0));
    for _ in 0..120 {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if at(left) < at(right) { high = right } else { low = left }
    }
    at((low + high) / 2.0)
}

/// The nats of a negative binomial count of errors.
pub fn nats_of_errors(e: f64, expected: f64, spread: f64) -> f64 {
    let k = 1.0 / spread;
    e * (e / expected).ln() - (e + k) * ((e + k) / (expected + k)).ln()
}

/// Where `nats` crosses what is asked for, by steps of ever smaller size.
fn crossing(from: f64, mut step: f64, is_calm: impl Fn(f64) -> bool) -> f64 {
    let mut at = from;
    while step.abs() > 1e-13 * at.abs().max(1e-3) {
        if is_calm(at + step) { at += step } else { step /= 2.0 }
    }
    at
}

pub fn too_many(expected: f64, nats: f64, spread: f64) -> f64 {
    crossing(expected, expected.max(1.0), |n| nats_of(n, expected, spread) < nats)
}

pub fn too_many_errors(expected: f64, nats: f64, spread: f64) -> f64 {
    crossing(expected, expected.max(1.0), |n| nats_of_errors(n, expected, spread) < nats)
}

/// Negative where even none at all is no surprise.
pub fn too_few(expected: f64, nats: f64, spread: f64) -> f64 {
    if nats_of(0.0, expected, spread) < nats {
        return -1.0;
    }
    crossing(0.0, expected / 4.0, |n| nats_of(n, expected, spread) >= nats && n <= expected)
}
