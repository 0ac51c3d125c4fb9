//! What came out, as one table and as JSON.

use serde::Serialize;
use std::fmt;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for what it says about the others.
    Shown,
}

/// One figure over all rounds.
#[derive(Debug, Clone)]
pub struct Figure {
    pub name: String,
    pub bar: Bar,
    /// `""` for a ratio.
    pub unit: &'static str,
    /// One value a round.
    pub rounds: Vec<f64>,
    /// For a ratio: what was divided by what.
    pub of: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Reached,
    Missed,
    Shown,
}

impl Figure {
    /// A quotient of two measurements of one round.
    pub fn ratio(name: impl Into<String>, bar: Bar, rounds: Vec<f64>, of: String) -> Self {
        Figure { name: name.into(), bar, unit: "", rounds, of }
    }

    pub fn plain(name: impl Into<String>, bar: Bar, unit: &'static str, rounds: Vec<f64>) -> Self {
        Figure { name: name.into(), bar, unit, rounds, of: String::new() }
    }

    fn verdict(&self) -> Verdict {
        let value = median(&self.rounds);
        match self.bar {
            Bar::AtLeast(bar) if value >= bar => Verdict::Reached,
            Bar::AtMost(bar) if value <= bar => Verdict::Reached,
            Bar::AtLeast(_) | Bar::AtMost(_) => Verdict::Missed,
            Bar::Shown => Verdict::Shown,
        }
    }

    fn cells(&self) -> [String; 5] {
        let is_ratio = self.unit.is_empty();
        let value = Spread(&self.rounds, if is_ratio { "" } else { self.unit }).to_string();
        let (measured, ratio) = if is_ratio { (self.of.clone(), value) } else { (value, String::new()) };
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!("≥ {bar} {}", self.unit),
            Bar::AtMost(bar) => format!("≤ {bar} {}", self.unit),
            Bar::Shown => String::new(),
        };
        let verdict = match self.verdict() {
            Verdict::Reached => "reached",
            Verdict::Missed => "MISSED",
            Verdict::Shown => "",
        };
        [self.name.clone(), bar.trim_end().to_owned(), measured, ratio, verdict.to_owned()]
    }
}

/// The value in the middle; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The value below which `share` of them lie, by the nearest rank.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Median, and least and largest where there is more than one.
pub struct Spread<'a>(pub &'a [f64], pub &'a str);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread(values, unit) = self;
        write!(f, "{}", short(median(values)))?;
        if !unit.is_empty() {
            write!(f, " {unit}")?;
        }
        if values.len() > 1 {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            write!(f, " ({}–{})", short(least), short(most))?;
        }
        Ok(())
    }
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The circumstances of a run.
#[derive(Debug, Serialize)]
pub struct Circumstances {
    pub version: &'static str,
    pub date: String,
    pub quick: bool,
    pub logs: u64,
    pub rounds: usize,
    pub cores: usize,
    /// `/proc/loadavg`, before the first measurement and after the last: what else ran spoils the figures.
    pub load_before: String,
    pub load_after: String,
    pub seconds: u64,
}

/// The table, for people.
pub fn table(figures: &[Figure]) -> String {
    let head = ["figure", "bar", "measured", "ratio", "verdict"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(figures.iter().map(Figure::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text += &format!("| {} |\n", rules.join(" | "));
        }
    }
    text
}

/// The same for programs.
pub fn json(circumstances: &Circumstances, figures: &[Figure]) -> anyhow::Result<String> {
    let of = |figure: &Figure| {
        serde_json::json!({
            "figure": figure.name,
            "bar": figure.bar,
            "unit": figure.unit,
            "median": median(&figure.rounds),
            "rounds": figure.rounds,
            "of": figure.of,
            "verdict": figure.verdict(),
        })
    };
    let figures: Vec<serde_json::Value> = figures.iter().map(of).collect();
    let report = serde_json::json!({ "circumstances": circumstances, "figures": figures });
    Ok(serde_json::to_string_pretty(&report)?)
}
