//! The traffic has the statistics that its settings name. Bounds are five standard errors, from the data itself where
//! it is correlated.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::{START, assert_close, by_service_and_second, logs, mean, plain, service, two_services};
use jiff::SignedDuration;
use smartlog_generator::{GeneratorConfig, History, IncidentKind, IncidentPlan, Season, Services, SumsRow};
use std::collections::BTreeMap;

fn rows(config: GeneratorConfig, grain: u32) -> Vec<SumsRow> {
    History::new(config, grain).unwrap().collect()
}

#[test]
fn the_configured_rate_is_the_mean_over_a_week_of_every_service() {
    const WEIGHTS: [f64; 3] = [100.0, 10.0, 0.1];
    let season = Season { daily: 0.5, peak_hour: 14.0, weekly: 0.3 };
    let list = WEIGHTS.map(|w| smartlog_generator::ServiceConfig {
        season,
        burst: 0.2,
        ..service(&w.to_string(), w)
    });
    let config = GeneratorConfig { services: Services::List(list.to_vec()), ..plain(1, 7 * 24 * 60, 50.0) };
    let mut hours = vec![vec![0.0; 7 * 24]; 3];
    for row in rows(config, 3600) {
        hours[row.service][((row.bucket - START) / 3600) as usize] += row.sums.logs as f64;
    }
    for (hours, weight) in hours.iter().zip(WEIGHTS) {
        let expected = |hour: usize| {
            let at = START + hour as i64 * 3600;
            let minutes = (0..60).map(|minute| season.factor(at + minute * 60 + 30));
            50.0 * weight / 110.1 * 60.0 * minutes.sum::<f64>()
        };
        // The season removed, hours are independent but for the slow burst's ten minutes.
        let ratios: Vec<f64> = hours.iter().enumerate().map(|(hour, logs)| logs / expected(hour)).collect();
        let (ratio, error) = mean(&ratios);
        assert_close(&format!("rate of weight {weight}"), ratio, 1.0, 5.0 * error);
        if weight < 1.0 {
            continue;
        }
        assert!(error < 0.01, "the bound means something: {error}");
        // And the season is really there: hour by hour within what the bursts explain.
        let spread = error * (hours.len() as f64).sqrt();
        assert!(ratios.iter().all(|ratio| (ratio - 1.0).abs() < 5.0 * spread));
        let greatest = hours.iter().copied().fold(0.0, f64::max);
        let least = hours.iter().copied().fold(f64::MAX, f64::min);
        assert!(greatest / least > 3.0, "peak {greatest} against {least}");
    }
}

#[test]
fn the_built_in_estate_spans_three_orders_of_magnitude_in_fact() {
    let mut totals = BTreeMap::new();
    for row in rows(plain(2, 24 * 60, 1000.0), 3600) {
        *totals.entry(row.service).or_insert(0) += row.sums.logs;
    }
    assert!(totals.len() >= 20);
    let (least, greatest) = (totals.values().min().unwrap(), totals.values().max().unwrap());
    assert!(greatest / least >= 1000, "{greatest} against {least}");
    let total: i64 = totals.values().sum();
    assert_close("logs a day", total as f64, 86.4e6, 0.2 * 86.4e6);
}

#[test]
fn counts_are_over_dispersed_as_configured() {
    let calm = smartlog_generator::ServiceConfig { burst: 0.0, dispersion: 5.0, ..service("one", 1.0) };
    let config = GeneratorConfig { services: Services::List(vec![calm]), ..plain(3, 600, 20.0) };
    let mut seconds = vec![0.0; 36_000];
    for row in rows(config, 1) {
        seconds[(row.bucket - START) as usize] = row.sums.logs as f64;
    }
    let (found, error) = mean(&seconds);
    assert_close("mean", found, 20.0, 5.0 * error);
    let squares: Vec<f64> = seconds.iter().map(|count| (count - found).powi(2)).collect();
    let (variance, error) = mean(&squares);
    assert_close("variance", variance, 20.0 + 20.0 * 20.0 / 5.0, 5.0 * error);
    let errors = rows(GeneratorConfig { services: two_services(), ..plain(3, 1440, 50.0) }, 60);
    let shares: Vec<f64> = errors.iter().map(|row| row.sums.error_rate()).collect();
    // Minutes share the error wave for a quarter of an hour: the standard error grows by its root.
    let (share, error) = mean(&shares);
    assert_close("error share", share, 0.02, 5.0 * error * 15f64.sqrt());
}

#[test]
fn latencies_are_log_normal() {
    let config = GeneratorConfig { services: two_services(), ..plain(4, 20, 100.0) };
    let usual: Vec<f64> = logs(config)
        .iter()
        .filter(|log| !log.is_error())
        .map(|log| (log.duration_ms as f64 + 0.5).ln())
        .collect();
    let (centre, error) = mean(&usual);
    // Whole milliseconds around a median of 50 move the mean of the logarithm by well under 0.01.
    assert_close("median", centre, 50f64.ln(), 5.0 * error + 0.01);
    let squares: Vec<f64> = usual.iter().map(|v| (v - centre).powi(2)).collect();
    let (variance, error) = mean(&squares);
    assert_close("sigma squared", variance, 0.64, 5.0 * error + 0.01);
    let cubes: Vec<f64> = usual.iter().map(|v| ((v - centre) / 0.8).powi(3)).collect();
    let (skew, error) = mean(&cubes);
    assert_close("skewness of the logarithm", skew, 0.0, 5.0 * error + 0.05);
}

#[test]
fn the_history_of_sums_is_the_text_added_up() {
    let incidents = IncidentPlan::Auto {
        per_day: 400.0,
        disturbances_per_day: 0.0,
        kinds: vec![
            IncidentKind::ErrorRateSpike,
            IncidentKind::LogVolumeSpike,
            IncidentKind::MultivariateOutlier,
            IncidentKind::NewPattern,
        ],
    };
    let config = GeneratorConfig { incidents, late_share: 0.01, ..plain(5, 40, 400.0) };
    let all = logs(config.clone());
    let text = by_service_and_second(&all);
    let history = History::new(config, 1).unwrap();
    let names: Vec<String> = history.services().map(str::to_owned).collect();
    let sums: Vec<SumsRow> = history.collect();
    assert_eq!(sums.len(), text.len(), "the same seconds hold something");
    for row in &sums {
        let told = text[&(names[row.service].clone(), row.bucket)];
        assert_eq!((row.sums.logs, row.sums.errors), (told.logs, told.errors), "{row:?}");
    }
    for (index, name) in names.iter().enumerate() {
        lengths_agree(name, &sums.iter().filter(|row| row.service == index).collect::<Vec<_>>(), &text);
    }
}

/// Characters of all messages together, the text's against the sums': both vary, each by the texts' own spread.
fn lengths_agree(name: &str, sums: &[&SumsRow], text: &BTreeMap<(String, i64), common::Count>) {
    let differences: Vec<f64> = sums
        .iter()
        .map(|row| (row.sums.message_chars - text[&(name.to_owned(), row.bucket)].chars) as f64)
        .collect();
    let logs: i64 = sums.iter().map(|row| row.sums.logs).sum();
    if logs < 2_000 {
        return;
    }
    let (difference, error) = mean(&differences);
    let per_log = difference * differences.len() as f64 / logs as f64;
    let error = error * differences.len() as f64 / logs as f64;
    // Kept lengths and start-up lines may shift the mean by a fraction of a character.
    assert_close(&format!("{name}: characters per message"), per_log, 0.0, 5.0 * error + 0.3);
    assert!(error < 2.0, "{name}: the bound means something: {error}");
}

#[test]
fn coarser_buckets_are_the_finer_ones_added_up_and_any_stretch_is_the_same() {
    let config = plain(6, 30, 200.0);
    let mut added: BTreeMap<(i64, usize), smartlog_schema::sums::Sums> = BTreeMap::new();
    for row in rows(config.clone(), 1) {
        *added.entry((row.bucket - row.bucket.rem_euclid(60), row.service)).or_default() += row.sums;
    }
    let minutes = rows(config.clone(), 60);
    let told: BTreeMap<_, _> = minutes.iter().map(|row| ((row.bucket, row.service), row.sums)).collect();
    assert_eq!(told, added);
    assert_eq!(told.keys().copied().collect::<Vec<_>>().len(), minutes.len(), "each once");
    let start = config.start + SignedDuration::from_mins(10);
    let duration = Some(SignedDuration::from_mins(20));
    let later = rows(GeneratorConfig { start, duration, ..config }, 60);
    assert_eq!(later[..], minutes[minutes.len() - later.len()..], "time before changes nothing");
}

#[test]
fn many_services_work_as_well() {
    let config = GeneratorConfig { services: Services::Count(3000), ..plain(7, 1, 3000.0) };
    let mut seen = std::collections::HashSet::new();
    for log in logs(config.clone()) {
        seen.insert(log.service);
    }
    assert!(seen.len() > 2500, "{} services spoke", seen.len());
    let total: i64 = rows(config, 60).iter().map(|row| row.sums.logs).sum();
    assert!(total > 90_000);
}
