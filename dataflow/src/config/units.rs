//! How values with a unit are written by people: `"5m"`, `"16 MiB"`, `"Europe/Berlin"`, `"earliest"`.
//!
//! Each `Human…` type serves as `#[serde(with = "…")]` of a field whose Rust type is the plain one, and tells the
//! option table (through its JSON schema) what form to document. Errors say what was expected and give an example.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The schema keyword that carries a value's form from a type to the option table.
pub(super) const FORM: &str = "x-form";

/// Says in the option table how a value of `$name` is written.
macro_rules! documented_form {
    ($name:ty, $form:literal) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-form": $form })
            }
        }
    };
}

documented_form!(HumanDuration, "DURATION");
documented_form!(HumanBytes, "SIZE");
documented_form!(Start, "earliest|now|TIME");

/// A [`Duration`] written as `5m`, `1h 30m` or `100ms`.
pub(super) struct HumanDuration;

impl HumanDuration {
    pub fn parse(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text).map_err(|_| {
            format!("expected a duration with its unit, such as 100ms, 5s, 10m, 6h or 30d, found `{text}`")
        })
    }

    /// The spelling that [`HumanDuration::parse`] reads back without loss, such as `10m` or `1h 30m`.
    pub fn format(duration: Duration) -> String {
        const UNITS: [(u128, &str); 7] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        let mut rest = duration.as_nanos();
        let mut parts = Vec::new();
        for (unit, name) in UNITS {
            if rest >= unit {
                parts.push(format!("{}{name}", rest / unit));
                rest %= unit;
            }
        }
        if parts.is_empty() { "0s".to_string() } else { parts.join(" ") }
    }

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::format(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Self::parse(&scalar(deserializer)?).map_err(de::Error::custom)
    }
}

/// [`HumanDuration`] for a setting that may be left out.
pub(super) mod optional_duration {
    use super::*;

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(HumanDuration::format).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| HumanDuration::parse(&text)).transpose().map_err(de::Error::custom)
    }
}

/// A number of bytes written as `16 MiB` or `65536`.
pub(super) struct HumanBytes;

impl HumanBytes {
    pub fn parse(text: &str) -> Result<u64, String> {
        text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| {
            format!("expected a size in bytes, such as 16 MiB, 512 KiB or 65536, found `{text}`")
        })
    }

    /// The largest binary unit that divides the size, so that nothing is rounded away.
    pub fn format(bytes: u64) -> String {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("{} {name}", bytes / unit),
            None => bytes.to_string(),
        }
    }

    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Self::format(*bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Self::parse(&scalar(deserializer)?).map_err(de::Error::custom)
    }
}

/// Where a sink or topic without a stored position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest record that Kafka still has.
    #[default]
    Earliest,
    /// The end at the moment of the start.
    Now,
    /// The first record whose Kafka record time is not before this.
    At(Timestamp),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Now => f.write_str("now"),
            Start::At(time) => time.fmt(f),
        }
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "now" => Ok(Start::Now),
            time => time.parse().map(Start::At).map_err(|_| {
                format!("expected `earliest`, `now` or a time such as 2026-01-15T10:30:00Z, found `{text}`")
            }),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Reads a string, or a bare number as its digits, so that the parser of the unit gives the error.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Scalar;

    impl de::Visitor<'_> for Scalar {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.trim().to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    deserializer.deserialize_any(Scalar)
}
