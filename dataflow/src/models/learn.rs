//! The stream's own windows, remembered for a forest that is trained without anybody asking.

use super::{Tap, training_row};
use smartlog_models::rows::{Row, Rows, WHOLE_STREAM};
use smartlog_operators::features::Columns;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Windows remembered: a week of ten services and the stream, or less of more; about 40 MB.
const ROWS_MAX: usize = 400_000;

/// Windows since the start, the newest `ROWS_MAX` of them.
pub struct Memory {
    columns: Columns,
    rows: Mutex<VecDeque<Row>>,
}

impl Memory {
    /// For models of these columns.
    pub fn new(columns: Columns) -> Self {
        Memory { columns, rows: Mutex::default() }
    }

    /// What fills it.
    pub fn tap(self: &Arc<Self>) -> Tap {
        let memory = Arc::clone(self);
        Arc::new(move |rows| {
            let mut known = memory.rows.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(rows.iter().map(|row| training_row(row, &memory.columns)));
            let surplus = known.len().saturating_sub(ROWS_MAX);
            known.drain(..surplus);
        })
    }

    /// Windows of the whole stream: how much of a history there is.
    pub fn stream_rows(&self) -> usize {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().filter(|row| row.service == WHOLE_STREAM).count()
    }

    /// All of it, in order.
    pub fn rows(&self) -> Rows {
        let rows: Vec<Row> =
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        Rows::new(&self.columns.names().collect::<Vec<_>>(), rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_operators::feature_rows::FeatureRow;
    use smartlog_operators::sums::Sums;

    #[test]
    fn the_oldest_windows_are_forgotten_first() {
        let memory = Arc::new(Memory::new(Columns::of_sums()));
        let tap = memory.tap();
        let row = |end: i64| FeatureRow {
            end,
            service: if end % 20 == 0 { "".into() } else { "a".into() },
            sums: Sums { logs: 1, errors: 0, message_chars: 5 },
            unique_services: 1,
            patterns: Default::default(),
        };
        let all = ROWS_MAX as i64 + 1_000;
        for chunk in (1..=all).collect::<Vec<_>>().chunks(7_000) {
            tap(&mut chunk.iter().map(|n| row(n * 10)).collect());
        }
        let rows = memory.rows();
        assert_eq!(rows.interval(), Some((10_010, all * 10)));
        assert_eq!((rows.rows.len(), memory.stream_rows()), (ROWS_MAX, ROWS_MAX / 2));
    }
}
