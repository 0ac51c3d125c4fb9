//! What must hold of the parser, and in [`mod@config`] of the settings, whatever the bytes. The fuzz targets call it with inputs
//! that the fuzzer finds, the tests here with the seeds, on a stable compiler.

#[cfg(feature = "config")]
pub mod config;

use smartlog_operators::parse::{FieldMapping, Limits, ParsedLog, Parser, Preset, Reject, Scratch};
use std::sync::LazyLock;

struct Parsers {
    short: Parser,
    general: Parser,
    presets: Vec<Parser>,
}

static PARSERS: LazyLock<Parsers> = LazyLock::new(|| {
    let parser = |preset| Parser::new(FieldMapping::preset(preset), Limits::default());
    let presets = [Preset::Ecs, Preset::Otel, Preset::Gcp, Preset::Pino].map(parser).into();
    let short = parser(Preset::Default);
    Parsers { general: short.clone().general_only(), short, presets }
});

/// Both ways agree, the three entries agree, and every result is what the stores accept; no preset panics.
pub fn parse(data: &[u8]) {
    let Parsers { short, general, presets } = &*PARSERS;
    let record_us = Some(1_768_473_000_000_000);
    let (mut scratch, mut other) = (Scratch::default(), Scratch::default());
    let whole = general.parse(Some(data), record_us, &mut other);
    assert_eq!(short.parse(Some(data), record_us, &mut scratch), whole);
    check(&whole);
    let text = short.parse_text(Some(data), record_us, &mut scratch);
    assert_eq!(text, whole.clone().map(|log| ParsedLog { metadata: None, ..log }));
    let core = short.parse_core(Some(data), record_us, &mut scratch);
    let core = core.map(|core| (core.timestamp_us, core.level, core.service, core.message_chars));
    assert_eq!(core, whole.map(|log| (log.timestamp_us, log.level, log.service, log.message_chars)));
    for parser in presets {
        check(&parser.parse(Some(data), None, &mut scratch));
    }
}

fn check(result: &Result<ParsedLog<'_>, Reject>) {
    let log = match result {
        Err(reject) => return assert!(!reject.detail.is_empty()),
        Ok(log) => log,
    };
    let is_name = |name: &str| !name.contains('\0') && (1..=100).contains(&name.chars().count());
    assert!(is_name(log.service) && log.host.is_none_or(is_name));
    assert!(!log.message.contains('\0') && log.message.chars().count() == log.message_chars as usize);
    if let Some(metadata) = log.metadata {
        assert!(metadata.len() <= Limits::default().max_metadata_bytes + 200);
        let value: serde_json::Value = serde_json::from_str(metadata).expect("metadata is JSON");
        assert!(value.is_object() && !holds_nul(&value));
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

/// A timestamp that is accepted lies in the accepted years, and means the same in a string and as a number.
pub fn timestamp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let quoted = time_of(&serde_json::Value::from(text).to_string());
    if let Some(instant_us) = quoted {
        assert!((31_536_000_000_000..7_258_118_400_000_000).contains(&instant_us), "{text}: {instant_us}");
    }
    let is_json_number = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(text).is_ok();
    if is_json_number {
        assert_eq!(time_of(text), quoted, "{text} means something else in a string");
    }
}

fn time_of(value: &str) -> Option<i64> {
    let payload = format!(r#"{{"timestamp":{value},"level":"INFO","service":"s","message":"m"}}"#);
    let mut scratch = Scratch::default();
    let result = PARSERS.short.parse_core(Some(payload.as_bytes()), None, &mut scratch);
    result.ok().map(|log| log.timestamp_us)
}

#[cfg(test)]
mod tests {
    fn seeds(folder: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/seeds/{folder}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).expect("the seeds are in the repository");
        files.map(|file| std::fs::read(file.expect("a seed").path()).expect("a seed can be read")).collect()
    }

    #[test]
    fn every_seed_of_parse_passes() {
        let seeds = seeds("parse");
        assert!(!seeds.is_empty());
        for seed in &seeds {
            super::parse(seed);
            for length in 0..seed.len() {
                super::parse(&seed[..length]);
            }
        }
    }

    #[test]
    fn every_seed_of_timestamp_passes() {
        let seeds = seeds("timestamp");
        assert!(!seeds.is_empty());
        for seed in &seeds {
            super::timestamp(seed);
        }
    }
}
