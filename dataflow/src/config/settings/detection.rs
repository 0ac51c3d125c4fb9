//! `[detection]`: when something counts as trouble. The defaults are those of the operators.

use super::{seconds, whole_seconds};
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_operators::settings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// When something counts as trouble. Durations are event time, in whole seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// Many more errors than usual.
    pub error_rate_spike: ErrorRateSpike,
    /// Many more logs than usual.
    pub log_volume_spike: LogVolumeSpike,
    /// Far fewer logs than usual, silence included.
    pub log_volume_drop: LogVolumeDrop,
    /// Several metrics at once that a model finds strange.
    pub multivariate_outlier: MultivariateOutlier,
    /// Messages of a kind that a service never logged before.
    pub new_pattern: NewPattern,
    /// Rules of single services where they differ: `SERVICE.RULE.KEY`, such as `"payments.log_volume_spike.window.ratio" = 4`.
    ///
    /// What is not named is as for every other service.
    pub services: BTreeMap<String, String>,
    /// File with known events, whose episodes are retracted: a table `[[event]]` for each (docs/DETECTION.md).
    ///
    /// With a store they are put into its calendar at the start, and those that the file no longer has are called off.
    #[schemars(extend("x-form" = "FILE"))]
    pub calendar: Option<PathBuf>,
    /// What is usual.
    pub baseline: Baseline,
    /// Episodes of one rule within a week from which on it asks a service for more surprise.
    ///
    /// A service that bursts every day is not in trouble every day.
    pub episodes_per_week: f64,
    /// How long a rule must be calm before its episode is resolved.
    ///
    /// Too short, and trouble that comes in bursts makes an episode of each.
    #[serde(with = "HumanDuration")]
    pub calm: Duration,
    /// Share of the threshold that an open episode's metric must come back within to count as calm, between 0 and 1.
    ///
    /// At 1, a metric that hovers at the threshold makes episode after episode.
    pub hysteresis: f64,
    /// An episode open for this long is closed as `expired` and its level becomes the new baseline.
    #[serde(with = "HumanDuration")]
    pub max_episode: Duration,
    /// A service silent for this long gives up its state.
    #[serde(with = "HumanDuration")]
    pub retire_after: Duration,
}

impl Default for Detection {
    fn default() -> Self {
        let settings = settings::Detection::default();
        Detection {
            error_rate_spike: ErrorRateSpike::default(),
            log_volume_spike: LogVolumeSpike::default(),
            log_volume_drop: LogVolumeDrop::default(),
            multivariate_outlier: MultivariateOutlier::default(),
            new_pattern: NewPattern::default(),
            services: BTreeMap::new(),
            calendar: None,
            baseline: Baseline::default(),
            episodes_per_week: settings.episodes_per_week,
            calm: seconds(settings.calm),
            hysteresis: settings.hysteresis,
            max_episode: seconds(settings.max_episode),
            retire_after: seconds(settings.retire_after),
        }
    }
}

impl Detection {
    /// What the operators need of it.
    pub fn settings(&self) -> settings::Detection {
        settings::Detection {
            baseline: self.baseline.settings(),
            error_rate_spike: self.error_rate_spike.settings(),
            log_volume_spike: self.log_volume_spike.settings(),
            log_volume_drop: self.log_volume_drop.settings(),
            multivariate_outlier: self.multivariate_outlier.settings(),
            new_pattern: self.new_pattern.settings(),
            episodes_per_week: self.episodes_per_week,
            calm: whole_seconds(self.calm),
            hysteresis: self.hysteresis,
            max_episode: whole_seconds(self.max_episode),
            retire_after: whole_seconds(self.retire_after),
        }
    }
}

/// The rules that a service may have of its own.
const RULES: [&str; 4] = ["error_rate_spike", "log_volume_spike", "log_volume_drop", "new_pattern"];

impl Detection {
    /// The settings of each service that differs; an error names the entry and what is wrong with it.
    pub fn of_services(&self) -> Result<BTreeMap<String, Detection>, String> {
        let common = Detection { services: BTreeMap::new(), ..self.clone() };
        let common = toml::Table::try_from(&common).map_err(|fault| fault.to_string())?;
        let mut tables: BTreeMap<&str, toml::Table> = BTreeMap::new();
        for (entry, text) in &self.services {
            let (service, key) = split(entry).ok_or_else(|| {
                format!("`{entry}`: expected SERVICE.RULE.KEY, where RULE is {}", RULES.join(", "))
            })?;
            let table = tables.entry(service).or_insert_with(|| common.clone());
            let value = find(table, key)
                .ok_or_else(|| format!("`{entry}`: there is no setting `detection.{key}`"))?;
            *value = scalar(text)
                .ok_or_else(|| format!("`{entry}`: expected a number, true or false, found `{text}`"))?;
        }
        let read = |(service, table): (&str, toml::Table)| {
            let settings: Detection = table
                .try_into()
                .map_err(|fault: toml::de::Error| format!("`{service}`: {}", fault.message().trim_end()))?;
            Ok::<_, String>((service.to_owned(), settings))
        };
        tables.into_iter().map(read).collect()
    }
}

/// The service and the key of an entry. Names of services may hold dots.
fn split(entry: &str) -> Option<(&str, &str)> {
    let at = RULES.iter().filter_map(|rule| entry.find(&format!(".{rule}."))).min()?;
    (at > 0).then(|| (&entry[..at], &entry[at + 1..]))
}

/// The value at a dotted key; `None` where there is none, or a table.
fn find<'a>(table: &'a mut toml::Table, key: &str) -> Option<&'a mut toml::Value> {
    match key.split_once('.') {
        Some((name, rest)) => find(table.get_mut(name)?.as_table_mut()?, rest),
        None => table.get_mut(key).filter(|value| !value.is_table()),
    }
}

/// A number, true or false.
fn scalar(text: &str) -> Option<toml::Value> {
    let mut table = format!("value = {}", text.trim()).parse::<toml::Table>().ok()?;
    table.remove("value").filter(|value| value.is_integer() || value.is_float() || value.is_bool())
}

/// When a length of time is beyond: both must hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Multiple of the baseline.
    pub ratio: f64,
    /// Largest probability that chance and the service's own bursts go as far.
    ///
    /// Smaller means fewer false alarms, and later ones.
    pub significance: f64,
}

impl Test {
    fn of(settings::Test { ratio, significance }: settings::Test) -> Self {
        Test { ratio, significance }
    }

    fn settings(self) -> settings::Test {
        settings::Test { ratio: self.ratio, significance: self.significance }
    }
}

/// Many more errors than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorRateSpike {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Over the last minute: what finds strong trouble early.
    pub minute: Test,
    /// Over the 5-minute window.
    pub window: Test,
    /// Over `detection.baseline.drift`: what finds slow trouble at all.
    pub drift: Test,
    /// Fewest errors: with fewer it is never raised.
    pub min_errors: i64,
    /// Error rate that a lower baseline is lifted to, between 0 and 1.
    ///
    /// Without it the first error of a service that never has any would be infinitely more than usual.
    pub baseline_floor: f64,
}

impl Default for ErrorRateSpike {
    fn default() -> Self {
        let settings::ErrorRateSpike { enabled, minute, window, drift, min_errors, baseline_floor } =
            Default::default();
        let [minute, window, drift] = [minute, window, drift].map(Test::of);
        ErrorRateSpike { enabled, minute, window, drift, min_errors, baseline_floor }
    }
}

impl ErrorRateSpike {
    fn settings(&self) -> settings::ErrorRateSpike {
        let ErrorRateSpike { enabled, minute, window, drift, min_errors, baseline_floor } = *self;
        let [minute, window, drift] = [minute, window, drift].map(Test::settings);
        settings::ErrorRateSpike { enabled, minute, window, drift, min_errors, baseline_floor }
    }
}

/// Many more logs than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeSpike {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Over the last minute: what finds strong trouble early.
    pub minute: Test,
    /// Over the 5-minute window.
    pub window: Test,
    /// Over `detection.baseline.drift`: what finds slow trouble at all.
    pub drift: Test,
    /// Fewest logs of a window or a minute: with fewer it is never raised.
    pub min_logs: f64,
}

impl Default for LogVolumeSpike {
    fn default() -> Self {
        let settings::Volume { enabled, minute, window, drift, min_logs } = settings::Volume::spike();
        let [minute, window, drift] = [minute, window, drift].map(Test::of);
        LogVolumeSpike { enabled, minute, window, drift, min_logs }
    }
}

impl LogVolumeSpike {
    fn settings(&self) -> settings::Volume {
        let LogVolumeSpike { enabled, minute, window, drift, min_logs } = *self;
        let [minute, window, drift] = [minute, window, drift].map(Test::settings);
        settings::Volume { enabled, minute, window, drift, min_logs }
    }
}

/// Far fewer logs than usual, silence included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeDrop {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Over the last minute; its significance is that of silence, too.
    pub minute: Test,
    /// Over the 5-minute window.
    pub window: Test,
    /// Over `detection.baseline.drift`.
    pub drift: Test,
    /// Logs that the baseline must expect in a window for the service to be judged at all.
    ///
    /// A service that logs once an hour is silent most of the time, and that is no incident.
    pub min_logs: f64,
}

impl Default for LogVolumeDrop {
    fn default() -> Self {
        let settings::Volume { enabled, minute, window, drift, min_logs } = settings::Volume::drop();
        let [minute, window, drift] = [minute, window, drift].map(Test::of);
        LogVolumeDrop { enabled, minute, window, drift, min_logs }
    }
}

impl LogVolumeDrop {
    fn settings(&self) -> settings::Volume {
        let LogVolumeDrop { enabled, minute, window, drift, min_logs } = *self;
        let [minute, window, drift] = [minute, window, drift].map(Test::settings);
        settings::Volume { enabled, minute, window, drift, min_logs }
    }
}

/// Several metrics at once that a model finds strange.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MultivariateOutlier {
    /// Whether a score beyond the model's own alert threshold raises an episode by itself.
    ///
    /// Needs `models.enabled`. Off, for it finds little that the rules miss, and raises more that is nothing.
    pub enabled: bool,
}

impl MultivariateOutlier {
    fn settings(&self) -> settings::MultivariateOutlier {
        settings::MultivariateOutlier { enabled: self.enabled }
    }
}

/// Messages of a kind that a service never logged before, as errors or in bursts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewPattern {
    /// Whether it is looked for at all; an episode that is open when it is switched off ends. Needs `patterns.enabled`.
    pub enabled: bool,
    /// From a service's first log on, what it logs for the first time is nothing new for this long.
    ///
    /// Too short, and what a service says every few hours is new.
    #[serde(with = "HumanDuration")]
    pub warm_up: Duration,
    /// Fewest errors of one new kind within the 5-minute window.
    pub min_errors: i64,
    /// Of no errors so many times the logs that the service had in the windows before are a burst.
    ///
    /// A new version says the same in other words, about as often: that is below 2.
    pub burst_ratio: f64,
    /// Fewest logs of a burst within the window.
    pub min_burst: i64,
}

impl Default for NewPattern {
    fn default() -> Self {
        let settings::NewPattern { enabled, warm_up, min_errors, burst_ratio, min_burst } =
            Default::default();
        NewPattern { enabled, warm_up: seconds(warm_up), min_errors, burst_ratio, min_burst }
    }
}

impl NewPattern {
    fn settings(&self) -> settings::NewPattern {
        let NewPattern { enabled, warm_up, min_errors, burst_ratio, min_burst } = *self;
        settings::NewPattern { enabled, warm_up: whole_seconds(warm_up), min_errors, burst_ratio, min_burst }
    }
}

/// What is usual: whole minutes of each service, and the hours of a week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// A minute enters the baseline this long after it ended.
    ///
    /// Too short, and a slow incident becomes its own baseline.
    #[serde(with = "HumanDuration")]
    pub lag: Duration,
    /// Minutes that a level is taken from.
    pub minutes: usize,
    /// Minutes that must have entered before they are trusted; until then all minutes so far serve.
    pub enough_minutes: usize,
    /// Minutes with logs that a service must have at the least before it is judged.
    pub first_minutes: usize,
    /// Days on which an hour of the day must have been seen before it counts as season, up to 7.
    pub season_days: usize,
    /// Length of time that is watched for slow changes, in whole minutes; its baseline lags by as much more.
    #[serde(with = "HumanDuration")]
    pub drift: Duration,
    /// Squared relative spread that a service's volume is taken to have until its own is learned.
    pub spread: f64,
    /// The same of its error rate.
    pub error_spread: f64,
}

impl Default for Baseline {
    fn default() -> Self {
        let settings::Baseline {
            lag,
            minutes,
            enough_minutes,
            first_minutes,
            season_days,
            drift,
            spread,
            error_spread,
        } = Default::default();
        Baseline {
            lag: seconds(lag),
            minutes,
            enough_minutes,
            first_minutes,
            season_days,
            drift: seconds(drift),
            spread,
            error_spread,
        }
    }
}

impl Baseline {
    fn settings(&self) -> settings::Baseline {
        settings::Baseline {
            lag: whole_seconds(self.lag),
            minutes: self.minutes,
            enough_minutes: self.enough_minutes,
            first_minutes: self.first_minutes,
            season_days: self.season_days,
            drift: whole_seconds(self.drift),
            spread: self.spread,
            error_spread: self.error_spread,
        }
    }
}
