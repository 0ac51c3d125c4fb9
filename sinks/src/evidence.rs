//! What decisions rested on, read back from the store, with the logs that they were made on.

use crate::LOGS;
use crate::config::StoreConfig;
use crate::database::{Row, Tables, Value, values};
use crate::episode::micros;
use crate::error::SinkError;
use crate::health::Health;
use crate::retry::Patience;
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use std::ops::Range;
use tokio_util::sync::CancellationToken;

/// One row of `anomaly_evidence`, and what of its anomaly it takes to decide again.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvidence {
    /// Empty: the whole stream.
    pub service: String,
    pub anomaly_type: String,
    pub model_version: Option<String>,
    pub decision: String,
    pub inputs: String,
    pub detector: Vec<u8>,
    pub offsets: Positions,
    pub feedback_seq: i64,
}

/// Reads what decisions rested on.
pub struct EvidenceReader {
    tables: Tables,
}

impl EvidenceReader {
    /// Nothing is connected yet. A store that is away is asked once.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when the URL cannot be understood.
    pub fn new(config: &StoreConfig) -> Result<Self, SinkError> {
        let cancel = CancellationToken::new();
        cancel.cancel();
        Ok(EvidenceReader { tables: Tables::new(config, Patience { health: Health::new(), cancel })? })
    }

    /// Ids of all anomalies with evidence, ascending.
    ///
    /// # Errors
    /// As any question to the store.
    pub async fn all(&mut self) -> Result<Vec<i64>, SinkError> {
        let sql = "SELECT anomaly_id FROM anomaly_evidence ORDER BY anomaly_id";
        Ok(self.tables.query(sql, Vec::new()).await?.iter().map(|row| row.int(0)).collect())
    }

    /// `None`: there is no such anomaly, or nothing was kept of it.
    ///
    /// # Errors
    /// As any question to the store, or a row that this version cannot read.
    pub async fn evidence(&mut self, anomaly_id: i64) -> Result<Option<StoredEvidence>, SinkError> {
        let sql = "SELECT coalesce(a.service, ''), a.anomaly_type, a.model_version, e.decision, e.inputs, e.detector,
                          e.offsets, e.feedback_seq
                   FROM anomaly_evidence AS e JOIN anomalies AS a ON a.id = e.anomaly_id WHERE e.anomaly_id = $1";
        let rows = self.tables.query(sql, values![anomaly_id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let broken = |column: &str, error: String| {
            self.tables
                .broken("read what a decision rested on", format!("anomaly_evidence.{column}: {error}"))
        };
        let detector = hex::decode(row.text(5)).map_err(|error| broken("detector", error.to_string()))?;
        let offsets: Vec<(String, i32, i64)> =
            serde_json::from_str(row.text(6)).map_err(|error| broken("offsets", error.to_string()))?;
        let position =
            |(topic, partition, next): (String, i32, i64)| (TopicPartition::new(topic, partition), next);
        Ok(Some(StoredEvidence {
            service: row.text(0).to_owned(),
            anomaly_type: row.text(1).to_owned(),
            model_version: row.maybe_text(2).map(str::to_owned),
            decision: row.text(3).to_owned(),
            inputs: row.text(4).to_owned(),
            detector,
            offsets: offsets.into_iter().map(position).collect(),
            feedback_seq: row.int(7),
        }))
    }

    /// The stored logs of `seconds` that lie before `offsets`, as sums per service and second.
    ///
    /// # Errors
    /// As any question to the store.
    pub async fn sums(
        &mut self,
        seconds: Range<i64>,
        offsets: &Positions,
    ) -> Result<Vec<(String, i64, Sums)>, SinkError> {
        let mut values = values![micros(seconds.start), micros(seconds.end)];
        let Some(before) = before(offsets, &mut values) else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT service, {} / 1000000 AS second, count(*), {ERRORS},
                    CAST(coalesce(sum(length(message)), 0) AS BIGINT)
             FROM logs WHERE timestamp >= {} AND timestamp < {} AND ({before}) GROUP BY 1, 2 ORDER BY 1, 2",
            self.tables.micros("timestamp"),
            self.tables.moment("$1"),
            self.tables.moment("$2"),
        );
        let rows = self.tables.query(&sql, values).await?;
        let sums = |row: &Row| Sums { logs: row.int(2), errors: row.int(3), message_chars: row.int(4) };
        Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.int(1), sums(row))).collect())
    }

    /// The stored logs of `service` in `seconds` that lie before `offsets`, by the second that their minute begins with and
    /// their shape: all, and those at ERROR and above.
    ///
    /// # Errors
    /// As any question to the store.
    pub async fn shapes(
        &mut self,
        service: &str,
        seconds: Range<i64>,
        offsets: &Positions,
    ) -> Result<Vec<(i64, i64, i64, i64)>, SinkError> {
        let mut values = values![micros(seconds.start), micros(seconds.end), service];
        let Some(before) = before(offsets, &mut values) else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {} / 60000000 * 60 AS minute, shape, count(*), {ERRORS}
             FROM logs WHERE timestamp >= {} AND timestamp < {} AND service = $3 AND shape IS NOT NULL AND ({before})
             GROUP BY 1, 2 ORDER BY 1, 2",
            self.tables.micros("timestamp"),
            self.tables.moment("$1"),
            self.tables.moment("$2"),
        );
        let rows = self.tables.query(&sql, values).await?;
        Ok(rows.iter().map(|row| (row.int(0), row.int(1), row.int(2), row.int(3))).collect())
    }

    /// The event time of the oldest stored log, microseconds, and the partitions of `offsets` whose logs are not stored up to
    /// there.
    ///
    /// # Errors
    /// As any question to the store.
    pub async fn kept(
        &mut self,
        offsets: &Positions,
    ) -> Result<(Option<i64>, Vec<TopicPartition>), SinkError> {
        let sql = format!("SELECT {} FROM logs ORDER BY timestamp LIMIT 1", self.tables.micros("timestamp"));
        let oldest = self.tables.query(&sql, Vec::new()).await?.first().map(|row| row.int(0));
        let sql = "SELECT topic, partition, next_offset FROM sink_positions WHERE sink = $1 AND next_offset IS NOT NULL";
        let rows = self.tables.query(sql, values![LOGS]).await?;
        let stored: Positions = rows
            .iter()
            .map(|row| (TopicPartition::new(row.text(0), row.int(1) as i32), row.int(2)))
            .collect();
        let is_behind = |(partition, next): &(&TopicPartition, &i64)| stored.get(partition) < Some(next);
        Ok((oldest, offsets.iter().filter(is_behind).map(|(partition, _)| partition.clone()).collect()))
    }
}

const ERRORS: &str = "CAST(sum(CASE WHEN level IN ('ERROR', 'FATAL') THEN 1 ELSE 0 END) AS BIGINT)";

/// The condition that a log lies before `offsets`, whose topics are added to `values`; `None`: no log does.
fn before(offsets: &Positions, values: &mut Vec<Value>) -> Option<String> {
    let mut conditions = Vec::new();
    for (partition, next) in offsets {
        values.push(Value::from(partition.topic.as_str()));
        let topic = values.len();
        conditions.push(format!(
            "(kafka_topic = ${topic} AND kafka_partition = {} AND kafka_offset < {next})",
            partition.partition
        ));
    }
    (!conditions.is_empty()).then(|| conditions.join(" OR "))
}

/// Offsets as `anomaly_evidence.offsets` keeps them: `[["topic", 0, next offset], …]`.
pub(crate) fn write_offsets(offsets: &Positions) -> String {
    let entries: Vec<(&str, i32, i64)> =
        offsets.iter().map(|(p, &next)| (p.topic.as_str(), p.partition, next)).collect();
    serde_json::json!(entries).to_string()
}
