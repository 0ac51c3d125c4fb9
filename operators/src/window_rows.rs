//! Final windows as rows: one per hop and service that has a log in the window.
//!
//! A row is written once nothing can change it any more (`max_lateness` behind the watermark, or the end of the input),
//! so every log that came in time is in it, late or not.

use crate::record::{Epoch, Tick, WHOLE_STREAM};
use crate::seconds::Seconds;
use crate::sums::Sums;
use crate::window::SecondsTrace;
use compact_str::CompactString;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::{WINDOW_SECONDS, ceil_to, floor_to};
use std::collections::BTreeMap;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::AntichainRef;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowRow {
    /// The window is `[end - 5 min, end)`; epoch seconds, a multiple of the hop.
    pub end: i64,
    pub service: CompactString,
    pub sums: Sums,
}

/// The windows of one service that end at multiples of `hop` in `(after, through]` and hold a log.
/// `seconds`: the service's sums, ascending.
pub fn rows_of(seconds: &[(i64, Sums)], hop: i64, after: i64, through: i64) -> Vec<(i64, Sums)> {
    let mut rows = Vec::new();
    let (mut entering, mut leaving) = (0, 0);
    let mut window = Sums::default();
    let Some(&(first, _)) = seconds.first() else { return rows };
    let last = seconds[seconds.len() - 1].0;
    let mut end = ceil_to(first + 1, hop).max(ceil_to(after.saturating_add(1), hop));
    while end <= through && end <= last + WINDOW_SECONDS {
        while let Some((_, sums)) = seconds.get(entering).filter(|(second, _)| *second < end) {
            window += *sums;
            entering += 1;
        }
        while let Some((_, sums)) =
            seconds[..entering].get(leaving).filter(|(second, _)| *second < end - WINDOW_SECONDS)
        {
            window += -*sums;
            leaving += 1;
        }
        if window.logs > 0 {
            rows.push((end, window));
            end += hop;
        } else {
            // An empty stretch, however long, is skipped.
            let next = seconds.get(entering).map_or(i64::MAX, |(second, _)| ceil_to(second + 1, hop));
            end = next.max(end + hop);
        }
    }
    rows
}

/// Rows of this worker's services, each epoch's in no particular order.
pub fn window_rows<'scope>(
    seconds: Arranged<'scope, SecondsTrace>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    hop: i64,
    max_lateness: i64,
) -> StreamVec<'scope, Epoch, WindowRow> {
    let mut builder = OperatorBuilder::new("window_rows".to_owned(), ticks.scope());
    let mut seconds_in = builder.new_input(seconds.stream, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let (rows_out, rows) = builder.new_output();
    let mut rows_out = OutputBuilder::from(rows_out);
    let mut trace = seconds.trace;
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut ticks: BTreeMap<Epoch, (Capability<Epoch>, Tick)> = BTreeMap::new();
        let mut written_through = None;
        move |frontiers| {
            seconds_in.for_each(|_, _| {});
            ticks_in.for_each(|cap, data| {
                if let (Some(cap), Some(tick)) = (cap.retain_least(0), data.drain(..).next_back()) {
                    ticks.insert(*cap.time(), (cap, tick));
                }
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some(entry) = ticks.first_entry().filter(|entry| is_closed(entry.key())) {
                let (cap, tick) = entry.remove();
                // At the end of the input every window is final, even where too little came for a clock.
                if !tick.is_known() && !tick.ended {
                    continue;
                }
                let through =
                    if tick.ended { i64::MAX - 2 * hop } else { tick.final_through() - max_lateness };
                let before = || tick.resumed_from.map_or(i64::MIN, |watermark| watermark - max_lateness);
                let after = written_through.unwrap_or_else(before);
                if floor_to(through, hop) > after {
                    let mut output = rows_out.activate();
                    let mut session = output.session(&cap);
                    let mut seconds = Seconds::as_of(&mut trace, *cap.time());
                    while let Some(service) = seconds.next_service() {
                        let seconds = seconds.of(&service, after.saturating_sub(WINDOW_SECONDS));
                        if service != WHOLE_STREAM {
                            let rows = rows_of(seconds, hop, after, through).into_iter();
                            let row = |(end, sums)| WindowRow { end, service: service.clone(), sums };
                            session.give_iterator(rows.map(row));
                        }
                    }
                }
                written_through = Some(through.max(after));
                let frontier = [*cap.time() + 1];
                trace.set_logical_compaction(AntichainRef::new(&frontier));
                trace.set_physical_compaction(AntichainRef::new(&frontier));
            }
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_log_is_in_exactly_thirty_windows_of_ten_seconds() {
        let one = Sums { logs: 1, errors: 0, message_chars: 3 };
        let ends: Vec<i64> =
            rows_of(&[(7, one)], 10, i64::MIN, i64::MAX - 20).into_iter().map(|(end, _)| end).collect();
        assert_eq!(ends, (1..=30).map(|n| n * 10).collect::<Vec<_>>());
    }

    #[test]
    fn written_windows_are_not_written_again_and_gaps_are_skipped() {
        let one = Sums { logs: 1, errors: 0, message_chars: 3 };
        let far = 1_000_000_000;
        let all = rows_of(&[(7, one), (far, one)], 10, i64::MIN, i64::MAX - 20);
        let early = rows_of(&[(7, one), (far, one)], 10, i64::MIN, 100);
        let rest = rows_of(&[(7, one), (far, one)], 10, 100, i64::MAX - 20);
        assert_eq!(all.len(), 60);
        assert_eq!([early, rest].concat(), all);
    }
}
