//! Whether two files hold the same rows, whatever their order and encoding.

use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use xxhash_rust::xxh3::xxh3_128;

/// The sum of all rows' hashes, modulo 2^128; as text, 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowChecksum(u128);

impl RowChecksum {
    /// Adds a row. `scratch` is memory to work in.
    pub(super) fn add(&mut self, source: &TopicPartition, log: &LogRef<'_>, scratch: &mut Vec<u8>) {
        scratch.clear();
        let number = |bytes: &mut Vec<u8>, value: i64| bytes.extend_from_slice(&value.to_le_bytes());
        text(scratch, Some(&source.topic));
        number(scratch, i64::from(source.partition));
        number(scratch, log.offset);
        number(scratch, log.timestamp_us);
        text(scratch, Some(log.level.as_str()));
        text(scratch, Some(log.service));
        text(scratch, log.host);
        text(scratch, Some(log.message));
        text(scratch, log.metadata);
        number(scratch, log.shape);
        self.0 = self.0.wrapping_add(xxh3_128(scratch));
    }

    /// Adds the rows of another file.
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// Reads what [`std::fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(RowChecksum)
    }
}

impl std::fmt::Display for RowChecksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Length and bytes, so that no two rows have the same bytes; null has a length that no text has.
fn text(bytes: &mut Vec<u8>, text: Option<&str>) {
    let length = text.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX - 1));
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::level::Level;

    fn sum(logs: &[LogRef<'_>]) -> RowChecksum {
        let (mut sum, mut scratch) = (RowChecksum::default(), Vec::new());
        let source = TopicPartition::new("logs", 3);
        logs.iter().for_each(|log| sum.add(&source, log, &mut scratch));
        sum
    }

    #[test]
    fn the_order_of_rows_is_nothing_and_every_field_is_something() {
        let (level, host, metadata) = (Level::Warn, Some("h"), Some("{}"));
        let log = LogRef {
            offset: 1,
            timestamp_us: 2,
            level,
            service: "s",
            host,
            message: "m",
            metadata,
            shape: 5,
        };
        let other = LogRef { offset: 2, ..log };
        assert_eq!(sum(&[log, other]), sum(&[other, log]));
        let mut halves = sum(&[log]);
        halves.merge(sum(&[other]));
        assert_eq!(halves, sum(&[log, other]));
        let changed = [
            LogRef { offset: 3, ..log },
            LogRef { timestamp_us: 3, ..log },
            LogRef { level: Level::Info, ..log },
            LogRef { service: "t", ..log },
            LogRef { host: None, ..log },
            LogRef { host: Some(""), ..log },
            LogRef { message: "", ..log },
            LogRef { metadata: None, ..log },
            LogRef { shape: 0, ..log },
            LogRef { service: "sm", message: "", ..log },
        ];
        for other in changed {
            assert_ne!(sum(&[other]), sum(&[log]), "{other:?}");
        }
        assert_eq!(sum(&[]).to_string(), "0".repeat(32));
        assert_eq!(RowChecksum::parse(&sum(&[log]).to_string()), Some(sum(&[log])));
        assert_eq!(RowChecksum::parse("+0000000000000000000000000000000"), None);
    }
}
