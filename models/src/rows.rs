//! What a model is fitted on: the features of final windows.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name under which the whole stream has rows.
pub const WHOLE_STREAM: &str = "";

/// The features of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// End of the window, epoch seconds.
    pub end: i64,
    /// Empty for the whole stream.
    pub service: String,
    /// In the order of [`Rows::features`].
    pub values: Vec<f64>,
}

/// Rows of one history, ascending by end and service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The features' names, in order.
    pub features: Vec<String>,
    pub rows: Vec<Row>,
}

impl Rows {
    /// Brings the rows into their order, whatever order workers delivered them in.
    pub fn new(features: &[&str], mut rows: Vec<Row>) -> Self {
        rows.sort_by(|a, b| (a.end, &a.service).cmp(&(b.end, &b.service)));
        Rows { features: features.iter().map(|&name| name.to_owned()).collect(), rows }
    }

    /// Those of the features alone, in that order.
    ///
    /// # Errors
    /// The name of one that the rows do not have.
    pub fn select<'a>(&self, features: &'a [String]) -> Result<Rows, &'a str> {
        let place =
            |name: &'a String| self.features.iter().position(|known| known == name).ok_or(name.as_str());
        let places = features.iter().map(place).collect::<Result<Vec<usize>, &str>>()?;
        let row = |row: &Row| Row {
            end: row.end,
            service: row.service.clone(),
            values: places.iter().map(|&place| row.values[place]).collect(),
        };
        Ok(Rows { features: features.to_vec(), rows: self.rows.iter().map(row).collect() })
    }

    /// SHA-256 of names and rows, in hexadecimal: equal histories have equal digests.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        self.features.iter().for_each(|name| add(name.as_bytes()));
        for row in &self.rows {
            add(&row.end.to_le_bytes());
            add(row.service.as_bytes());
            row.values.iter().for_each(|value| add(&value.to_le_bytes()));
        }
        hex(&hash.finalize())
    }

    /// First and last end, epoch seconds; `None` without rows.
    pub fn interval(&self) -> Option<(i64, i64)> {
        Some((self.rows.first()?.end, self.rows.last()?.end))
    }

    /// The rows whose window overlaps none of `intervals` (`[from, to)`, epoch seconds).
    pub fn without(mut self, intervals: &[(i64, i64)], window_seconds: i64) -> Self {
        let overlaps = |end: i64, (from, to): (i64, i64)| end > from && end - window_seconds < to;
        self.rows.retain(|row| !intervals.iter().any(|&interval| overlaps(row.end, interval)));
        self
    }

    /// Splits in time: the rows that end before `share` of the interval has passed, and the rest.
    pub fn split(&self, share: f64) -> (Rows, Rows) {
        let Some((first, last)) = self.interval() else { return (self.clone(), self.clone()) };
        let at = first + ((last - first) as f64 * share) as i64;
        let (early, late) = self.rows.split_at(self.rows.partition_point(|row| row.end <= at));
        let of = |rows: &[Row]| Rows { features: self.features.clone(), rows: rows.to_vec() };
        (of(early), of(late))
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(end: i64, service: &str) -> Row {
        Row { end, service: service.into(), values: vec![end as f64, 0.5] }
    }

    #[test]
    fn the_order_of_delivery_does_not_matter_and_every_value_does() {
        let names = ["a", "b"];
        let one = Rows::new(&names, vec![row(20, "x"), row(10, "y"), row(10, "x")]);
        let other = Rows::new(&names, vec![row(10, "x"), row(10, "y"), row(20, "x")]);
        assert_eq!((one.digest(), one.interval()), (other.digest(), Some((10, 20))));
        let mut changed = other.clone();
        changed.rows[1].values[1] += f64::EPSILON;
        assert_ne!(other.digest(), changed.digest());
        let renamed = Rows { features: vec!["a".into(), "c".into()], ..other.clone() };
        assert_ne!(other.digest(), renamed.digest());
    }

    #[test]
    fn features_are_selected_by_name() {
        let rows = Rows::new(&["a", "b"], vec![row(10, "x")]);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let selected = rows.select(&names(&["b", "a"])).expect("both are there");
        assert_eq!((selected.features, &selected.rows[0].values[..]), (names(&["b", "a"]), &[0.5, 10.0][..]));
        assert_eq!(rows.select(&names(&["b", "c"])), Err("c"));
    }

    #[test]
    fn a_window_that_touches_an_interval_is_left_out() {
        let rows = Rows::new(&["a", "b"], [100, 400, 401, 700, 1000, 1001].map(|end| row(end, "x")).to_vec());
        let kept: Vec<i64> = rows.without(&[(400, 700)], 300).rows.iter().map(|row| row.end).collect();
        assert_eq!(kept, [100, 400, 1000, 1001]);
    }
}
