//! Logs as a small estate makes them, unruly ones included. Every payload carries its partition and sequence, so that
//! none equals another.

use crate::topic::{Topic, any};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const SERVICES: [&str; 6] = ["checkout", "payment", "search", "inventory", "naïve-ünit", "gateway"];
const LEVELS: [&str; 10] =
    ["INFO", "info", "Information", "DEBUG", "trace", "WARN", "warning", "ERROR", "FATAL", "critical"];
const MESSAGES: [&str; 5] = [
    "request served",
    "cache miss for key",
    "Database connection timeout",
    "überlastet: Warteschlange voll ⚠",
    "quote \\\" and slash \\\\ and line\\nbreak",
];

/// Shares of what is not an ordinary log, per thousand.
#[derive(Debug, Clone, Copy)]
pub struct Unruly {
    pub malformed: u32,
    /// Arrives up to eight minutes late: still corrects windows.
    pub late: u32,
    /// Forms that are unusual and accepted.
    pub odd: u32,
}

impl Default for Unruly {
    fn default() -> Self {
        Unruly { malformed: 5, late: 5, odd: 50 }
    }
}

/// A source of payloads; equal seeds make equal logs.
pub struct Traffic {
    rng: StdRng,
    sequence: Vec<u64>,
    pub unruly: Unruly,
    /// A service that says ERROR always, while an incident lasts.
    pub failing: Option<&'static str>,
    /// A service that says nothing.
    pub silent: Option<&'static str>,
}

impl Traffic {
    pub fn new(seed: u64, partitions: usize) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Traffic { rng, sequence: vec![0; partitions], unruly: Unruly::default(), failing: None, silent: None }
    }

    /// Records made so far.
    pub fn made(&self) -> u64 {
        self.sequence.iter().sum()
    }

    /// Partitions that are written from now on.
    pub fn grow(&mut self, partitions: usize) {
        self.sequence.resize(partitions, 0);
    }

    /// Sends `count` logs whose event times lie evenly in `[from_us, to_us)`, up to 2 s out of order. A record's own time
    /// is a little later than its event, as with a shipper that follows.
    pub fn send(&mut self, topic: &Topic, count: usize, (from_us, to_us): (i64, i64)) {
        for index in 0..count {
            let at = from_us + (to_us - from_us) * index as i64 / count as i64;
            let partition = self.rng.random_range(0..self.sequence.len());
            self.send_one(topic, partition, at);
        }
    }

    fn send_one(&mut self, topic: &Topic, partition: usize, at_us: i64) {
        let record_ms = at_us / 1_000 + 20;
        let sequence = self.sequence[partition];
        self.sequence[partition] += 1;
        let place = (partition, sequence);
        let dice = self.rng.random_range(0..1_000);
        let Unruly { malformed, late, odd } = self.unruly;
        let payload = if dice < malformed {
            self.malformed(place, at_us)
        } else if dice < malformed + late {
            let back = self.rng.random_range(10_000_000..480_000_000);
            Some(self.log(place, at_us - back).into_bytes())
        } else if dice < malformed + late + odd {
            Some(self.odd(place, at_us).into_bytes())
        } else {
            let back = self.rng.random_range(0..2_000_000);
            Some(self.log(place, at_us - back).into_bytes())
        };
        topic.send(i32::try_from(partition).expect("a small number"), payload.as_deref(), record_ms);
    }

    fn service(&mut self) -> &'static str {
        // Skewed: the first ones log most.
        loop {
            let rank = self.rng.random_range(0..SERVICES.len()).min(self.rng.random_range(0..SERVICES.len()));
            if self.silent != Some(SERVICES[rank]) {
                return SERVICES[rank];
            }
        }
    }

    /// The usual form.
    fn log(&mut self, (partition, sequence): (usize, u64), at_us: i64) -> String {
        let service = self.service();
        let level = match self.failing {
            Some(failing) if failing == service => "ERROR",
            _ if self.rng.random_range(0..50) == 0 => any(&LEVELS, &mut self.rng),
            _ => "INFO",
        };
        let (message, spent) = (any(&MESSAGES, &mut self.rng), self.rng.random_range(1..5_000));
        let time = crate::oracle::rfc3339(at_us);
        format!(
            r#"{{"timestamp": "{time}", "level": "{level}", "service": "{service}", "host": "server-{partition:02}", "message": "{message} {sequence}", "metadata": {{"partition": {partition}, "sequence": {sequence}, "request_id": "r-{:08x}", "duration_ms": {spent}}}}}"#,
            sequence.wrapping_mul(2_654_435_761) as u32,
        )
    }

    /// Accepted, but not as it came.
    fn odd(&mut self, (partition, sequence): (usize, u64), at_us: i64) -> String {
        let service = self.service();
        let time = crate::oracle::rfc3339(at_us);
        let place = format!(r#"{{"partition":{partition},"sequence":{sequence}}}"#);
        let start = |time: &str| {
            format!(r#""timestamp":{time},"level":"INFO","service":"{service}","message":"m {sequence}""#)
        };
        let quoted = format!("\"{time}\"");
        match self.rng.random_range(0..9) {
            0 => format!(r#"{{"metadata":{place},{},"host":"h"}}"#, start(&(at_us / 1_000).to_string())),
            1 => format!(r#"{{{},"metadata":[{partition},{sequence}]}}"#, start(&quoted)),
            2 => format!(r#"{{{},"metadata":null}}"#, start(&quoted)),
            3 => format!(r#"{{{},"host":17,"metadata":{place}}}"#, start(&quoted)),
            4 => format!(r#"{{{},"host":"{}","metadata":{place}}}"#, start(&quoted), "hé".repeat(80)),
            5 => format!(
                r#"{{"timestamp":"{}","level":"err","service":"{service}","message":"nul \u0000 and half \ud800 pair","metadata":{{"a\u0000b":"\u0000","n":{sequence},"partition":{partition}}}}}"#,
                crate::oracle::rfc3339_at_offset(at_us, 330)
            ),
            6 => format!(
                r#" {{"timestamp":{quoted},"level":" Notice ","service":"{}","message":"","extra":{{"x":[1,2]}},"metadata":{place}}} "#,
                "long-".repeat(30)
            ),
            7 => format!(
                r#"{{{},"metadata":"text {partition} {sequence}"}}"#,
                start(&format!("\"{}\"", at_us / 1_000_000))
            ),
            _ => format!(
                r#"{{{},"metadata":{{"deep":{{"er":[1.5,true,null,"é\u00e9"]}},"partition":{partition},"sequence":{sequence}}}}}"#,
                start(&quoted)
            ),
        }
    }

    /// No log at all; `None` is a tombstone.
    fn malformed(&mut self, (partition, sequence): (usize, u64), at_us: i64) -> Option<Vec<u8>> {
        let time = crate::oracle::rfc3339(at_us);
        let future = crate::oracle::rfc3339(at_us + 3_600_000_000);
        let text = match self.rng.random_range(0..12) {
            0 => return None,
            1 => return Some(vec![0xff, 0xfe, partition as u8, sequence as u8]),
            2 => format!(r#"{{"timestamp": "{time}", "level": "INFO", "service": "se{partition}-{sequence}"#),
            3 => format!("[{partition}, {sequence}]"),
            4 => format!(r#"{{"level":"INFO","service":"s","message":"{sequence}"}}"#),
            5 => format!(r#"{{"timestamp":"{time}","service":"s","message":"{sequence}"}}"#),
            6 => format!(r#"{{"timestamp":"{time}","level":"INFO","message":"{sequence}"}}"#),
            7 => format!(r#"{{"timestamp":"{time}","level":"INFO","service":"s","n":{sequence}}}"#),
            8 => {
                format!(r#"{{"timestamp":"yesterday","level":"INFO","service":"s","message":"{sequence}"}}"#)
            }
            9 => format!(r#"{{"timestamp":"{time}","level":"LOUD","service":"s","message":"{sequence}"}}"#),
            10 => {
                format!(r#"{{"timestamp":"{future}","level":"INFO","service":"s","message":"{sequence}"}}"#)
            }
            _ => format!(
                r#"{{"timestamp":"{time}","level":"INFO","level":"WARN","service":"s","message":"{sequence}"}}"#
            ),
        };
        Some(text.into_bytes())
    }
}
