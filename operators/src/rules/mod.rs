//! The rules. One file each, one line each in [`RULES`].

mod error_rate_spike;
mod log_volume_drop;
mod log_volume_spike;

use crate::baseline::Normal;
use crate::settings::Detection;
use crate::sums::Sums;
use smartlog_schema::anomaly::{AnomalyType, Severity};
use smartlog_schema::window::WINDOW_SECONDS;

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The sums of the 5-minute window.
    pub window: Sums,
    pub normal: &'a Normal,
    pub settings: &'a Detection,
    /// Whether the service is at least as old as the window: a younger one is not judged on volume.
    pub fills_window: bool,
}

/// Which side of the threshold is trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

/// What a rule measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub value: f64,
    /// The value that must be crossed, floors included.
    pub threshold: f64,
    /// What is usual.
    pub baseline: f64,
}

/// One rule.
pub struct Rule {
    pub anomaly_type: AnomalyType,
    pub severity: Severity,
    pub side: Side,
    /// How a value reads: what it is called, its unit, and the factor to show it in that unit.
    pub measure: Measure,
    /// Whether the user wants it.
    pub is_enabled: fn(&Detection) -> bool,
    /// `None`: too little is known to judge. Asked through [`Rule::verdict`].
    pub judge: fn(&View<'_>) -> Option<Verdict>,
}

/// How a rule's values are shown to people.
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub scale: f64,
}

/// Every rule. The position of a rule is stored with the detector's state: append, never reorder.
pub const RULES: &[Rule] = &[error_rate_spike::RULE, log_volume_spike::RULE, log_volume_drop::RULE];

impl Rule {
    /// What the rule measured; `None` when too little is known to judge, or it is switched off.
    pub fn verdict(&self, view: &View<'_>) -> Option<Verdict> {
        if (self.is_enabled)(view.settings) { (self.judge)(view) } else { None }
    }

    /// Whether the verdict is trouble.
    pub fn is_beyond(&self, verdict: &Verdict) -> bool {
        match self.side {
            Side::Above => verdict.value > verdict.threshold,
            Side::Below => verdict.value < verdict.threshold,
        }
    }

    /// Whether trouble that was there goes on: hysteresis keeps it from flapping around the threshold.
    pub fn goes_on(&self, verdict: &Verdict, hysteresis: f64) -> bool {
        let eased = match self.side {
            Side::Above => verdict.threshold * hysteresis,
            Side::Below => verdict.threshold / hysteresis,
        };
        self.is_beyond(&Verdict { threshold: eased, ..*verdict })
    }

    /// The more extreme of two values.
    pub fn worse(&self, a: f64, b: f64) -> f64 {
        match self.side {
            Side::Above => a.max(b),
            Side::Below => a.min(b),
        }
    }
}

/// Logs per minute over the window.
fn logs_per_minute(logs: f64) -> f64 {
    logs * 60.0 / WINDOW_SECONDS as f64
}

const LOGS_PER_MINUTE: Measure = Measure { name: "Log volume", unit: "logs/min", scale: 1.0 };

/// The volume of a whole window as the baseline has it: mean and standard deviation.
fn window_volume(view: &View<'_>) -> Option<(f64, f64)> {
    let volume = view.normal.volume.filter(|_| view.fills_window)?;
    let minutes = WINDOW_SECONDS as f64 / 60.0;
    Some((volume.median * minutes, volume.deviation * minutes.sqrt()))
}
