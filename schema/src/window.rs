//! Window arithmetic: the only copy, used by the dataflow, the stores and the tests.
//!
//! Time is cut into one-second **buckets**; a bucket is named by the epoch second in which it starts. The window
//! that ends at second `end` holds the buckets `[end - WINDOW_SECONDS, end)`.
//!
//! ```text
//!   bucket b     b+1    …    b+299   b+300
//!   ├───────┼───────┼── … ──┼───────┤
//!           └ enters windows ending at b+1 … b+300, and leaves the one ending at b+301
//! ```

/// Length of the rolling window, seconds.
pub const WINDOW_SECONDS: i64 = 300;
/// Microseconds in a second.
pub const MICROS: i64 = 1_000_000;
/// Seconds in a minute: the grain of the baseline.
pub const MINUTE: i64 = 60;
/// Seconds in an hour: the grain of `hourly_metrics`.
pub const HOUR: i64 = 3_600;
/// Seconds in a day: the grain of log partitions and files.
pub const DAY: i64 = 86_400;

/// The bucket (epoch second) that holds an event time in microseconds. Right below 1970 as well.
#[inline]
pub const fn bucket_of(timestamp_us: i64) -> i64 {
    timestamp_us.div_euclid(MICROS)
}

/// The start of the `grain`-second interval that holds `second`.
#[inline]
pub const fn floor_to(second: i64, grain: i64) -> i64 {
    second - second.rem_euclid(grain)
}

/// The least multiple of `grain` that is not before `second`.
#[inline]
pub const fn ceil_to(second: i64, grain: i64) -> i64 {
    second + (-second).rem_euclid(grain)
}

/// Whether the window that ends at `end` holds `bucket`.
#[inline]
pub const fn window_holds(end: i64, bucket: i64) -> bool {
    end - WINDOW_SECONDS <= bucket && bucket < end
}

/// The window that is open while the clock stands in `second`: it ends with that second.
#[inline]
pub const fn provisional_end(clock_second: i64) -> i64 {
    clock_second + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_floor_towards_the_past() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(999_999), 0);
        assert_eq!(bucket_of(-1), -1);
        assert_eq!(bucket_of(-1_000_000), -1);
        assert_eq!(bucket_of(-1_000_001), -2);
    }

    #[test]
    fn grains_floor_and_ceil_on_and_off_the_boundary() {
        assert_eq!((floor_to(-1, 60), ceil_to(-1, 60)), (-60, 0));
        assert_eq!((floor_to(60, 60), ceil_to(60, 60)), (60, 60));
        assert_eq!((floor_to(61, 60), ceil_to(61, 60)), (60, 120));
    }

    #[test]
    fn a_bucket_is_in_exactly_as_many_windows_as_the_window_has_seconds() {
        let held: Vec<i64> = (-1000..1000).filter(|&end| window_holds(end, 7)).collect();
        assert_eq!(held.len() as i64, WINDOW_SECONDS);
        assert_eq!((held[0], held[held.len() - 1]), (8, 7 + WINDOW_SECONDS));
    }
}
