//! The parser against itself and against a naive oracle.
//!
//! Near-valid JSON is generated from its grammar (any key order, white space, odd values, escapes) and then bytes are
//! broken. The short way and the general way must say the same of every payload; what an oracle that shares no code
//! with the parser knows must agree with both. `SMARTLOG_PARSE_CASES` sets the number of payloads.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use smartlog_operators::parse::{FieldMapping, Limits, ParsedLog, Parser, Reject, Scratch};
use smartlog_schema::dead_letter::Reason;

#[path = "parse_support/oracle.rs"]
mod oracle;
#[path = "parse_support/payloads.rs"]
mod payloads;

use oracle::Verdict;

const RECORD_US: i64 = 1_768_473_000_000_000;

fn cases() -> u32 {
    std::env::var("SMARTLOG_PARSE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000)
}

/// The short way, the general way, and buffers that are used again for every payload, as in the dataflow.
struct Bench {
    short: Parser,
    general: Parser,
    scratches: [Scratch; 2],
}

impl Bench {
    fn new() -> Bench {
        let short = Parser::new(FieldMapping::default(), Limits::default());
        let general = short.clone().general_only();
        Bench { short, general, scratches: Default::default() }
    }

    /// Runs every entry over one payload and returns what they agree on.
    fn run<'a>(&'a mut self, payload: &'a [u8], record_us: Option<i64>) -> Result<ParsedLog<'a>, Reject> {
        let [scratch, other] = &mut self.scratches;
        let core = self
            .short
            .parse_core(Some(payload), record_us, scratch)
            .map(|core| (core.timestamp_us, core.level, core.service.to_owned(), core.message_chars));
        let text = self.short.parse_text(Some(payload), record_us, scratch);
        let whole = self.general.parse(Some(payload), record_us, other);
        let without = whole.clone().map(|log| ParsedLog { metadata: None, ..log });
        assert_eq!(text, without, "parse_text differs from parse");
        let summary =
            |log: &ParsedLog<'_>| (log.timestamp_us, log.level, log.service.to_owned(), log.message_chars);
        assert_eq!(core, whole.as_ref().map(summary).map_err(Clone::clone), "parse_core differs from parse");
        let short = self.short.parse(Some(payload), record_us, scratch);
        assert_eq!(short, whole, "the short way differs from the general way");
        short
    }
}

/// What holds of every result, whatever the payload.
fn check_result(result: &Result<ParsedLog<'_>, Reject>) {
    let log = match result {
        Err(reject) => return assert!(!reject.detail.is_empty()),
        Ok(log) => log,
    };
    let name_is_fine = |name: &str| (1..=100).contains(&name.chars().count()) && !name.contains('\0');
    assert!(name_is_fine(log.service) && log.host.is_none_or(name_is_fine));
    assert!(!log.message.contains('\0'));
    assert_eq!(log.message.chars().count(), log.message_chars as usize);
    if let Some(metadata) = log.metadata {
        let value: serde_json::Value =
            serde_json::from_str(metadata).expect("metadata is JSON that serde_json reads");
        assert!(value.is_object(), "metadata is an object");
        assert!(!holds_nul(&value), "metadata holds a NUL: {metadata}");
    }
}

fn holds_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(elements) => elements.iter().any(holds_nul),
        serde_json::Value::Object(members) => {
            members.iter().any(|(key, value)| key.contains('\0') || holds_nul(value))
        }
        _ => false,
    }
}

fn check(bench: &mut Bench, payload: &[u8], record_us: Option<i64>) -> &'static str {
    let result = bench.run(payload, record_us);
    check_result(&result);
    let verdict = oracle::judge(payload, record_us);
    match (&verdict, &result) {
        (Verdict::NoOpinion, _) => return "no opinion",
        (Verdict::Reject(expected), Err(reject)) => assert_eq!(*expected, reject.reason, "{}", reject.detail),
        (Verdict::Log(expected), Ok(log)) => expected.assert_same(log),
        _ => panic!("the oracle says {verdict:?}, the parser {result:?}"),
    }
    if result.is_ok() { "log" } else { "reject" }
}

#[test]
fn both_ways_and_the_oracle_agree() {
    let mut runner =
        TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let bench = std::cell::RefCell::new((Bench::new(), std::collections::BTreeMap::new()));
    let strategy = (payloads::payload(), prop_oneof![Just(None), Just(Some(RECORD_US))]);
    let outcome = runner.run(&strategy, |(payload, record_us)| {
        let (bench, outcomes) = &mut *bench.borrow_mut();
        let verdict = check(bench, &payload, record_us);
        *outcomes.entry(verdict).or_insert(0u32) += 1;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let (_, outcomes) = bench.into_inner();
    println!("payloads by outcome: {outcomes:?}");
    for kind in ["log", "reject"] {
        let share = f64::from(outcomes.get(kind).copied().unwrap_or(0)) / f64::from(cases());
        assert!(share > 0.15, "too few payloads end as {kind} for the test to mean anything: {share:.3}");
    }
}

#[test]
fn payloads_of_every_length_around_the_blocks_agree() {
    let mut bench = Bench::new();
    for filler in 0..200 {
        for text in ["x", "\\\\", "\\\"", "é", "\\u00e9\\\\\\\""] {
            let service = "s".repeat(filler % 67 + 1);
            let message = text.repeat(filler);
            let payload = format!(
                r#"{{"timestamp":"2026-01-15T10:30:00Z","level":"INFO","service":"{service}","message":"{message}"}}"#
            );
            assert_eq!(check(&mut bench, payload.as_bytes(), None), "log", "{payload}");
            let broken = payload.replacen(text, "\u{1}", 1);
            check(&mut bench, broken.as_bytes(), None);
            check(&mut bench, &payload.as_bytes()[..payload.len() - 1], None);
        }
    }
}

#[test]
fn the_replay_agrees_line_by_line() {
    let shared = std::env::var("SMARTLOG_SHARED").unwrap_or_else(|_| "../../shared".to_owned());
    let path = format!("{shared}/data/replay/replay.ndjson.gz");
    let Ok(packed) = std::fs::read(&path) else {
        println!("NOT RUN: {path} is not there; set SMARTLOG_SHARED to the folder that holds data/replay");
        return;
    };
    let mut bench = Bench::new();
    let mut outcomes = std::collections::BTreeMap::new();
    for line in lines(&packed) {
        let verdict = check(&mut bench, &line, None);
        *outcomes.entry(verdict).or_insert(0) += 1;
    }
    println!("lines by outcome: {outcomes:?}");
    assert!(outcomes["log"] > 35_000, "most lines of the replay are logs");
}

fn lines(packed: &[u8]) -> Vec<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut text).expect("the replay is gzip");
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

#[test]
fn hostile_payloads_are_clean_rejects_or_mended() {
    let mut bench = Bench::new();
    let deep = |open: &str, close: &str, count: usize| open.repeat(count) + &close.repeat(count);
    let log = |metadata: &str| {
        format!(
            r#"{{"timestamp":"2026-01-15T10:30:00Z","level":"INFO","service":"s","message":"m","metadata":{metadata}}}"#
        )
    };
    let brackets = deep("[", "]", 500_000);
    assert_eq!(brackets.len(), 1_000_000);
    assert_eq!(bench.run(brackets.as_bytes(), None).expect_err("no object").reason, Reason::NotAnObject);
    let open = "[".repeat(1_000_000);
    assert_eq!(bench.run(open.as_bytes(), None).expect_err("not closed").reason, Reason::InvalidJson);
    let open = r#"{"a":"#.repeat(200_000);
    assert_eq!(bench.run(open.as_bytes(), None).expect_err("not closed").reason, Reason::InvalidJson);
    for payload in
        [log(&deep("[", "]", 500_000)), log(&deep(r#"{"a":"#, "}", 150_000).replacen(":}", ":1}", 1))]
    {
        let result = bench.run(payload.as_bytes(), None);
        check_result(&result);
        let metadata = result.expect("a log").metadata.expect("mended metadata");
        assert!(metadata.contains("_nested_too_deep") && metadata.len() < 2_000, "{metadata:.100}");
    }
    for number in
        ["1e200000", "-1E+999999999999", &"9".repeat(200_000), &format!("0.{}", "1".repeat(200_000))]
    {
        let payload = log(&format!("{{\"n\":{number}}}"));
        let result = bench.run(payload.as_bytes(), None);
        check_result(&result);
        assert_eq!(result.expect("a log").metadata, Some(format!("{{\"n\":\"{number}\"}}").as_str()));
    }
}
