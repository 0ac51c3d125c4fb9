//! What is usual for a service: each feature's median and spread, overall and by hour of day.
//!
//! It serves a service whose own baseline is not warm yet, and puts services of different size on one scale for the
//! forest that they share. Robust: median and median absolute deviation (Rousseeuw & Croux 1993).

use serde::{Deserialize, Serialize};

/// Makes the median absolute deviation of a normal sample estimate its standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// Rows that an hour must have to be told apart from the others: ten minutes of them.
const HOUR_ROWS: usize = 60;
/// A spread is at least this share of the median, so that a constant feature does not make every change infinite.
const SPREAD_FLOOR: f64 = 0.05;
/// … and at least this, in the feature's unit.
const SPREAD_MIN: f64 = 0.005;
/// Standard scores are cut here: what lies further out is no stranger.
const SCORE_MAX: f64 = 50.0;

/// One feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    pub median: f64,
    /// Standard deviation, robustly estimated, with its floor; `f64::MAX`: any value is as usual as another.
    pub spread: f64,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Windows that it rests on.
    pub rows: u64,
    /// By feature, in the bundle's order.
    pub overall: Vec<Usual>,
    /// By hour of day (UTC); `None` where there were too few windows.
    pub hours: Vec<Option<Vec<Usual>>>,
}

impl Profile {
    /// `windows`: end (epoch seconds) and values. `None` without any.
    pub fn of<'a>(windows: impl Iterator<Item = (i64, &'a [f64])>) -> Option<Self> {
        let mut by_hour: Vec<Vec<&[f64]>> = vec![Vec::new(); 24];
        for (end, values) in windows {
            by_hour[hour_of(end)].push(values);
        }
        let all: Vec<&[f64]> = by_hour.iter().flatten().copied().collect();
        let overall = usual_of(&all)?;
        let of_hour = |rows: &Vec<&[f64]>| usual_of(rows).filter(|_| rows.len() >= HOUR_ROWS);
        Some(Profile { rows: all.len() as u64, overall, hours: by_hour.iter().map(of_hour).collect() })
    }

    /// What is usual at `end`: of its hour where that is known.
    pub fn at(&self, end: i64) -> &[Usual] {
        self.hours.get(hour_of(end)).and_then(Option::as_ref).unwrap_or(&self.overall)
    }

    /// Has [`Profile::scale`] leave a feature out, for which no value is stranger than another.
    pub fn leave_out(&mut self, feature: usize) {
        let of_hours = self.hours.iter_mut().flatten();
        for usual in of_hours.chain([&mut self.overall]).filter_map(|usual| usual.get_mut(feature)) {
            usual.spread = f64::MAX;
        }
    }

    /// Writes how many spreads each value lies from the median into `scaled`; 0 for what is left out.
    pub fn scale(&self, values: &[f64], scaled: &mut [f64]) {
        for ((out, value), usual) in scaled.iter_mut().zip(values).zip(&self.overall) {
            let spreads = (value - usual.median) / usual.spread;
            *out = if usual.spread < f64::MAX { spreads.clamp(-SCORE_MAX, SCORE_MAX) } else { 0.0 };
        }
    }
}

fn hour_of(end: i64) -> usize {
    // A window belongs to the hour of its last second.
    ((end - 1).rem_euclid(86_400) / 3_600) as usize
}

fn usual_of(rows: &[&[f64]]) -> Option<Vec<Usual>> {
    let width = rows.first()?.len();
    let column = |feature: usize| rows.iter().map(|row| row[feature]).collect::<Vec<_>>();
    Some((0..width).map(|feature| usual(column(feature))).collect())
}

fn usual(mut values: Vec<f64>) -> Usual {
    let center = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - center).abs());
    let spread = median(&mut values) * MAD_TO_DEVIATION;
    Usual { median: center, spread: spread.max(center.abs() * SPREAD_FLOOR).max(SPREAD_MIN) }
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp);
    match lower.filter(|_| values.len().is_multiple_of(2)) {
        Some(lower) => (lower + upper) / 2.0,
        None => upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_told_apart_once_it_has_enough_windows() {
        let noon = 12 * 3_600;
        let quiet: Vec<(i64, [f64; 1])> = (1..=600).map(|n| (n * 10, [10.0 + (n % 3) as f64])).collect();
        let busy = (1..=HOUR_ROWS as i64).map(|n| (noon + n * 10, [100.0]));
        let rows: Vec<(i64, [f64; 1])> = quiet.into_iter().chain(busy).collect();
        let profile = Profile::of(rows.iter().map(|(end, v)| (*end, &v[..]))).expect("rows");
        assert_eq!(profile.at(noon + 60)[0].median, 100.0);
        assert_eq!(profile.at(20 * 3_600)[0].median, 11.0, "an hour without windows: overall");
        let few = Profile::of(rows.iter().skip(2).map(|(end, v)| (*end, &v[..]))).expect("rows");
        assert_eq!(few.rows, profile.rows - 2);
    }

    #[test]
    fn a_constant_feature_has_a_spread_all_the_same() {
        let rows: Vec<(i64, [f64; 2])> = (1..=100).map(|n| (n * 10, [40.0, 0.0])).collect();
        let profile = Profile::of(rows.iter().map(|(end, v)| (*end, &v[..]))).expect("rows");
        assert_eq!(profile.overall[0], Usual { median: 40.0, spread: 2.0 });
        let mut scaled = [0.0; 2];
        profile.scale(&[44.0, 1.0e9], &mut scaled);
        assert_eq!(scaled, [2.0, SCORE_MAX]);
        let mut profile = profile;
        profile.leave_out(1);
        profile.scale(&[44.0, 1.0e9], &mut scaled);
        assert_eq!(scaled, [2.0, 0.0]);
    }

    #[test]
    fn the_last_second_of_a_window_decides_its_hour() {
        assert_eq!((hour_of(3_600), hour_of(3_601), hour_of(0), hour_of(86_400)), (0, 1, 23, 23));
    }
}
