//! The fields of a log's metadata that have columns of their own.

use memchr::{Memchr, memchr_iter};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a log's metadata says of the fields that nearly every log has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Known<'a> {
    pub request_id: Option<Cow<'a, str>>,
    pub user_id: Option<Cow<'a, str>>,
    pub duration_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    duration_ms: Option<&'a RawValue>,
}

/// Reads them from a JSON object. Anything that is no text or number is left out; so is everything where a field is
/// there twice.
pub(crate) fn known(metadata: &str) -> Known<'_> {
    if metadata == "{}" {
        return Known::default();
    }
    flat(metadata).unwrap_or_else(|| general(metadata))
}

/// The short way, for flat objects without escapes and exponents: from quote to quote. It is as strict as the general way,
/// which decides wherever this one says `None`.
fn flat(metadata: &str) -> Option<Known<'_>> {
    let bytes = metadata.as_bytes();
    // Without them every quote opens or closes a string.
    let strange = bytes.iter().fold(false, |strange, byte| strange | (*byte < b' ') | (*byte == b'\\'));
    if strange || bytes.first() != Some(&b'{') {
        return None;
    }
    let (mut known, mut seen) = (Known::default(), 0_u8);
    let mut tokens = Tokens { json: metadata, quotes: memchr_iter(b'"', bytes) };
    let mut at = 1;
    loop {
        let (key, end) = tokens.string(tokens.space(at))?;
        at = tokens.space(end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        let value;
        (value, at) = tokens.value(tokens.space(at + 1))?;
        let bit = match key {
            "request_id" => 1,
            "user_id" => 2,
            "duration_ms" => 4,
            _ => 0,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        match (bit, value) {
            (1, Value::Text(text) | Value::Number(text)) => known.request_id = Some(Cow::Borrowed(text)),
            (2, Value::Text(text) | Value::Number(text)) => known.user_id = Some(Cow::Borrowed(text)),
            (4, Value::Number(digits)) => known.duration_ms = finite(digits),
            _ => {}
        }
        at = tokens.space(at);
        match bytes.get(at)? {
            b',' => at += 1,
            b'}' => return (at + 1 == bytes.len()).then_some(known),
            _ => return None,
        }
    }
}

enum Value<'a> {
    Text(&'a str),
    Number(&'a str),
    Other,
}

/// An object's text, and its quotes from where it was read to.
struct Tokens<'a> {
    json: &'a str,
    quotes: Memchr<'a>,
}

impl<'a> Tokens<'a> {
    /// One past the spaces at `at`.
    fn space(&self, mut at: usize) -> usize {
        while self.json.as_bytes().get(at) == Some(&b' ') {
            at += 1;
        }
        at
    }

    /// The content of the string that must begin at `at`, and where it ends.
    fn string(&mut self, at: usize) -> Option<(&'a str, usize)> {
        let (open, close) = (self.quotes.next()?, self.quotes.next()?);
        (open == at).then(|| (&self.json[open + 1..close], close + 1))
    }

    /// The value without parts that must begin at `at`, and where it ends.
    fn value(&mut self, at: usize) -> Option<(Value<'a>, usize)> {
        let rest = &self.json.as_bytes()[at..];
        if rest.first() == Some(&b'"') {
            return self.string(at).map(|(text, end)| (Value::Text(text), end));
        }
        let end = at + rest.iter().position(|byte| matches!(byte, b',' | b'}' | b' '))?;
        let value = match self.json.get(at..end)? {
            "null" | "true" | "false" => Value::Other,
            token if is_decimal(token) => Value::Number(token),
            _ => return None,
        };
        Some((value, end))
    }
}

/// Whether it is a number of JSON without an exponent.
fn is_decimal(token: &str) -> bool {
    let unsigned = token.strip_prefix('-').unwrap_or(token);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction) && (whole.len() == 1 || !whole.starts_with('0'))
}

/// A number that is finite as a double.
fn finite(digits: &str) -> Option<f64> {
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

/// By `serde_json`, for all that is JSON.
fn general(metadata: &str) -> Known<'_> {
    let Ok(fields) = serde_json::from_str::<Fields<'_>>(metadata) else { return Known::default() };
    Known {
        request_id: fields.request_id.and_then(text),
        user_id: fields.user_id.and_then(text),
        duration_ms: fields.duration_ms.and_then(number),
    }
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' if !json.contains('\\') => Some(Cow::Borrowed(&json[1..json.len() - 1])),
        b'"' => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

fn number(value: &RawValue) -> Option<f64> {
    let json = value.get();
    matches!(json.as_bytes().first()?, b'-' | b'0'..=b'9').then(|| finite(json)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(metadata: &str) -> (Option<String>, Option<String>, Option<f64>) {
        let known = known(metadata);
        (known.request_id.map(Cow::into_owned), known.user_id.map(Cow::into_owned), known.duration_ms)
    }

    #[test]
    fn text_and_numbers_are_taken_and_nothing_else() {
        let text = |t: &str| Some(t.to_owned());
        let example = r#"{"request_id": "abc-123", "user_id": "user-456", "duration_ms": 5000}"#;
        assert_eq!(all(example), (text("abc-123"), text("user-456"), Some(5000.0)));
        assert_eq!(all(r#"{"request_id": "a\u0022\\b", "user_id": 17}"#), (text("a\"\\b"), text("17"), None));
        assert_eq!(
            all(r#"{"request_id": {"x": 1}, "user_id": [2], "duration_ms": "5"}"#),
            (None, None, None)
        );
        assert_eq!(all(r#"{"request_id": null, "duration_ms": -1.5e2}"#), (None, None, Some(-150.0)));
        assert_eq!(all(r#"{"duration_ms": 1e999}"#), (None, None, None));
        assert_eq!(all("{}"), (None, None, None));
    }

    /// A piece of JSON, or what is nearly one.
    fn piece() -> impl Strategy<Value = &'static str> {
        let pieces = r#"{|}|"|:|,| |\|\u0041|[|]|-|0|17|1.5|.|e3|null|true|é|"request_id"|"user_id"|"duration_ms": |"a"|"""#;
        proptest::sample::select(pieces.split('|').chain(["\n", "\u{1}"]).collect::<Vec<_>>())
    }

    /// An object, or what is nearly one: members of which some are broken.
    fn nearly_an_object() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            4 => proptest::sample::select(vec!["\"request_id\"", "\"user_id\"", "\"duration_ms\"", "\"x\""]).prop_map(str::to_owned),
            1 => proptest::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.concat()),
        ];
        let value = prop_oneof![
            4 => proptest::sample::select(vec!["\"t\"", "-0", "1e3", "01", "1.", "-", "null", "nul", "{\"request_id\": 1}", "[1]", "123456789012345678901234567890.5"]).prop_map(str::to_owned),
            1 => proptest::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.concat()),
        ];
        let member = (key, proptest::sample::select(vec![":", ": ", " :\t", "", "::"]), value);
        let member = member.prop_map(|(key, colon, value)| format!("{key}{colon}{value}"));
        let ends = proptest::sample::select(vec![
            ("{", "}"),
            ("{ ", " }"),
            (" {", "}"),
            ("{", "} "),
            ("{", ""),
            ("{", "}}"),
            ("[", "]"),
        ]);
        (proptest::collection::vec(member, 0..5), ends, proptest::sample::select(vec![",", " , ", ",,", ""]))
            .prop_map(|(members, (open, close), comma)| format!("{open}{}{close}", members.join(comma)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_short_way_is_as_strict_as_the_general_one(
            object in prop_oneof![nearly_an_object(), proptest::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())]
        ) {
            if let Some(known) = flat(&object) {
                prop_assert_eq!(known, general(&object));
                prop_assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&object).is_ok(), "{} is no object", object);
            }
        }
    }

    #[test]
    fn usual_objects_go_the_short_way() {
        for object in [
            r#"{"request_id": "abc-123", "user_id": 17, "duration_ms": -1.5}"#,
            r#"{"a":true,"user_id":null}"#,
        ] {
            assert!(flat(object).is_some(), "{object}");
        }
    }
}
