//! Estates of our own generator: with incidents of every kind, and quiet weeks.

use super::{Amount, Case, Corpus, Excused, GRACE, Incident, Labels, Lines, TAIL, Writer};
use jiff::{SignedDuration, Timestamp};
use smartlog_generator::output::{Pace, to_writer};
use smartlog_generator::{Generator, GeneratorConfig, IncidentPlan, Label, Services};
use std::io::Write;

/// Estates with incidents: enough, with the replays, for 200 incidents and more.
const MIXED: u64 = 20;
/// Mean logs per second of the estates, in turn.
const RATES: [f64; 4] = [15.0, 60.0, 30.0, 20.0];
/// The same of the quiet weeks.
const QUIET_RATES: [f64; 3] = [0.5, 4.0, 12.0];

/// Estates with incidents and disturbances of every kind, drawn from the seed.
pub fn mixed(amount: &Amount) -> Vec<Case> {
    let seeds = amount.set.seeds(amount.cases(MIXED, 2));
    seeds.map(|seed| case(Corpus::Mixed, format!("estate-{seed}"), mixed_config(seed))).collect()
}

fn mixed_config(seed: u64) -> GeneratorConfig {
    let rate_per_s = RATES[(seed % 4) as usize];
    // Some estates have few services, none of them quiet.
    let services = if seed.is_multiple_of(5) { Services::Count(8) } else { Services::Builtin };
    GeneratorConfig {
        seed,
        // Another hour and day of the week each time.
        start: start(seed as i64 % 200 * 29 * 3600),
        duration: Some(SignedDuration::from_hours(10)),
        rate_per_s,
        services,
        incidents: IncidentPlan::Auto { per_day: 48.0, disturbances_per_day: 10.0, kinds: Vec::new() },
        learn: SignedDuration::from_hours(3),
        malformed_share: 0.001,
        late_share: 0.002,
        ..GeneratorConfig::default()
    }
}

/// Weeks of season and bursts, at several rates.
pub fn quiet(amount: &Amount) -> Vec<Case> {
    let seeds = amount.set.seeds(amount.cases(QUIET_RATES.len() as u64, 1));
    let config = |(seed, rate_per_s)| GeneratorConfig {
        seed,
        start: start(0),
        duration: Some(SignedDuration::from_hours(if amount.quick { 48 } else { 7 * 24 })),
        rate_per_s,
        learn: SignedDuration::from_hours(1),
        ..GeneratorConfig::default()
    };
    let of = |(seed, rate)| {
        let name = format!("quiet-{seed} at {rate}/s");
        case(Corpus::Quiet, name, config((seed, rate)))
    };
    seeds.zip(QUIET_RATES).map(of).collect()
}

/// A Monday, and `after` seconds.
fn start(after: i64) -> Timestamp {
    Timestamp::from_second(1_740_960_000 + after).expect("2025 is in range")
}

fn case(corpus: Corpus, name: String, config: GeneratorConfig) -> Case {
    let size = config.duration.map_or(0.0, |duration| duration.as_secs_f64() * config.rate_per_s) as u64;
    let write: Writer = Box::new(move |out: &mut dyn Write| {
        let mut generator = Generator::new(config.clone())?;
        to_writer(&mut generator, out, &Pace::full_speed(), &mut |_| {})?;
        Ok(labels(&generator.labels()))
    });
    Case { corpus, name, size, lines: Lines::Made(write) }
}

fn labels(labels: &smartlog_generator::Labels) -> Labels {
    Labels {
        from: labels.evaluate_from.as_second(),
        to: labels.facts.end.as_second(),
        grace: GRACE,
        tail: TAIL,
        services: labels.services.len(),
        incidents: labels.incidents.iter().map(incident).collect(),
        excused: labels.excused.iter().map(excused).collect(),
    }
}

fn incident(label: &Label) -> Incident {
    Incident {
        service: label.service.clone(),
        kind: kind(label),
        accepts: label.accepts.clone(),
        start: label.start.as_second(),
        end: label.end.as_second(),
        how: label.how.clone(),
    }
}

fn kind(label: &Label) -> String {
    let name = serde_json::to_value(label.kind).ok();
    name.as_ref().and_then(serde_json::Value::as_str).map_or_else(|| label.type_name.clone(), str::to_owned)
}

fn excused(label: &Label) -> Excused {
    Excused { service: label.service.clone(), start: label.start.as_second(), end: label.end.as_second() }
}
