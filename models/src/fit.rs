//! Rows → bundle. The same rows and settings give the same bytes, on any machine and number of threads.

use crate::bundle::{Bundle, FEATURES_MAX, FORMAT, Member, Origin, Scoping};
use crate::profile::Profile;
use crate::rows::{Row, Rows, WHOLE_STREAM};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::{IsolationForest, MaxSamples};
use ndarray::Array2;
use std::collections::BTreeMap;

/// An alert threshold lies this share of what is left to 1 above the highest score that quiet time held.
const ALERT_MARGIN: f64 = 0.01;

/// Features that say when, not what: on the scale of services there is no stranger hour, and a short history has not
/// seen them all.
const OF_THE_CLOCK: [&str; 1] = ["hour_of_day"];

/// How a model is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub scoping: Scoping,
    /// Share of the windows that count as outliers, between 0 and 0.5.
    pub contamination: f64,
    pub n_estimators: usize,
    /// Windows that each tree is grown on, at the most.
    pub max_samples: usize,
    pub seed: u64,
    /// Fewest windows that a forest is fitted on.
    pub min_rows: usize,
    /// Seconds of event time that a score must stay beyond the alert threshold.
    pub hold_seconds: i64,
    /// Seconds between windows.
    pub hop_seconds: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            scoping: Scoping::Shared,
            contamination: 0.05,
            n_estimators: 100,
            max_samples: 256,
            seed: 0,
            min_rows: 360,
            hold_seconds: 60,
            hop_seconds: 10,
        }
    }
}

/// Why nothing could be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(
        "expected at least {expected} windows of the whole stream, found {found}; take a longer --since, or wait"
    )]
    TooFewRows { expected: usize, found: usize },
    #[error("expected 1 to {FEATURES_MAX} features, found {0}")]
    Features(usize),
    #[error("the forest of {scope}: {source}")]
    Forest { scope: String, source: linfa_isolation_forest::Error },
}

/// Fits the stream's forest, the shared one, and one for each service with enough windows.
///
/// # Errors
/// [`FitError`].
pub fn fit(rows: &Rows, settings: &Settings, program: &str) -> Result<Bundle, FitError> {
    let width = rows.features.len();
    if !(1..=FEATURES_MAX).contains(&width) {
        return Err(FitError::Features(width));
    }
    let by_service = group(&rows.rows);
    let of_stream = by_service.get(WHOLE_STREAM).map_or(&[][..], Vec::as_slice);
    if of_stream.len() < settings.min_rows.max(2) {
        return Err(FitError::TooFewRows { expected: settings.min_rows.max(2), found: of_stream.len() });
    }
    let is_of_the_clock = |name: &String| OF_THE_CLOCK.contains(&name.as_str());
    let of_the_clock: Vec<usize> =
        (0..width).filter(|&feature| is_of_the_clock(&rows.features[feature])).collect();
    let profiles: BTreeMap<String, Profile> = by_service
        .iter()
        .filter_map(|(service, rows)| {
            let mut profile = Profile::of(rows.iter().map(|row| (row.end, &row.values[..])))?;
            of_the_clock.iter().for_each(|&feature| profile.leave_out(feature));
            Some(((*service).to_owned(), profile))
        })
        .collect();
    let stream = fit_member("the whole stream", &[matrix_of(of_stream, None, width)], settings)?;
    let mut services = BTreeMap::new();
    let mut scaled = Vec::new();
    for (&service, rows) in by_service.iter().filter(|(service, _)| **service != WHOLE_STREAM) {
        if rows.len() < settings.min_rows {
            continue;
        }
        scaled.push(matrix_of(rows, profiles.get(service), width));
        if settings.scoping == Scoping::Service {
            let series = matrix_of(rows, None, width);
            services.insert(service.to_owned(), fit_member(service, &[series], settings)?);
        }
    }
    let shared = if scaled.is_empty() { None } else { Some(fit_member("all services", &scaled, settings)?) };
    Ok(Bundle {
        format: FORMAT,
        features: rows.features.clone(),
        scoping: settings.scoping,
        stream,
        shared,
        services,
        profiles,
        origin: Origin {
            program: program.to_owned(),
            interval: rows.interval().unwrap_or_default(),
            rows: rows.rows.len() as u64,
            rows_digest: rows.digest(),
            seed: settings.seed,
            contamination: settings.contamination,
            n_estimators: settings.n_estimators,
            max_samples: settings.max_samples,
            hold_seconds: settings.hold_seconds,
        },
    })
}

/// Rows by service, each ascending by end.
pub(crate) fn group(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut by_service: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_service.entry(&row.service).or_default().push(row);
    }
    by_service
}

/// One service's windows, ascending: their ends beside the values that the forest sees.
struct Series {
    ends: Vec<i64>,
    values: Array2<f64>,
}

fn matrix_of(rows: &[&Row], profile: Option<&Profile>, width: usize) -> Series {
    let mut values = Array2::zeros((rows.len(), width));
    for (row, mut out) in rows.iter().zip(values.rows_mut()) {
        let Some(out) = out.as_slice_mut() else { continue };
        match profile {
            Some(profile) => profile.scale(&row.values, out),
            None => out.copy_from_slice(&row.values),
        }
    }
    Series { ends: rows.iter().map(|row| row.end).collect(), values }
}

fn fit_member(scope: &str, series: &[Series], settings: &Settings) -> Result<Member, FitError> {
    let failed = |source| FitError::Forest { scope: scope.to_owned(), source };
    let views: Vec<_> = series.iter().map(|series| series.values.view()).collect();
    let all = ndarray::concatenate(ndarray::Axis(0), &views).unwrap_or_default();
    let rows = all.nrows();
    let params = IsolationForest::params()
        .n_estimators(settings.n_estimators)
        .max_samples(MaxSamples::Count(settings.max_samples.min(rows)))
        .contamination(settings.contamination)
        .seed(settings.seed);
    let forest = linfa::ParamGuard::check(params)
        .and_then(|params| params.fit(&DatasetBase::from(all)))
        .map_err(failed)?;
    let threshold = -forest.offset();
    let mut held = f64::MIN;
    for series in series {
        let scores = -forest.score_samples(&series.values).map_err(failed)?;
        held = held.max(highest_held(&series.ends, scores.as_slice().unwrap_or_default(), settings));
    }
    let calm = held.max(threshold);
    let alert_threshold = calm + ALERT_MARGIN * (1.0 - calm);
    Ok(Member { forest, rows: rows as u64, threshold, alert_threshold })
}

/// The highest level that scores stayed at or above for `hold_seconds`; `f64::MIN` where nothing lasted that long.
pub(crate) fn highest_held(ends: &[i64], scores: &[f64], settings: &Settings) -> f64 {
    let windows = windows_to_hold(settings);
    let lasted = |at: usize| ends[at + windows - 1] - ends[at] == (windows as i64 - 1) * settings.hop_seconds;
    (0..(ends.len() + 1).saturating_sub(windows))
        .filter(|&at| lasted(at))
        .map(|at| scores[at..at + windows].iter().copied().fold(f64::MAX, f64::min))
        .fold(f64::MIN, f64::max)
}

/// Windows in a row that must be beyond the alert threshold.
pub(crate) fn windows_to_hold(settings: &Settings) -> usize {
    (settings.hold_seconds / settings.hop_seconds + 1).max(1).unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_held_only_by_windows_without_a_gap() {
        let settings = Settings { hold_seconds: 20, ..Settings::default() };
        let scores = [0.4, 0.9, 0.8, 0.7, 0.3, 0.95, 0.95, 0.95];
        assert_eq!(highest_held(&[10, 20, 30, 40, 50, 60, 70, 90], &scores, &settings), 0.7);
        assert_eq!(highest_held(&[10, 20, 30, 40, 50, 60, 70, 80], &scores, &settings), 0.95);
        assert_eq!(highest_held(&[10, 20], &scores[..2], &settings), f64::MIN);
        assert_eq!(highest_held(&[], &[], &settings), f64::MIN);
    }
}
