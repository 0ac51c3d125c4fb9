//! What days teach: how bursty a service with a season is, what returns after a level was adopted, and both against the
//! naive program. The other tests end within hours, before there is a season.

mod oracle;

use oracle::naive::{self, Kind, Seconds};
use oracle::script::{MIDNIGHT, Random};
use oracle::settings::dense;
use smartlog_operators::baseline::Baseline;
use smartlog_operators::detector::{Detector, Finding};
use smartlog_operators::settings::{self, Detection};
use smartlog_operators::sums::Sums;
use smartlog_schema::anomaly::AnomalyType;
use std::f64::consts::TAU;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// One to three logs a second, or none, so that there are `level(second)` a minute.
fn counts(days: i64, random: &mut Random, mut level: impl FnMut(i64) -> f64) -> Vec<(i64, Sums)> {
    let mut seconds = Vec::new();
    for second in 0..days * DAY {
        let logs = (0..3).filter(|_| random.happens(level(second) / 180.0)).count() as i64;
        if logs > 0 {
            seconds.push((MIDNIGHT + second, Sums { logs, errors: 0, message_chars: logs }));
        }
    }
    seconds
}

fn season(second: i64) -> f64 {
    1.0 + 0.7 * (TAU * second as f64 / DAY as f64).sin()
}

fn findings(seconds: &[(i64, Sums)], through: i64, detection: &Detection) -> Vec<Finding> {
    let mut detector = Detector::new(seconds[0].0);
    let mut found = detector.fold(seconds, None, through, detection);
    found.extend(detector.open());
    found
}

/// Levels a third above the usual, or below it, for five minutes each: a squared relative spread of a ninth. Where the
/// band is wide most of them lie within it, and must not count as if they were steady.
#[test]
fn bursts_within_the_band_are_learned() {
    let mut choice = Random(11);
    let bursts: Vec<bool> = (0..5 * DAY / 300).map(|_| choice.happens(0.5)).collect();
    let level = |second: i64| {
        8.0 * season(second) * if bursts[(second / 300) as usize] { 4.0 / 3.0 } else { 2.0 / 3.0 }
    };
    let settings = settings::Baseline::default();
    let mut baseline = Baseline::default();
    let mut end = MIDNIGHT + 60;
    for (second, sums) in counts(5, &mut Random(7), level) {
        while end <= second {
            baseline.close_through(end, false, false, &settings);
            end += 60;
        }
        baseline.observe(second, sums);
    }
    let normal = baseline.normal();
    let band = normal.window.volume.expect("days are enough to know what is usual");
    assert!(band.up > 1.1 * band.down, "there is a band: {band:?}");
    let spreads = [normal.minute.spread, normal.window.spread];
    assert!(spreads.iter().all(|spread| (0.10..0.20).contains(spread)), "of a minute, of five: {spreads:?}");
}

/// Seven hours at four times the usual are an episode and, after six of them, normal; that they end is no news to whoever
/// knows the other days.
#[test]
fn a_level_that_returns_to_that_of_other_days_is_no_drop() {
    let odd = 4 * DAY + 6 * HOUR..4 * DAY + 13 * HOUR;
    let level = |second: i64| 20.0 * if odd.contains(&second) { 4.0 } else { 1.0 };
    let seconds = counts(5, &mut Random(3), level);
    let found = findings(&seconds, MIDNIGHT + 5 * DAY, &Detection::default());
    let told: Vec<_> = found.iter().map(|f| (f.anomaly_type, f.expired)).collect();
    assert_eq!(told, [(AnomalyType::LogVolumeSpike, true)], "{found:#?}");
}

/// Days of season, with an hour now and then at another level: the same episodes as the naive program's.
#[test]
fn over_days_it_finds_what_the_naive_program_finds() {
    let mut settings = dense();
    settings.detection.baseline.season_days = 1;
    settings.detection.episodes_per_week = 100.0;
    let (mut odd, mut choice) = (1.0, Random(13));
    let seconds = counts(3, &mut Random(5), |second| {
        if second % HOUR == 0 {
            odd = [1.0, 1.0, 1.0, 0.0, 0.3, 4.0][choice.within(0, 6) as usize];
        }
        8.0 * season(second) * odd
    });
    let through = MIDNIGHT + 3 * DAY + 400;
    let kind = |anomaly_type: AnomalyType| match anomaly_type {
        AnomalyType::ErrorRateSpike => Kind::Errors,
        AnomalyType::LogVolumeSpike => Kind::Spike,
        _ => Kind::Drop,
    };
    let mut found: Vec<_> = findings(&seconds, through, &settings.detection)
        .iter()
        .map(|f| (f.started_at, f.last_seen, f.ended_at, kind(f.anomaly_type)))
        .collect();
    let mut naive_seconds = Seconds::default();
    for (second, sums) in &seconds {
        naive_seconds.0.insert(*second, (sums.logs, sums.errors, sums.message_chars));
    }
    let mut wanted: Vec<_> = naive::episodes(&naive_seconds, None, through, &settings)
        .iter()
        .map(|t| (t.started_at, t.last_seen, t.ended_at, t.kind))
        .collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert!(wanted.len() > 20, "something happens: {}", wanted.len());
    assert_eq!(found, wanted);
}
