//! Message texts: compiled once, rendered straight into the JSON of a line.
//!
//! ```text
//!   templates.txt  →  Catalogue  →  Template = [literal (already JSON-escaped) | parameter]…  →  bytes of a line
//! ```
//!
//! Literals are escaped when they are compiled and parameters never need it, so rendering copies bytes.

use crate::rng::Rng;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;
use std::ops::Range;

const SOURCE: &str = include_str!("templates.txt");

/// Which kind of program a service is, and so which texts it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Gateway,
    Web,
    Cache,
    Catalog,
    Search,
    Database,
    Auth,
    Orders,
    Ml,
    Queue,
    Payments,
    Batch,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 12] = [
        Family::Gateway,
        Family::Web,
        Family::Cache,
        Family::Catalog,
        Family::Search,
        Family::Database,
        Family::Auth,
        Family::Orders,
        Family::Ml,
        Family::Queue,
        Family::Payments,
        Family::Batch,
    ];

    const NAMES: [&'static str; 12] = [
        "gateway", "web", "cache", "catalog", "search", "database", "auth", "orders", "ml", "queue",
        "payments", "batch",
    ];
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Param {
    /// One digit.
    Digit,
    /// 0 to 99.
    Small,
    /// 100 to 99999.
    Big,
    /// Six digits.
    Id,
    /// A line number, 10 to 9999.
    Line,
    /// The line's `duration_ms`.
    Duration,
    Hex,
    Uuid,
    Ip,
    Port,
    Method,
    Path,
    Status,
    User,
    Order,
    Sku,
    Percent,
    Seconds,
    Money,
    Table,
    Region,
    Topic,
    Word,
    /// Another service's name.
    Callee,
    /// The service's own name.
    Own,
}

const PARAMS: &[(&str, Param)] = &[
    ("d", Param::Digit),
    ("n", Param::Small),
    ("big", Param::Big),
    ("id", Param::Id),
    ("line", Param::Line),
    ("ms", Param::Duration),
    ("hex", Param::Hex),
    ("uuid", Param::Uuid),
    ("ip", Param::Ip),
    ("port", Param::Port),
    ("method", Param::Method),
    ("path", Param::Path),
    ("status2", Param::Status),
    ("user", Param::User),
    ("order", Param::Order),
    ("sku", Param::Sku),
    ("pct", Param::Percent),
    ("sec", Param::Seconds),
    ("money", Param::Money),
    ("table", Param::Table),
    ("region", Param::Region),
    ("topic", Param::Topic),
    ("word", Param::Word),
    ("svc", Param::Callee),
    ("self", Param::Own),
];

const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const PATHS: &[&str] = &[
    "/",
    "/cart",
    "/checkout",
    "/orders",
    "/products/shoes",
    "/products/jackets",
    "/search",
    "/account",
    "/login",
    "/static/app.js",
    "/help/returns",
    "/sale",
];
const STATUSES: &[&str] = &["200", "200", "200", "200", "201", "204", "302", "304", "404"];
const TABLES: &[&str] = &["orders", "customers", "payments", "stock", "invoices", "sessions"];
pub(crate) const REGIONS: &[&str] = &["eu-west-1", "eu-central-1", "us-east-1", "ap-south-1"];
const TOPICS: &[&str] = &["orders", "payments", "stock-changes", "mail", "clicks"];
const WORDS: &[&str] =
    &["running", "jacket", "blue", "tent", "waterproof", "shoes", "lamp", "wool", "gift", "kids"];
const CALLEES: &[&str] = &[
    "order-service",
    "catalog-service",
    "auth-service",
    "payment-service",
    "search-service",
    "cart-service",
];

#[derive(Debug, Clone)]
enum Piece {
    /// JSON-escaped text and its length in characters before escaping.
    Literal(Box<[u8]>, u32),
    Param(Param),
}

/// One message template, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pieces: Box<[Piece]>,
}

/// What rendering needs to know of the line.
pub(crate) struct Context<'a> {
    pub(crate) duration_ms: u64,
    pub(crate) user: u64,
    /// The service's name, JSON-escaped.
    pub(crate) service: &'a str,
    /// Its length in characters before escaping.
    pub(crate) service_chars: u32,
}

impl Template {
    /// Compiles template text. The error names the placeholder that is not known.
    pub(crate) fn compile(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push_str(&rest[..1]);
                rest = &rest[2..];
                continue;
            }
            let end = rest.find('}').filter(|_| rest.starts_with('{'));
            let end = end.ok_or_else(|| format!("a lone brace in {text:?}: double it"))?;
            let name = &rest[1..end];
            let param = PARAMS.iter().find(|(known, _)| *known == name);
            let (_, param) = param.ok_or_else(|| format!("unknown placeholder {{{name}}} in {text:?}"))?;
            push_literal(&mut pieces, &mut literal);
            pieces.push(Piece::Param(*param));
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        push_literal(&mut pieces, &mut literal);
        Ok(Template { pieces: pieces.into_boxed_slice() })
    }

    /// Appends the message, JSON-escaped and without quotes, and returns its length in characters.
    pub(crate) fn render(&self, rng: &mut Rng, context: &Context<'_>, out: &mut Vec<u8>) -> u32 {
        let mut chars = 0;
        for piece in &self.pieces {
            chars += match piece {
                Piece::Literal(bytes, chars) => {
                    out.extend_from_slice(bytes);
                    *chars
                }
                Piece::Param(Param::Own) => {
                    out.extend_from_slice(context.service.as_bytes());
                    context.service_chars
                }
                Piece::Param(param) => {
                    let before = out.len();
                    param.render(rng, context, out);
                    (out.len() - before) as u32
                }
            };
        }
        chars
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        let chars = literal.chars().count() as u32;
        pieces.push(Piece::Literal(escape(literal).into_bytes().into_boxed_slice(), chars));
        literal.clear();
    }
}

/// `text` as the inside of a JSON string.
pub(crate) fn escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Appends a number in decimal.
pub(crate) fn put_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the low `digits` hexadecimal digits of `word`.
pub(crate) fn put_hex(word: u64, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in (0..digits).rev() {
        out.push(DIGITS[(word >> (4 * digit)) as usize & 15]);
    }
}

/// Appends `user-` and the number: the same form in messages and in the metadata.
pub(crate) fn put_user(user: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"user-");
    put_number(user, out);
}

/// A number below `bound` from 32 random bits (Lemire's multiply-shift; the bias is below 2^-15 here).
fn below(rng: &mut Rng, bound: u64) -> u64 {
    (u64::from(rng.random::<u32>()) * bound) >> 32
}

fn put_one_of(words: &[&str], rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(words[below(rng, words.len() as u64) as usize].as_bytes());
}

impl Param {
    fn render(self, rng: &mut Rng, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Param::Digit => put_number(1 + below(rng, 9), out),
            Param::Small => put_number(below(rng, 100), out),
            Param::Big => put_number(100 + below(rng, 99_900), out),
            Param::Id => put_number(100_000 + below(rng, 900_000), out),
            Param::Line => put_number(10 + below(rng, 9_990), out),
            Param::Duration => put_number(context.duration_ms, out),
            Param::Hex => put_hex(u64::from(rng.random::<u32>()), 8, out),
            Param::Uuid => put_uuid(rng, out),
            Param::Ip => put_ip(rng, out),
            Param::Port => put_number(1_024 + below(rng, 64_000), out),
            Param::Method => put_one_of(METHODS, rng, out),
            Param::Path => put_one_of(PATHS, rng, out),
            Param::Status => put_one_of(STATUSES, rng, out),
            Param::User => put_user(context.user, out),
            Param::Order => {
                out.extend_from_slice(b"ORD-");
                put_number(1_000_000 + below(rng, 9_000_000), out);
            }
            Param::Sku => {
                out.extend_from_slice(b"SKU-");
                put_number(10_000 + below(rng, 90_000), out);
            }
            Param::Percent => put_fraction(below(rng, 1_000), 10, out),
            Param::Seconds | Param::Money => put_fraction(100 + below(rng, 40_000), 100, out),
            Param::Table => put_one_of(TABLES, rng, out),
            Param::Region => put_one_of(REGIONS, rng, out),
            Param::Topic => put_one_of(TOPICS, rng, out),
            Param::Word => put_one_of(WORDS, rng, out),
            Param::Callee => put_one_of(CALLEES, rng, out),
            Param::Own => out.extend_from_slice(context.service.as_bytes()),
        }
    }
}

fn put_uuid(rng: &mut Rng, out: &mut Vec<u8>) {
    let (high, low): (u64, u64) = (rng.random(), rng.random());
    put_hex(high >> 32, 8, out);
    for (word, digits) in
        [(high >> 16, 4), (high & 0x0fff | 0x4000, 4), (low >> 48 & 0x3fff | 0x8000, 4), (low, 12)]
    {
        out.push(b'-');
        put_hex(word, digits, out);
    }
}

fn put_ip(rng: &mut Rng, out: &mut Vec<u8>) {
    let word: u32 = rng.random();
    out.extend_from_slice(b"10.");
    put_number(u64::from(word & 255), out);
    out.push(b'.');
    put_number(u64::from(word >> 8 & 255), out);
    out.push(b'.');
    put_number(1 + u64::from(word >> 16 & 255) % 254, out);
}

fn put_fraction(number: u64, unit: u64, out: &mut Vec<u8>) {
    put_number(number / unit, out);
    out.push(b'.');
    if unit == 100 {
        out.push(b'0' + (number % 100 / 10) as u8);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// What a line is, as far as its text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Info,
    Debug,
    Warn,
    Error,
    Fatal,
    Long,
}

const SECTIONS: [&str; 6] = ["info", "debug", "warn", "error", "fatal", "long"];

/// All templates, by number.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    templates: Vec<Template>,
    /// For each family and section, which numbers.
    sections: Vec<Range<u32>>,
    starting: Range<u32>,
}

impl Catalogue {
    /// The built-in texts.
    ///
    /// # Panics
    /// When the built-in texts are broken, which a test rules out.
    pub(crate) fn new() -> Self {
        Catalogue::parse(SOURCE).expect("the built-in templates compile")
    }

    fn parse(source: &str) -> Result<Catalogue, String> {
        let mut templates = Vec::new();
        let mut sections = vec![0..0; Family::ALL.len() * SECTIONS.len()];
        let mut starting = 0..0;
        let mut current: Option<&mut Range<u32>> = None;
        for line in source.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                let range = match section_index(name) {
                    _ if name == "starting" => &mut starting,
                    Some(index) => &mut sections[index],
                    None => return Err(format!("unknown section [{name}]")),
                };
                *range = templates.len() as u32..templates.len() as u32;
                current = Some(range);
                continue;
            }
            let range = current.as_mut().ok_or("a template before the first section")?;
            templates.push(Template::compile(&line.replace("\\n", "\n").replace("\\t", "\t"))?);
            range.end += 1;
        }
        if sections.iter().chain([&starting]).any(Range::is_empty) {
            return Err("a section is missing or empty".to_owned());
        }
        Ok(Catalogue { templates, sections, starting })
    }

    pub(crate) fn get(&self, number: u32) -> &Template {
        &self.templates[number as usize]
    }

    /// Adds a template and returns its number.
    pub(crate) fn add(&mut self, template: Template) -> u32 {
        self.templates.push(template);
        self.templates.len() as u32 - 1
    }

    /// A template for an ordinary line; `u` in [0, 1) decides, in favour of the first ones of the section.
    pub(crate) fn choose(&self, family: Family, level: Level, u: f64) -> u32 {
        let section = match level {
            Level::Trace | Level::Debug => Section::Debug,
            Level::Info => Section::Info,
            Level::Warn => Section::Warn,
            Level::Error => Section::Error,
            Level::Fatal => Section::Fatal,
        };
        skewed(self.section(family, section), u)
    }

    /// The long template of `family`.
    pub(crate) fn long(&self, family: Family, u: f64) -> u32 {
        skewed(self.section(family, Section::Long), u)
    }

    /// A line of a host that was just replaced.
    pub(crate) fn starting(&self, u: f64) -> u32 {
        skewed(&self.starting, u)
    }

    fn section(&self, family: Family, section: Section) -> &Range<u32> {
        &self.sections[family as usize * SECTIONS.len() + section as usize]
    }
}

fn section_index(name: &str) -> Option<usize> {
    let (family, section) = name.split_once('.')?;
    let family = Family::NAMES.iter().position(|&known| known == family)?;
    let section = SECTIONS.iter().position(|&known| known == section)?;
    Some(family * SECTIONS.len() + section)
}

/// The square of a uniform number leans towards 0, so the first of the range are the commonest.
fn skewed(range: &Range<u32>, u: f64) -> u32 {
    let count = range.end - range.start;
    range.start + ((u * u * f64::from(count)) as u32).min(count - 1)
}

const NOVEL_CAUSES: &[&str] = &[
    "java.net.NoRouteToHostException",
    "SSLPeerUnverifiedException",
    "StaleShardRoutingError",
    "org.apache.avro.AvroTypeException",
    "QuotaLedgerMismatch",
    "PermissionDeniedError",
    "KeyRotationConflict",
    "com.zaxxer.hikari.PoolInitializationException",
    "grpc._channel._InactiveRpcError",
    "TenantNotProvisioned",
    "io.netty.handler.codec.DecoderException",
    "FeatureGateViolation",
    "CertificateHasExpired",
    "UnsupportedEncodingVersion",
    "ReplicaEpochRegression",
    "DnsNameNotResolved",
];
const NOVEL_ACTS: &[&str] = &[
    "while refreshing the routing map of {topic}: gave up after {d} rounds against {ip}:{port}",
    "migration step V{n}__split_{table} left {big} orphaned references behind",
    "peer {ip} offered cipher suite 0x{hex} which the policy forbids",
    "cannot reconcile ledger page {id}: running balance differs by {money}",
    "schema registry refused subject {topic}-value: incompatible at field #{n}",
    "lost the leader lease of ring {hex}; {n} followers disagree about its term",
    "secret shop/{table}/credentials expired {n} minutes ago and could not be rotated",
    "decoder met frame type {n} where a header block was expected, stream {id}",
    "thread pool io-{d} rejected work: queue holds {big}, active {n}, completed {big}",
    "circuit to {svc} forced open by operator rule {hex}",
    "file descriptor limit reached: {big} open, accept paused for {n} ms",
    "name {svc}.internal resolves to nothing, search list exhausted after {d} suffixes",
    "vector clock of replica {region} went backwards from {big} to {n}",
];

const NOVEL_TAILS: &[&str] = &[
    "",
    "; falling back to the read-only path",
    "; see runbook R{n}, section {d}",
    "; {n} callers were told to come back later",
    ", which has happened on {d} nodes since midnight",
    "; state dumped to /var/tmp/{hex}.dump ({big} bytes)",
    " (build {hex}, uptime {big} s)",
    "; no further report of this kind for {n} minutes",
    ", last success {n} minutes ago",
    "; page the owner of {table} unless it clears",
    " - operator intervention needed",
];

/// The never-seen template number `index`; distinct for the first 2,288. No two of the first 143 share both their
/// middle and their end, so that even a coarse look at the words tells them apart.
pub(crate) fn novel(index: usize) -> Template {
    let cause = NOVEL_CAUSES[index % NOVEL_CAUSES.len()];
    let act = NOVEL_ACTS[index % NOVEL_ACTS.len()];
    let tail = NOVEL_TAILS[index / NOVEL_ACTS.len() % NOVEL_TAILS.len()];
    Template::compile(&format!("{cause}: {act}{tail}")).expect("the novel templates compile")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, keyed};
    use std::collections::HashSet;

    fn context() -> Context<'static> {
        Context { duration_ms: 12, user: 7, service: "caf\u{e9}\\\"s", service_chars: 6 }
    }

    #[test]
    fn every_template_renders_to_a_json_string_of_the_length_it_tells() {
        let catalogue = Catalogue::new();
        let mut rng = keyed(1, Purpose::Lines, 0, 0);
        let all = catalogue.templates.iter().cloned().chain((0..2288).map(novel));
        for template in all {
            for _ in 0..20 {
                let mut out = vec![b'"'];
                let chars = template.render(&mut rng, &context(), &mut out);
                out.push(b'"');
                let text: String = serde_json::from_slice(&out).unwrap();
                assert_eq!(text.chars().count(), chars as usize, "{text}");
            }
        }
    }

    #[test]
    fn novel_templates_differ_from_each_other() {
        let distinct: HashSet<String> = (0..2288).map(|i| format!("{:?}", novel(i))).collect();
        assert_eq!(distinct.len(), 2288);
    }

    #[test]
    fn broken_texts_are_refused_with_the_reason() {
        assert_eq!(Template::compile("a {nope}").unwrap_err(), "unknown placeholder {nope} in \"a {nope}\"");
        assert_eq!(Template::compile("a } b").unwrap_err(), "a lone brace in \"a } b\": double it");
        assert_eq!(Catalogue::parse("[web.info]\nx").unwrap_err(), "a section is missing or empty");
        assert_eq!(Catalogue::parse("[web.blah]").unwrap_err(), "unknown section [web.blah]");
    }

    #[test]
    fn error_templates_hold_stack_traces() {
        assert!(SOURCE.matches("\\n\\tat ").count() >= 10);
    }
}
