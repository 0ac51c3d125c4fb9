//! Plays logs through the dataflow, cut into steps and runs.

use super::product::{Run, Store};
use super::script::{Input, Log, MIDNIGHT, Step};
use super::settings::Settings;
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use std::collections::BTreeMap;
use std::sync::Arc;

const MICROS: i64 = 1_000_000;

/// How the logs are cut.
pub struct Cut {
    pub workers: usize,
    pub step_seconds: usize,
    /// Steps after which it is killed, and started again at once.
    pub kills: Vec<usize>,
}

pub const PLAIN: Cut = Cut { workers: 1, step_seconds: 1, kills: Vec::new() };

/// The newest form of every episode.
pub fn play(input: &Arc<Input>, settings: &Settings, cut: &Cut) -> BTreeMap<EpisodeKey, Episode> {
    let partitions = input.partitions.len();
    let last =
        input.partitions.iter().flatten().map(|log| log.second() - MIDNIGHT + 1).max().unwrap_or(1) as usize;
    let ends = (1..).map(|step| (step * cut.step_seconds).min(last));
    let ends: Vec<usize> = ends.take(last.div_ceil(cut.step_seconds)).collect();
    let step = |end: usize| {
        let until = (MIDNIGHT + end as i64) * MICROS;
        // Logs that come late lie behind those that they were overtaken by.
        let next = |logs: &Vec<Log>| logs.iter().position(|log| log.us >= until).unwrap_or(logs.len());
        Step {
            wall_us: until,
            next: input.partitions.iter().map(next).collect(),
            at_end: vec![true; partitions],
            ended: vec![end == last; partitions],
        }
    };
    let steps: Vec<Step> = ends.into_iter().map(step).collect();
    let mut store = Store::new(partitions, settings);
    let mut from = 0;
    for until in cut.kills.iter().copied().chain([steps.len()]) {
        let run = Run {
            input: Arc::clone(input),
            steps: Arc::new(steps[from..].to_vec()),
            store: Arc::new(store.clone()),
            settings: settings.clone(),
            workers: cut.workers,
            lead: 0,
            max_services: 10,
        };
        run.go().into_iter().take(until - from).for_each(|closed| store.commit(&closed));
        from = until;
    }
    store.log.into_iter().map(|change| (change.episode.key.clone(), change.episode)).collect()
}
