//! The demo's history and its live traffic are one estate: what is learnt from the one holds for the other.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::{assert_close, read};
use jiff::{SignedDuration, Timestamp};
use smartlog_generator::{Demo, IncidentPlan};
use std::collections::BTreeMap;

const AT: i64 = 1_772_632_800;

fn demo() -> Demo {
    Demo::new(9, Timestamp::from_second(AT).unwrap(), 400.0).unwrap()
}

#[test]
fn live_traffic_begins_at_the_rate_that_was_asked_for() {
    for hour in [0, 9, 20] {
        let at = AT + hour * 3600;
        let demo = Demo::new(3, Timestamp::from_second(at).unwrap(), 1000.0).unwrap();
        let quiet = demo.clone().with_history(SignedDuration::from_mins(30)).history_sums(60).unwrap();
        let total: i64 = quiet.map(|row| row.sums.logs).sum();
        // Half an hour before: the slow bursts of 26 services are not averaged out, hence a wide bound.
        assert_close(&format!("rate at {hour} h"), total as f64 / 1800.0, 1000.0, 200.0);
    }
}

#[test]
fn history_ends_where_live_begins_and_text_and_sums_agree() {
    let demo = demo().with_history(SignedDuration::from_mins(3));
    let mut text: BTreeMap<i64, i64> = BTreeMap::new();
    for record in demo.history_text().unwrap() {
        if let Some(log) = read(&record).filter(|log| log.event_ms < 4_000_000_000_000) {
            *text.entry(log.second()).or_default() += 1;
        }
    }
    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    demo.history_sums(1).unwrap().for_each(|row| *sums.entry(row.bucket).or_default() += row.sums.logs);
    assert_eq!(sums.keys().copied().collect::<Vec<_>>(), (AT - 180..AT).collect::<Vec<_>>());
    // The strict reader here knows only the usual form; one log in 2,000 is told in an odd one.
    for (second, logs) in &sums {
        assert!((0..=8).contains(&(logs - text[second])), "second {second}: {logs} against {}", text[second]);
    }
    let first = demo.live().unwrap().next().unwrap();
    assert!((AT * 1_000_000..(AT + 1) * 1_000_000).contains(&first.event_us));
}

#[test]
fn a_calm_service_goes_on_live_as_its_history_was() {
    let demo = demo();
    let history = demo.history_sums(60).unwrap();
    let gateway = history.services().position(|name| name == "api-gateway").unwrap();
    let last_hour: Vec<f64> = history
        .filter(|row| row.service == gateway && row.bucket >= AT - 3600)
        .map(|row| row.sums.logs as f64)
        .collect();
    let mut live = demo.live().unwrap();
    let busy: Vec<_> = live.plan().into_iter().filter(|label| label.service == "api-gateway").collect();
    let mut minutes = BTreeMap::new();
    for record in live.by_ref().take(120_000) {
        if &*record.key == "api-gateway" {
            *minutes.entry((record.event_us / 1_000_000 - AT) / 60).or_insert(0.0) += 1.0;
        }
    }
    minutes.pop_last();
    let (mean, error) = common::mean(&last_hour);
    let spread = error * (last_hour.len() as f64).sqrt();
    for (minute, logs) in minutes {
        let at = AT + minute * 60;
        if busy.iter().all(|b| b.start.as_second() > at + 60 || b.end.as_second() < at) {
            assert_close(&format!("live minute {minute}"), logs, mean, 6.0 * spread);
        }
    }
}

#[test]
fn incidents_are_known_before_they_start_and_only_live() {
    let demo = demo();
    let plan = demo.live().unwrap().plan();
    let at = |index: usize| plan[index].start.as_second() - AT;
    assert_eq!((at(0), at(1), at(2)), (10, 70, 130));
    assert!(demo.history_text().unwrap().plan().is_empty());
    assert_eq!(demo.config().incidents, IncidentPlan::Demo);
    let a_week = plan.iter().filter(|label| label.start.as_second() < AT + 6 * 86_400).count();
    assert!(a_week > 8_000, "{a_week} incidents in six days");
}
