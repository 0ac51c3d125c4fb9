//! `[engine]` and `[windows]`: threads, processes, bounds on memory, and what one run writes beside the store.

use super::{MIB, SECOND};
use crate::config::units::{HumanBytes, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Threads, processes and the bounds on memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Worker threads of each process; unset: one per core.
    ///
    /// May change between runs. More workers than partitions in all processes together leave some idle.
    #[schemars(extend("x-flag" = "workers"))]
    pub workers: Option<NonZeroUsize>,
    /// Processes in the set.
    ///
    /// Alone, it starts and supervises that many on this host. With `engine.process`, it says how many take part.
    #[schemars(extend("x-flag" = "processes"))]
    pub processes: NonZeroUsize,
    /// Which process of the set this is, from 0; unset: this process starts the set itself.
    #[schemars(extend("x-flag" = "process"))]
    pub process: Option<usize>,
    /// File with one HOST:PORT per line, the address of each process of the set in order.
    ///
    /// The processes trust each other and the traffic is not encrypted: keep these ports inside a private network.
    #[schemars(extend("x-flag" = "hostfile", "x-form" = "FILE"))]
    pub hostfile: Option<PathBuf>,
    /// First of the local ports that a supervised set talks over, one per process; 0: free ones are chosen.
    pub base_port: u16,
    /// Stop at the offsets that were the end at the start, let the clock run out, and exit.
    ///
    /// The run-out writes windows and judges nothing.
    #[schemars(extend("x-flag" = "until-end"))]
    pub until_end: bool,
    /// How often results are cut, judged and committed.
    ///
    /// Shorter finds trouble sooner and costs more processor time; between 10ms and 10s.
    #[serde(with = "HumanDuration")]
    pub tick: Duration,
    /// Bytes of logs that may wait for log sinks, per process; each sink on each worker gets an equal share.
    ///
    /// A sink that is beyond its share is left to a reader of its own until it has caught up: detection never waits
    /// for it. Must hold a few of the largest records.
    #[serde(with = "HumanBytes")]
    pub max_in_flight_bytes: u64,
    /// Bytes of partial sums that may wait for the clock before partitions that run ahead are paused.
    #[serde(with = "HumanBytes")]
    pub max_waiting_bytes: u64,
    /// Services that get state of their own; the others share `__overflow__`.
    ///
    /// Guards against a field that holds ids where a service name should be.
    pub max_services: NonZeroUsize,
    /// How long a stop may take to drain and commit before the process ends anyway.
    ///
    /// Nothing is lost either way: the next start goes on at the last commit. Keep it below the supervisor's own limit.
    #[serde(with = "HumanDuration")]
    pub shutdown_grace: Duration,
}

impl Engine {
    /// Worker threads of this process.
    pub fn worker_threads(&self) -> NonZeroUsize {
        self.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            workers: None,
            processes: NonZeroUsize::MIN,
            process: None,
            hostfile: None,
            base_port: 0,
            until_end: false,
            tick: Duration::from_millis(100),
            max_in_flight_bytes: 16 * MIB,
            max_waiting_bytes: 32 * MIB,
            max_services: NonZeroUsize::MIN.saturating_add(49_999),
            shutdown_grace: 10 * SECOND,
        }
    }
}

/// The windows as a file, for other programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// CSV file for the windows: one row per hop and service that has a log in the window.
    ///
    /// Columns: window_end,service,log_count,error_count,avg_message_length,unique_services. Replaced at the start.
    #[schemars(extend("x-flag" = "windows-out", "x-form" = "FILE"))]
    pub out: Option<PathBuf>,
    /// Event time between two windows in the file, whole seconds.
    #[schemars(extend("x-flag" = "hop"))]
    #[serde(with = "HumanDuration")]
    pub hop: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Windows { out: None, hop: 10 * SECOND }
    }
}
