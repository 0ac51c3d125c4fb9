//! `smartlog patterns`: the kinds of messages in files or the standard input.
//!
//! ```text
//!   lines ──parse, or as they are──▶ messages ──▶ miner ──▶ patterns ──▶ table or JSON
//!                                                   │
//!                                  --assign: the shape of each line, spooled, and its pattern once all are read
//! ```

use super::analyze::progress::Progress;
use super::job;
use crate::cli::PatternsArgs;
use crate::config::{Config, OutputFormat};
use crate::sources::file;
use anyhow::Context as _;
use indicatif::HumanCount;
use jiff::Timestamp;
use serde::Serialize;
use smartlog_operators::fold::Outcomes;
use smartlog_operators::parse::{Parser, Scratch};
use smartlog_operators::patterns::{Miner, Pattern, PatternId, Stats};
use smartlog_schema::level::Level;
use std::collections::HashMap;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of shapes that `--assign` holds in memory before it turns to a temporary file; eight a line.
const SPOOL_BYTES: usize = 64 << 20;
/// What `--assign` prints for a line whose pattern was forgotten, and for one that is no log.
const OTHER: &str = "other";
const NO_LOG: &str = "-";
/// Characters of an example in the table.
const EXAMPLE_CHARS: usize = 160;

pub fn run(config: &Config, args: &PatternsArgs) -> anyhow::Result<ExitCode> {
    let outcomes = Arc::<Outcomes>::default();
    let progress = Progress::start(&args.inputs, Arc::clone(&outcomes));
    let mut reading = Reading {
        miner: Miner::new(config.patterns.settings()),
        parser: (!args.raw).then(|| job::parser(config)).transpose()?,
        scratch: Scratch::default(),
        outcomes: Arc::clone(&outcomes),
        shapes: args.assign.then(|| BufWriter::new(tempfile::spooled_tempfile(SPOOL_BYTES))),
    };
    for input in &args.inputs {
        file::for_each_line(input, |line| reading.line(line))?;
    }
    progress.finish();
    reading.miner.settle();
    let mut out = BufWriter::new(io::stdout().lock());
    let report = Report { miner: &reading.miner, outcomes: &outcomes, raw: args.raw };
    match (reading.shapes.take(), config.output.format) {
        (Some(shapes), format) => report.assign(shapes, format, &mut out)?,
        (None, OutputFormat::Json) => report.json(args.top, &mut out)?,
        (None, OutputFormat::Table) => report.table(args.top, &mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What lines go into.
struct Reading {
    miner: Miner,
    /// `None`: lines are messages.
    parser: Option<Parser>,
    scratch: Scratch,
    outcomes: Arc<Outcomes>,
    /// For each line whether it is a log, and its shape.
    shapes: Option<BufWriter<tempfile::SpooledTempFile>>,
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let number = self.outcomes.records.fetch_add(1, Ordering::Relaxed) + 1;
        self.outcomes.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        let shape = match &self.parser {
            None => {
                let place = i64::try_from(number).unwrap_or(i64::MAX);
                Some(self.miner.observe(&String::from_utf8_lossy(line), place, None))
            }
            Some(parser) => parser
                .parse_text(Some(line), None, &mut self.scratch)
                .ok()
                .map(|log| self.miner.observe(log.message, log.timestamp_us, Some(log.level))),
        };
        self.outcomes.logs.fetch_add(u64::from(shape.is_some()), Ordering::Relaxed);
        if let Some(shapes) = &mut self.shapes {
            let mut record = [0; RECORD_BYTES];
            record[0] = u8::from(shape.is_some());
            record[1..].copy_from_slice(&shape.unwrap_or_default().to_le_bytes());
            shapes.write_all(&record).context("the temporary file for --assign")?;
        }
        Ok(())
    }
}

/// A line of the spool.
const RECORD_BYTES: usize = 9;

/// What is told in the end.
struct Report<'a> {
    miner: &'a Miner,
    outcomes: &'a Outcomes,
    raw: bool,
}

/// One pattern, as programs read it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: String,
    template: &'a str,
    count: u64,
    /// Of all logs.
    share: f64,
    levels: HashMap<&'static str, u64>,
    /// Event time; of plain lines the number of the line.
    first_seen: serde_json::Value,
    last_seen: serde_json::Value,
    example: Option<&'a str>,
}

impl Report<'_> {
    fn logs(&self) -> u64 {
        self.outcomes.logs.load(Ordering::Relaxed)
    }

    fn share(&self, stats: &Stats) -> f64 {
        stats.logs as f64 / self.logs().max(1) as f64
    }

    /// The most frequent patterns, and what the others add up to.
    fn top(&self, top: usize) -> (Vec<Pattern>, usize) {
        let mut patterns = self.miner.patterns();
        let count = patterns.len();
        if top > 0 {
            patterns.truncate(top);
        }
        (patterns, count)
    }

    fn when(&self, us: i64) -> serde_json::Value {
        match self.raw {
            true => us.into(),
            false => Timestamp::from_microsecond(us).map_or_else(|_| us.into(), |at| at.to_string().into()),
        }
    }

    fn line<'a>(&self, id: String, template: &'a str, stats: &Stats, example: Option<&'a str>) -> Line<'a> {
        let levels = Level::ALL.iter().zip(stats.levels).filter(|(_, count)| *count > 0);
        Line {
            id,
            template,
            count: stats.logs,
            share: self.share(stats),
            levels: levels.map(|(level, count)| (level.as_str(), count)).collect(),
            first_seen: self.when(stats.first_us),
            last_seen: self.when(stats.last_us),
            example,
        }
    }

    fn json(&self, top: usize, out: &mut impl Write) -> anyhow::Result<()> {
        let (patterns, _) = self.top(top);
        for pattern in &patterns {
            let line =
                self.line(pattern.id.to_string(), &pattern.template, &pattern.stats, Some(&pattern.example));
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
        if !self.miner.other().is_empty() {
            serde_json::to_writer(&mut *out, &self.line(OTHER.into(), "", self.miner.other(), None))?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, top: usize, out: &mut impl Write) -> anyhow::Result<()> {
        let (patterns, count) = self.top(top);
        let columns: Vec<Column> =
            Column::ALL.into_iter().filter(|column| !self.raw || !column.is_of_logs()).collect();
        let mut rows: Vec<Vec<String>> =
            vec![columns.iter().map(|column| column.head(self.raw).to_owned()).collect()];
        let row =
            |id: String, stats: &Stats| columns.iter().map(|column| self.cell(*column, &id, stats)).collect();
        rows.extend(patterns.iter().map(|pattern| row(pattern.id.to_string(), &pattern.stats)));
        if !self.miner.other().is_empty() {
            rows.push(row(OTHER.into(), self.miner.other()));
        }
        let told = patterns.iter().map(|pattern| (printable(&pattern.template), printable(&pattern.example)));
        let told =
            std::iter::once(("TEMPLATE, and its first message where that differs".into(), String::new()))
                .chain(told)
                .chain([("patterns that were forgotten (patterns.max_patterns)".into(), String::new())]);
        let widths: Vec<usize> = (0..columns.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (row, (template, example)) in rows.iter().zip(told) {
            for ((cell, width), column) in row.iter().zip(&widths).zip(&columns) {
                match column.is_number() {
                    true => write!(out, "{cell:>width$}  ")?,
                    false => write!(out, "{cell:width$}  ")?,
                }
            }
            writeln!(out, "{template}")?;
            if !example.is_empty() && example != template {
                let indent = widths.iter().sum::<usize>() + 2 * widths.len();
                writeln!(out, "{:indent$}{}", "", dimmed(&example))?;
            }
        }
        self.summary(count, patterns.len(), out)
    }

    fn cell(&self, column: Column, id: &str, stats: &Stats) -> String {
        let when = |us| self.when(us).to_string().trim_matches('"').to_owned();
        match column {
            Column::Count => HumanCount(stats.logs).to_string(),
            Column::Share => format!("{:.1}%", 100.0 * self.share(stats)),
            Column::Levels => levels(stats),
            Column::First => when(stats.first_us),
            Column::Last => when(stats.last_us),
            Column::Id => id.to_owned(),
        }
    }

    fn summary(&self, patterns: usize, shown: usize, out: &mut impl Write) -> anyhow::Result<()> {
        let records = self.outcomes.records.load(Ordering::Relaxed);
        let (logs, others) = (HumanCount(self.logs()), records - self.logs());
        let noun = if patterns == 1 { "pattern" } else { "patterns" };
        write!(out, "\n{} {noun} in {logs} messages", HumanCount(patterns as u64))?;
        if others > 0 {
            write!(out, "; {} lines were no logs (plain lines? --raw)", HumanCount(others))?;
        }
        if shown < patterns {
            write!(out, "; {shown} are shown, --top 0 shows all")?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// The pattern of each line, in order.
    fn assign(
        &self,
        shapes: BufWriter<tempfile::SpooledTempFile>,
        format: OutputFormat,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let mut shapes = shapes.into_inner().map_err(io::IntoInnerError::into_error)?;
        shapes.seek(SeekFrom::Start(0))?;
        let templates: HashMap<PatternId, String> =
            self.miner.patterns().into_iter().map(|pattern| (pattern.id, pattern.template)).collect();
        let mut shapes = BufReader::new(shapes);
        let mut record = [0; RECORD_BYTES];
        for _ in 0..self.outcomes.records.load(Ordering::Relaxed) {
            shapes.read_exact(&mut record).context("the temporary file for --assign")?;
            let mut shape = [0; 8];
            shape.copy_from_slice(&record[1..]);
            let pattern = self.miner.pattern_of(u64::from_le_bytes(shape));
            let id = match (record[0], pattern) {
                (0, _) => NO_LOG.to_owned(),
                (_, None) => OTHER.to_owned(),
                (_, Some(pattern)) => pattern.to_string(),
            };
            match format {
                OutputFormat::Table => writeln!(out, "{id}")?,
                OutputFormat::Json => {
                    let template = pattern.and_then(|pattern| templates.get(&pattern));
                    serde_json::to_writer(&mut *out, &serde_json::json!({ "id": id, "template": template }))?;
                    writeln!(out)?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Column {
    Count,
    Share,
    Levels,
    First,
    Last,
    Id,
}

impl Column {
    const ALL: [Column; 6] =
        [Column::Count, Column::Share, Column::Levels, Column::First, Column::Last, Column::Id];

    fn head(self, raw: bool) -> &'static str {
        match self {
            Column::Count => "COUNT",
            Column::Share => "SHARE",
            Column::Levels => "LEVELS",
            Column::First if raw => "FIRST LINE",
            Column::First => "FIRST SEEN",
            Column::Last if raw => "LAST LINE",
            Column::Last => "LAST SEEN",
            Column::Id => "ID",
        }
    }

    /// Plain lines have no level.
    fn is_of_logs(self) -> bool {
        self == Column::Levels
    }

    fn is_number(self) -> bool {
        matches!(self, Column::Count | Column::Share)
    }
}

/// `INFO 98% WARN 2%`, the most frequent first; the share is left out where there is one level alone.
fn levels(stats: &Stats) -> String {
    let mut levels: Vec<(u64, Level)> =
        stats.levels.into_iter().zip(Level::ALL).filter(|(count, _)| *count > 0).collect();
    levels.sort_by(|a, b| b.cmp(a));
    if let [(_, level)] = levels[..] {
        return level.as_str().to_owned();
    }
    let share = |count: u64| match 100.0 * count as f64 / stats.logs as f64 {
        share if share < 1.0 => "<1%".to_owned(),
        share => format!("{share:.0}%"),
    };
    let told: Vec<String> = levels
        .iter()
        .map(|(count, level)| format!("{level} {}", share(*count), level = level.as_str()))
        .collect();
    told.join(" ")
}

/// What a terminal can show: no control characters (a message may hold an escape sequence), and not too long.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(EXAMPLE_CHARS)
        .map(|sign| if sign.is_control() { '\u{fffd}' } else { sign })
        .collect();
    if text.chars().nth(EXAMPLE_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn dimmed(text: &str) -> String {
    if io::stdout().is_terminal() { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
}
