//! One service's detection as a fold over event time: the same seconds give the same episodes, whatever ticks,
//! workers and restarts cut them into.
//!
//! The window changes only where a second enters or leaves it, and a verdict only there, at minute boundaries (the
//! baseline moves) and at deadlines (calm long enough, open too long). The fold visits those ends and skips the rest.

use crate::baseline::Baseline;
use crate::rules::{RULES, Rule, Verdict, View};
use crate::settings::Detection;
use crate::sums::Sums;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, ceil_to};

/// An episode as the final windows show it. Times are ends of windows, epoch seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub anomaly_type: AnomalyType,
    pub started_at: i64,
    /// The last window beyond the threshold.
    pub last_seen: i64,
    /// The first window of the calm that ended it; `None` while it is open.
    pub ended_at: Option<i64>,
    /// It was open for too long, and its level became normal.
    pub expired: bool,
    pub value: f64,
    pub threshold: f64,
    pub baseline: f64,
    pub peak: f64,
}

impl Finding {
    /// The end of the window that ended it, beyond which no log can revive it; `None` while it is open.
    pub fn decided_at(&self, settings: &Detection) -> Option<i64> {
        let calm = if self.expired { 0 } else { settings.calm };
        self.ended_at.map(|ended_at| ended_at + calm)
    }
}

/// A rule beyond its threshold right now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    pub anomaly_type: AnomalyType,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OpenEpisode {
    finding: Finding,
    calm_since: Option<i64>,
}

/// The state of one service's detection, as of the final window that ends at [`Detector::at`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    at: i64,
    first_seen: Option<i64>,
    last_seen: i64,
    baseline: Baseline,
    /// By rule, in the order of [`RULES`].
    open: Vec<Option<OpenEpisode>>,
}

impl Detector {
    /// A detector for a service whose first log lies in `second`.
    pub fn new(second: i64) -> Self {
        Detector {
            at: second,
            first_seen: None,
            last_seen: second,
            baseline: Baseline::default(),
            open: vec![None; RULES.len()],
        }
    }

    /// Reads what [`Detector::to_bytes`] wrote. Rules that came since start calm.
    pub fn from_bytes(bytes: &[u8], settings: &Detection) -> Result<Self, bincode::Error> {
        let mut detector: Detector = bincode::deserialize(bytes)?;
        detector.open.resize(RULES.len(), None);
        detector.baseline.refresh(&settings.baseline);
        Ok(detector)
    }

    /// The newest second with a log of a detector that [`Detector::to_bytes`] wrote.
    pub fn last_seen_in(bytes: &[u8]) -> Option<i64> {
        bincode::deserialize(bytes).ok().map(|detector: Detector| detector.last_seen)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, bincode::Error> {
        bincode::serialize(self)
    }

    /// The end of the last window that was judged.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// Whether no log was folded in yet.
    pub fn is_fresh(&self) -> bool {
        self.first_seen.is_none()
    }

    /// The newest second with a log.
    pub fn last_seen(&self) -> i64 {
        self.last_seen
    }

    /// What is normal, as of [`Detector::at`].
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Folds the windows that end in `(at, to]`. `seconds` holds the service's sums, ascending, at least those in
    /// `[at - WINDOW_SECONDS, to)`. Returns the episodes that ended.
    pub fn fold(&mut self, seconds: &[(i64, Sums)], to: i64, settings: &Detection) -> Vec<Finding> {
        let from = |second: i64| seconds.partition_point(|(s, _)| *s < second);
        let (mut entering, mut leaving) = (from(self.at), from(self.at - WINDOW_SECONDS));
        let mut window: Sums =
            seconds[leaving..entering].iter().fold(Sums::default(), |sum, (_, s)| sum + *s);
        let mut ended = Vec::new();
        while self.at < to {
            let enters = seconds.get(entering).map(|(s, _)| s + 1);
            let leaves = seconds[..entering].get(leaving).map(|(s, _)| s + WINDOW_SECONDS + 1);
            let end = [enters, leaves, self.deadline(settings)].into_iter().flatten().fold(to, i64::min);
            let end = end.max(self.at + 1);
            while let Some(&(second, sums)) = seconds.get(entering).filter(|(s, _)| *s < end) {
                window += sums;
                entering += 1;
                if second - self.last_seen >= settings.retire_after && self.open().next().is_none() {
                    // Nothing is known of it any more: it starts over, whether its state was given up meanwhile or not.
                    self.baseline = Baseline::default();
                    self.first_seen = None;
                }
                self.first_seen.get_or_insert(second);
                self.last_seen = second;
                self.baseline.observe(second, sums);
            }
            while let Some(&(_, sums)) = seconds.get(leaving).filter(|(s, _)| *s < end - WINDOW_SECONDS) {
                window += -sums;
                leaving += 1;
            }
            if end % MINUTE == 0 {
                let in_episode = self.open.iter().any(Option::is_some);
                self.baseline.close_through(end, in_episode, &settings.baseline);
            }
            self.at = end;
            self.judge(window, settings, &mut ended);
        }
        ended
    }

    /// The next end at which something happens without a log.
    pub fn deadline(&self, settings: &Detection) -> Option<i64> {
        let full_window = Some(self.first_seen? + WINDOW_SECONDS).filter(|end| *end > self.at);
        let of_open = |open: &OpenEpisode| {
            let expiry = open.finding.started_at + settings.max_episode;
            open.calm_since.map_or(expiry, |since| expiry.min(since + settings.calm))
        };
        let episodes = self.open.iter().flatten().map(of_open);
        episodes.chain([ceil_to(self.at + 1, MINUTE)]).chain(full_window).min()
    }

    /// Episodes that are open.
    pub fn open(&self) -> impl Iterator<Item = Finding> + '_ {
        self.open.iter().flatten().map(|open| open.finding)
    }

    /// Rules that are calm so far and beyond their threshold in `window`, which ends at `end` and is not complete.
    pub fn peek(&self, window: Sums, end: i64, settings: &Detection) -> Vec<Alarm> {
        let view = self.view(window, end, settings);
        let calm = RULES.iter().zip(&self.open).filter(|(_, open)| open.is_none());
        calm.filter_map(|(rule, _)| {
            let verdict = rule.verdict(&view).filter(|verdict| rule.is_beyond(verdict))?;
            Some(Alarm { anomaly_type: rule.anomaly_type, verdict })
        })
        .collect()
    }

    fn view<'a>(&'a self, window: Sums, end: i64, settings: &'a Detection) -> View<'a> {
        let fills_window = self.first_seen.is_some_and(|first| end - first >= WINDOW_SECONDS);
        View { window, normal: self.baseline.normal(), settings, fills_window }
    }

    fn judge(&mut self, window: Sums, settings: &Detection, ended: &mut Vec<Finding>) {
        self.expire(settings, ended);
        let end = self.at;
        for (index, rule) in RULES.iter().enumerate() {
            let verdict = rule.verdict(&self.view(window, end, settings));
            match self.open[index].take() {
                None => self.open[index] = raise(rule, verdict, end),
                Some(open) => match carry_on(rule, open, verdict, end, settings) {
                    Ok(open) => self.open[index] = Some(open),
                    Err(finding) => ended.push(finding),
                },
            }
        }
    }

    /// Ends what was open for too long. Its level is normal from now on, for every rule.
    fn expire(&mut self, settings: &Detection, ended: &mut Vec<Finding>) {
        let end = self.at;
        for slot in &mut self.open {
            let is_over = |open: &mut OpenEpisode| end - open.finding.started_at >= settings.max_episode;
            let Some(OpenEpisode { finding, calm_since }) = slot.take_if(is_over) else { continue };
            // Windows between two visited ends are all alike.
            let last_seen = if calm_since.is_none() { end - 1 } else { finding.last_seen };
            ended.push(Finding { ended_at: Some(end), expired: true, last_seen, ..finding });
            self.baseline.adopt(&settings.baseline);
        }
    }
}

fn raise(rule: &Rule, verdict: Option<Verdict>, end: i64) -> Option<OpenEpisode> {
    let Verdict { value, threshold, baseline } = verdict.filter(|verdict| rule.is_beyond(verdict))?;
    let finding = Finding {
        anomaly_type: rule.anomaly_type,
        started_at: end,
        last_seen: end,
        ended_at: None,
        expired: false,
        value,
        threshold,
        baseline,
        peak: value,
    };
    Some(OpenEpisode { finding, calm_since: None })
}

/// The episode after one more window, or what it came to when the calm has lasted long enough.
fn carry_on(
    rule: &Rule,
    mut open: OpenEpisode,
    verdict: Option<Verdict>,
    end: i64,
    settings: &Detection,
) -> Result<OpenEpisode, Finding> {
    let finding = &mut open.finding;
    match verdict.filter(|verdict| rule.goes_on(verdict, settings.hysteresis)) {
        Some(verdict) => {
            finding.last_seen = end;
            finding.peak = rule.worse(finding.peak, verdict.value);
            open.calm_since = None;
            Ok(open)
        }
        None => {
            if open.calm_since.is_none() {
                // Windows between two visited ends are all alike.
                finding.last_seen = end - 1;
            }
            let since = *open.calm_since.get_or_insert(end);
            if end - since >= settings.calm {
                return Err(Finding { ended_at: Some(since), ..*finding });
            }
            Ok(open)
        }
    }
}
