//! What the windows must be: counted while the logs are made, added up naively, compared row by row.

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use smartlog_benches::logs::Log;
use std::path::Path;

/// Seconds of event time between two windows in the file.
pub const HOP: i64 = 10;
const HOPS_PER_WINDOW: usize = 30;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    logs: u64,
    errors: u64,
    characters: u64,
}

/// Counts of each service in each hop of event time.
pub struct Truth {
    services: Vec<String>,
    /// Indices of services, by name.
    by_name: Vec<usize>,
    first_hop: i64,
    hops: usize,
    counts: Vec<Counts>,
}

impl Truth {
    pub fn new(services: Vec<String>, from_ms: i64, to_ms: i64) -> Self {
        let first_hop = hop_of(from_ms);
        let hops = (hop_of(to_ms) - first_hop + 1) as usize;
        let mut by_name: Vec<usize> = (0..services.len()).collect();
        by_name.sort_by_key(|index| &services[*index]);
        let counts = vec![Counts::default(); services.len() * hops];
        Truth { services, by_name, first_hop, hops, counts }
    }

    pub fn count(&mut self, service: usize, log: &Log<'_>) {
        let hop = (hop_of(log.at_ms) - self.first_hop) as usize;
        let counts = &mut self.counts[service * self.hops + hop];
        counts.logs += 1;
        counts.errors += u64::from(log.level == "ERROR");
        counts.characters += log.message.chars().count() as u64;
    }

    /// Compares the file of `--windows-out`; gives its number of rows.
    ///
    /// # Errors
    /// The first row that differs.
    pub fn check(&self, file: &Path) -> anyhow::Result<u64> {
        let mut csv = csv::Reader::from_path(file)?;
        let head = csv.byte_headers()?.clone();
        let expected_head =
            ["window_end", "service", "log_count", "error_count", "avg_message_length", "unique_services"];
        ensure!(head == expected_head.to_vec(), "the windows file has the head {head:?}");
        let (mut row, mut rows) = (csv::StringRecord::new(), 0);
        for nth in 1..self.hops + HOPS_PER_WINDOW {
            let end = Timestamp::from_second((self.first_hop + nth as i64) * HOP)?.to_string();
            let window = self.window(nth);
            let unique = window.len().to_string();
            for (service, counts) in window {
                rows += 1;
                ensure!(csv.read_record(&mut row)?, "the windows file ends before {end}, {service}");
                let expected = [&end, service, &counts.logs.to_string(), &counts.errors.to_string()];
                let average: f64 = row[4].parse().with_context(|| format!("row {row:?}"))?;
                let is_right = row.iter().take(4).eq(expected)
                    && average == counts.characters as f64 / counts.logs as f64
                    && row[5] == unique;
                ensure!(
                    is_right,
                    "row {rows} of the windows file is {row:?}, expected {expected:?} of {unique}"
                );
            }
        }
        ensure!(!csv.read_record(&mut row)?, "the windows file goes on after row {rows}: {row:?}");
        Ok(rows)
    }

    /// The services with a log in the window that ends `nth` hops after the first hop began.
    fn window(&self, nth: usize) -> Vec<(&String, Counts)> {
        let hops = nth.saturating_sub(HOPS_PER_WINDOW)..nth.min(self.hops);
        let sum = |service: &usize| {
            let mut sum = Counts::default();
            for counts in &self.counts[service * self.hops..][hops.clone()] {
                sum.logs += counts.logs;
                sum.errors += counts.errors;
                sum.characters += counts.characters;
            }
            (&self.services[*service], sum)
        };
        self.by_name.iter().map(sum).filter(|(_, sum)| sum.logs > 0).collect()
    }
}

fn hop_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOP * 1_000)
}
