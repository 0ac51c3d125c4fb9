//! Query parameters by declaration: each route lists what it takes, and that one list is what requests are checked
//! against, what error answers quote, and what `/openapi.json` documents.
//!
//! ```text
//!  ?service=a&since=-1h ──▶ Params::parse(&[SERVICE, SINCE, …]) ──▶ typed values, defaults filled in
//!                                     └─▶ Problem naming the parameter and what is allowed
//! ```

use crate::problem::{Problem, quotable};
use crate::time;
use jiff::Timestamp;
use std::fmt::Write;

/// One query parameter of a route.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    pub name: &'static str,
    pub kind: Kind,
    /// For the documentation: what it selects.
    pub about: &'static str,
    /// For the documentation: a value that works.
    pub example: &'static str,
}

/// What a parameter's value must be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text of 1 to `max_chars` characters.
    Text { max_chars: usize },
    /// An id of 1 to 16 hexadecimal digits.
    Id,
    /// One or more of these words, separated by commas.
    Words(&'static [&'static str]),
    /// Exactly one of these; the first is the default.
    Choice(&'static [&'static str]),
    /// A whole number; without a default the parameter may be absent.
    Integer { min: i64, max: i64, default: Option<i64> },
    /// RFC 3339, or relative to now: `-1h`, `now`.
    Time,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Words(Vec<&'static str>),
    Choice(&'static str),
    Integer(i64),
    /// With the text that it was written as: `-1h` is another time a second later, and yet the same wish.
    Time(Timestamp, String),
}

/// A route's parameters as one request gave them, checked, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub struct Params {
    values: Vec<(&'static str, Value)>,
}

impl Params {
    /// Checks `query` (still percent-encoded) against what `route` takes. `now` is what relative times refer to.
    pub fn parse(
        route: &str,
        declared: &'static [Param],
        query: &str,
        now: Timestamp,
    ) -> Result<Params, Problem> {
        let mut params = Params::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(raw_name).ok_or_else(|| undecodable(raw_name))?;
            let Some(param) = declared.iter().find(|param| param.name == name) else {
                let names: Vec<&str> = declared.iter().map(|param| param.name).collect();
                return Err(Problem::unknown(&name, route, &names));
            };
            if params.get(param.name).is_some() {
                return Err(Problem::invalid(param.name, format!("{} is given more than once", param.name)));
            }
            let text = decode(raw_value).ok_or_else(|| undecodable(param.name))?;
            params.values.push((param.name, param.read(&text, now)?));
        }
        for param in declared.iter().filter(|param| params.get(param.name).is_none()).collect::<Vec<_>>() {
            params.values.extend(param.default().map(|value| (param.name, value)));
        }
        params.values.sort_by_key(|(name, _)| *name);
        Ok(params)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    pub fn text(&self, param: &Param) -> Option<&str> {
        match self.get(param.name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn words(&self, param: &Param) -> Option<&[&'static str]> {
        match self.get(param.name) {
            Some(Value::Words(words)) => Some(words),
            _ => None,
        }
    }

    pub fn time(&self, param: &Param) -> Option<Timestamp> {
        match self.get(param.name) {
            Some(Value::Time(time, _)) => Some(*time),
            _ => None,
        }
    }

    /// A whole number, or the bits of an id.
    pub fn integer(&self, param: &Param) -> Option<i64> {
        match self.get(param.name) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The chosen word; the empty word for a parameter that the route does not declare.
    pub fn choice(&self, param: &Param) -> &'static str {
        match self.get(param.name) {
            Some(Value::Choice(word)) => word,
            _ => "",
        }
    }

    /// Equal for requests that ask for the same, whatever their order and spelling.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.values {
            let _ = write!(out, "{name}={value:?}&");
        }
        out
    }

    /// Equal for requests that select the same rows, in whatever order and whichever page of them.
    pub fn filters(&self) -> String {
        let others = ["page", "per_page", "cursor", "sort"];
        let mut out = String::new();
        for (name, value) in self.values.iter().filter(|(name, _)| !others.contains(name)) {
            let _ = write!(out, "{name}={value:?}&");
        }
        out
    }

    /// Equal for requests that select the same rows in the same order, whichever page of them.
    pub fn selection(&self) -> String {
        let paging = ["page", "per_page", "cursor"];
        let mut out = String::new();
        for (name, value) in self.values.iter().filter(|(name, _)| !paging.contains(name)) {
            let _ = match value {
                Value::Time(_, written) => write!(out, "{name}={written}&"),
                other => write!(out, "{name}={other:?}&"),
            };
        }
        out
    }
}

impl Param {
    fn default(&self) -> Option<Value> {
        match self.kind {
            Kind::Choice(words) => words.first().map(|word| Value::Choice(word)),
            Kind::Integer { default, .. } => default.map(Value::Integer),
            Kind::Text { .. } | Kind::Id | Kind::Words(_) | Kind::Time => None,
        }
    }

    fn read(&self, text: &str, now: Timestamp) -> Result<Value, Problem> {
        match self.kind {
            Kind::Text { max_chars } => self.read_text(text, max_chars),
            Kind::Id => self.read_id(text),
            Kind::Words(words) => self.read_words(text, words),
            Kind::Choice(words) => self.read_word(text, words).map(Value::Choice),
            Kind::Integer { min, max, .. } => self.read_integer(text, min, max),
            Kind::Time => self.read_time(text, now),
        }
    }

    fn read_time(&self, text: &str, now: Timestamp) -> Result<Value, Problem> {
        time::parse(text, now).map(|time| Value::Time(time, text.to_owned())).map_err(|expected| {
            Problem::invalid(
                self.name,
                format!("{} must be {expected}, found \"{}\"", self.name, quotable(text)),
            )
        })
    }

    fn read_text(&self, text: &str, max_chars: usize) -> Result<Value, Problem> {
        if text.is_empty() || text.chars().nth(max_chars).is_some() || text.contains('\0') {
            let detail = format!(
                "{} must be 1 to {max_chars} characters without U+0000, found {} characters: \"{}\"",
                self.name,
                text.chars().count(),
                quotable(text)
            );
            return Err(Problem::invalid(self.name, detail));
        }
        Ok(Value::Text(text.to_owned()))
    }

    fn read_id(&self, text: &str) -> Result<Value, Problem> {
        let id = text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok());
        id.flatten().filter(|_| text.len() <= 16).map(|id| Value::Integer(id.cast_signed())).ok_or_else(
            || {
                let found = quotable(text);
                let detail =
                    format!("{} must be an id of 1 to 16 hexadecimal digits, found \"{found}\"", self.name);
                Problem::invalid(self.name, detail)
            },
        )
    }

    fn read_words(&self, text: &str, words: &'static [&'static str]) -> Result<Value, Problem> {
        let mut chosen =
            text.split(',').map(|word| self.read_word(word, words)).collect::<Result<Vec<_>, _>>()?;
        chosen.sort_unstable();
        chosen.dedup();
        Ok(Value::Words(chosen))
    }

    fn read_word(&self, text: &str, words: &'static [&'static str]) -> Result<&'static str, Problem> {
        words.iter().copied().find(|word| *word == text).ok_or_else(|| {
            let detail =
                format!("{} must be one of {}, found \"{}\"", self.name, words.join(", "), quotable(text));
            Problem::invalid(self.name, detail).allowing(words)
        })
    }

    fn read_integer(&self, text: &str, min: i64, max: i64) -> Result<Value, Problem> {
        let expected = || {
            format!("{} must be a whole number from {min} to {max}, found \"{}\"", self.name, quotable(text))
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::invalid(self.name, expected()));
        }
        match text.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            // All digits, so that what does not fit i64 is out of range as well.
            _ => Err(Problem::unprocessable(self.name, expected())),
        }
    }
}

/// Percent-decoding that refuses what is not UTF-8 instead of replacing it.
fn decode(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (decoded, tail) = match byte {
            b'%' => (hex(*tail.first()?)? << 4 | hex(*tail.get(1)?)?, &tail[2..]),
            b'+' => (b' ', tail),
            other => (other, tail),
        };
        bytes.push(decoded);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn undecodable(name: &str) -> Problem {
    Problem::invalid(name, format!("{} must be percent-encoded UTF-8", quotable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &[Param] = &[
        Param { name: "service", kind: Kind::Text { max_chars: 4 }, about: "", example: "" },
        Param { name: "level", kind: Kind::Words(&["WARN", "ERROR"]), about: "", example: "" },
        Param { name: "sort", kind: Kind::Choice(&["-id", "id"]), about: "", example: "" },
        Param {
            name: "page",
            kind: Kind::Integer { min: 1, max: 9, default: Some(1) },
            about: "",
            example: "",
        },
        Param { name: "since", kind: Kind::Time, about: "", example: "" },
    ];

    fn parse(query: &str) -> Result<Params, Problem> {
        Params::parse("/r", DECLARED, query, "2026-01-15T10:30:00Z".parse().unwrap())
    }

    #[test]
    fn values_are_typed_and_defaults_filled_in() {
        let params = parse("service=a%20b&level=ERROR,WARN,ERROR&since=-1h").unwrap();
        assert_eq!(params.text(&DECLARED[0]), Some("a b"));
        assert_eq!(params.words(&DECLARED[1]), Some(&["ERROR", "WARN"][..]));
        assert_eq!(params.choice(&DECLARED[2]), "-id");
        assert_eq!(params.integer(&DECLARED[3]), Some(1));
        assert_eq!(params.time(&DECLARED[4]).unwrap().to_string(), "2026-01-15T09:30:00Z");
    }

    #[test]
    fn spelling_and_order_do_not_matter_and_paging_is_no_selection() {
        let (a, b) = (parse("page=1&service=ab").unwrap(), parse("service=%61b").unwrap());
        assert_eq!(a.canonical(), b.canonical());
        assert_eq!(a.selection(), parse("page=3&service=ab").unwrap().selection());
        let later =
            Params::parse("/r", DECLARED, "since=-1h", "2026-01-15T10:31:00Z".parse().unwrap()).unwrap();
        assert_eq!(parse("since=-1h").unwrap().selection(), later.selection());
        assert_ne!(parse("since=-1h").unwrap().canonical(), later.canonical());
        assert_ne!(a.selection(), parse("service=ac").unwrap().selection());
    }

    #[test]
    fn each_fault_names_its_parameter() {
        for (query, status, parameter, detail) in [
            (
                "pgae=1",
                400,
                "pgae",
                "/r has no parameter \"pgae\"; it takes: service, level, sort, page, since",
            ),
            ("page=-1", 422, "page", "page must be a whole number from 1 to 9, found \"-1\""),
            ("page=1e18", 400, "page", "page must be a whole number from 1 to 9, found \"1e18\""),
            (
                "page=99999999999999999999",
                422,
                "page",
                "page must be a whole number from 1 to 9, found \"99999999999999999999\"",
            ),
            ("page=", 400, "page", "page must be a whole number from 1 to 9, found \"\""),
            ("page=1&page=2", 400, "page", "page is given more than once"),
            (
                "service=",
                400,
                "service",
                "service must be 1 to 4 characters without U+0000, found 0 characters: \"\"",
            ),
            (
                "service=%00",
                400,
                "service",
                "service must be 1 to 4 characters without U+0000, found 1 characters: \"\\0\"",
            ),
            ("service=%ff", 400, "service", "service must be percent-encoded UTF-8"),
            ("service=%f", 400, "service", "service must be percent-encoded UTF-8"),
            ("level=ERROR,LOUD", 400, "level", "level must be one of WARN, ERROR, found \"LOUD\""),
            ("sort=name", 400, "sort", "sort must be one of -id, id, found \"name\""),
        ] {
            let problem = parse(query).unwrap_err();
            assert_eq!((problem.status, problem.parameter.as_deref()), (status, Some(parameter)), "{query}");
            assert_eq!(problem.detail, detail, "{query}");
        }
    }
}
