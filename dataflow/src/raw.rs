//! Every log to its sink: straight from the worker that read it, never through the windows.
//!
//! ```text
//!   logs ─▶ lane (operator) ─▶ queue, bounded by bytes in flight ─▶ thread: LogSink::write
//! ```
//!
//! Each worker has a lane of its own, with its own connection and its own partitions' positions. What waits in lanes
//! is counted; the source stops reading while it is too much, so a stalled sink never grows the heap.

use crate::committer::wait;
use smartlog_operators::record::Epoch;
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::{LogSink, SinkError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// A transaction is written once it holds this many logs …
const ROWS_PER_WRITE: usize = 20_000;
/// … or its first log waited this long.
const LINGER: Duration = Duration::from_millis(100);
/// How often a lane without logs tells its sink how far the watermark is.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a lane carries: logs, and the watermark below which everything was sent before.
type Parcel = (LogBatch, i64);

/// The worker's end of a lane. The queue behind it is bounded by `in_flight_bytes`: the source reads only while that
/// is below its limit.
pub struct Lane {
    sender: Sender<Parcel>,
    in_flight_bytes: Arc<AtomicUsize>,
    watermark_us: Arc<AtomicI64>,
}

/// Starts the thread behind one worker's lane. It ends when the [`Lane`] is dropped and everything is written.
pub fn start(
    worker: usize,
    runtime: tokio::runtime::Handle,
    sink: Box<dyn LogSink>,
    in_flight_bytes: Arc<AtomicUsize>,
    watermark_us: Arc<AtomicI64>,
    fail: impl Fn(SinkError) + Send + 'static,
) -> std::io::Result<(Lane, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let lane = Lane {
        sender,
        in_flight_bytes: Arc::clone(&in_flight_bytes),
        watermark_us: Arc::clone(&watermark_us),
    };
    let mut writer = Writer { runtime, sink, claimed: BTreeSet::new(), in_flight_bytes, watermark_us };
    let thread = std::thread::Builder::new().name(format!("logs-{worker}")).spawn(move || {
        if let Err(error) = writer.run(&receiver) {
            fail(error);
        }
    })?;
    Ok((lane, thread))
}

struct Writer {
    runtime: tokio::runtime::Handle,
    sink: Box<dyn LogSink>,
    claimed: BTreeSet<TopicPartition>,
    in_flight_bytes: Arc<AtomicUsize>,
    watermark_us: Arc<AtomicI64>,
}

impl Writer {
    fn run(&mut self, parcels: &Receiver<Parcel>) -> Result<(), SinkError> {
        loop {
            match parcels.recv_timeout(HEARTBEAT) {
                Ok(first) => {
                    let (batches, watermark_us) = gather(first, parcels);
                    self.write(&batches, watermark_us)?;
                }
                Err(RecvTimeoutError::Timeout) if self.claimed.is_empty() => {}
                Err(RecvTimeoutError::Timeout) => {
                    let watermark_us = self.watermark_us.load(Ordering::Relaxed);
                    wait(&self.runtime, self.sink.write(&[], watermark_us))?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError> {
        let fresh: BTreeSet<TopicPartition> = batches
            .iter()
            .map(|b| &b.source)
            .filter(|source| !self.claimed.contains(*source))
            .cloned()
            .collect();
        if !fresh.is_empty() {
            let fresh: Vec<TopicPartition> = fresh.into_iter().collect();
            wait(&self.runtime, self.sink.resume(&fresh))?;
            self.claimed.extend(fresh);
        }
        wait(&self.runtime, self.sink.write(batches, watermark_us))?;
        let written = batches.iter().map(LogBatch::bytes).sum();
        self.in_flight_bytes.fetch_sub(written, Ordering::Relaxed);
        Ok(())
    }
}

/// `first` and what comes soon after it.
fn gather(first: Parcel, parcels: &Receiver<Parcel>) -> (Vec<LogBatch>, i64) {
    let began = Instant::now();
    let (batch, mut watermark_us) = first;
    let mut rows = batch.len();
    let mut batches = vec![batch];
    while rows < ROWS_PER_WRITE {
        let Some(rest) = LINGER.checked_sub(began.elapsed()) else { break };
        let Ok((batch, watermark)) = parcels.recv_timeout(rest) else { break };
        rows += batch.len();
        batches.push(batch);
        watermark_us = watermark;
    }
    (batches, watermark_us)
}

/// Puts logs onto the lane.
pub fn logs_to<'scope>(logs: StreamVec<'scope, Epoch, LogBatch>, lane: Lane) {
    let mut builder = OperatorBuilder::new("logs".to_owned(), logs.scope());
    let mut logs = builder.new_input(logs, Pipeline);
    builder.build(move |_| {
        let mut lane = Some(lane);
        move |frontiers| {
            logs.for_each(|_, data| {
                let Some(lane) = &lane else { return };
                for batch in data.drain(..) {
                    lane.in_flight_bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
                    // The writer is gone only after it failed, which stops everything.
                    let _ = lane.sender.send((batch, lane.watermark_us.load(Ordering::Relaxed)));
                }
            });
            if frontiers[0].is_empty() {
                lane = None;
            }
        }
    });
}
