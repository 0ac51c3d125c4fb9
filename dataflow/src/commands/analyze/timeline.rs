//! Counts per minute of each service, for the small pictures beside the episodes.
//!
//! Bounded: when there are too many cells, all become five times as long.

use compact_str::CompactString;
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::sums::Sums;
use smartlog_schema::window::floor_to;
use std::collections::{BTreeMap, HashMap};

/// Most cells that are kept, about 60 bytes each.
const MAX_CELLS: usize = 1_000_000;
/// Length of a cell at first, seconds.
const FIRST_GRAIN: i64 = 60;
/// How much longer cells become.
const COARSER: i64 = 5;
/// From empty to full.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A time without a cell: nothing was logged, or it lies outside the input.
const NOTHING: char = '·';

/// Logs and errors of each service over time.
#[derive(Debug)]
pub struct Timelines {
    services: HashMap<CompactString, BTreeMap<i64, (i64, i64)>>,
    grain: i64,
    cells: usize,
    max_cells: usize,
    /// First and last second with a log.
    span: Option<(i64, i64)>,
}

impl Default for Timelines {
    fn default() -> Self {
        Timelines { services: HashMap::new(), grain: FIRST_GRAIN, cells: 0, max_cells: MAX_CELLS, span: None }
    }
}

impl Timelines {
    /// Counts the sums of one second; the empty service is the whole stream.
    pub fn add(&mut self, service: &CompactString, second: i64, sums: Sums) {
        let cell = floor_to(second, self.grain);
        let known = match self.services.get_mut(service) {
            Some(known) => known,
            None => self.services.entry(service.clone()).or_default(),
        };
        let counts = known.entry(cell).or_insert_with(|| {
            self.cells += 1;
            (0, 0)
        });
        *counts = (counts.0 + sums.logs, counts.1 + sums.errors);
        let (first, last) = self.span.unwrap_or((second, second));
        self.span = Some((first.min(second), last.max(second)));
        while self.cells > self.max_cells.max(self.services.len()) {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        self.grain *= COARSER;
        for cells in self.services.values_mut() {
            for (start, (logs, errors)) in std::mem::take(cells) {
                let counts = cells.entry(floor_to(start, self.grain)).or_default();
                *counts = (counts.0 + logs, counts.1 + errors);
            }
        }
        self.cells = self.services.values().map(BTreeMap::len).sum();
    }

    /// Services that logged.
    pub fn services(&self) -> usize {
        self.services.keys().filter(|service| !service.is_empty()).count()
    }

    /// The first second with a log.
    pub fn first(&self) -> Option<i64> {
        self.span.map(|(first, _)| first)
    }

    /// The metric of `anomaly_type` around `[from, to)`, in `width` characters; the part inside stands in brackets.
    pub fn picture(
        &self,
        service: &str,
        anomaly_type: AnomalyType,
        (from, to): (i64, i64),
        width: usize,
    ) -> String {
        let bars = width.saturating_sub(2).max(3) as i64;
        // As much before and after as inside, and bars that are no shorter than the cells.
        let step = ((to - from).max(1) * 3 / bars).max(self.grain);
        let step = (step + self.grain - 1) / self.grain * self.grain;
        let inside = ((to - from + step - 1) / step).clamp(1, bars - 2);
        let start = floor_to(from, self.grain) - (bars - inside) / 2 * step;
        let values: Vec<Option<f64>> =
            (0..bars).map(|bar| self.value(service, anomaly_type, start + bar * step, step)).collect();
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let opens = (floor_to(from, self.grain) - start) / step;
        let closes = (opens + inside).min(bars);
        let mut picture = String::new();
        for (bar, value) in (0..).zip(&values) {
            if bar == opens {
                picture.push('[');
            }
            picture.push(value.map_or(NOTHING, |value| bar_of(value, most)));
            if bar + 1 == closes {
                picture.push(']');
            }
        }
        picture
    }

    fn value(&self, service: &str, anomaly_type: AnomalyType, start: i64, step: i64) -> Option<f64> {
        let span = self.span.filter(|(first, last)| start + step > *first && start <= *last)?;
        let cells = self.services.get(service)?;
        let (logs, errors) = cells
            .range(start..start + step)
            .fold((0, 0), |sum, (_, counts)| (sum.0 + counts.0, sum.1 + counts.1));
        match anomaly_type {
            AnomalyType::ErrorRateSpike | AnomalyType::NewPattern => {
                (logs > 0).then(|| errors as f64 / logs as f64)
            }
            _ => {
                // The input may begin or end within the bar.
                let covered = (start + step).min(span.1 + 1) - start.max(span.0);
                Some(logs as f64 / covered.max(1) as f64)
            }
        }
    }
}

fn bar_of(value: f64, most: f64) -> char {
    let share = if most > 0.0 { value / most } else { 0.0 };
    BARS[((share * BARS.len() as f64) as usize).min(BARS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(logs: i64, errors: i64) -> Sums {
        Sums { logs, errors, message_chars: 0 }
    }

    fn filled(max_cells: usize) -> Timelines {
        let mut timelines = Timelines { max_cells, ..Timelines::default() };
        for minute in 0..60 {
            let busy = (30..40).contains(&minute);
            let logs = if busy { 80 } else { 10 };
            timelines.add(&"shop".into(), minute * 60 + 5, sums(logs, i64::from(busy)));
        }
        timelines
    }

    #[test]
    fn the_odd_part_stands_out_and_stands_in_brackets() {
        let picture = filled(MAX_CELLS).picture("shop", AnomalyType::LogVolumeSpike, (1800, 2400), 32);
        assert_eq!(picture, "▂▂▂▂▂▂▂▂▂▂[██████████]▂▂▂▂▂▂▂▂▂▂");
        let errors = filled(MAX_CELLS).picture("shop", AnomalyType::ErrorRateSpike, (1800, 2400), 14);
        assert_eq!(errors, "▁▁▁▁[███▇]▁▁▁▁");
    }

    #[test]
    fn what_lies_outside_the_input_is_no_silence() {
        let picture = filled(MAX_CELLS).picture("shop", AnomalyType::LogVolumeDrop, (60, 660), 32);
        assert_eq!(picture, "·········█[██████████]██████████");
    }

    #[test]
    fn too_many_cells_become_fewer_and_nothing_is_lost() {
        let timelines = filled(20);
        assert_eq!((timelines.grain, timelines.cells), (300, 12));
        let logs: i64 = timelines.services["shop"].values().map(|(logs, _)| logs).sum();
        assert_eq!(logs, 50 * 10 + 10 * 80);
    }

    #[test]
    fn every_width_and_span_makes_a_picture_of_that_width() {
        let timelines = filled(MAX_CELLS);
        for width in 5..60 {
            for (from, to) in [(0, 0), (1800, 1801), (0, 3600), (-90_000, 90_000), (3590, 3600)] {
                let picture = timelines.picture("shop", AnomalyType::LogVolumeSpike, (from, to), width);
                assert_eq!(picture.chars().count(), width, "{picture} {from} {to}");
            }
        }
    }
}
