//! `multivariate_outlier`: a forest's score beyond its own alert threshold, held for some seconds of event time.
//!
//! ```text
//!   score ▲            ┌──── raised: beyond for `hold` seconds
//!         │        ▁▂▄▆▇█▇▆▅
//!   alert ├┄┄┄┄┄┄┄▟█████████▙┄┄┄┄┄┄┄┄┄┄
//!         │      ▟███████████▆▅▃           goes on while the window counts as an outlier
//!   outlier ┄┄┄┄▟███████████████▙┄┄┄┄┄┄┄
//!         └──────────────────────┴──────┴─▶ event time
//!                                 `calm`, then resolved
//! ```
//!
//! Scores are those of final windows, which late logs do not correct: nothing is raised provisionally, and nothing is
//! retracted. A service without logs has no windows; that is calm, too: silence is another detector's.

use crate::explain::text;
use crate::explain::words::of_score;
use crate::feature_rows::HOP_SECONDS;
use crate::features::{Columns, Window};
use crate::record::{Change, Keyed};
use crate::score::Scored;
use crate::settings::Detection;
use compact_str::CompactString;
use serde_json::json;
use smartlog_schema::anomaly::{
    AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Severity, Status,
};
use smartlog_schema::window::MINUTE;
use std::collections::BTreeMap;

/// An open episode is published again after this many seconds of event time at the latest …
const REFRESH_SECONDS: i64 = MINUTE;
/// … or when its score grew by this much.
const NOTABLE_GROWTH: f64 = 0.05;

/// A scored window of a service.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What the model saw, and what it looked at of that.
    pub window: Window,
    pub columns: &'a Columns,
    pub scored: Scored,
    /// Whether scores were beyond the alert threshold for long enough to raise something.
    pub held: bool,
    pub model_version: &'a str,
    pub clock_us: i64,
}

/// An episode that is not over, or expired and not calm yet.
#[derive(Debug)]
struct Open {
    episode: Episode,
    /// `last_seen` and the peak as they were published.
    told: (i64, f64),
    calm_since: Option<i64>,
}

/// The episodes of one worker that are open, by service; the whole stream by the empty name.
#[derive(Debug, Default)]
pub struct Outliers {
    open: BTreeMap<CompactString, Open>,
}

impl Outliers {
    /// Takes back what was open when the program stopped, whatever people say of it.
    pub fn restore(&mut self, episode: Episode) {
        let episode = episode.unexpected();
        if is_open(&episode) {
            let service = episode.key.service.clone().unwrap_or_default();
            self.open.insert(service, Open::new(episode));
        }
    }

    /// Takes a scored window of `service`, in order; what became of its episodes is added to `changes`.
    pub fn observe(
        &mut self,
        service: &CompactString,
        seen: &Seen<'_>,
        settings: &Detection,
        changes: &mut Vec<EpisodeChange>,
    ) {
        if let Some(open) = self.open.get_mut(service) {
            // As if every window came in an epoch of its own.
            changes.extend(open.end(seen.window.end - HOP_SECONDS, settings));
            if !open.is_over(seen.window.end - HOP_SECONDS, settings) {
                changes.extend(open.go_on(seen));
                return;
            }
            self.open.remove(service);
        }
        if seen.held && settings.multivariate_outlier.enabled {
            let episode = raised(service, seen);
            changes.push(change(ChangeKind::Opened, &episode));
            self.open.insert(service.clone(), Open::new(episode));
        }
    }

    /// Ends what has been calm, or open, for too long, now that every window up to `through` was taken.
    pub fn end(&mut self, through: i64, settings: &Detection, changes: &mut Vec<EpisodeChange>) {
        self.open.retain(|_, open| {
            changes.extend(open.end(through, settings));
            !open.is_over(through, settings)
        });
    }
}

/// Where no model judges any more, what was open ends where it was last seen.
pub fn abandoned(seed: Keyed) -> Option<Change> {
    let Keyed::SeedEpisode(episode) = seed else { return None };
    let episode = episode.unexpected();
    if !is_open(&episode) {
        return None;
    }
    let mut open = Open::new(episode);
    let change = open.close(ChangeKind::Resolved, Status::Resolved, open.episode.last_seen + HOP_SECONDS);
    Some(Change::Episode(Box::new(change)))
}

fn is_open(episode: &Episode) -> bool {
    episode.key.anomaly_type == AnomalyType::MultivariateOutlier && !episode.status.is_closed()
}

impl Open {
    fn new(episode: Episode) -> Self {
        Open { told: (episode.last_seen, episode.peak_value), episode, calm_since: None }
    }

    fn go_on(&mut self, seen: &Seen<'_>) -> Option<EpisodeChange> {
        let Scored { score, threshold, alert_threshold } = seen.scored;
        if score <= threshold.min(alert_threshold) {
            self.calm_since.get_or_insert(seen.window.end);
            return None;
        }
        self.calm_since = None;
        let episode = &mut self.episode;
        episode.last_seen = seen.window.end;
        if episode.status.is_closed() {
            return None;
        }
        episode.peak_value = episode.peak_value.max(score);
        episode.score = Some(episode.peak_value);
        let (last_seen, peak) = self.told;
        let grown = episode.peak_value - peak >= NOTABLE_GROWTH;
        if !grown && episode.last_seen - last_seen < REFRESH_SECONDS {
            return None;
        }
        self.told = (episode.last_seen, episode.peak_value);
        episode.revision += 1;
        Some(change(ChangeKind::Updated, episode))
    }

    /// The end of the first calm window. Windows that never came are calm.
    fn calm_since(&self) -> i64 {
        self.calm_since.unwrap_or(self.episode.last_seen + HOP_SECONDS)
    }

    /// Whether it is forgotten: what expired lasts until it is calm, or it would be raised anew at once.
    fn is_over(&self, through: i64, settings: &Detection) -> bool {
        through >= self.calm_since() + settings.calm
    }

    fn end(&mut self, through: i64, settings: &Detection) -> Option<EpisodeChange> {
        let expires = self.episode.started_at + settings.max_episode;
        if self.episode.status.is_closed() {
            None
        } else if self.is_over(through, settings) {
            Some(self.close(ChangeKind::Resolved, Status::Resolved, self.calm_since()))
        } else {
            (through >= expires).then(|| self.close(ChangeKind::Expired, Status::Expired, expires))
        }
    }

    fn close(&mut self, kind: ChangeKind, status: Status, ended_at: i64) -> EpisodeChange {
        let episode = &mut self.episode;
        (episode.status, episode.ended_at) = (status, Some(ended_at));
        episode.revision += 1;
        change(kind, episode)
    }
}

fn change(kind: ChangeKind, episode: &Episode) -> EpisodeChange {
    EpisodeChange { kind, episode: episode.clone(), reason: None }
}

/// The episode that `seen` opens.
pub(crate) fn raised(service: &CompactString, seen: &Seen<'_>) -> Episode {
    let Scored { score, threshold, alert_threshold } = seen.scored;
    let end = seen.window.end;
    let at = jiff::Timestamp::from_second(end).map_or_else(|_| end.to_string(), |t| t.to_string());
    Episode {
        key: EpisodeKey {
            service: Some(service.clone()).filter(|name| !name.is_empty()),
            anomaly_type: AnomalyType::MultivariateOutlier,
            first_raised_at: end,
        },
        status: Status::Open,
        severity: severity(score, alert_threshold),
        revision: 1,
        detected_at_us: seen.clock_us,
        started_at: end,
        last_seen: end,
        ended_at: None,
        metric_value: score,
        threshold: alert_threshold,
        baseline: threshold,
        peak_value: score,
        score: Some(score),
        model_version: Some(seen.model_version.to_owned()),
        description: format!(
            "Isolation forest score {score:.3} in the 5 minutes to {at}: the metrics together are stranger than quiet \
             time ever was (threshold {alert_threshold:.3})"
        ),
        explanation: text(&of_score(&seen.window, seen.columns, &seen.scored)),
        provenance: json!({
            "rule": AnomalyType::MultivariateOutlier.as_str(), "threshold": alert_threshold,
            "model": seen.model_version, "clock_us": seen.clock_us,
        })
        .to_string(),
        expected: None,
    }
}

/// By how much of the way from the alert threshold to 1 the score went.
fn severity(score: f64, alert_threshold: f64) -> Severity {
    match (score - alert_threshold) / (1.0 - alert_threshold).max(f64::EPSILON) {
        far if far >= 0.5 => Severity::High,
        far if far >= 0.2 => Severity::Medium,
        _ => Severity::Low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::read;
    use crate::pattern_window::PatternSums;
    use crate::sums::Sums;

    #[test]
    fn what_is_said_of_a_score_is_an_explanation_like_any_other() {
        let window = Window {
            end: 1_768_471_200,
            sums: Sums { logs: 600, errors: 60, message_chars: 6_000 },
            unique_services: 4,
            patterns: PatternSums { new_logs: 5, entropy_millibits: 1_500 },
        };
        let scored = Scored { score: 0.8, threshold: 0.5, alert_threshold: 0.7 };
        let columns = Columns::of(["pattern_entropy", "log_rate"]).expect("features");
        let seen = Seen { window, columns: &columns, scored, held: true, model_version: "1", clock_us: 0 };
        let said = read(&raised(&"a".into(), &seen).explanation);
        assert_eq!((said.actual, said.typical, said.ratio), (0.8, 0.5, Some(1.6)));
        let features: Vec<(&str, f64)> = said.features.iter().map(|f| (f.name.as_str(), f.actual)).collect();
        assert_eq!(features, [("pattern_entropy", 1.5), ("log_rate", 120.0)]);
    }
}
