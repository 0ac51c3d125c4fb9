//! Event time: what one partition says, and what all of them together mean.

use proptest::prelude::*;
use smartlog_operators::clock::{Clock, PartitionTime, StoredTime};
use smartlog_operators::record::Report;
use smartlog_operators::settings::Time;
use smartlog_schema::commit::ClockState;
use smartlog_schema::position::TopicPartition;

const SECOND: i64 = 1_000_000;
/// 2026-01-15T10:05:00Z.
const FIVE_PAST_TEN: i64 = 1_768_471_500 * SECOND;
const HOUR: i64 = 3_600 * SECOND;
const WALL: i64 = 1_768_480_000 * SECOND;

fn settings() -> Time {
    Time::default()
}

/// A partition that has seen a minute of events, ten a second, and was settled at each second's end.
fn running() -> PartitionTime {
    let mut partition = PartitionTime::new(None);
    for second in 0..60 {
        (0..10).for_each(|tenth| {
            partition.observe(FIVE_PAST_TEN + second * SECOND + tenth * SECOND / 10, None);
        });
        partition.settle(None, WALL + second * SECOND, true, &settings());
    }
    partition
}

fn time_of(partition: &mut PartitionTime) -> i64 {
    partition.settle(None, WALL + 60 * SECOND, true, &settings()).expect("a running partition has a time")
}

#[test]
fn a_single_event_an_hour_ahead_moves_nothing() {
    let mut partition = running();
    let before = time_of(&mut partition);
    partition.observe(before + HOUR, None);
    assert!(time_of(&mut partition) < before + SECOND);
    partition.observe(before + SECOND / 10, None);
    assert!(time_of(&mut partition) < before + SECOND);
    assert!(partition.finish(&settings()) < Some(before + 2 * SECOND), "nor at the end of the input");
}

/// The same at random, where now and then many of the newest events are its own.
#[test]
fn a_fast_host_with_a_share_of_the_events_moves_the_clock_at_no_time() {
    let mut state = 7_u64;
    let mut happens = |share: f64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1_u64 << 53) as f64) < share
    };
    let mut partition = running();
    for step in 0..20_000 {
        let event_us = FIVE_PAST_TEN + 60 * SECOND + step * SECOND / 10;
        partition.observe(if happens(0.08) { event_us + 300 * SECOND } else { event_us }, None);
        if happens(0.3) {
            let time = time_of(&mut partition);
            assert!(time <= event_us + SECOND, "{} µs ahead after {step}", time - event_us);
        }
    }
}

#[test]
fn what_came_last_is_believed_when_two_of_it_agree() {
    let end = |last: &[i64]| {
        let mut partition = running();
        let before = time_of(&mut partition);
        last.iter().for_each(|ahead| {
            partition.observe(before + ahead * SECOND, None);
        });
        time_of(&mut partition);
        partition.finish(&settings()).map(|time| (time - before) / SECOND)
    };
    assert_eq!(end(&[900, 905]), Some(905));
    assert!(end(&[900]) < Some(2), "one alone may be a wrong clock");
    assert!(end(&[900, 90_000]) < Some(2), "these two do not agree");
    assert!(end(&[900, 905, 1]) < Some(2), "something came after them");
}

#[test]
fn one_fast_host_makes_nobody_late() {
    // Every twelfth event comes from a host that is five minutes ahead: credible, yet no measure.
    let (mut partition, mut honest) = (running(), running());
    for step in 0..600 {
        let event_us = FIVE_PAST_TEN + 60 * SECOND + step * SECOND / 10;
        partition.observe(if step % 12 == 0 { event_us + 300 * SECOND } else { event_us }, None);
        honest.observe(event_us, None);
        if step % 24 == 23 {
            let (with_host, without) = (time_of(&mut partition), time_of(&mut honest));
            assert!(with_host <= without + SECOND, "{} µs ahead", with_host - without);
        }
    }
}

#[test]
fn a_majority_that_is_an_hour_ahead_is_believed() {
    let mut partition = running();
    let before = time_of(&mut partition);
    for step in 0..40 {
        partition.observe(before + HOUR + step, None);
    }
    assert_eq!(time_of(&mut partition), before, "40 of the last 100 are no majority");
    for step in 40..80 {
        partition.observe(before + HOUR + step, None);
    }
    assert!(time_of(&mut partition) >= before + HOUR);
}

#[test]
fn the_kafka_record_time_bounds_how_far_a_partition_can_be() {
    let mut partition = PartitionTime::new(None);
    for step in 0..200 {
        partition.observe(FIVE_PAST_TEN + 120 * SECOND, Some(FIVE_PAST_TEN + step));
    }
    assert_eq!(time_of(&mut partition), FIVE_PAST_TEN + 199 + SECOND);
}

#[test]
fn the_first_events_decide_together() {
    // The very first clock is wrong; the others outvote it.
    let mut partition = PartitionTime::new(None);
    assert_eq!(partition.settle(None, WALL, false, &settings()), None, "no event yet");
    partition.observe(FIVE_PAST_TEN + 24 * HOUR, None);
    assert_eq!(partition.settle(None, WALL, false, &settings()), None, "one event decides nothing");
    (0..9).for_each(|step| {
        partition.observe(FIVE_PAST_TEN + step, None);
    });
    assert_eq!(partition.settle(None, WALL + SECOND / 2, false, &settings()), None, "half a second neither");
    let time = partition.settle(None, WALL + SECOND, false, &settings());
    assert_eq!(time, Some(FIVE_PAST_TEN + 8), "a second does");

    let mut partition = PartitionTime::new(None);
    let in_time = (0..100).filter(|step| partition.observe(FIVE_PAST_TEN + step, None)).count();
    assert!(in_time > 0, "a hundred events ask for a decision before the epoch ends");
    assert!(partition.settle(None, WALL, false, &settings()).is_some());
}

#[test]
fn a_lone_event_far_ahead_is_believed_after_a_minute_without_others_also_after_a_restart() {
    let mut partition = PartitionTime::new(Some(FIVE_PAST_TEN));
    let far = FIVE_PAST_TEN + 2 * HOUR;
    partition.observe(far, None);
    assert_eq!(partition.settle(None, WALL, true, &settings()), Some(FIVE_PAST_TEN));
    assert_eq!(partition.settle(None, WALL + 59 * SECOND, true, &settings()), Some(FIVE_PAST_TEN));
    assert_eq!(partition.settle(None, WALL + 60 * SECOND, true, &settings()), Some(far));
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("logs", index)
}

/// A report of partition `index`: `time` in seconds after 10:05, `wall` in seconds.
fn report(index: i32, time: Option<i64>, at_end: bool, wall: i64) -> Report {
    Report {
        source: partition(index),
        next_offset: 0,
        time_us: time.map(|seconds| FIVE_PAST_TEN + seconds * SECOND),
        at_end,
        ended: false,
        wall_us: WALL + wall * SECOND,
        fingerprint: None,
        cuts: Vec::new(),
    }
}

fn clock_of(partitions: i32) -> Clock {
    let mut clock = Clock::new(settings(), ClockState::default(), StoredTime::default());
    clock.expect((0..partitions).map(partition));
    clock
}

/// The clock and the watermark, seconds after 10:05; `None` while there is no clock.
fn tick(clock: &mut Clock, reports: &[Report]) -> Option<(i64, i64)> {
    reports.iter().cloned().for_each(|report| clock.report(report));
    let tick = clock.tick();
    let after = |us: i64| (us - FIVE_PAST_TEN).div_euclid(SECOND);
    tick.is_known().then(|| (after(tick.clock.clock_us), after(tick.clock.watermark_us)))
}

#[test]
fn the_timeline_of_the_documentation() {
    // A is read to 10:05:03, B to 10:05:01 with more unread.
    let mut clock = clock_of(2);
    let held = tick(&mut clock, &[report(0, Some(3), true, 0), report(1, Some(1), false, 0)]);
    assert_eq!(held, Some((1, -4)), "clock 10:05:01, watermark 10:04:56");
    let read = tick(&mut clock, &[report(0, Some(3), true, 0), report(1, Some(3), true, 0)]);
    assert_eq!(read, Some((3, -2)), "clock 10:05:03");
}

#[test]
fn every_partition_that_exists_is_waited_for() {
    let mut clock = clock_of(3);
    assert_eq!(tick(&mut clock, &[report(0, Some(5), true, 0), report(1, Some(6), false, 0)]), None);
    // Unread and undecided: it holds the clock altogether.
    assert_eq!(tick(&mut clock, &[report(2, None, false, 1)]), None);
    // Empty, and known to be.
    assert_eq!(tick(&mut clock, &[report(2, None, true, 2)]), Some((6, 1)));
    // One that appears later stops the clock until it has said where it is.
    clock.expect([partition(3)]);
    assert_eq!(tick(&mut clock, &[report(1, Some(60), false, 3)]), Some((6, 1)));
    assert_eq!(tick(&mut clock, &[report(3, Some(30), false, 4)]), Some((30, 25)));
}

#[test]
fn when_all_is_read_the_clock_goes_on_with_the_wall() {
    let mut clock = clock_of(2);
    tick(&mut clock, &[report(0, Some(10), true, 0), report(1, Some(5), true, 0)]);
    let silent = tick(&mut clock, &[report(0, Some(10), true, 90), report(1, Some(5), true, 90)]);
    assert_eq!(silent, Some((100, 95)));
    // A partition with something unread stops it; it does not go back.
    let unread = tick(&mut clock, &[report(0, Some(10), true, 95), report(1, Some(7), false, 95)]);
    assert_eq!(unread, Some((100, 95)));
    // That time was not silence.
    let read = tick(&mut clock, &[report(0, Some(10), true, 200), report(1, Some(8), true, 200)]);
    assert_eq!(read, Some((100, 95)));
    let silent = tick(&mut clock, &[report(0, Some(10), true, 203), report(1, Some(8), true, 203)]);
    assert_eq!(silent, Some((103, 98)));
}

#[test]
fn a_downtime_is_silence_only_if_nothing_was_waiting() {
    let mut before = clock_of(1);
    before.report(report(0, Some(10), true, 0));
    let state = (*before.tick().clock).clone();
    let resumed = || {
        let mut clock = Clock::new(settings(), state.clone(), StoredTime::default());
        clock.expect([partition(0)]);
        clock
    };
    assert_eq!(tick(&mut resumed(), &[report(0, Some(10), true, 3_600)]), Some((3_610, 3_605)));
    assert_eq!(tick(&mut resumed(), &[report(0, Some(11), false, 3_600)]), Some((11, 6)));
    assert_eq!(resumed().tick().resumed_from, Some(FIVE_PAST_TEN / SECOND + 5));
}

/// Logs in seconds after 10:05, and how many; what they say of the time, in seconds after 10:05.
fn stored(seconds: &[(i64, i64)], clock: Option<i64>) -> (Option<i64>, Option<i64>) {
    let seconds: Vec<_> = seconds.iter().map(|(at, logs)| (FIVE_PAST_TEN / SECOND + at, *logs)).collect();
    let clock_us = clock.map_or(0, |at| FIVE_PAST_TEN + at * SECOND);
    let clock = ClockState { clock_us, ..ClockState::default() };
    let StoredTime { time_us, last_us } = StoredTime::of(&seconds, &clock, &settings());
    let after = |us: i64| (us - FIVE_PAST_TEN) / SECOND;
    (time_us.map(after), last_us.map(after))
}

#[test]
fn stored_seconds_tell_the_time_that_no_wrong_clock_moves() {
    assert_eq!(stored(&[], None), (None, None));
    assert_eq!(stored(&[(7, 1)], None), (Some(7), Some(7)));
    assert_eq!(stored(&[(0, 1), (1, 20), (2, 20), (3, 2)], None), (Some(2), Some(3)), "the 0.9 quantile");
    assert_eq!(stored(&[(1, 500_000), (2, 500_000), (3, 3)], None), (Some(2), Some(3)), "however many");
    assert_eq!(stored(&[(1, 20), (2, 20), (300, 2)], None), (Some(2), Some(300)), "one host minutes ahead");
    assert_eq!(stored(&[(1, 20), (2, 20), (3_600, 9)], None), (Some(2), Some(2)), "and one an hour ahead");
    assert_eq!(stored(&[(-3_600, 9), (1, 20), (2, 20)], None), (Some(2), Some(2)), "late ones hold nobody");
    assert_eq!(stored(&[(1, 20), (9, 1), (3_600, 1)], Some(2)), (None, Some(9)), "a stored clock stands");
}

#[test]
fn a_clock_that_a_kill_left_unknown_is_told_by_what_was_read() {
    let seconds = [(FIVE_PAST_TEN / SECOND, 30), (FIVE_PAST_TEN / SECOND + 4, 1)];
    let killed = ClockState { wall_us: WALL, ..ClockState::default() };
    let stored = StoredTime::of(&seconds, &killed, &settings());
    let resumed = || {
        let mut clock = Clock::new(settings(), killed.clone(), stored);
        clock.expect([partition(0)]);
        clock
    };
    // Nothing is left to read: time goes on from there, downtime included.
    assert_eq!(tick(&mut resumed(), &[report(0, None, true, 60)]), Some((60, 55)));
    // Something is: that will tell, and it may be from before.
    assert_eq!(tick(&mut resumed(), &[report(0, None, false, 60)]), None);
    assert_eq!(tick(&mut resumed(), &[report(0, Some(-30), false, 60)]), Some((-30, -35)));
    // The end of the input comes after all that was read.
    let ended = Report { ended: true, ..report(0, None, true, 60) };
    assert_eq!(tick(&mut resumed(), &[ended]), Some((5, 5)));
}

#[test]
fn at_the_end_the_last_second_is_over_however_often_it_is_said() {
    let mut clock = clock_of(2);
    let ended = |index, time, wall| Report { ended: true, ..report(index, Some(time), true, wall) };
    tick(&mut clock, &[report(0, Some(4), false, 0), report(1, Some(9), false, 0)]);
    assert_eq!(tick(&mut clock, &[ended(0, 4, 1)]), Some((9, 4)), "one of two has ended");
    for wall in 2..5 {
        assert_eq!(tick(&mut clock, &[ended(1, 9, wall)]), Some((10, 10)));
        assert!(clock.tick().ended);
    }
}

proptest! {
    /// Whatever is said, neither a partition's time nor the clock goes back, and no unread partition is passed by more
    /// than its time had been passed before.
    #[test]
    fn time_never_goes_back(
        events in prop::collection::vec((0..4_000_i64, 0..3_i32, any::<bool>(), 0..30_i64), 1..400)
    ) {
        let mut partitions: Vec<PartitionTime> = (0..3).map(|_| PartitionTime::new(None)).collect();
        let mut clock = clock_of(3);
        let (mut wall, mut last_clock) = (0, (0, 0));
        let mut last_times = [None; 3];
        for (event, index, at_end, pause) in events {
            wall += pause;
            partitions[index as usize].observe(FIVE_PAST_TEN + event * SECOND, None);
            let mut held_at = Some(i64::MAX);
            for (slot, time) in partitions.iter_mut().enumerate() {
                let known = Some(last_clock.0).filter(|&us| us != 0);
                let time_us = time.settle(known, WALL + wall * SECOND, at_end, &settings());
                prop_assert!(time_us >= last_times[slot], "partition {slot} went back");
                last_times[slot] = time_us;
                let at_end = at_end || slot as i32 != index;
                held_at = if at_end { held_at } else { held_at.min(time_us) };
                clock.report(Report { time_us, ..report(slot as i32, None, at_end, wall) });
            }
            let tick = clock.tick();
            let now = (tick.clock.clock_us, tick.clock.watermark_us);
            prop_assert!(now.0 >= last_clock.0 && now.1 >= last_clock.1, "from {last_clock:?} to {now:?}");
            prop_assert!(now.1 <= now.0);
            if !at_end {
                prop_assert!(now.0 <= last_clock.0.max(held_at.unwrap_or(0)), "an unread partition was passed");
            }
            last_clock = now;
        }
    }

    /// Up to a tenth of the events may be wrong by any amount into the future: time stays with the others.
    #[test]
    fn a_tenth_with_wrong_clocks_moves_nothing(wrong in prop::collection::vec((0_usize..10, 11..10_000_i64), 20..80)) {
        let (mut partition, mut honest) = (running(), running());
        let start = FIVE_PAST_TEN + 60 * SECOND;
        for (ten, (odd, minutes)) in wrong.into_iter().enumerate() {
            for one in 0..10 {
                let event_us = start + (ten * 10 + one) as i64 * SECOND / 10;
                partition.observe(if one == odd { event_us + minutes * 60 * SECOND } else { event_us }, None);
                honest.observe(event_us, None);
            }
            let (with_wrong, without) = (time_of(&mut partition), time_of(&mut honest));
            prop_assert!((with_wrong - without).abs() <= 2 * SECOND, "{with_wrong} against {without}");
        }
    }
}
