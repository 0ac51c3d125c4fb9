//! The figures as tables and as JSON.

use crate::Run;
use crate::bars::Verdict;
use crate::corpus::replays::shown;
use crate::corpus::{Corpus, Set};
use crate::judge::{Fate, Judgement};
use crate::shared_evaluator::Opinion;
use crate::stats::{Estimate, Figures, figures};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub set: Set,
    pub quick: bool,
    /// What could not be judged, and why.
    pub missing: Vec<String>,
    pub seconds: u64,
    pub rows: Vec<Row>,
    /// The shared replay's own evaluator.
    pub evaluator: Option<Opinion>,
    pub kinds: Vec<KindRow>,
    pub verdicts: Vec<Verdict>,
}

/// Some detectors on a corpus, or on a part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub corpus: Corpus,
    /// The part: estates, replays, a kind of series; empty: all of it.
    pub group: String,
    pub detectors: String,
    pub figures: Figures,
}

/// How one kind of incident went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRow {
    pub corpus: Corpus,
    pub kind: String,
    pub incidents: usize,
    pub found: usize,
    pub named: usize,
    pub fragments: usize,
    pub median_delay: Option<i64>,
}

impl Corpus {
    pub fn name(self) -> &'static str {
        match self {
            Corpus::Shared => "shared",
            Corpus::Mixed => "mixed",
            Corpus::Quiet => "quiet",
            Corpus::Series => "series",
        }
    }
}

/// A row for each corpus, and for each part of one that has several.
pub fn rows(runs: &[Run<'_>], detectors: &str, of: &dyn Fn(&Run<'_>) -> Judgement) -> Vec<Row> {
    let mut groups: BTreeMap<(Corpus, String), Vec<Judgement>> = BTreeMap::new();
    for run in runs {
        let judgement = of(run);
        let part = run.case.name.split('-').next().unwrap_or_default().to_owned();
        if detectors == "all" && matches!(run.case.corpus, Corpus::Mixed | Corpus::Series) {
            groups.entry((run.case.corpus, part)).or_default().push(judgement.clone());
        }
        groups.entry((run.case.corpus, String::new())).or_default().push(judgement);
    }
    let row = |((corpus, group), judgements): ((Corpus, String), Vec<Judgement>)| Row {
        corpus,
        group,
        detectors: detectors.to_owned(),
        figures: figures(&judgements),
    };
    groups.into_iter().map(row).collect()
}

/// A row for each kind of incident in each corpus.
pub fn kinds(runs: &[Run<'_>]) -> Vec<KindRow> {
    let mut groups: BTreeMap<(Corpus, &str), Vec<&Fate>> = BTreeMap::new();
    for run in runs {
        for fate in &run.judgement.fates {
            groups.entry((run.case.corpus, &fate.kind)).or_default().push(fate);
        }
    }
    let row = |((corpus, kind), fates): ((Corpus, &str), Vec<&Fate>)| {
        let mut delays: Vec<i64> = fates.iter().filter_map(|fate| fate.delay).collect();
        delays.sort_unstable();
        KindRow {
            corpus,
            kind: kind.to_owned(),
            incidents: fates.len(),
            found: delays.len(),
            named: fates.iter().filter(|fate| fate.is_named).count(),
            fragments: fates.iter().map(|fate| fate.fragments).sum(),
            median_delay: delays.get(delays.len() / 2).copied(),
        }
    };
    groups.into_iter().map(row).collect()
}

/// A report that an earlier run wrote.
pub fn read(file: &PathBuf) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected what --out writes", file.display()))
}

impl Report {
    /// For people; with what changed since `before`.
    pub fn tables(&self, before: Option<&Report>) -> String {
        let mut text = String::new();
        let mut table = |head: &[&str], rows: Vec<Vec<String>>| {
            if !rows.is_empty() {
                text += &columns(head, &rows);
                text.push('\n');
            }
        };
        let head = [
            "corpus",
            "detectors",
            "found",
            "precision",
            "recall",
            "F1",
            "false /service/day",
            "false",
            "delay s",
            "fragments",
            "named",
        ];
        let told =
            |row: &&Row| row.detectors == "all" || row.figures.incidents + row.figures.false_episodes > 0;
        table(&head, self.rows.iter().filter(told).map(|row| row.cells(before)).collect());
        let head = ["corpus", "kind", "found", "named", "fragments", "median delay s"];
        table(&head, self.kinds.iter().map(KindRow::cells).collect());
        let head =
            ["evaluate.py", "found", "false", "precision", "recall", "F1", "false /service/day", "delay s"];
        table(&head, self.evaluator.iter().map(opinion_cells).collect());
        table(&["bar", "measured", ""], self.verdicts.iter().map(verdict_cells).collect());
        let seeds = match self.set {
            Set::Tune | Set::TuneMore => "the seeds for TUNING: these figures may flatter",
            Set::HeldOut => "held-out seeds",
            Set::Short => "the few seeds of the short form",
        };
        let _ = writeln!(text, "On {seeds}, in {} s. Intervals are of 95 %.", self.seconds);
        if self.quick {
            text += "QUICK: this shows that the harness works; the figures mean nothing.\n";
        }
        for missing in &self.missing {
            let _ = writeln!(text, "NOTE: {missing}");
        }
        text
    }
}

impl Row {
    fn cells(&self, before: Option<&Report>) -> Vec<String> {
        let like = |row: &&Row| {
            (row.corpus, &row.group, &row.detectors) == (self.corpus, &self.group, &self.detectors)
        };
        let before = before.and_then(|report| report.rows.iter().find(like)).map(|row| &row.figures);
        let now = &self.figures;
        let with = |pick: fn(&Figures) -> &Estimate, digits| estimate(pick(now), before.map(pick), digits);
        let group = if self.group.is_empty() { String::new() } else { format!(": {}", self.group) };
        vec![
            format!("{}{group}", self.corpus.name()),
            self.detectors.clone(),
            format!("{}/{}", now.found, now.incidents),
            with(|f| &f.precision, 3),
            with(|f| &f.recall, 3),
            with(|f| &f.f1, 3),
            with(|f| &f.false_per_service_day, 2),
            now.false_episodes.to_string(),
            with(|f| &f.median_delay, 0),
            now.fragments.to_string(),
            now.named.to_string(),
        ]
    }
}

impl KindRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.corpus.name().to_owned(),
            self.kind.clone(),
            format!("{}/{}", self.found, self.incidents),
            self.named.to_string(),
            self.fragments.to_string(),
            self.median_delay.map_or("–".into(), |delay| delay.to_string()),
        ]
    }
}

fn opinion_cells(opinion: &Opinion) -> Vec<String> {
    vec![
        "all incidents".into(),
        format!("{}/{}", opinion.found, opinion.incidents),
        opinion.false_episodes.to_string(),
        format!("{:.3}", opinion.precision),
        format!("{:.3}", opinion.recall),
        format!("{:.3}", opinion.f1),
        format!("{:.2}", opinion.false_per_service_day),
        opinion.delay_median_s.map_or("–".into(), |delay| format!("{delay:.0}")),
    ]
}

fn verdict_cells(verdict: &Verdict) -> Vec<String> {
    vec![
        verdict.bar.clone(),
        verdict.measured.map_or("–".into(), |measured| format!("{measured:.3}")),
        if verdict.reached { "reached" } else { "MISSED" }.into(),
    ]
}

/// Value, interval, and the change since before.
fn estimate(now: &Estimate, before: Option<&Estimate>, digits: usize) -> String {
    let Some(value) = now.value else { return "–".into() };
    let mut text = format!("{value:.digits$}");
    if let (Some(low), Some(high)) = (now.low, now.high) {
        let _ = write!(text, " ({low:.digits$}–{high:.digits$})");
    }
    if let Some(change) = before.and_then(|before| before.value).map(|before| value - before) {
        let _ = write!(text, " {change:+.digits$}");
    }
    text
}

fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let body: String = rows.iter().map(line).collect();
    format!("{}{}{body}", line(&head), line(&rule))
}

/// Up to `most` misses of each kind of incident, and false episodes of each detector, of each corpus.
pub fn worst(runs: &[Run<'_>], most: usize) -> String {
    let mut groups: BTreeMap<(Corpus, String), Vec<String>> = BTreeMap::new();
    for run in runs {
        let case = &run.case.name;
        for fate in run.judgement.fates.iter().filter(|fate| fate.delay.is_none()) {
            let line = format!("{case} {} {}: {}", shown(fate.start), fate.service, fate.how);
            groups.entry((run.case.corpus, format!("missed {}", fate.kind))).or_default().push(line);
        }
        for wrong in &run.judgement.false_episodes {
            let line = format!("{case} {} {}: {}", shown(wrong.at), wrong.service, wrong.description);
            groups.entry((run.case.corpus, format!("false {}", wrong.anomaly_type))).or_default().push(line);
        }
    }
    let mut text = String::new();
    for ((corpus, what), lines) in groups.iter().filter(|_| most > 0) {
        let _ = writeln!(text, "\n{}: {what}: {}", corpus.name(), lines.len());
        lines.iter().take(most).for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    text
}
