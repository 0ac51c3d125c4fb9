//! Which features a model looks at.

use super::{FEATURES, WIDTH, names};
use std::fmt;

/// Places in [`FEATURES`], each once, in the order of a model's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<usize>);

/// Why columns are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    None,
    Unknown(String),
    Twice(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected features out of {}, ", names().join(", "))?;
        match self {
            Refusal::None => f.write_str("found none"),
            Refusal::Unknown(name) => write!(f, "found `{name}`"),
            Refusal::Twice(name) => write!(f, "found `{name}` twice"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Columns {
    /// The features of these names, in their order.
    ///
    /// # Errors
    /// The first name that is no feature's, or came before.
    pub fn of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, Refusal> {
        let mut places = Vec::new();
        for name in names {
            let name = name.as_ref();
            let place = FEATURES.iter().position(|feature| feature.name == name);
            let place = place.ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
            if places.contains(&place) {
                return Err(Refusal::Twice(name.to_owned()));
            }
            places.push(place);
        }
        if places.is_empty() { Err(Refusal::None) } else { Ok(Columns(places)) }
    }

    /// Those that need nothing counted but what every window has: what a model looks at unless it is told otherwise.
    pub fn of_sums() -> Self {
        Columns((0..WIDTH).filter(|&at| !FEATURES[at].is_of_patterns).collect())
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|&at| FEATURES[at].name)
    }

    /// Its features, each with its value out of those of all features.
    pub fn of_values(&self, values: &[f64; WIDTH]) -> impl Iterator<Item = (&'static str, f64)> {
        self.0.iter().map(|&at| (FEATURES[at].name, values[at]))
    }

    /// Its part of `values`, which are those of all features, in `row`.
    #[inline]
    pub fn pick<'r>(&self, values: &[f64; WIDTH], row: &'r mut [f64; WIDTH]) -> &'r [f64] {
        for (to, &at) in row.iter_mut().zip(&self.0) {
            *to = values[at];
        }
        &row[..self.0.len()]
    }

    /// The first feature that needs patterns counted.
    pub fn of_patterns(&self) -> Option<&'static str> {
        self.0.iter().map(|&at| &FEATURES[at]).find(|feature| feature.is_of_patterns).map(|it| it.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_any_of_the_features_in_any_order() {
        let columns = Columns::of(["pattern_entropy", "log_rate"]).expect("both are features");
        let (values, mut row) = (std::array::from_fn(|at| at as f64), [0.0; WIDTH]);
        assert_eq!(columns.pick(&values, &mut row), [6.0, 0.0]);
        assert_eq!(columns.names().collect::<Vec<_>>(), ["pattern_entropy", "log_rate"]);
        assert_eq!(columns.of_patterns(), Some("pattern_entropy"));
        assert_eq!(Columns::of(names()), Ok(Columns((0..WIDTH).collect())));
    }

    #[test]
    fn a_model_looks_at_five_features_unless_it_is_told_otherwise() {
        let columns = Columns::of_sums();
        let (values, mut row) = ([120.0, 0.05, 80.0, 4.0, 10.0, 3.0, 1.75], [f64::NAN; WIDTH]);
        assert_eq!(columns.pick(&values, &mut row), [120.0, 0.05, 80.0, 4.0, 10.0]);
        assert_eq!(columns.of_patterns(), None);
    }

    #[test]
    fn what_is_no_feature_is_refused_by_name() {
        let told = |names: &[&str]| Columns::of(names).expect_err("refused").to_string();
        let known = "expected features out of log_rate, error_rate, avg_message_length, unique_services, \
                     hour_of_day, new_pattern_rate, pattern_entropy, found ";
        assert_eq!(told(&["log_rate", "latency"]), format!("{known}`latency`"));
        assert_eq!(told(&["log_rate", "log_rate"]), format!("{known}`log_rate` twice"));
        assert_eq!(told(&[]), format!("{known}none"));
    }
}
