//! What to do when lines were no logs: a new user's first file is seldom what the program expects.
//!
//! ```text
//!   summary ── hardly any line lost ──▶ nothing to say
//!       └───── many lost ──▶ first lines of the file ──▶ what it is: compressed, an array, plain text, other names
//! ```

use super::super::job;
use super::summary::Summary;
use crate::config::{Config, Format};
use crate::sources::file::open;
use serde_json::Value;
use smartlog_operators::parse::Scratch;
use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Share of lines that are no logs from which on something is said.
const WORTH_A_WORD: f64 = 0.2;
/// How much of a file is looked at, bytes, and lines of it.
const HEAD_BYTES: u64 = 1 << 18;
const HEAD_LINES: usize = 200;
/// Names that fields go by where no convention is followed.
const ALIASES: [(&str, &[&str]); 4] = [
    ("timestamp", &["ts", "time", "@timestamp", "datetime", "date", "eventTime", "created_at", "t"]),
    ("level", &["lvl", "severity", "loglevel", "log_level", "levelname", "priority"]),
    ("service", &["app", "application", "svc", "service_name", "serviceName", "component", "logger", "name"]),
    ("message", &["msg", "text", "log", "event", "body", "@message"]),
];
const FORMATS: [(Format, &str); 5] = [
    (Format::Default, "default"),
    (Format::Ecs, "ecs"),
    (Format::Otel, "otel"),
    (Format::Gcp, "gcp"),
    (Format::Pino, "pino"),
];

/// What to tell the user, line by line; nothing where nearly all lines were logs.
pub fn of(inputs: &[PathBuf], config: &Config, summary: &Summary) -> Vec<String> {
    let lost = summary.records.saturating_sub(summary.logs);
    if summary.records == 0 {
        return vec![format!("smartlog: no lines in {}", names(inputs))];
    }
    if (lost as f64) < WORTH_A_WORD * summary.records as f64 {
        return Vec::new();
    }
    let mut told = vec![format!("smartlog: {lost} of {} lines were no logs", summary.records)];
    let heads = inputs.iter().filter_map(|path| Some((path, head(path)?)));
    told.extend(heads.flat_map(|(path, head)| explain(path, &head, config)));
    if summary.logs == 0 && summary.dead_letters.iter().any(|(reason, _)| *reason == "from_the_future") {
        told.push("  the times lie in the future: is this machine's clock right?".into());
    }
    told
}

fn names(inputs: &[PathBuf]) -> String {
    let names: Vec<String> = inputs.iter().map(|path| shown(path)).collect();
    names.join(", ")
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "the standard input".into() } else { path.display().to_string() }
}

/// The beginning of a file, decompressed; none of a pipe, which cannot be read twice.
fn head(path: &Path) -> Option<Vec<u8>> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(head)
}

/// What is the matter with a file that begins with `head`.
fn explain(path: &Path, head: &[u8], config: &Config) -> Vec<String> {
    let file = shown(path);
    if let Some(told) = other_format(&file, head) {
        return vec![told];
    }
    let text = String::from_utf8_lossy(head);
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).take(HEAD_LINES).collect();
    let objects: Vec<serde_json::Map<String, Value>> =
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if objects.len() * 2 >= lines.len().max(1) {
        return other_names(&file, &lines, &objects, config);
    }
    if lines.first().is_some_and(|line| *line == "{") {
        return vec![format!(
            "  {file} holds JSON objects over several lines; one a line: jq -c . {file} | smartlog analyze -"
        )];
    }
    if lines.first().is_some_and(|line| line.starts_with('['))
        && text.trim_start()[1..].trim_start().starts_with('{')
    {
        return vec![format!(
            "  {file} is one JSON array; make lines of it: jq -c '.[]' {file} | smartlog analyze -"
        )];
    }
    let first: String = lines.first().map(|line| line.chars().take(60).collect()).unwrap_or_default();
    vec![
        format!("  {file} holds plain text, such as: {first}"),
        "  expected one JSON object a line: \
         {\"timestamp\":\"2026-01-15T10:30:00Z\",\"level\":\"ERROR\",\"service\":\"shop\",\"message\":\"…\"}"
            .into(),
        "  your logger or log shipper can write JSON; docs/FORMAT.md lists what is understood".into(),
    ]
}

/// Files that are no text at all.
fn other_format(file: &str, head: &[u8]) -> Option<String> {
    let unpack = |name: &str, tool: &str| {
        format!("  {file} is compressed with {name}: {tool} {file} | smartlog analyze -")
    };
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(unpack("xz", "xz -dc")),
        [b'B', b'Z', b'h', ..] => Some(unpack("bzip2", "bzip2 -dc")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(unpack("lz4", "lz4 -dc")),
        [b'P', b'K', 3, 4, ..] => {
            Some(format!("  {file} is a zip archive: unzip -p {file} | smartlog analyze -"))
        }
        [b'P', b'A', b'R', b'1', ..] => Some(format!("  {file} is a Parquet file; analyze reads JSON lines")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(format!("  {file} is UTF-16: iconv -f UTF-16 -t UTF-8 {file} | smartlog analyze -"))
        }
        _ if head.contains(&0) => Some(format!("  {file} is a binary file; expected lines of JSON")),
        _ => None,
    }
}

/// JSON objects whose fields go by other names, or whose values are not what they should be.
fn other_names(
    file: &str,
    lines: &[&str],
    objects: &[serde_json::Map<String, Value>],
    config: &Config,
) -> Vec<String> {
    let best = FORMATS.iter().filter(|(format, _)| *format != config.parse.format);
    let best =
        best.map(|(format, name)| (logs_as(*format, lines, config), name)).max_by_key(|(logs, _)| *logs);
    if let Some((logs, name)) = best.filter(|(logs, _)| *logs * 2 > lines.len()) {
        let of = format!("{logs} of the first {} lines of {file} are logs", lines.len());
        return vec![format!("  {of} as `{name}`: add --input-format {name}")];
    }
    let keys: HashSet<&str> = objects.iter().flat_map(|object| object.keys().map(String::as_str)).collect();
    let reasons = reasons(lines, config);
    let mut told = vec![format!("  {file}: {}", reasons.join("; "))];
    let missing = ALIASES.iter().filter(|(field, _)| !keys.contains(field));
    let flags: Vec<String> = missing.clone().filter_map(|(field, names)| flag(field, names, &keys)).collect();
    if !flags.is_empty() {
        told.push(format!("  say where the fields are: {}", flags.join(" ")));
    }
    let unknown: Vec<&str> = missing
        .filter(|(field, names)| flag(field, names, &keys).is_none())
        .map(|(field, _)| *field)
        .collect();
    if !unknown.is_empty() && !reasons.is_empty() {
        let mut keys: Vec<&str> = keys.into_iter().take(20).collect();
        keys.sort_unstable();
        told.push(format!("  no member is the {}; there are: {}", unknown.join(", the "), keys.join(", ")));
    }
    if unknown.contains(&"service") {
        told.push(format!("  a file of one service: jq -c '.service=\"shop\"' {file} | smartlog analyze -"));
    }
    told
}

fn flag(field: &str, names: &[&str], keys: &HashSet<&str>) -> Option<String> {
    names.iter().find(|name| keys.contains(*name)).map(|name| format!("--parse-{field} {name}"))
}

/// How many of `lines` are logs of a convention.
fn logs_as(format: Format, lines: &[&str], config: &Config) -> usize {
    let config = Config {
        parse: crate::config::Parse { format, ..crate::config::Parse::default() },
        ..config.clone()
    };
    let Ok(parser) = job::parser(&config) else { return 0 };
    let mut scratch = Scratch::default();
    let is_log = |line: &&&str| parser.parse_core(Some(line.as_bytes()), None, &mut scratch).is_ok();
    lines.iter().filter(is_log).count()
}

/// The most frequent faults of `lines`, in the parser's words.
fn reasons(lines: &[&str], config: &Config) -> Vec<String> {
    let Ok(parser) = job::parser(config) else { return Vec::new() };
    let mut scratch = Scratch::default();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines {
        if let Err(reject) = parser.parse_core(Some(line.as_bytes()), None, &mut scratch) {
            *counts.entry(reject.detail.into_owned()).or_default() += 1;
        }
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(2).map(|(detail, _)| detail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(head: &[u8]) -> String {
        explain(Path::new("app.log"), head, &Config::default()).join("\n")
    }

    #[test]
    fn what_is_no_text_is_named_with_the_way_to_read_it() {
        for (head, expected) in [
            (&[0xfd, b'7', b'z', b'X', b'Z', 0][..], "xz -dc app.log | smartlog analyze -"),
            (b"PAR1\0\0", "is a Parquet file"),
            (b"\xff\xfe{\0", "iconv -f UTF-16"),
            (b"\x7fELF\0\0", "is a binary file"),
        ] {
            assert!(advice(head).contains(expected), "{}", advice(head));
        }
    }

    #[test]
    fn plain_text_is_said_to_be_plain_text() {
        let told =
            advice(b"2026-01-15 10:30:00 ERROR shop: no connection\n2026-01-15 10:30:01 INFO shop: ok\n");
        assert!(told.contains("holds plain text, such as: 2026-01-15 10:30:00 ERROR"), "{told}");
    }

    #[test]
    fn json_that_is_not_in_lines_is_to_be_put_into_lines() {
        assert!(advice(b"[\n {\"timestamp\": 1},\n {\"timestamp\": 2}\n]\n").contains("jq -c '.[]' app.log"));
        assert!(advice(b"{\n \"timestamp\": 1\n}\n{\n \"timestamp\": 2\n}\n").contains("jq -c . app.log"));
    }

    #[test]
    fn a_known_convention_is_recognised() {
        let pino = br#"{"level":50,"time":1768473000000,"pid":7,"hostname":"h","name":"shop","msg":"no"}"#;
        assert!(advice(pino).contains("--input-format pino"), "{}", advice(pino));
        let ecs = br#"{"@timestamp":"2026-01-15T10:30:00Z","log.level":"ERROR","service.name":"shop","message":"no"}"#;
        assert!(advice(ecs).contains("--input-format ecs"), "{}", advice(ecs));
    }

    #[test]
    fn fields_under_other_names_are_found() {
        let told = advice(br#"{"ts":"2026-01-15T10:30:00Z","lvl":"ERROR","app":"shop","msg":"no"}"#);
        for flag in
            ["--parse-timestamp ts", "--parse-level lvl", "--parse-service app", "--parse-message msg"]
        {
            assert!(told.contains(flag), "{told}");
        }
        let told = advice(br#"{"timestamp":"2026-01-15T10:30:00Z","level":"ERROR","message":"no"}"#);
        assert!(told.contains("no member is the service") && told.contains("jq -c '.service="), "{told}");
    }

    #[test]
    fn a_file_of_logs_needs_no_advice_and_an_empty_one_says_so() {
        let (inputs, config) = ([PathBuf::from("app.log")], Config::default());
        let all = Summary { records: 100, logs: 95, ..Summary::default() };
        assert_eq!(of(&inputs, &config, &all), Vec::<String>::new());
        assert_eq!(of(&inputs, &config, &Summary::default()), ["smartlog: no lines in app.log"]);
    }
}
