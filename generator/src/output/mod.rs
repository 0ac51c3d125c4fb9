//! Where the traffic goes: a file or stream ([`to_file`], [`to_writer`]) or Kafka ([`to_kafka`]).
//!
//! All of them take lines as they arrive, paced by [`Pace`]: at speed 1 a line leaves when the wall clock has gone on as
//! far as the traffic's own arrival clock has; at speed 60 an hour of traffic takes a minute; at infinite speed
//! nothing waits.
//!
//! At a speed above 1 the event clock runs faster than the wall. Start such traffic far enough in the past that it does
//! not overtake today: brokers may refuse records that lie ahead of them (from Kafka 4.0 on by more than an hour), and
//! delete those beyond the topic's retention.

mod kafka;
mod writer;

pub use kafka::{Delivered, KafkaTarget, Partitioning, to_kafka};
pub use writer::{to_file, to_writer};

use crate::error::{GeneratorError, refuse};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest sleep before looking at the cancellation flag again.
const NAP: Duration = Duration::from_millis(50);
/// Lines between two calls of the progress callback at full speed.
const PROGRESS_LINES: u64 = 8192;

/// How fast the traffic goes out, and how to stop it.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Seconds of traffic per second of wall time; infinite: as fast as can be.
    pub speed: f64,
    /// The arrival time that is now, microseconds since 1970: what arrived before goes out at once. Unset: that of the first line.
    pub now_us: Option<i64>,
    /// Set to true to stop after the line under way.
    pub cancelled: Arc<AtomicBool>,
}

impl Pace {
    /// As fast as can be.
    pub fn full_speed() -> Self {
        Pace { speed: f64::INFINITY, now_us: None, cancelled: Arc::default() }
    }

    /// In real time; what arrived before `now_us` goes out at once.
    pub fn real_time(now_us: i64) -> Self {
        Pace { speed: 1.0, now_us: Some(now_us), cancelled: Arc::default() }
    }

    fn check(&self) -> Result<(), GeneratorError> {
        if self.speed > 0.0 {
            return Ok(());
        }
        Err(refuse("speed", self.speed.to_string(), "give a number above 0, or infinity for full speed"))
    }
}

/// How far the output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lines handed out.
    pub lines: u64,
    /// Their bytes, without line breaks.
    pub bytes: u64,
    /// Arrival time of the last one, microseconds since 1970.
    pub arrival_us: i64,
}

/// Holds lines back until they are due.
struct Pacer {
    pace: Pace,
    /// A wall time, and the arrival time that it is.
    began: Option<(Instant, i64)>,
}

impl Pacer {
    fn new(pace: &Pace) -> Result<Self, GeneratorError> {
        pace.check()?;
        Ok(Pacer { pace: pace.clone(), began: None })
    }

    /// How long until what arrives at `arrival_us` is due; `None` when it is.
    fn wait(&mut self, arrival_us: i64) -> Option<Duration> {
        if self.pace.speed.is_infinite() {
            return None;
        }
        let now_us = self.pace.now_us.unwrap_or(arrival_us);
        let (began, now_us) = *self.began.get_or_insert_with(|| (Instant::now(), now_us));
        let since = (arrival_us - now_us).max(0) as f64 / 1e6 / self.pace.speed;
        // Beyond some centuries a duration is not to be had; nobody waits that long.
        let due = Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX);
        due.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
    }

    fn cancelled(&self) -> bool {
        self.pace.cancelled.load(Ordering::Relaxed)
    }

    /// Waits until `arrival_us` is due; false when it was cancelled.
    fn hold(&mut self, arrival_us: i64) -> bool {
        while !self.cancelled() {
            match self.wait(arrival_us) {
                Some(left) => std::thread::sleep(left.min(NAP)),
                None => return true,
            }
        }
        false
    }
}

/// Whether `progress` should be told now: every so many lines, and whenever the output had to wait.
fn worth_telling(progress: &Progress, waited: bool) -> bool {
    waited || progress.lines.is_multiple_of(PROGRESS_LINES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_says_when_lines_are_due() {
        let pace = Pace { speed: 2.0, ..Pace::full_speed() };
        let mut pacer = Pacer::new(&pace).unwrap();
        assert_eq!(pacer.wait(5_000_000), None, "the first line is due at once");
        let left = pacer.wait(5_000_000 + 4_000_000_000).unwrap();
        assert!(left <= Duration::from_secs(2000) && left > Duration::from_secs(1900), "{left:?}");
        pace.cancelled.store(true, Ordering::Relaxed);
        assert!(!pacer.hold(i64::MAX), "cancelled: nobody waits");
        let mut full = Pacer::new(&Pace::full_speed()).unwrap();
        assert_eq!(full.wait(i64::MAX), None);
    }

    #[test]
    fn what_arrived_before_now_goes_out_at_once() {
        let mut pacer = Pacer::new(&Pace::real_time(5_000_000)).unwrap();
        assert_eq!(pacer.wait(1_000_000), None);
        assert_eq!(pacer.wait(5_000_000), None);
        let left = pacer.wait(1_005_000_000).unwrap();
        assert!(left <= Duration::from_secs(1000) && left > Duration::from_secs(900), "{left:?}");
    }

    #[test]
    fn a_senseless_speed_is_refused() {
        for speed in [0.0, -1.0, f64::NAN] {
            let refused = Pacer::new(&Pace { speed, ..Pace::full_speed() }).err().unwrap().to_string();
            assert!(refused.contains("give a number above 0, or infinity"), "{refused}");
        }
    }
}
