//! Made-up input: which logs lie in which partition, and which of them each epoch hands over.
//!
//! ```text
//!   segment 0 ── idle ── segment 1 ── idle ── … ── end
//!   │ partitions run apart, unread ones hold the clock
//!   └ each ends with every partition read to the end
//! ```

use super::settings::Settings;

/// Midnight of 2026-01-15, UTC.
pub const MIDNIGHT: i64 = 1_768_435_200;
const MICROS: i64 = 1_000_000;

/// A small generator of numbers that only has to be the same every time (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[from, to)`; `from` where that is empty.
    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        let span = (to - from).max(1);
        from + (self.next() % span.unsigned_abs()) as i64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }

    /// How many of something that happens `mean` times in the middle: its whole part and a chance for one more,
    /// now and then twice that.
    fn about(&mut self, mean: f64) -> i64 {
        let mean = if self.happens(0.1) { mean * 2.0 } else { mean };
        mean.floor() as i64 + i64::from(self.happens(mean.fract()))
    }
}

/// One log.
#[derive(Debug, Clone)]
pub struct Log {
    pub us: i64,
    pub service: usize,
    pub error: bool,
    pub chars: usize,
    /// `None`: the log names no host.
    pub host: Option<usize>,
    pub payload: Vec<u8>,
}

impl Log {
    pub fn new(us: i64, service: usize, error: bool, chars: usize) -> Self {
        let level = if error { "ERROR" } else { "INFO" };
        // Characters, not bytes, are counted.
        let message = message(chars);
        let host = Some(us as usize % 7).filter(|host| *host > 0);
        let named = host.map(|host| format!(r#""host":"{}","#, host_name(host))).unwrap_or_default();
        let payload = format!(
            r#"{{"timestamp":{us},"level":"{level}","service":"{}",{named}"message":"{message}"}}"#,
            service_name(service)
        );
        Log { us, service, error, chars, host, payload: payload.into_bytes() }
    }

    pub fn second(&self) -> i64 {
        self.us.div_euclid(MICROS)
    }
}

/// The message of that many characters.
pub fn message(chars: usize) -> String {
    "é".repeat(chars)
}

pub fn host_name(host: usize) -> String {
    format!("host-{host}")
}

pub fn service_name(service: usize) -> String {
    format!("service-{service}")
}

/// What one epoch hands over: partitions reach these offsets.
#[derive(Debug, Clone)]
pub struct Step {
    pub wall_us: i64,
    pub next: Vec<usize>,
    pub at_end: Vec<bool>,
    pub ended: Vec<bool>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Shape {
    pub seed: u64,
    pub partitions: usize,
    pub services: usize,
    pub segments: usize,
    pub segment_seconds: i64,
    /// Latest arrival of a log behind its neighbours, seconds.
    pub disorder: i64,
    /// Single events an hour or more ahead.
    pub bad_clocks: bool,
    /// Logs that come hours late.
    pub far_too_late: bool,
    /// Longest pause between segments, wall seconds.
    pub longest_idle: i64,
    /// Largest number of logs that a partition hands over in an epoch.
    pub chunk: i64,
}

/// All the input.
#[derive(Debug, Clone, Default)]
pub struct Input {
    pub partitions: Vec<Vec<Log>>,
    /// By segment: the offset at which each partition's share of it ends.
    pub segments: Vec<Vec<usize>>,
    /// Wall seconds of idleness after each segment.
    pub idle: Vec<i64>,
    pub chunk: i64,
    pub first_wall_us: i64,
}

struct Incident {
    service: usize,
    from: i64,
    to: i64,
    volume: f64,
    errors: f64,
}

pub fn input(shape: &Shape, settings: &Settings) -> Input {
    let mut random = Random(shape.seed);
    let mut input = Input {
        partitions: vec![Vec::new(); shape.partitions],
        segments: Vec::new(),
        idle: Vec::new(),
        chunk: shape.chunk,
        first_wall_us: (MIDNIGHT + 86_400) * MICROS,
    };
    // An hour's end lies inside.
    let start = MIDNIGHT + 3 * 3600 - random.within(60, shape.segment_seconds + 60);
    let rates: Vec<f64> = (0..shape.services).map(|s| [1.0, 0.3, 0.05, 0.008][s % 4]).collect();
    let born: Vec<i64> =
        (0..shape.services).map(|s| if s < 2 { 0 } else { random.within(-600, 900) }).collect();
    let dies: Vec<i64> =
        (0..shape.services).map(|s| if s < 2 { i64::MAX } else { random.within(900, 9000) }).collect();
    let span = shape.segments as i64 * shape.segment_seconds;
    let incidents: Vec<Incident> = (0..1 + span / 900)
        .map(|_| {
            let from = random.within(0, span);
            let length = [20, 90, 300, 700, 1500][random.within(0, 5) as usize];
            Incident {
                service: random.within(0, shape.services as i64) as usize,
                from,
                to: from + length,
                volume: [0.0, 0.05, 1.0, 8.0, 15.0][random.within(0, 5) as usize],
                errors: [0.0, 0.3, 0.6][random.within(0, 3) as usize],
            }
        })
        .collect();
    let lonely = (shape.partitions > 2 && random.happens(0.5)).then_some(shape.partitions - 1);
    let mut from = start;
    for segment in 0..shape.segments {
        let mut arrivals: Vec<Vec<(i64, Log)>> = vec![Vec::new(); shape.partitions];
        for second in from..from + shape.segment_seconds {
            for service in 0..shape.services {
                let age = second - start;
                if age < born[service] || age > dies[service] {
                    continue;
                }
                let (mut rate, mut errors) = (rates[service], 0.01);
                for incident in incidents.iter().filter(|i| i.service == service) {
                    if (incident.from..incident.to).contains(&(second - start)) {
                        rate *= incident.volume;
                        errors = incident.errors;
                    }
                }
                for _ in 0..random.about(rate) {
                    let mut partition = random.within(0, shape.partitions as i64) as usize;
                    if Some(partition) == lonely && segment > 0 {
                        partition = 0;
                    }
                    let (arrival, log) = one(&mut random, shape, second, service, errors, age > 120);
                    arrivals[partition].push((arrival, log));
                }
            }
        }
        for (partition, mut arrived) in arrivals.into_iter().enumerate() {
            arrived.sort_by_key(|(arrival, _)| *arrival);
            input.partitions[partition].extend(arrived.into_iter().map(|(_, log)| log));
        }
        input.segments.push(input.partitions.iter().map(Vec::len).collect());
        let idle = random.within(0, shape.longest_idle + 1);
        input.idle.push(idle);
        // What comes after the pause is late by a little at the most: the clock went on with the wall.
        let slack = (settings.time.max_lateness / 2 - 15).max(1);
        from += shape.segment_seconds + (idle - random.within(0, slack)).max(0);
    }
    input
}

fn one(
    random: &mut Random,
    shape: &Shape,
    second: i64,
    service: usize,
    errors: f64,
    may_be_odd: bool,
) -> (i64, Log) {
    // Many logs share their very microsecond.
    let fraction = if random.happens(0.5) { 0 } else { random.within(0, MICROS) };
    let mut us = second * MICROS + fraction;
    let delay = match random.within(0, 20) {
        0 => random.within(0, shape.disorder * MICROS + 1),
        1..=5 => random.within(0, shape.disorder.min(2) * MICROS + 1),
        _ => 0,
    };
    let arrival = us + delay;
    if may_be_odd && shape.bad_clocks && random.happens(0.005) {
        us += random.within(3600, 7200) * MICROS;
    } else if may_be_odd && shape.far_too_late && random.happens(0.02) {
        us -= random.within(3 * 3600, 5 * 3600) * MICROS;
    }
    let chars = random.within(0, 9) as usize;
    (arrival, Log::new(us, service, random.happens(errors), chars))
}

impl Input {
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.partitions.iter().flatten()
    }

    /// How the rest of the input is read from `next` on: one of many ways, by `seed`.
    pub fn steps(&self, next: &[usize], wall_us: i64, seed: u64) -> Vec<Step> {
        let mut random = Random(seed);
        let mut steps = Vec::new();
        let mut at = Step {
            wall_us,
            next: next.to_vec(),
            at_end: vec![false; next.len()],
            ended: vec![false; next.len()],
        };
        let last = self.segments.len() - 1;
        for (index, ends) in self.segments.iter().enumerate() {
            if at.next.iter().zip(ends).all(|(next, end)| next >= end) && index < last {
                continue;
            }
            let slow: Vec<f64> = ends.iter().map(|_| if random.happens(0.3) { 0.1 } else { 0.8 }).collect();
            while at.next.iter().zip(ends).any(|(next, end)| next < end) {
                for (partition, &end) in ends.iter().enumerate() {
                    if random.happens(slow[partition]) {
                        let room = end.saturating_sub(at.next[partition]);
                        at.next[partition] += room.min(random.within(0, self.chunk + 1) as usize);
                    }
                    let done = at.next[partition] >= end;
                    at.at_end[partition] = done && (at.at_end[partition] || random.happens(0.7));
                    at.ended[partition] |= index == last && done && random.happens(0.3);
                }
                at.wall_us += random.within(50_000, 150_000);
                steps.push(at.clone());
            }
            at.at_end.fill(true);
            let pieces = if self.idle[index] == 0 { 0 } else { random.within(1, 30) };
            for _ in 0..pieces {
                at.wall_us += self.idle[index] * MICROS / pieces;
                steps.push(at.clone());
            }
        }
        at.ended.fill(true);
        for _ in 0..random.within(1, 4) {
            at.wall_us += 100_000;
            steps.push(at.clone());
        }
        steps
    }
}
