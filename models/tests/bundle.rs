//! A bundle is one unit: the same bytes from the same rows, refused whole when anything in it is wrong.

mod support;

use proptest::prelude::*;
use smartlog_models::bundle::Member;
use smartlog_models::evaluate::evaluate;
use smartlog_models::fit::{FitError, fit};
use smartlog_models::profile::Profile;
use smartlog_models::rows::Rows;
use smartlog_models::{Bundle, BundleError, Scoping};
use support::{bundle, history, settings};

#[test]
fn the_same_rows_and_seed_give_the_same_bytes_and_another_seed_does_not() {
    for scoping in Scoping::ALL {
        let bytes = |seed| {
            let settings = smartlog_models::fit::Settings { seed, ..settings(scoping) };
            let bundle = fit(&history(1, 400), &settings, "1.2.3").expect("enough windows");
            bundle.to_bytes().expect("it can be written")
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(Bundle::digest_of(&bytes(7)), Bundle::digest_of(&bytes(8)));
    }
}

#[test]
fn what_was_stored_is_read_as_it_was_and_scores_the_same() {
    for scoping in Scoping::ALL {
        let bundle = bundle(scoping);
        let read = Bundle::from_bytes(&bundle.to_bytes().expect("written")).expect("read");
        assert!(bundle == read, "not the same after reading");
        for row in &history(2, 50).rows {
            assert_eq!(bundle.score(&row.service, &row.values), read.score(&row.service, &row.values));
        }
    }
}

#[test]
fn each_service_is_scored_by_the_forest_of_its_scope() {
    let usual = |bundle: &Bundle, service: &str| {
        bundle.member_for(service).map(|(member, p)| (member.rows, p.is_some()))
    };
    let stream = bundle(Scoping::Stream);
    assert_eq!(usual(&stream, "checkout"), Some((800, false)));
    let service = bundle(Scoping::Service);
    assert_eq!(usual(&service, "checkout"), Some((800, false)));
    assert_eq!(usual(&service, "unknown"), None);
    let shared = bundle(Scoping::Shared);
    assert_eq!(usual(&shared, "mail"), Some((2400, true)));
    assert_eq!(usual(&shared, ""), Some((800, false)));
    // 600 logs a minute are usual for one service and not for another.
    let values = [600.0, 0.02, 50.0, 3.0, 1.0];
    for bundle in [&service, &shared] {
        let score = |service| bundle.score(service, &values).expect("a known service").score;
        assert!(score("mail") > score("checkout") + 0.05, "{} {}", score("mail"), score("checkout"));
    }
    assert_eq!(service.score("mail", &[f64::NAN, 0.0, 0.0, 0.0, 0.0]), None);
    assert_eq!(service.score("mail", &values[..3]), None);
}

#[test]
fn a_service_with_few_windows_has_no_forest_of_its_own() {
    let mut rows = history(1, 800);
    let mut of_mail = 0;
    rows.rows.retain(|row| {
        of_mail += usize::from(row.service == "mail");
        row.service != "mail" || of_mail <= 100
    });
    let bundle = fit(&rows, &settings(Scoping::Service), "1.2.3").expect("enough of the others");
    assert!(!bundle.services.contains_key("mail") && bundle.services.contains_key("search"));
    assert!(bundle.member_for("mail").expect("the shared one").1.is_some());
}

#[test]
fn the_thresholds_are_what_they_say() {
    let rows = history(1, 800);
    let bundle = fit(&rows, &settings(Scoping::Service), "1.2.3").expect("enough windows");
    for (scope, Member { threshold, alert_threshold, .. }) in bundle.members() {
        assert!(alert_threshold > threshold, "{scope}");
    }
    let of = |service: &str| rows.rows.iter().filter(|row| row.service == service).collect::<Vec<_>>();
    for service in ["", "checkout", "search", "mail"] {
        let scored: Vec<_> =
            of(service).iter().map(|r| bundle.score(service, &r.values).expect("scored")).collect();
        let share = scored.iter().filter(|s| s.score > s.threshold).count() as f64 / scored.len() as f64;
        assert!((share - 0.05).abs() < 0.01, "{service}: {share}");
        let held = scored.windows(7).filter(|run| run.iter().all(|s| s.score > s.alert_threshold)).count();
        assert_eq!(held, 0, "quiet time held the alert threshold of {service}");
    }
}

#[test]
fn too_few_windows_are_refused_with_the_number() {
    let refusal = fit(&history(1, 100), &settings(Scoping::Stream), "").expect_err("too few");
    assert!(matches!(refusal, FitError::TooFewRows { expected: 360, found: 100 }));
    let empty = fit(&Rows::default(), &settings(Scoping::Stream), "").expect_err("nothing");
    assert!(matches!(empty, FitError::Features(0)));
}

#[test]
fn made_up_incidents_are_found_and_quiet_time_is_quiet() {
    let report = evaluate(&history(3, 2_000), &settings(Scoping::Service)).expect("enough windows");
    // A change of one feature among five is the hardest there is for a forest: half of them is much.
    assert!(report.recall() > 0.4, "{report:?}");
    assert_eq!(report.false_episodes_per_day, 0.0, "{report:?}");
    assert!((report.flagged_share - 0.05).abs() < 0.04, "{report:?}");
    assert_eq!(report.injected.values().map(|(_, all)| all).sum::<usize>(), 100);
}

#[test]
fn bytes_that_are_no_bundle_are_refused_in_words() {
    let refused = |bytes: &[u8]| Bundle::from_bytes(bytes).expect_err("no bundle");
    assert!(matches!(refused(b""), BundleError::Unreadable(_)));
    assert!(matches!(refused(b"{}"), BundleError::Unreadable(_)));
    let packed = |json: &str| zstd::encode_all(json.as_bytes(), 1).expect("it can be packed");
    assert!(matches!(refused(&packed("{\"format\": 99}")), BundleError::Format(99)));
    let mut narrow = bundle(Scoping::Stream);
    narrow.features.pop();
    let refusal = refused(&narrow.to_bytes().expect("written")).to_string();
    assert_eq!(refusal, "expected forests of 4 features, found one of 5 (stream)");
    let mut flat = bundle(Scoping::Shared);
    let usual = &mut flat.profiles.get_mut("mail").expect("a profile").overall[0];
    usual.spread = 0.0;
    assert!(matches!(refused(&flat.to_bytes().expect("written")), BundleError::Value { .. }));
    let mut hours = bundle(Scoping::Shared);
    hours.profiles.values_mut().for_each(|profile: &mut Profile| profile.hours.truncate(3));
    assert!(matches!(refused(&hours.to_bytes().expect("written")), BundleError::Value { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened to the file: an error or the same bundle, never a panic.
    #[test]
    fn fuzz_a_damaged_file_never_panics(at in 0.0..1.0_f64, byte: u8, cut in 0.5..1.0_f64) {
        thread_local!(static WHOLE: (Bundle, Vec<u8>) = {
            let bundle = bundle(Scoping::Shared);
            let json = serde_json::to_vec(&bundle).expect("JSON");
            (bundle, json)
        });
        WHOLE.with(|(_, json)| {
            let mut damaged = json.clone();
            let at = (at * (json.len() - 1) as f64) as usize;
            damaged[at] = byte;
            if byte % 4 == 0 {
                damaged.truncate((cut * json.len() as f64) as usize);
            }
            let packed = zstd::encode_all(&damaged[..], 1).expect("it can be packed");
            if let Ok(read) = Bundle::from_bytes(&packed) {
                let _ = read.score("mail", &[1.0, 0.0, 10.0, 3.0, 4.0]);
            }
        });
    }
}
