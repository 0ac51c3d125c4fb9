//! Every kind of incident shows in counts that a naive reader makes, and only where and when it should.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::{Count, Log, START, assert_close, count, logs, one, plain, read, two_services};
use jiff::SignedDuration;
use smartlog_generator::{
    Generator, GeneratorConfig, IncidentKind, IncidentPlan, IncidentSpec, Label, Services,
};
use std::collections::HashSet;

/// Logs of 40 minutes at 20 a second per service, with one incident on `bent` in the minutes 20 to 30.
fn bent(kind: IncidentKind, magnitude: f64) -> Vec<Log> {
    let incidents = one(kind, magnitude, 20, 10);
    logs(GeneratorConfig { services: two_services(), incidents, ..plain(1, 40, 40.0) })
}

/// Counts of `bent` before, during and after; and checks that `calm` has none of it.
fn phases(logs: &[Log]) -> [Count; 3] {
    let of = |name| [count(logs, name, 0, 20), count(logs, name, 20, 30), count(logs, name, 30, 40)];
    let calm = of("calm");
    assert_close("calm rate", calm[1].logs as f64 / calm[0].logs as f64, 0.5, 0.1);
    assert_close("calm errors", calm[1].error_rate(), calm[0].error_rate(), 0.012);
    of("bent")
}

fn per_minute(counts: &[Count; 3]) -> [f64; 3] {
    [counts[0].logs as f64 / 20.0, counts[1].logs as f64 / 10.0, counts[2].logs as f64 / 10.0]
}

#[test]
fn an_error_rate_spike_multiplies_errors_and_leaves_the_rate() {
    let counts = phases(&bent(IncidentKind::ErrorRateSpike, 12.0));
    let rates = per_minute(&counts);
    assert_close("rate", rates[1] / rates[0], 1.0, 0.15);
    assert_close("errors", counts[1].error_rate(), 0.24, 0.09);
    assert_close("errors before", counts[0].error_rate(), 0.02, 0.01);
    assert_close("errors after", counts[2].error_rate(), 0.02, 0.012);
}

#[test]
fn volume_spikes_drops_and_silence_multiply_the_rate() {
    for (kind, factor) in [
        (IncidentKind::LogVolumeSpike, 8.0),
        (IncidentKind::LogVolumeDrop, 0.05),
        (IncidentKind::Silence, 0.0),
    ] {
        let counts = phases(&bent(kind, factor));
        let rates = per_minute(&counts);
        assert_close(&format!("{kind:?}"), rates[1] / rates[0], factor, 0.15 * factor);
        assert_close("rate after", rates[2] / rates[0], 1.0, 0.15);
        assert_close("errors before", counts[0].error_rate(), 0.02, 0.01);
    }
}

#[test]
fn a_multivariate_outlier_shifts_three_numbers_none_of_them_far() {
    let counts = phases(&bent(IncidentKind::MultivariateOutlier, 1.0));
    let rates = per_minute(&counts);
    assert_close("rate", rates[1] / rates[0], 1.7, 0.25);
    assert_close("errors", counts[1].error_rate(), 0.046, 0.025);
    let longer = counts[1].mean_length() / counts[0].mean_length();
    assert!((1.5..4.0).contains(&longer), "messages {longer} times as long");
    assert!(rates[1] < 5.0 * rates[0] && counts[1].error_rate() < 5.0 * counts[0].error_rate());
}

#[test]
fn a_new_pattern_is_a_text_seen_at_no_other_time() {
    let logs = bent(IncidentKind::NewPattern, 30.0);
    // The family's texts are many, their first words few: what starts as no line outside the incident does is new.
    let first_word = |log: &Log| log.message.split(' ').next().unwrap_or_default().to_owned();
    let minute = |log: &Log| (log.second() - START) / 60;
    let usual: HashSet<String> =
        logs.iter().filter(|log| !(20..30).contains(&minute(log))).map(first_word).collect();
    let new: Vec<&Log> =
        logs.iter().filter(|log| !usual.contains(&first_word(log)) && log.is_error()).collect();
    assert_close("new lines", new.len() as f64, 300.0, 5.0 * 300f64.sqrt());
    assert!(new.iter().all(|log| log.service == "bent" && (20..30).contains(&minute(log))));
    assert_eq!(new.iter().map(|log| first_word(log)).collect::<HashSet<_>>().len(), 1, "one pattern");
}

#[test]
fn ramps_grow_and_flapping_comes_and_goes() {
    let logs = bent(IncidentKind::SlowRampVolume, 6.0);
    let rate = |from, to| count(&logs, "bent", from, to).logs as f64 / (to - from) as f64 / 1200.0;
    assert_close("start of the ramp", rate(20, 22), 1.0 + 5.0 * 60.0 / 450.0, 0.5);
    assert_close("middle of the ramp", rate(23, 25), 1.0 + 5.0 * 240.0 / 450.0, 0.8);
    assert_close("end of the ramp", rate(28, 30), 6.0, 1.2);
    assert_close("after the ramp", rate(30, 40), 1.0, 0.2);
    let logs = bent(IncidentKind::SlowRampErrors, 10.0);
    assert_close("errors at the end", count(&logs, "bent", 28, 30).error_rate(), 0.2, 0.1);
    let logs = bent(IncidentKind::FlappingErrors, 15.0);
    for minute in 20..30 {
        let errors = count(&logs, "bent", minute, minute + 1).error_rate();
        assert_eq!(errors > 0.12, minute % 2 == 0, "minute {minute}: {errors}");
    }
}

#[test]
fn a_level_shift_stays_and_is_labelled_as_no_incident() {
    let incidents = one(IncidentKind::LevelShift, 1.6, 20, 10);
    let config = GeneratorConfig { services: two_services(), incidents, ..plain(1, 90, 40.0) };
    let mut traffic = Generator::new(config).unwrap();
    let logs: Vec<Log> = traffic.by_ref().filter_map(|record| read(&record)).collect();
    let rate = |from, to| count(&logs, "bent", from, to).logs as f64 / (to - from) as f64;
    assert_close("new level", rate(30, 90) / rate(0, 20), 1.6, 0.15);
    let labels = traffic.labels();
    assert!(labels.incidents.is_empty());
    assert_eq!(labels.benign.len(), 1);
    assert!(!labels.benign[0].expected && labels.excused == labels.benign);
}

#[test]
fn a_bad_clock_moves_one_hosts_stamps_and_nothing_else() {
    let incidents = one(IncidentKind::BadClock, 5.0, 20, 10);
    let config = GeneratorConfig { services: two_services(), incidents, ..plain(2, 40, 40.0) };
    let mut traffic = Generator::new(config).unwrap();
    let records: Vec<_> = traffic.by_ref().collect();
    let ahead: Vec<_> = records.iter().filter(|r| r.event_us > r.arrival_us + 3_600_000_000).collect();
    let hosts: HashSet<String> = ahead.iter().filter_map(|r| read(r)).map(|log| log.host).collect();
    assert_eq!(hosts.len(), 1, "one host: {hosts:?}");
    // One of four hosts of a service with 20 logs a second, for ten minutes.
    assert_close("lines ahead", ahead.len() as f64, 3000.0, 600.0);
    for record in &ahead {
        let late = record.arrival_us - (record.event_us - 5 * 3_600_000_000);
        assert!((0..=2_000_000).contains(&late), "the line comes when it happens, only its stamp is wrong");
        assert_eq!(&*record.key, "bent");
    }
    assert_eq!(traffic.labels().facts.future_clock, ahead.len() as u64);
}

#[test]
fn a_held_host_loses_nothing_and_comes_late_all_at_once() {
    let incidents = one(IncidentKind::HeldHost, 4.0, 20, 5);
    let config = GeneratorConfig { services: two_services(), incidents, ..plain(3, 40, 40.0) };
    let mut traffic = Generator::new(config.clone()).unwrap();
    let records: Vec<_> = traffic.by_ref().collect();
    let held: Vec<_> = records.iter().filter(|r| r.arrival_us - r.event_us > 10_000_000).collect();
    let flush = (START + (20 + 5 + 4) * 60) * 1_000_000;
    assert!(held.iter().all(|r| (flush..flush + 2_000_000).contains(&r.arrival_us)));
    assert_eq!(held.iter().filter_map(|r| read(r)).map(|log| log.host).collect::<HashSet<_>>().len(), 1);
    assert_close("held lines", held.len() as f64, 1500.0, 400.0);
    let quiet = logs(GeneratorConfig { incidents: IncidentPlan::None, ..config });
    assert_eq!(quiet.len(), records.len(), "nothing is lost or added");
    let facts = traffic.labels().facts;
    assert_eq!(facts.late_over_60s, held.len() as u64);
    let over_5min = records.iter().filter(|r| r.arrival_us - r.event_us > 300_000_000).count();
    assert_eq!(facts.late_over_5min, over_5min as u64);
}

#[test]
fn a_drawn_plan_has_every_kind_and_never_two_at_once_on_a_service() {
    for seed in 0..20 {
        let config = GeneratorConfig {
            incidents: IncidentPlan::Auto { per_day: 24.0, disturbances_per_day: 8.0, kinds: Vec::new() },
            learn: SignedDuration::from_hours(3),
            ..plain(seed, 3 * 24 * 60, 1000.0)
        };
        let (start, end) = (config.start, config.start + config.duration.unwrap());
        let plan = Generator::new(config.clone()).unwrap().plan();
        let kinds: HashSet<IncidentKind> = plan.iter().map(|label| label.kind).collect();
        assert_eq!(kinds.len(), IncidentKind::INCIDENTS.len() + IncidentKind::DISTURBANCES.len());
        apart(&plan, 20 * 60);
        let open = start + config.learn;
        assert!(plan.iter().all(|label| label.start >= open && label.end <= end && label.start < label.end));
        assert!(plan.iter().map(|label| label.id).eq(1..=plan.len() as u32));
        let incidents = plan.iter().filter(|label| label.expected).count() as f64;
        assert_close("incidents", incidents, 69.0, 5.0 * 69f64.sqrt());
    }
}

/// Asserts that incidents on one service are at least `rest` seconds apart.
fn apart(plan: &[Label], rest: i64) {
    for (index, label) in plan.iter().enumerate() {
        for other in plan[..index].iter().filter(|other| other.service == label.service) {
            let gap = label.start.as_second() - other.end.as_second();
            assert!(gap >= rest, "{} and {} on {} are {gap} s apart", other.id, label.id, label.service);
        }
    }
}

#[test]
fn the_demos_plan_begins_at_once_and_takes_turns() {
    for rate in [50.0, 1000.0, 20_000.0] {
        let config = GeneratorConfig { incidents: IncidentPlan::Demo, duration: None, ..plain(4, 60, rate) };
        let plan = Generator::new(config.clone()).unwrap().plan();
        let first = &plan[0];
        assert_eq!((first.start.as_second() - START, first.type_name.as_str()), (10, "error_rate_spike"));
        let first_hour = plan.iter().filter(|label| label.start.as_second() < START + 3600).count();
        assert!(first_hour >= 55, "{first_hour} incidents in the first hour at {rate} logs/s");
        let kinds: HashSet<&str> = plan[..5].iter().map(|label| label.type_name.as_str()).collect();
        assert_eq!(kinds.len(), 5);
        apart(&plan, 7 * 60);
    }
}

#[test]
fn the_demos_incidents_cross_the_rules_within_half_a_minute() {
    let config = GeneratorConfig { incidents: IncidentPlan::Demo, ..plain(5, 12, 1000.0) };
    let mut traffic = Generator::new(config).unwrap();
    let logs: Vec<Log> = traffic.by_ref().filter_map(|record| read(&record)).collect();
    let window = |service: &str, end: i64| {
        let mut count = Count::default();
        let within = |log: &&Log| log.service == service && (end - 300..end).contains(&log.second());
        logs.iter().filter(within).for_each(|log| count.add(log));
        count
    };
    let (mut errors, mut volumes) = (0, 0);
    for label in traffic.labels().incidents.iter().filter(|label| label.start.as_second() >= START + 300) {
        let start = label.start.as_second();
        let (before, then) = (window(&label.service, start), window(&label.service, start + 40));
        match label.type_name.as_str() {
            "error_rate_spike" => {
                assert!(then.error_rate() > 3.0 * before.error_rate(), "{label:?}: {before:?} {then:?}");
                errors += 1;
            }
            "log_volume_spike" => {
                assert!(then.logs > 5 * before.logs, "{label:?}: {before:?} {then:?}");
                volumes += 1;
            }
            _ => {}
        }
    }
    assert!(errors >= 1 && volumes >= 1);
}

#[test]
fn a_wrong_wish_is_refused_with_the_reason() {
    let refused = |spec: IncidentSpec| {
        let incidents = IncidentPlan::Explicit(vec![spec]);
        let config = GeneratorConfig { services: Services::Builtin, incidents, ..plain(6, 10, 10.0) };
        Generator::new(config).unwrap_err().to_string()
    };
    let spec = IncidentSpec {
        kind: IncidentKind::LogVolumeDrop,
        service: "nobody".into(),
        after: SignedDuration::ZERO,
        lasts: SignedDuration::from_mins(1),
        magnitude: Some(0.05),
    };
    let message = refused(spec.clone());
    assert_eq!(
        message,
        "generator setting `incidents`: no service is called \"nobody\"; name one of the services"
    );
    let message = refused(IncidentSpec { service: "scheduler".into(), magnitude: Some(3.0), ..spec.clone() });
    assert!(message.contains("magnitude 3 of LogVolumeDrop on \"scheduler\"; give 0 to 0.1"), "{message}");
    let message = refused(IncidentSpec { service: "scheduler".into(), lasts: SignedDuration::ZERO, ..spec });
    assert!(message.contains("begin at 0 s or later and last at least 1 s"), "{message}");
}
