//! Tells the store how lanes get their logs, for `smartlog sinks`. Beside the lanes: one that stands still cannot say so
//! itself.

use super::LaneState;
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::{LaneState as Stored, StoreConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks: partitions may come and go quickly.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the last note.
const LAST: Duration = Duration::from_secs(2);

/// What the store was told, and what it is told next.
pub struct Notes {
    store: StoreConfig,
    lanes: Vec<Arc<LaneState>>,
    told: BTreeMap<(&'static str, TopicPartition), Stored>,
}

impl Notes {
    pub fn new(store: StoreConfig, lanes: Vec<Arc<LaneState>>) -> Self {
        Notes { store, lanes, told: BTreeMap::new() }
    }

    /// Notes what changes, until `done`, and then once more.
    pub async fn keep(mut self, done: tokio::sync::oneshot::Receiver<()>) {
        let mut done = std::pin::pin!(done);
        while tokio::time::timeout(EVERY, &mut done).await.is_err() {
            self.tell().await;
        }
        // It is only a note: what `smartlog sinks` shows is a moment old then.
        let _ = tokio::time::timeout(LAST, self.tell()).await;
    }

    async fn tell(&mut self) {
        let mut news: BTreeMap<&'static str, Vec<(TopicPartition, Stored)>> = BTreeMap::new();
        let mut claimed = BTreeSet::new();
        for lane in &self.lanes {
            for (source, standing) in lane.standings() {
                let state = if standing.is_attached { Stored::Attached } else { Stored::Detached };
                if standing.next_offset.is_some() {
                    claimed.insert((lane.sink, source.clone()));
                }
                if self.told.get(&(lane.sink, source.clone())) != Some(&state) {
                    news.entry(lane.sink).or_default().push((source, state));
                }
            }
        }
        for (sink, news) in news {
            match smartlog_sinks::note_lanes(&self.store, sink, &news).await {
                Ok(()) => {
                    // A partition that is not claimed may have no row yet: it is told again.
                    let told = news.into_iter().map(|(source, state)| ((sink, source), state));
                    self.told.extend(told.filter(|(place, _)| claimed.contains(place)));
                }
                Err(error) => tracing::debug!("how {sink} gets its logs could not be noted: {error}"),
            }
        }
    }
}
