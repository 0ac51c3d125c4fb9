//! The fields of a log's metadata that have columns of their own.

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

/// A number that is finite as a double.
fn number(value: &RawValue) -> Option<f64> {
    let json = value.get();
    matches!(json.as_bytes().first()?, b'-' | b'0'..=b'9')
        .then(|| json.parse().ok())
        .flatten()
        .filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
