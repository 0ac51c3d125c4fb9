//! How well the demo's incidents were found, from its labels and from what was committed.

use crate::sources::wall_us;
use serde::Serialize;
use smartlog_generator::{Label, Labels};
use smartlog_schema::anomaly::{ChangeKind, Episode, EpisodeKey, Status};
use smartlog_schema::commit::EpochCommit;
use smartlog_sinks::Counts;
use std::collections::BTreeMap;
use std::io::Write;

/// Gathers what is needed while the demo runs.
#[derive(Debug, Default)]
pub struct Score {
    /// Known once the generator has ended.
    pub labels: Option<Labels>,
    episodes: BTreeMap<EpisodeKey, Episode>,
    began_us: Option<i64>,
    first_anomaly_s: Option<f64>,
    /// From the clock at the decision to the row in the store, milliseconds.
    detection_ms: Vec<f64>,
}

/// The summary, with the keys that programs read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Records that the broker took.
    pub produced: u64,
    /// Logs in the store.
    pub stored: i64,
    /// Rows in Parquet files.
    pub parquet_rows: u64,
    pub dead_letters: i64,
    /// Incidents that began.
    pub incidents: usize,
    pub incidents_found: usize,
    /// Episodes that were not retracted and belong to nothing that was put in.
    pub false_episodes: usize,
    /// From the first commit to the first anomaly in the store, seconds.
    pub first_anomaly_s: Option<f64>,
    pub detection_ms: Percentiles,
}

/// `None` without any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl Score {
    /// Takes note of a commit that has just become durable.
    pub fn observe(&mut self, commit: &EpochCommit) {
        let now_us = wall_us();
        let began_us = *self.began_us.get_or_insert(now_us);
        for change in &commit.episodes {
            if matches!(change.kind, ChangeKind::Raised | ChangeKind::Opened) && change.episode.revision == 1
            {
                self.first_anomaly_s.get_or_insert((now_us - began_us) as f64 / 1e6);
                self.detection_ms.push((now_us - change.episode.detected_at_us) as f64 / 1e3);
            }
            self.episodes.insert(change.episode.key.clone(), change.episode.clone());
        }
    }

    /// What it came to.
    pub fn summary(&self, produced: u64, counts: &Counts) -> Summary {
        let labels = self.labels.as_ref();
        let of = |pick: fn(&Labels) -> &Vec<Label>| labels.map(pick).into_iter().flatten();
        let expected: Vec<&Label> = of(|labels| &labels.incidents).collect();
        let known: Vec<&Label> = expected.iter().copied().chain(of(|labels| &labels.excused)).collect();
        let standing: Vec<&Episode> =
            self.episodes.values().filter(|e| e.status != Status::Retracted).collect();
        let found = expected.iter().filter(|label| standing.iter().any(|episode| names(episode, label)));
        let explained = |episode: &&&Episode| known.iter().any(|label| overlaps(episode, label));
        let of_services: Vec<&&Episode> = standing.iter().filter(|e| e.key.service.is_some()).collect();
        let right = of_services.iter().copied().filter(explained).count();
        let mut times = self.detection_ms.clone();
        times.sort_by(f64::total_cmp);
        Summary {
            produced,
            stored: counts.logs,
            parquet_rows: 0,
            dead_letters: counts.dead_letters,
            incidents: expected.len(),
            incidents_found: found.count(),
            false_episodes: of_services.len() - right,
            first_anomaly_s: self.first_anomaly_s,
            detection_ms: Percentiles { p50: quantile(&times, 0.5), p99: quantile(&times, 0.99) },
        }
    }
}

/// Whether the episode is of the incident's service and time.
fn overlaps(episode: &Episode, label: &Label) -> bool {
    let service = episode.key.service.as_deref();
    crate::labelled::overlaps(label, service, episode.started_at, episode.ended_at)
}

/// Whether the episode calls the incident by one of its right names.
fn names(episode: &Episode, label: &Label) -> bool {
    let name = episode.key.anomaly_type.as_str();
    overlaps(episode, label) && label.accepts.iter().any(|accepted| accepted == name)
}

fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}

impl Summary {
    /// For a person.
    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let ms = |time: Option<f64>| time.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
        let first = self.first_anomaly_s.map_or("–".to_owned(), |s| format!("{s:.1} s"));
        let Percentiles { p50, p99 } = self.detection_ms;
        writeln!(
            out,
            "logs        {} produced, {} stored, {} dead letters",
            self.produced, self.stored, self.dead_letters
        )?;
        writeln!(
            out,
            "incidents   {} of {} found, {} false episodes",
            self.incidents_found, self.incidents, self.false_episodes
        )?;
        writeln!(out, "first       {first} after the start")?;
        writeln!(out, "detection   {} (median), {} (99 %) from the clock to the row", ms(p50), ms(p99))
    }
}
