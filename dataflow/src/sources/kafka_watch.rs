//! Asks the brokers, a few times a second, where each partition ends.
//!
//! "Nothing more to read" and "the broker is away" look alike to a consumer. A partition counts as read to the end only
//! when a broker confirmed its end within the last second, so that an outage is never taken for silence.

use super::kafka_client::Client;
use rdkafka::consumer::Consumer;
use smartlog_schema::position::TopicPartition;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(200);
/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_millis(800);
/// A confirmation older than this is worth nothing.
const FRESH: Duration = Duration::from_secs(1);

/// What the brokers said last of one partition.
#[derive(Debug)]
pub struct Watched {
    source: TopicPartition,
    end: AtomicI64,
    /// Microseconds since `epoch`; -1 before the first answer.
    confirmed_us: AtomicI64,
    epoch: Instant,
}

impl Watched {
    /// Offset after the last, if a broker said so within the last second.
    pub fn confirmed_end(&self) -> Option<i64> {
        let confirmed_us = self.confirmed_us.load(Ordering::Acquire);
        let age_us = self.epoch.elapsed().as_micros() as i64 - confirmed_us;
        (confirmed_us >= 0 && age_us <= FRESH.as_micros() as i64).then(|| self.end.load(Ordering::Relaxed))
    }
}

/// Watches the partitions of one client until it is dropped.
pub struct Watch {
    watched: Arc<Mutex<Vec<Arc<Watched>>>>,
    alive: Arc<AtomicBool>,
}

impl Watch {
    pub fn start(client: &Arc<Client>) -> anyhow::Result<Self> {
        let watched = Arc::new(Mutex::new(Vec::new()));
        let alive = Arc::new(AtomicBool::new(true));
        let (client, list, running) = (Arc::downgrade(client), Arc::clone(&watched), Arc::clone(&alive));
        std::thread::Builder::new()
            .name("kafka-watch".into())
            .spawn(move || rounds(&client, &list, &running))?;
        Ok(Watch { watched, alive })
    }

    /// Watches one more partition.
    pub fn add(&self, source: TopicPartition) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            source,
            end: AtomicI64::new(-1),
            confirmed_us: AtomicI64::new(-1),
            epoch: Instant::now(),
        });
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&watched));
        watched
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

fn rounds(client: &Weak<Client>, list: &Mutex<Vec<Arc<Watched>>>, running: &AtomicBool) {
    let mut away = false;
    while running.load(Ordering::Relaxed) {
        let began = Instant::now();
        let watched = list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for partition in &watched {
            let Some(client) = client.upgrade() else { return };
            let asked = partition.epoch.elapsed().as_micros() as i64;
            let source = &partition.source;
            match client.fetch_watermarks(&source.topic, source.partition, ANSWER) {
                Ok((_, end)) => {
                    partition.end.store(end, Ordering::Relaxed);
                    partition.confirmed_us.store(asked, Ordering::Release);
                    if std::mem::take(&mut away) {
                        tracing::info!("Kafka answers again");
                    }
                }
                Err(error) if !std::mem::replace(&mut away, true) => {
                    tracing::warn!(
                        "Kafka does not say where {source} ends ({error}); waiting, nothing is lost"
                    );
                }
                Err(_) => break,
            }
        }
        std::thread::sleep(ROUND.saturating_sub(began.elapsed()).max(Duration::from_millis(20)));
    }
}
