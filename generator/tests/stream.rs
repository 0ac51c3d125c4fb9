//! What the stream promises, whatever the settings: determinism, order, bounds, well-formed lines, true counts.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::{Count, logs, plain, read};
use jiff::SignedDuration;
use proptest::prelude::*;
use smartlog_generator::{
    Generator, GeneratorConfig, IncidentKind, IncidentPlan, IncidentSpec, MalformedKind, Services,
};
use std::collections::{BTreeMap, HashMap, HashSet};

fn eventful(seed: u64) -> GeneratorConfig {
    GeneratorConfig {
        incidents: IncidentPlan::Auto { per_day: 300.0, disturbances_per_day: 300.0, kinds: Vec::new() },
        malformed_share: 0.01,
        odd_share: 0.01,
        late_share: 0.01,
        ..plain(seed, 60, 60.0)
    }
}

#[test]
fn equal_settings_make_equal_bytes_in_both_forms() {
    let records: Vec<_> = Generator::new(eventful(3)).unwrap().collect();
    let mut again = Generator::new(eventful(3)).unwrap();
    let mut payload = Vec::new();
    for record in &records {
        payload.clear();
        let head = again.next_into(&mut payload).unwrap();
        assert_eq!(payload, record.payload);
        assert_eq!((head.arrival_us, head.event_us), (record.arrival_us, record.event_us));
        assert_eq!(again.service(head.service), &*record.key);
    }
    assert!(again.next_into(&mut payload).is_none());
    let other: Vec<_> = Generator::new(eventful(4)).unwrap().take(100).collect();
    assert_ne!(other[..], records[..100]);
}

#[test]
fn a_number_of_lines_is_the_beginning_of_them_all() {
    let all: Vec<_> = Generator::new(eventful(3)).unwrap().collect();
    let some: Vec<_> = Generator::new(GeneratorConfig { lines: Some(500), ..eventful(3) }).unwrap().collect();
    assert_eq!(some[..], all[..500]);
    let more = GeneratorConfig { lines: Some(u64::MAX), ..eventful(3) };
    assert_eq!(Generator::new(more).unwrap().count(), all.len());
}

#[test]
fn every_log_has_all_fields_in_the_required_shape() {
    let all: Vec<_> = Generator::new(plain(5, 5, 500.0)).unwrap().collect();
    let mut versions = 0;
    for record in &all {
        let text = std::str::from_utf8(&record.payload).unwrap();
        let log = read(record).unwrap_or_else(|| panic!("no log: {text}"));
        assert!(
            text.starts_with(&format!("{{\"timestamp\":\"{}", &text[14..27])) && text.ends_with("}}"),
            "{text}"
        );
        let stamp = &text[14..38];
        assert!(stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.', "{stamp}");
        assert_eq!(log.event_ms, record.event_us.div_euclid(1000));
        assert_eq!(log.service, *record.key);
        assert!(["DEBUG", "INFO", "WARN", "ERROR", "FATAL"].contains(&log.level.as_str()), "{}", log.level);
        assert!(log.host.starts_with(&log.service) && log.host.len() <= 100);
        assert!(!log.message.is_empty() && !text.contains('\n'));
        versions += usize::from(log.version.is_some());
    }
    assert!(
        versions * 4 > all.len() / 2 && versions * 4 < all.len(),
        "a fifth carries the version: {versions}"
    );
    assert!(all.iter().filter_map(read).any(|log| log.message.contains("\n\tat ")), "stack traces");
}

#[test]
fn lines_arrive_in_order_and_only_as_late_as_the_settings_say() {
    let config = GeneratorConfig { late_share: 0.02, ..plain(6, 20, 300.0) };
    let (disorder, late_max) = (config.disorder.as_micros() as i64, config.late_max.as_micros() as i64);
    let records: Vec<_> = Generator::new(config).unwrap().collect();
    assert!(records.is_sorted_by_key(|record| record.arrival_us));
    let delays: Vec<i64> = records.iter().map(|record| record.arrival_us - record.event_us).collect();
    assert!(delays.iter().all(|&delay| (0..=late_max).contains(&delay)));
    let late = delays.iter().filter(|&&delay| delay > disorder).count() as f64;
    let n = delays.len() as f64;
    common::assert_close("share of late lines", late / n, 0.02, 5.0 * (0.02 * 0.98 / n).sqrt());
    let inversions = records.windows(2).filter(|pair| pair[1].event_us < pair[0].event_us).count();
    assert!(inversions * 5 > records.len(), "events out of order: {inversions} of {}", records.len());
    let mut usual: Vec<i64> = delays.into_iter().filter(|&delay| delay <= disorder).collect();
    usual.sort_unstable();
    let median = usual[usual.len() / 2] as f64;
    common::assert_close("median delay", median, disorder as f64 / 10.0, disorder as f64 / 200.0);
}

#[test]
fn without_delays_events_come_in_order() {
    let config = GeneratorConfig { disorder: SignedDuration::ZERO, ..plain(7, 10, 200.0) };
    let events: Vec<i64> = Generator::new(config).unwrap().map(|record| record.event_us).collect();
    assert!(events.is_sorted() && events.len() > 60_000);
}

#[test]
fn memory_is_bounded_by_what_is_on_its_way() {
    let config = GeneratorConfig { late_share: 0.5, max_held: 5_000, ..plain(8, 30, 500.0) };
    let mut traffic = Generator::new(config).unwrap();
    let (mut most, mut payload) = (0, Vec::new());
    while traffic.next_into(&mut payload).is_some() {
        payload.clear();
        most = most.max(traffic.held());
    }
    // At most the bound, and the usual delays of 2 s and the second under way at several times the mean rate.
    assert!(most > 5_000 && most < 5_000 + 3 * 2_000, "{most} lines were held");
    assert_eq!(traffic.held(), 0);
}

#[test]
fn held_lines_come_in_the_end() {
    let with = |late_share, disorder_s| {
        let disorder = SignedDuration::from_secs(disorder_s);
        let config = GeneratorConfig { late_share, disorder, ..plain(9, 10, 200.0) };
        let mut all: Vec<_> = Generator::new(config).unwrap().map(|r| (r.event_us, r.key)).collect();
        all.sort_unstable();
        all.len()
    };
    assert_eq!(with(0.0, 0), with(0.3, 20), "delays neither add nor lose lines");
}

#[test]
fn labels_tell_what_was_written() {
    let config = GeneratorConfig { odd_share: 0.0, ..eventful(10) };
    let mut traffic = Generator::new(config).unwrap();
    let mut services: BTreeMap<String, Count> = BTreeMap::new();
    let (mut lines, mut bytes, mut dead, mut ahead) = (0, 0, 0, 0);
    for record in traffic.by_ref() {
        lines += 1;
        bytes += record.payload.len() as u64;
        match read(&record) {
            // A credible reader refuses the year 2099 as well.
            None => dead += 1,
            Some(log) if log.event_ms > 4_000_000_000_000 => dead += 1,
            Some(log) if log.event_ms * 1000 > record.arrival_us => ahead += 1,
            Some(log) => services.entry(log.service.clone()).or_default().add(&log),
        }
    }
    let facts = traffic.labels().facts;
    assert_eq!((facts.lines, facts.bytes, facts.future_clock), (lines, bytes, ahead));
    assert_eq!(facts.malformed.values().sum::<u64>(), dead);
    assert_eq!(facts.valid, services.values().map(|count| count.logs as u64).sum::<u64>());
    assert!(dead > 1000 && facts.malformed.len() == MalformedKind::CERTAIN.len());
    for (name, told) in &facts.per_service {
        let found = services.get(name).copied().unwrap_or_default();
        let told =
            Count { logs: told.events as i64, errors: told.errors as i64, chars: told.message_chars as i64 };
        assert_eq!(found, told, "{name}");
    }
}

#[test]
fn malformed_lines_are_counted_by_kind_and_come_on_top() {
    let clean = logs(plain(11, 10, 100.0)).len();
    for kind in MalformedKind::CERTAIN {
        let config =
            GeneratorConfig { malformed_share: 0.02, malformed_kinds: vec![kind], ..plain(11, 10, 100.0) };
        let mut traffic = Generator::new(config).unwrap();
        let records: Vec<_> = traffic.by_ref().collect();
        let good = |record: &&_| read(record).is_some_and(|log| log.event_ms < 4_000_000_000_000);
        let good = records.iter().filter(good).count();
        assert_eq!(good, clean, "{kind:?} lines change nothing else");
        let told = traffic.labels().facts.malformed;
        assert_eq!(told, BTreeMap::from([(kind, (records.len() - good) as u64)]), "{kind:?}");
        // 100 a second × 600 s × 2 %, a Poisson count.
        common::assert_close("malformed lines", told[&kind] as f64, 1200.0, 5.0 * 1200f64.sqrt());
    }
}

#[test]
fn requests_run_through_services_in_the_order_of_the_calls() {
    let logs = logs(plain(12, 10, 1000.0));
    let mut first_seen: HashMap<&str, HashMap<&str, i64>> = HashMap::new();
    let mut users: HashMap<&str, HashSet<&str>> = HashMap::new();
    for log in &logs {
        let first = first_seen.entry(&log.request).or_default().entry(&log.service).or_insert(i64::MAX);
        *first = (*first).min(log.event_ms);
        users.entry(&log.request).or_default().insert(&log.user);
    }
    assert!(users.values().all(|users| users.len() == 1), "a request has one user");
    let through_three = first_seen.values().filter(|services| services.len() >= 3).count();
    assert!(through_three * 10 > first_seen.len(), "{through_three} of {} reach three", first_seen.len());
    let (mut pairs, mut both) = (0, 0);
    for services in first_seen.values() {
        if let (Some(gateway), Some(payment)) = (services.get("api-gateway"), services.get("payment-service"))
        {
            pairs += 1;
            assert!(gateway <= payment, "the gateway sees a request before the payment service does");
            both += usize::from(services.contains_key("order-service"));
        }
    }
    assert!(pairs > 1000 && both == pairs, "{pairs} requests reach payments, {both} of them through orders");
}

#[test]
fn deployments_replace_hosts_and_versions() {
    let config = GeneratorConfig { deploy_every: SignedDuration::from_hours(2), ..plain(13, 24 * 60, 5.0) };
    let logs = logs(config);
    let (mut versions, mut hosts) = (HashSet::new(), HashSet::new());
    for log in logs.iter().filter(|log| log.service == "api-gateway") {
        hosts.insert(&log.host);
        versions.extend(&log.version);
    }
    // One to three hours between deployments of six hosts.
    assert!((8..=25).contains(&versions.len()), "{} versions", versions.len());
    assert!((48..=150).contains(&hosts.len()), "{} hosts", hosts.len());
    assert!(logs.iter().any(|log| log.message.starts_with("Starting ")));
}

#[test]
fn a_stream_cut_short_is_labelled_as_far_as_it_went() {
    let config = GeneratorConfig { duration: None, ..eventful(14) };
    let mut traffic = Generator::new(config).unwrap();
    let records: Vec<_> = traffic.by_ref().take(50_000).collect();
    let (labels, plan) = (traffic.labels(), traffic.plan());
    assert_eq!(labels.facts.lines, 50_000);
    let last = records.last().unwrap().arrival_us.div_euclid(1_000_000);
    assert_eq!(labels.facts.end.as_second(), last + 1);
    let begun = plan.iter().filter(|label| label.start < labels.facts.end).count();
    assert_eq!(labels.incidents.len() + labels.benign.len(), begun);
    assert!(plan.len() > begun && labels.incidents.iter().all(|label| label.end <= labels.facts.end));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any settings that are accepted keep the promises.
    #[test]
    fn order_and_counts_hold_for_any_settings(
        seed: u64,
        rate in 0.1f64..80.0,
        services in 1u32..60,
        disorder_ms in 0i64..60_000,
        late_share in 0.0f64..0.3,
        late_s in 0i64..7200,
        malformed_share in 0.0f64..0.2,
        max_held in 0usize..2000,
        kind in prop::sample::select(IncidentKind::DISTURBANCES.to_vec()),
    ) {
        let config = GeneratorConfig {
            services: Services::Count(services),
            disorder: SignedDuration::from_millis(disorder_ms),
            late_share,
            late_max: SignedDuration::from_secs(late_s),
            malformed_share,
            odd_share: 0.05,
            max_held,
            incidents: IncidentPlan::Explicit(vec![IncidentSpec {
                kind,
                service: "service-00000".into(),
                after: SignedDuration::from_mins(1),
                lasts: SignedDuration::from_mins(2),
                magnitude: None,
            }]),
            ..plain(seed, 6, rate)
        };
        let mut traffic = Generator::new(config.clone()).unwrap();
        let records: Vec<_> = traffic.by_ref().collect();
        prop_assert!(records.is_sorted_by_key(|record| record.arrival_us));
        let facts = traffic.labels().facts;
        let malformed: u64 = facts.malformed.values().sum();
        prop_assert_eq!(facts.lines, records.len() as u64);
        prop_assert_eq!(facts.lines, facts.valid + facts.future_clock + malformed);
        let no_breaks = records.iter().all(|record| !record.payload.contains(&b'\n'));
        prop_assert!(no_breaks);
        let start = config.start.as_microsecond();
        let end = start + 360_000_000;
        let ahead = records.iter().filter(|r| r.event_us > r.arrival_us).count() as u64;
        prop_assert_eq!(ahead, facts.future_clock);
        prop_assert!(records.iter().all(|r| r.event_us > r.arrival_us || (start..end).contains(&r.event_us)));
        prop_assert_eq!(traffic.held(), 0);
    }
}
