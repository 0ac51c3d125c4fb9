//! The last minutes of a service, as far as they tell what is new.
//!
//! ```text
//!                                usual: the most of three windows before      window: 5 minutes
//!   ──────────────┤─────────────┼─────────────┼─────────────┼───────────────┤──────────────────┤
//!                                                                                             end
//! ```

use super::{FRESH, peak};
use crate::breakdown::{Breakdown, Counts};
use crate::detector::Finding;
use crate::rules::Verdict;
use crate::settings::{Detection, NewPattern};
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS};
use std::collections::BTreeMap;
use std::ops::Range;

/// Windows before the one that is judged that tell what is usual.
const USUAL_WINDOWS: i64 = 3;
/// Seconds before the end of a window that decide on it.
pub const REACHES_BACK: i64 = (USUAL_WINDOWS + 1) * WINDOW_SECONDS;
/// Minutes of a window.
const MINUTES: f64 = (WINDOW_SECONDS / MINUTE) as f64;

/// One minute: all logs, and those of the shapes that may be new.
#[derive(Debug, Default)]
pub struct Minute {
    pub logs: u64,
    pub fresh: Vec<(u64, Counts)>,
}

/// An episode that is under way.
#[derive(Debug)]
pub struct Running {
    pub finding: Finding,
    pub calm_since: Option<i64>,
}

/// What is looked at.
pub struct Story<'a> {
    minutes: BTreeMap<i64, Minute>,
    /// When each shape that may be new came first.
    first: &'a BTreeMap<u64, i64>,
    settings: &'a Detection,
}

impl<'a> Story<'a> {
    /// What windows of `service` need that end in `span`, its begin excluded and its end included.
    pub fn new(
        breakdown: &Breakdown,
        service: &str,
        span: Range<i64>,
        first: &'a BTreeMap<u64, i64>,
        settings: &'a Detection,
    ) -> Self {
        let minutes = breakdown.minutes(service, span.start - REACHES_BACK, span.end).map(|(at, parts)| {
            let fresh = parts.shapes.iter().filter(|(shape, _)| first.contains_key(shape));
            let fresh = fresh.map(|(shape, counts)| (*shape, *counts)).collect();
            (at, Minute { logs: parts.seen.total.logs, fresh })
        });
        Story::of(minutes.collect(), first, settings)
    }

    /// As it was told before, of those `minutes`.
    pub fn of(
        minutes: BTreeMap<i64, Minute>,
        first: &'a BTreeMap<u64, i64>,
        settings: &'a Detection,
    ) -> Self {
        Story { minutes, first, settings }
    }

    fn rules(&self) -> &NewPattern {
        &self.settings.new_pattern
    }

    /// The counts over the window that ends at `end`, of the shapes that came first after `since`.
    fn counts(&self, end: i64, since: i64) -> impl Iterator<Item = Counts> {
        let mut counts: BTreeMap<u64, Counts> = BTreeMap::new();
        for minute in self.minutes.range(end - WINDOW_SECONDS..end).map(|(_, minute)| minute) {
            for (shape, of_minute) in minute.fresh.iter().filter(|(shape, _)| self.first[shape] > since) {
                *counts.entry(*shape).or_default() += *of_minute;
            }
        }
        counts.into_values()
    }

    /// The most logs that a window shortly before that one had.
    fn usual(&self, end: i64) -> u64 {
        let logs = |end: i64| -> u64 {
            self.minutes.range(end - WINDOW_SECONDS..end).map(|(_, minute)| minute.logs).sum()
        };
        (1..=USUAL_WINDOWS).map(|back| logs(end - back * WINDOW_SECONDS)).max().unwrap_or(0)
    }

    /// What is new in the window that ends at `end`, and enough to be told; of several that of which there is most.
    pub fn fresh(&self, end: i64) -> Option<Verdict> {
        let NewPattern { enabled, min_errors, burst_ratio, min_burst, .. } = *self.rules();
        let usual = self.usual(end);
        // Of a service that was silent nobody knows what is much.
        let burst = (usual as f64 * burst_ratio).max(min_burst as f64);
        let needed = |counts: &Counts| {
            let is_error = counts.errors >= min_errors.cast_unsigned().max(1);
            if is_error {
                Some((min_errors as f64, 0))
            } else {
                (usual > 0 && counts.logs as f64 >= burst).then_some((burst, usual))
            }
        };
        let new = self.counts(end, end - FRESH).filter(|_| enabled);
        let worst = new.filter_map(|counts| Some((counts, needed(&counts)?)));
        let (Counts { logs, .. }, (needed, usual)) = worst.max_by_key(|(counts, _)| *counts)?;
        let rate = |logs: f64| logs / MINUTES;
        Some(Verdict {
            value: rate(logs as f64),
            threshold: rate(needed),
            baseline: rate(usual as f64),
            seconds: WINDOW_SECONDS,
        })
    }

    /// The rate of what came up with an episode, if it goes on.
    fn lasting(&self, open: &Finding, end: i64) -> Option<f64> {
        let counts = self.counts(end, open.started_at - FRESH).filter(|_| self.rules().enabled);
        let rate = counts.map(|counts| counts.logs).max()? as f64 / MINUTES;
        (rate >= open.verdict.threshold * self.settings.hysteresis).then_some(rate)
    }

    /// What the windows that end in `(from, through]` come to; `open`: what had begun before.
    pub fn findings(&self, from: i64, through: i64, mut open: Option<Running>) -> Vec<Finding> {
        let mut ended = Vec::new();
        for end in (from + MINUTE..=through).step_by(MINUTE as usize) {
            open = match open.take() {
                None => self.fresh(end).map(|verdict| raised(verdict, end)),
                Some(running) => self.carry_on(running, end, &mut ended),
            };
        }
        ended.extend(open.map(|running| running.finding));
        ended
    }

    /// An episode after one more window; `None`: it is over.
    fn carry_on(&self, running: Running, end: i64, ended: &mut Vec<Finding>) -> Option<Running> {
        let Running { mut finding, calm_since } = running;
        if end - finding.started_at >= self.settings.max_episode {
            ended.push(Finding { ended_at: Some(end), expired: true, ..finding });
            return None;
        }
        let Some(rate) = self.lasting(&finding, end) else {
            let since = calm_since.unwrap_or(end);
            if end - since < self.settings.calm {
                return Some(Running { finding, calm_since: Some(since) });
            }
            ended.push(Finding { ended_at: Some(since), ..finding });
            return None;
        };
        finding.last_seen = end;
        if rate > finding.peak.value {
            finding.peak = peak(rate, end);
        }
        Some(Running { finding, calm_since: None })
    }
}

fn raised(verdict: Verdict, end: i64) -> Running {
    let finding = Finding {
        anomaly_type: AnomalyType::NewPattern,
        started_at: end,
        last_seen: end,
        ended_at: None,
        expired: false,
        verdict,
        peak: peak(verdict.value, end),
    };
    Running { finding, calm_since: None }
}
