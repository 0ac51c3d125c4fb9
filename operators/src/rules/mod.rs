//! The rules. One file each, one line each in [`RULES`].

mod error_rate_spike;
pub mod log_volume_drop;
mod log_volume_spike;

use crate::baseline::{Expected, Normal};
use crate::flow::Others;
use crate::settings::{Detection, Test};
use crate::sums::Sums;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::{AnomalyType, Severity};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS};

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The sums of the last minute.
    pub minute: Sums,
    /// The sums of the 5-minute window.
    pub window: Sums,
    /// Seconds since the last log in which the stream went on.
    pub silent_for: i64,
    /// The end of the windows.
    pub end: i64,
    /// The stream, where what nobody logs is to be no drop; `None` for the stream itself and for what goes on.
    pub others: Option<Others<'a>>,
    pub normal: &'a Normal,
    pub settings: &'a Detection,
    /// Whether the service is at least as old as the window: a younger one is not judged on volume.
    pub fills_window: bool,
    /// Surprise that is asked for beyond the tests' own, nats.
    pub demand: f64,
}

/// The lengths of time that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Minute,
    Window,
    Drift,
}

impl View<'_> {
    fn sums(&self, scale: Scale) -> Option<Sums> {
        match scale {
            Scale::Minute => Some(self.minute),
            Scale::Window => Some(self.window),
            Scale::Drift => self.normal.drifted,
        }
    }

    fn expected(&self, scale: Scale) -> &Expected {
        match scale {
            Scale::Minute => &self.normal.minute,
            Scale::Window => &self.normal.window,
            Scale::Drift => &self.normal.drift,
        }
    }

    /// What a rule measured over the last `seconds`: the sums, what is expected of them, and of how many seconds. Where
    /// that is none of the lengths of windows it was silence, and counts as a minute without a log.
    pub fn measured(&self, seconds: i64) -> (Sums, &Expected, i64) {
        let scales = [Scale::Window, Scale::Minute, Scale::Drift];
        match scales.into_iter().find(|scale| self.seconds(*scale) == seconds) {
            Some(scale) => (self.sums(scale).unwrap_or_default(), self.expected(scale), seconds),
            None => (Sums::default(), self.expected(Scale::Minute), MINUTE),
        }
    }

    /// The surprise that a test asks for, nats.
    fn needed(&self, test: Test) -> f64 {
        -test.significance.ln() + self.demand
    }

    /// Whether the stream stood still for too long for a window of that length to begin an episode. One minute of that
    /// is too long for a drift.
    fn is_masked(&self, scale: Scale) -> bool {
        match scale {
            Scale::Drift => self.others.is_some() && self.normal.drift_stood_still,
            Scale::Minute | Scale::Window => self.masked_for(scale) > 0,
        }
    }

    /// Seconds by which the stream stood still for longer than a window of that length allows.
    fn masked_for(&self, scale: Scale) -> i64 {
        let length = self.seconds(scale);
        let still = self.others.map_or(0, |others| others.still(self.end - length, self.end));
        still - length / STILL_SHARE
    }

    fn minutes(&self, scale: Scale) -> f64 {
        self.seconds(scale) as f64 / MINUTE as f64
    }

    fn seconds(&self, scale: Scale) -> i64 {
        match scale {
            Scale::Minute => MINUTE,
            Scale::Window => WINDOW_SECONDS,
            Scale::Drift => self.settings.baseline.drift,
        }
    }
}

/// A window of which more than this part is missing everywhere says nothing about one service.
pub const STILL_SHARE: i64 = 10;

/// Which side of the threshold is trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

/// What a rule measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub value: f64,
    /// The value that must be crossed, floors included.
    pub threshold: f64,
    /// What is usual.
    pub baseline: f64,
    /// The length of time that was looked at.
    pub seconds: i64,
}

/// One rule.
pub struct Rule {
    pub anomaly_type: AnomalyType,
    /// Of an episode whose worst value is so many times its threshold.
    pub severity: fn(f64) -> Severity,
    pub side: Side,
    /// How a value reads: what it is called, its unit, and the factor to show it in that unit.
    pub measure: Measure,
    /// Whether the user wants it.
    pub is_enabled: fn(&Detection) -> bool,
    /// What is beyond its threshold, that eased by a factor; `None`: nothing is. Asked through [`Rule::verdict`].
    pub judge: fn(&View<'_>, f64) -> Option<Verdict>,
}

/// How a rule's values are shown to people.
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub scale: f64,
}

/// Every rule. The position of a rule is stored with the detector's state: append, never reorder.
pub const RULES: &[Rule] = &[error_rate_spike::RULE, log_volume_spike::RULE, log_volume_drop::RULE];

/// The rule of [`RULES`] that raises episodes of a type; `None`: none of them does.
pub fn of(anomaly_type: AnomalyType) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.anomaly_type == anomaly_type)
}

impl Rule {
    /// What is beyond its threshold, that eased by `ease`; `None` when nothing is, or the rule is switched off.
    pub fn verdict(&self, view: &View<'_>, ease: f64) -> Option<Verdict> {
        if (self.is_enabled)(view.settings) { (self.judge)(view, ease) } else { None }
    }

    /// How severe an episode is whose worst value is `worst`.
    pub fn severity_at(&self, worst: f64, threshold: f64) -> Severity {
        (self.severity)(if threshold > 0.0 { worst / threshold } else { 1.0 })
    }

    /// The more extreme of two values.
    pub fn worse(&self, a: f64, b: f64) -> f64 {
        match self.side {
            Side::Above => a.max(b),
            Side::Below => a.min(b),
        }
    }
}

const LOGS_PER_MINUTE: Measure = Measure { name: "Log volume", unit: "logs/min", scale: 1.0 };
