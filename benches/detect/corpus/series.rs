//! Count series as logs: each row's count becomes as many lines of one service, spread over the row's time.
//!
//! Scored as the Numenta benchmark does in spirit (Lavin & Ahmad 2015, "Evaluating Real-Time Anomaly Detection
//! Algorithms"): the first 15 % is for learning, one alarm in a stretch finds it, and every alarm outside costs. Unlike
//! there, a stretch begins with its first odd row: an alarm before it is false, not early.

use super::series_kinds::{KINDS, Kind, Rng};
use super::{Amount, Case, Corpus, Incident, Labels, Lines, Second, Writer};
use rand::Rng as _;
use rand::SeedableRng as _;
use std::io::Write;
use std::ops::Range;

/// Seeds of each kind.
const SEEDS: u64 = 6;
/// Share of the rows that is for learning.
const LEARNING: f64 = 0.15;
/// Share of the rows that all stretches together are widened to, as in the Numenta benchmark.
const STRETCHES: f64 = 0.1;
/// When each series begins: a Monday.
const START: Second = 1_736_121_600;

/// A stretch of odd rows.
pub struct Stretch {
    pub rows: Range<usize>,
    pub kind: &'static str,
    pub accepts: &'static str,
    pub how: String,
}

/// A series of counts.
pub struct Series {
    pub row_seconds: Second,
    pub counts: Vec<u64>,
    pub stretches: Vec<Stretch>,
}

/// A few seeds of each kind.
pub fn cases(amount: &Amount) -> Vec<Case> {
    let seeds: Vec<u64> = amount.set.seeds(amount.cases(SEEDS, 1)).collect();
    let of = |kind: &'static Kind| seeds.iter().map(move |&seed| case(kind, seed));
    KINDS.iter().flat_map(of).collect()
}

fn case(kind: &'static Kind, seed: u64) -> Case {
    let write: Writer = Box::new(move |out: &mut dyn Write| {
        let mut rng = Rng::seed_from_u64(seed);
        let series = (kind.make)(&mut rng);
        series.write(kind.name, &mut rng, out)?;
        Ok(series.labels(kind.name))
    });
    Case {
        corpus: Corpus::Series,
        name: format!("{}-{seed}", kind.name),
        size: kind.lines,
        lines: Lines::Made(write),
    }
}

impl Series {
    fn write(&self, service: &str, rng: &mut Rng, out: &mut dyn Write) -> anyhow::Result<()> {
        let (mut block, mut times) = (Vec::new(), Vec::new());
        for (row, &count) in self.counts.iter().enumerate() {
            let start = START + row as Second * self.row_seconds;
            times.clear();
            times.extend((0..count).map(|_| rng.random_range(0..self.row_seconds * 1000)));
            times.sort_unstable();
            for time in &times {
                let at = start * 1000 + time;
                writeln!(
                    block,
                    r#"{{"timestamp":{at},"level":"INFO","service":"{service}","host":"h","message":"one"}}"#
                )?;
            }
            if block.len() > 1 << 18 {
                out.write_all(&block)?;
                block.clear();
            }
        }
        out.write_all(&block)?;
        Ok(out.flush()?)
    }

    fn labels(&self, service: &str) -> Labels {
        let at = |row: usize| START + row as Second * self.row_seconds;
        let rows = self.counts.len();
        let width = (STRETCHES * rows as f64 / self.stretches.len().max(1) as f64 / 2.0) as usize;
        let incident = |stretch: &Stretch| Incident {
            service: service.to_owned(),
            kind: stretch.kind.to_owned(),
            accepts: vec![stretch.accepts.to_owned(), "multivariate_outlier".to_owned()],
            start: at(stretch.rows.start),
            end: at(stretch.rows.end.max(stretch.rows.start + width).min(rows)),
            how: stretch.how.clone(),
        };
        Labels {
            from: at((LEARNING * rows as f64) as usize),
            to: at(rows),
            grace: self.row_seconds,
            tail: 2 * self.row_seconds,
            services: 1,
            incidents: self.stretches.iter().map(incident).collect(),
            excused: Vec::new(),
        }
    }
}
