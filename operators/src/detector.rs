//! One service's detection as a fold over event time: the same seconds give the same episodes, whatever ticks,
//! workers and restarts cut them into.
//!
//! The window changes only where a second enters or leaves it, and a verdict only there, at minute boundaries (the
//! baseline moves) and at deadlines (calm long enough, open too long). The fold visits those ends and skips the rest.

use crate::baseline::Baseline;
use crate::flow::{Others, Past};
use crate::peak::Peak;
use crate::rules::{RULES, Rule, STILL_SHARE, Side, Verdict, View, log_volume_drop};
use crate::settings::Detection;
use crate::sums::Sums;
use bincode::Options;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, ceil_to};
use std::ops::ControlFlow;

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
    /// What raised it.
    pub verdict: Verdict,
    /// The worst window: of several alike the first above a threshold, and the last below one.
    pub peak: Peak,
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
    pub peak: Peak,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OpenEpisode {
    finding: Finding,
    calm_since: Option<i64>,
    /// The last window that was visited is as bad as any, and may be followed by others like it.
    at_peak: bool,
}

impl OpenEpisode {
    /// The window that ends at `end` is not as bad as the worst: the one before it was the last of those.
    fn leave_peak(&mut self, end: i64) {
        if std::mem::take(&mut self.at_peak) {
            self.finding.peak.end = end - 1;
        }
    }
}

/// The state of one service's detection, as of the final window that ends at [`Detector::at`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    at: i64,
    first_seen: Option<i64>,
    last_seen: i64,
    /// Seconds since then in which the stream went on.
    missed: i64,
    /// How the stream's last pause began before the first window that may be judged again.
    stream: Past,
    baseline: Baseline,
    /// By rule, in the order of [`RULES`].
    open: Vec<Option<OpenEpisode>>,
    /// Episodes of late by rule, fading, as of the last full minute, and those that ended since.
    frequent: Vec<Frequency>,
}

/// How often a rule raised something of late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Frequency {
    episodes: f64,
    since: u32,
}

/// Share of the episodes of late that is kept from one minute to the next: a week's memory.
const FREQUENCY_KEPT: f64 = 1.0 - 1.0 / 10_080.0;
/// How much more surprise each episode beyond the usual number asks for, nats: e⁶ is a four-hundredth of the probability.
const STRICTER: f64 = 6.0;

/// How a detector is stored: small numbers take a byte.
fn stored() -> impl Options {
    bincode::DefaultOptions::new()
}

impl Detector {
    /// A detector for a service whose first log lies in `second`.
    pub fn new(second: i64) -> Self {
        Detector {
            at: second,
            first_seen: None,
            last_seen: second,
            missed: 0,
            stream: Past::default(),
            baseline: Baseline::default(),
            open: vec![None; RULES.len()],
            frequent: vec![Frequency::default(); RULES.len()],
        }
    }

    /// Reads what [`Detector::to_bytes`] wrote. Rules that came since start calm.
    pub fn from_bytes(bytes: &[u8], settings: &Detection) -> Result<Self, bincode::Error> {
        let mut detector: Detector = stored().deserialize(bytes)?;
        detector.open.resize(RULES.len(), None);
        detector.frequent.resize(RULES.len(), Frequency::default());
        detector.baseline.refresh(detector.at, &settings.baseline);
        Ok(detector)
    }

    /// The newest second with a log of a detector that [`Detector::to_bytes`] wrote.
    pub fn last_seen_in(bytes: &[u8]) -> Option<i64> {
        stored().deserialize(bytes).ok().map(|detector: Detector| detector.last_seen)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, bincode::Error> {
        stored().serialize(self)
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
    ///
    /// `others`: the stream that the service is part of; `None` for the stream itself.
    pub fn fold(
        &mut self,
        seconds: &[(i64, Sums)],
        others: Option<Others<'_>>,
        to: i64,
        settings: &Detection,
    ) -> Vec<Finding> {
        let others = others.map(|others| others.since(self.stream));
        let from = |second: i64| seconds.partition_point(|(s, _)| *s < second);
        let mut entering = from(self.at);
        let mut leaving = [MINUTE, WINDOW_SECONDS].map(|length| from(self.at - length));
        let mut windows = leaving.map(|first| total(&seconds[first..entering]));
        let mut ended = Vec::new();
        while self.at < to {
            let enters = seconds.get(entering).map(|(s, _)| s + 1);
            let leaves =
                |of: usize, length: i64| seconds[..entering].get(leaving[of]).map(|(s, _)| s + length + 1);
            let unmasked = self.unmasked(windows, others, settings);
            let changes =
                [enters, leaves(0, MINUTE), leaves(1, WINDOW_SECONDS), self.deadline(settings), unmasked];
            let end = changes.into_iter().flatten().fold(to, i64::min).max(self.at + 1);
            let still = |to: i64| others.map_or(0, |others| others.still(self.at, to));
            let entered = seconds.get(entering).filter(|(s, _)| *s < end).map_or(end, |(s, _)| *s);
            self.missed += entered - self.at - still(entered);
            while let Some(&(second, sums)) = seconds.get(entering).filter(|(s, _)| *s < end) {
                windows.iter_mut().for_each(|window| *window += sums);
                entering += 1;
                self.observe(second, sums, settings);
            }
            for ((first, window), length) in
                leaving.iter_mut().zip(&mut windows).zip([MINUTE, WINDOW_SECONDS])
            {
                while let Some(&(_, sums)) = seconds.get(*first).filter(|(s, _)| *s < end - length) {
                    *window += -sums;
                    *first += 1;
                }
            }
            if end % MINUTE == 0 {
                let stood_still =
                    others.is_some_and(|others| others.still(end - MINUTE, end) > MINUTE / STILL_SHARE);
                let in_episode = self.open.iter().any(Option::is_some);
                self.baseline.close_through(end, in_episode, stood_still, &settings.baseline);
                for Frequency { episodes, since } in &mut self.frequent {
                    *episodes = *episodes * FREQUENCY_KEPT + f64::from(std::mem::take(since));
                }
            }
            self.at = end;
            self.judge(windows, others, settings, &mut ended);
        }
        ended
    }

    /// Takes note of what the stream's past tells of the windows from now on: it is forgotten elsewhere.
    pub fn remember(&mut self, others: Option<Others<'_>>) {
        let others = others.map(|others| others.since(self.stream));
        self.stream = others.map_or(self.stream, |others| others.past(self.at - WINDOW_SECONDS));
    }

    fn observe(&mut self, second: i64, sums: Sums, settings: &Detection) {
        if self.open().next().is_none() && self.first_seen.is_some() {
            if second - self.last_seen >= settings.retire_after {
                // Nothing is known of it any more: it starts over, whether its state was given up meanwhile or not.
                self.baseline = Baseline::default();
                self.first_seen = None;
                self.frequent.fill(Frequency::default());
            } else if self.missed > 0 {
                self.baseline.pause(self.missed);
            }
        }
        self.first_seen.get_or_insert(second);
        self.last_seen = second;
        self.missed = 0;
        self.baseline.observe(second, sums);
    }

    /// The next end at which something happens without a log.
    pub fn deadline(&self, settings: &Detection) -> Option<i64> {
        let full_window = Some(self.first_seen? + WINDOW_SECONDS).filter(|end| *end > self.at);
        let of_open = |open: &OpenEpisode| {
            if open.finding.started_at == self.at {
                // What goes on is judged more easily than what begins.
                return self.at + 1;
            }
            let expiry = open.finding.started_at + settings.max_episode;
            open.calm_since.map_or(expiry, |since| expiry.min(since + settings.calm))
        };
        let episodes = self.open.iter().flatten().map(of_open);
        let silence = self.silence(settings).filter(|end| *end > self.at);
        episodes.chain([ceil_to(self.at + 1, MINUTE)]).chain(full_window).chain(silence).min()
    }

    /// The end at which silence since the last log is an episode at the earliest, if it lasts until then.
    pub fn silence(&self, settings: &Detection) -> Option<i64> {
        let demand = self.demand(log_volume_drop::INDEX, settings);
        let view = View { demand, ..self.view([Sums::default(); 2], None, self.at, settings) };
        let needed = log_volume_drop::least_silence(&view)? as i64;
        let missed = if self.is_dropping() { self.at - self.last_seen - 1 } else { self.missed };
        Some(self.at + needed - missed)
    }

    fn is_dropping(&self) -> bool {
        self.open[log_volume_drop::INDEX].is_some()
    }

    /// The end at which a window that is too empty, but so is the stream, is to be judged again at the earliest.
    fn unmasked(&self, windows: [Sums; 2], others: Option<Others<'_>>, settings: &Detection) -> Option<i64> {
        let view = self.view(windows, others.filter(|_| !self.is_dropping()), self.at, settings);
        log_volume_drop::masked_for(&view).map(|seconds| self.at + seconds)
    }

    /// Episodes that are open.
    pub fn open(&self) -> impl Iterator<Item = Finding> + '_ {
        self.open.iter().flatten().map(|open| open.finding)
    }

    /// Rules that are calm so far and beyond their threshold in the windows that end at `end` and are not complete.
    /// `windows`: the sums of the last minute and of the 5-minute window; `last_seen`: the newest second with a log.
    pub fn peek(
        &self,
        windows: [Sums; 2],
        last_seen: i64,
        others: Option<Others<'_>>,
        end: i64,
        settings: &Detection,
    ) -> Vec<Alarm> {
        let others = others.map(|others| others.since(self.stream));
        let (from, known) =
            if last_seen > self.last_seen { (last_seen + 1, 0) } else { (self.at, self.missed) };
        let still = others.map_or(0, |others| others.still(from, end));
        let view = View {
            silent_for: known + (end - from).max(0) - still,
            ..self.view(windows, others, end, settings)
        };
        let calm = RULES.iter().enumerate().filter(|(index, _)| self.open[*index].is_none());
        calm.filter_map(|(index, rule)| {
            let verdict = rule.verdict(&View { demand: self.demand(index, settings), ..view }, 1.0)?;
            Some(Alarm { anomaly_type: rule.anomaly_type, verdict, peak: Peak::of(&view, &verdict) })
        })
        .collect()
    }

    fn view<'a>(
        &'a self,
        [minute, window]: [Sums; 2],
        others: Option<Others<'a>>,
        end: i64,
        settings: &'a Detection,
    ) -> View<'a> {
        let fills_window = self.first_seen.is_some_and(|first| end - first >= WINDOW_SECONDS);
        let normal = self.baseline.normal();
        View {
            minute,
            window,
            silent_for: self.missed,
            end,
            others,
            normal,
            settings,
            fills_window,
            demand: 0.0,
        }
    }

    /// By how much more a rule must be surprised, nats: one that is right is not right every day.
    fn demand(&self, index: usize, settings: &Detection) -> f64 {
        STRICTER * (self.frequent[index].episodes - settings.episodes_per_week).max(0.0)
    }

    fn judge(
        &mut self,
        windows: [Sums; 2],
        others: Option<Others<'_>>,
        settings: &Detection,
        ended: &mut Vec<Finding>,
    ) {
        self.expire(settings, ended);
        let end = self.at;
        for (index, rule) in RULES.iter().enumerate() {
            let demand = self.demand(index, settings);
            let judged = if self.open[index].is_some() {
                // What was raised goes on, whatever the others do.
                let silent_for = end - 1 - self.last_seen;
                let view = View { demand, silent_for, ..self.view(windows, None, end, settings) };
                judged(rule, &view, settings.hysteresis)
            } else {
                judged(rule, &View { demand, ..self.view(windows, others, end, settings) }, 1.0)
            };
            match self.open[index].take() {
                None => self.open[index] = judged.map(|judged| raise(rule, judged, end)),
                Some(open) => match carry_on(rule, open, judged, end, settings) {
                    ControlFlow::Continue(open) => self.open[index] = Some(open),
                    ControlFlow::Break(finding) => {
                        ended.push(finding);
                        self.frequent[index].since += 1;
                    }
                },
            }
        }
    }

    /// Ends what was open for too long. Its level is normal from now on, for every rule.
    fn expire(&mut self, settings: &Detection, ended: &mut Vec<Finding>) {
        let end = self.at;
        for (slot, frequency) in self.open.iter_mut().zip(&mut self.frequent) {
            let is_over = |open: &mut OpenEpisode| end - open.finding.started_at >= settings.max_episode;
            let Some(mut open) = slot.take_if(is_over) else { continue };
            open.leave_peak(end);
            let OpenEpisode { finding, calm_since, .. } = open;
            // Windows between two visited ends are all alike.
            let last_seen = if calm_since.is_none() { end - 1 } else { finding.last_seen };
            ended.push(Finding { ended_at: Some(end), expired: true, last_seen, ..finding });
            frequency.since += 1;
            self.baseline.adopt(end, &settings.baseline);
        }
    }
}

fn total(seconds: &[(i64, Sums)]) -> Sums {
    seconds.iter().fold(Sums::default(), |sum, (_, s)| sum + *s)
}

/// A verdict, and the window that it is of.
type Judged = (Verdict, Peak);

fn judged(rule: &Rule, view: &View<'_>, ease: f64) -> Option<Judged> {
    rule.verdict(view, ease).map(|verdict| (verdict, Peak::of(view, &verdict)))
}

fn raise(rule: &Rule, (verdict, peak): Judged, end: i64) -> OpenEpisode {
    let finding = Finding {
        anomaly_type: rule.anomaly_type,
        started_at: end,
        last_seen: end,
        ended_at: None,
        expired: false,
        verdict,
        peak,
    };
    OpenEpisode { finding, calm_since: None, at_peak: rule.side == Side::Below }
}

/// The episode after one more window, or what it came to when the calm has lasted long enough.
fn carry_on(
    rule: &Rule,
    mut open: OpenEpisode,
    judged: Option<Judged>,
    end: i64,
    settings: &Detection,
) -> ControlFlow<Finding, OpenEpisode> {
    match judged {
        Some((_, peak)) => {
            open.finding.last_seen = end;
            let before = open.finding.peak.value;
            let is_like_it = rule.side == Side::Below && peak.value == before;
            if is_like_it || (peak.value != before && rule.worse(before, peak.value) == peak.value) {
                open.finding.peak = peak;
                open.at_peak = rule.side == Side::Below;
            } else {
                open.leave_peak(end);
            }
            open.calm_since = None;
            ControlFlow::Continue(open)
        }
        None => {
            open.leave_peak(end);
            if open.calm_since.is_none() {
                // Windows between two visited ends are all alike.
                open.finding.last_seen = end - 1;
            }
            let since = *open.calm_since.get_or_insert(end);
            if end - since >= settings.calm {
                return ControlFlow::Break(Finding { ended_at: Some(since), ..open.finding });
            }
            ControlFlow::Continue(open)
        }
    }
}
