//! What must hold, and whether it does.

use crate::Run;
use crate::corpus::{Corpus, Set};
use crate::report::Row;
use crate::stats::Figures;
use serde::{Deserialize, Serialize};

/// A bar and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub bar: String,
    /// `None`: nothing to measure it by.
    pub measured: Option<f64>,
    pub reached: bool,
}

/// What is bound, and from which side.
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

struct Bar {
    corpus: Corpus,
    what: &'static str,
    bound: Bound,
    measure: fn(&Figures, &[&Run<'_>]) -> Option<f64>,
}

/// What is asked of seeds that were not used for tuning.
const BARS: [Bar; 9] = [
    Bar { corpus: Corpus::Shared, what: "share of incidents found", bound: AtLeast(1.0), measure: recall },
    Bar { corpus: Corpus::Shared, what: "false episodes", bound: AtMost(1.0), measure: false_episodes },
    Bar { corpus: Corpus::Mixed, what: "F1", bound: AtLeast(0.90), measure: |f, _| f.f1.value },
    Bar { corpus: Corpus::Mixed, what: "F1, lower bound", bound: AtLeast(0.87), measure: |f, _| f.f1.low },
    Bar { corpus: Corpus::Mixed, what: "false per service and day", bound: AtMost(0.3), measure: false_rate },
    Bar {
        corpus: Corpus::Mixed,
        what: "median delay of spikes, s",
        bound: AtMost(60.0),
        measure: |_, runs| delay(runs, &["error_rate_spike", "log_volume_spike"]),
    },
    Bar {
        corpus: Corpus::Mixed,
        what: "median delay of silence, s",
        bound: AtMost(60.0),
        measure: |_, runs| delay(runs, &["silence"]),
    },
    Bar {
        corpus: Corpus::Quiet,
        what: "false episodes of a week, per service",
        bound: AtMost(1.0),
        measure: false_per_service,
    },
    Bar { corpus: Corpus::Series, what: "F1", bound: AtLeast(0.80), measure: |f, _| f.f1.value },
];

/// What `make test` insists on: where the detectors are, so that no change makes them worse unnoticed.
const SHORT: [Bar; 6] = [
    Bar { corpus: Corpus::Shared, what: "share of incidents found", bound: AtLeast(1.0), measure: recall },
    Bar { corpus: Corpus::Shared, what: "false episodes", bound: AtMost(1.0), measure: false_episodes },
    Bar { corpus: Corpus::Mixed, what: "F1", bound: AtLeast(0.86), measure: |f, _| f.f1.value },
    Bar { corpus: Corpus::Mixed, what: "false per service and day", bound: AtMost(0.4), measure: false_rate },
    Bar {
        corpus: Corpus::Quiet,
        what: "false episodes of a week, per service",
        bound: AtMost(0.3),
        measure: false_per_service,
    },
    Bar { corpus: Corpus::Series, what: "F1", bound: AtLeast(0.65), measure: |f, _| f.f1.value },
];

fn recall(figures: &Figures, _: &[&Run<'_>]) -> Option<f64> {
    figures.recall.value
}

fn false_episodes(figures: &Figures, _: &[&Run<'_>]) -> Option<f64> {
    Some(figures.false_episodes as f64)
}

fn false_rate(figures: &Figures, _: &[&Run<'_>]) -> Option<f64> {
    figures.false_per_service_day.value
}

/// Per week, however long the case is.
fn false_per_service(figures: &Figures, _: &[&Run<'_>]) -> Option<f64> {
    figures.false_per_service_day.value.map(|a_day| a_day * 7.0)
}

fn delay(runs: &[&Run<'_>], kinds: &[&str]) -> Option<f64> {
    let fates = runs.iter().flat_map(|run| &run.judgement.fates);
    let mut delays: Vec<i64> =
        fates.filter(|fate| kinds.contains(&fate.kind.as_str())).filter_map(|fate| fate.delay).collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).map(|delay| *delay as f64)
}

/// How the bars stand; those of corpora that were not asked are left out.
pub fn verdicts(set: Set, quick: bool, rows: &[Row], runs: &[Run<'_>]) -> Vec<Verdict> {
    let bars: &[Bar] = match (set, quick) {
        (Set::Short, _) => &SHORT,
        (_, true) => &[],
        _ => &BARS,
    };
    let verdict = |bar: &Bar| {
        let row = rows
            .iter()
            .find(|row| row.corpus == bar.corpus && row.group.is_empty() && row.detectors == "all")?;
        let runs: Vec<&Run<'_>> = runs.iter().filter(|run| run.case.corpus == bar.corpus).collect();
        let measured = (bar.measure)(&row.figures, &runs);
        let (sign, bound) = match bar.bound {
            AtLeast(bound) => ("≥", bound),
            AtMost(bound) => ("≤", bound),
        };
        let holds = |value: f64| if sign == "≥" { value >= bound } else { value <= bound };
        Some(Verdict {
            bar: format!("{}: {} {sign} {bound}", bar.corpus.name(), bar.what),
            measured,
            reached: measured.is_some_and(holds),
        })
    };
    bars.iter().filter_map(verdict).collect()
}
