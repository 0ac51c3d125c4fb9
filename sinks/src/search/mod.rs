//! Every log in Elasticsearch or OpenSearch, exactly once, in an index per event day. What readers rely on: docs/SEARCH.md.
//!
//! ```text
//!   SearchLogs::write ─▶ documents ─▶ bulk requests ─▶ the server has them ─▶ position, in the state store
//!                                        │    ▲ 429, 5xx, away: again
//!                                        └─ refused: as text, into PREFIX-refused-DAY
//! ```
//!
//! The server has no transactions, so the position moves after the documents, by compare-and-set (`standing.rs`). What a kill
//! leaves between the two is sent again, and replaces itself: a document is named by its place in Kafka, and its index by
//! its event time, which are the same each time.
//!
//! | module | what it owns |
//! |---|---|
//! | `client` | one request: login, TLS, patience |
//! | `document` | a log as a document; names |
//! | `bulk` | many documents, and what became of each |
//! | `days` | the template of the indexes; days that are too old go |

mod bulk;
mod client;
mod config;
mod days;
mod document;

pub use config::SearchConfig;
pub use days::probe_search;

use crate::config::StoreConfig;
use crate::database::Tables;
use crate::error::SinkError;
use crate::parquet::Day;
use crate::plan::{LogPlan, check_claimed, not_open};
use crate::retry::{Patience, until_done};
use crate::standing::Standing;
use crate::{CancellationToken, Fill, Health, LogSink};
use async_trait::async_trait;
use bulk::{At, Refused, Request, send};
use client::Client;
use days::Days;
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The name under which its positions are stored.
pub const SEARCH: &str = "search";

/// [`LogSink`] into a search index.
pub(crate) struct SearchLogs {
    config: SearchConfig,
    store: StoreConfig,
    patience: Patience,
    /// Bytes of the request that is being sent.
    under_way: Arc<AtomicU64>,
    opened: Option<Opened>,
}

struct Opened {
    client: Client,
    tables: Tables,
    standing: Standing,
    claimed: BTreeSet<TopicPartition>,
    positions: Positions,
    days: Days,
}

impl SearchLogs {
    pub fn new(config: SearchConfig, store: StoreConfig, health: Health, cancel: CancellationToken) -> Self {
        let under_way = Arc::<AtomicU64>::default();
        let (used, limit) = (Arc::clone(&under_way), config.max_request_bytes as u64);
        let used = move || used.load(Ordering::Relaxed);
        health.told_by(move || vec![Fill { queue: "request", used: used(), limit }]);
        SearchLogs { config, store, patience: Patience { health, cancel }, under_way, opened: None }
    }

    async fn open(&self) -> Result<Opened, SinkError> {
        let client = Client::new(&self.config)?;
        let days = Days::new(&self.config);
        until_done!(self.patience, days.prepare(&client))?;
        Ok(Opened {
            client,
            tables: Tables::new(&self.store, self.patience.clone())?,
            standing: Standing::new(SEARCH),
            claimed: BTreeSet::new(),
            positions: Positions::new(),
            days,
        })
    }
}

/// What one write is about.
struct Work<'a> {
    config: &'a SearchConfig,
    batches: &'a [LogBatch],
    patience: &'a Patience,
    under_way: &'a AtomicU64,
}

impl Opened {
    /// Sends `request`, and shows meanwhile how much it is.
    async fn deliver(&self, work: &Work<'_>, request: Request) -> Result<Vec<Refused>, SinkError> {
        work.under_way.store(request.bytes() as u64, Ordering::Relaxed);
        let sent = send(&self.client, work.patience, request).await;
        work.under_way.store(0, Ordering::Relaxed);
        sent
    }

    /// Sends what the plan holds; gives how many logs the server has of it, and which it refused.
    async fn index(&self, work: &Work<'_>, plan: &LogPlan) -> Result<(u64, Vec<Refused>), SinkError> {
        let (mut sent, mut refused) = (0, Vec::new());
        let (mut request, mut index) = (Request::default(), None);
        for stretch in &plan.stretches {
            let batch = &work.batches[stretch.batch];
            for row in stretch.rows.clone() {
                let log = batch.get(row);
                let Some(day) = Day::of(log.timestamp_us).filter(|day| self.days.keeps(*day)) else {
                    continue;
                };
                let index = match &index {
                    Some((of, name)) if *of == day => name,
                    _ => &index.insert((day, document::of_day(&work.config.prefix, day))).1,
                };
                let at = (stretch.batch, row);
                request.push(at, |body| document::write_log(body, index, &batch.source, &log));
                sent += 1;
                if request.bytes() >= work.config.max_request_bytes {
                    let full = std::mem::take(&mut request);
                    refused.extend(self.deliver(work, full).await?);
                }
            }
        }
        refused.extend(self.deliver(work, request).await?);
        Ok((sent - refused.len() as u64, refused))
    }

    /// Keeps as text what the index of its day refused.
    async fn keep_refused(&self, work: &Work<'_>, refused: &[Refused]) -> Result<(), SinkError> {
        let mut requests = vec![Request::default()];
        for (at, why) in refused {
            let (batch, log) = find(work.batches, *at);
            let Some(day) = Day::of(log.timestamp_us) else { continue };
            let index = document::of_refused(&work.config.prefix, day);
            if requests.last().is_none_or(|request| request.bytes() >= work.config.max_request_bytes) {
                requests.push(Request::default());
            }
            if let Some(request) = requests.last_mut() {
                request.push(*at, |body| document::write_refused(body, &index, (&batch.source, &log), why));
            }
        }
        if let Some((at, why)) = refused.first() {
            let (batch, log) = find(work.batches, *at);
            tracing::warn!(
                partition = %batch.source, offset = log.offset, logs = refused.len(),
                "the search index refused logs, which are kept as text in {}-refused-*: {}",
                work.config.prefix, kind_of(why)
            );
        }
        for request in requests {
            for ((batch, row), why) in self.deliver(work, request).await? {
                let (source, offset) = (&work.batches[batch].source, work.batches[batch].get(row).offset);
                tracing::error!(partition = %source, offset, "not in the search index at all: {}", kind_of(&why));
            }
        }
        Ok(())
    }

    /// Moves the positions past what the server has.
    async fn advance(&mut self, plan: &LogPlan, watermark_us: i64) -> Result<(), SinkError> {
        let Opened { tables, standing, .. } = self;
        let mut steps: Vec<_> = plan.moves.iter().map(|step| standing.advance(tables, step)).collect();
        if watermark_us != i64::MIN {
            steps.push(standing.note_watermark(tables, watermark_us));
        }
        if !steps.is_empty() && !tables.apply(&steps).await? {
            for step in &plan.moves {
                if !standing.has_moved(tables, step).await? {
                    return Err(standing.fenced(tables, step).await?);
                }
            }
        }
        self.positions.extend(plan.moves.iter().map(|step| (step.partition.clone(), step.next)));
        Ok(())
    }
}

fn find(batches: &[LogBatch], (batch, row): At) -> (&LogBatch, smartlog_schema::log::LogRef<'_>) {
    (&batches[batch], batches[batch].get(row))
}

/// A reason without what may be quoted of the log: its status and kind.
fn kind_of(why: &str) -> &str {
    why.split_once(": ").map_or(why, |(kind, _)| kind)
}

#[async_trait]
impl LogSink for SearchLogs {
    fn name(&self) -> &str {
        SEARCH
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        if self.opened.is_none() {
            self.opened = Some(self.open().await?);
        }
        let Some(opened) = &mut self.opened else { return Err(not_open(SEARCH, "claim partitions")) };
        let mut stands_at = Positions::new();
        for partition in partitions {
            let next = opened.standing.claim(&mut opened.tables, partition).await?;
            opened.claimed.insert(partition.clone());
            stands_at.extend(next.map(|next| (partition.clone(), next)));
        }
        opened.positions.extend(stands_at.clone());
        self.patience.health.recovered();
        Ok(stands_at)
    }

    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError> {
        let SearchLogs { config, patience, under_way, opened, .. } = self;
        let Some(opened) = opened else { return Err(not_open(SEARCH, "write logs")) };
        check_claimed(opened.client.name(), &opened.claimed, batches)?;
        let began = Instant::now();
        opened.days.advance(&opened.client, watermark_us).await;
        let (work, plan) =
            (Work { config, batches, patience, under_way }, LogPlan::new(batches, &opened.positions));
        let (indexed, refused) = opened.index(&work, &plan).await?;
        opened.keep_refused(&work, &refused).await?;
        opened.advance(&plan, watermark_us).await?;
        if !plan.moves.is_empty() {
            patience.health.committed(began.elapsed(), indexed, refused.len() as u64);
        }
        Ok(())
    }
}
