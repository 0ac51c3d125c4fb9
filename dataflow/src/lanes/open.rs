//! Opens the lanes of a process: one per log sink and worker.

use super::{Context, Front, Lane, LaneState, writer};
use crate::pipeline::Share;
use crate::sources::Sources;
use smartlog_operators::parse::Parser;
use smartlog_sinks::{CancellationToken, Health, LogSinkEntry, StoreConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::thread::JoinHandle;

/// What the lanes of a process are made from.
pub struct Opening<'a> {
    pub runtime: &'a tokio::runtime::Handle,
    pub store: &'a StoreConfig,
    pub sinks: &'a [LogSinkEntry],
    pub sources: &'a Sources,
    pub parser: &'a Arc<Parser>,
    /// What all lanes together may hold, bytes.
    pub max_in_flight_bytes: usize,
    /// Set when reading is to end where it is.
    pub stop: &'a Arc<AtomicBool>,
    pub cancel: &'a CancellationToken,
    /// Of the dataflow; 0 while unknown.
    pub watermark_us: &'a Arc<AtomicI64>,
}

/// One lane, for whoever watches it.
#[derive(Clone)]
pub struct Watched {
    pub state: Arc<LaneState>,
    pub health: Health,
}

/// What one worker gets.
#[derive(Default)]
pub struct OfWorker {
    pub lanes: Vec<Lane>,
    pub front: Arc<Front>,
}

impl Opening<'_> {
    /// Gives each worker a lane to every log sink. The threads end with their lanes.
    ///
    /// # Errors
    /// A sink whose configuration cannot be understood, more sinks than there are bits for, files as the source: what
    /// a lane missed of a pipe could not be read again.
    pub fn open(
        &self,
        shares: &mut [Share],
        threads: &mut Vec<JoinHandle<()>>,
        fail: impl Fn(&'static str, anyhow::Error) + Clone + Send + 'static,
    ) -> anyhow::Result<Vec<Watched>> {
        let Sources::Kafka(kafka) = self.sources else {
            anyhow::bail!("logs of files are not kept: log sinks read Kafka topics");
        };
        anyhow::ensure!(self.sinks.len() <= 64, "{} log sinks: at most 64 are served", self.sinks.len());
        let limit = self.max_in_flight_bytes / (shares.len() * self.sinks.len()).max(1);
        let mut watched = Vec::new();
        for (worker, Share { logs, .. }) in shares.iter_mut().enumerate() {
            let context = Context {
                runtime: self.runtime.clone(),
                store: self.store.clone(),
                kafka: Arc::clone(kafka),
                parser: Arc::clone(self.parser),
                front: Arc::clone(&logs.front),
                stop: Arc::clone(self.stop),
                watermark_us: Arc::clone(self.watermark_us),
            };
            for (number, entry) in self.sinks.iter().enumerate() {
                let health = Health::new();
                let sink = entry.open(health.clone(), self.cancel.clone())?;
                let front = Arc::clone(&logs.front);
                let state = Arc::new(LaneState::new(entry.name, worker, limit, front));
                let (fail, name) = (fail.clone(), entry.name);
                let fail = move |error| fail(name, error);
                let (lane, thread) = writer::start(context.clone(), sink, number, Arc::clone(&state), fail)?;
                logs.lanes.push(lane);
                threads.push(thread);
                watched.push(Watched { state, health });
            }
        }
        Ok(watched)
    }
}
