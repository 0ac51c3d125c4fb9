//! What was fixed, what is complete, where the sink stands: the tables of the state store (docs/STATE.md).

use super::PARQUET;
use super::range::Sealed;
use super::target::{Counted, Head, Target};
use crate::database::{Row, Step, Tables, values};
use crate::error::{Fault, SinkError};
use crate::plan::Move;
use crate::retry::{Patience, until_done};
use crate::standing::Standing;
use smartlog_schema::position::TopicPartition;
use std::collections::BTreeMap;

/// A file as `export_files` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub date: String,
    pub name: String,
    pub rows: i64,
    pub bytes: i64,
    pub checksum: String,
    pub generation: i64,
    pub min_timestamp_us: i64,
    pub max_timestamp_us: i64,
}

impl Entry {
    const COLUMNS: &str =
        "date, name, rows, bytes, row_checksum, generation, min_timestamp_us, max_timestamp_us";

    fn read(row: &Row) -> Self {
        Entry {
            date: row.text(0).to_owned(),
            name: row.text(1).to_owned(),
            rows: row.int(2),
            bytes: row.int(3),
            checksum: row.text(4).to_owned(),
            generation: row.int(5),
            min_timestamp_us: row.int(6),
            max_timestamp_us: row.int(7),
        }
    }

    /// Where it lies in the target.
    pub fn path(&self) -> String {
        format!("{}{}", super::names::logs_folder(&self.date), self.name)
    }

    /// Whether an object holds the rows that this file is to hold.
    pub fn agrees(&self, head: &Head) -> bool {
        let tag = |key: &str| head.tags.get(key).map(String::as_str);
        tag("smartlog-row-checksum") == Some(&self.checksum)
            && tag("smartlog-rows") == Some(&self.rows.to_string())
    }
}

/// A range that was fixed and not completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent {
    pub first: i64,
    pub next: i64,
    pub files: Vec<Entry>,
}

/// Microseconds of the wall clock, for the ledger.
pub(super) fn wall_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// The tables, as one sink (`holder`) and target see them.
pub(super) struct Ledger {
    pub tables: Tables,
    pub target: String,
    pub standing: Standing,
}

impl Ledger {
    pub fn new(tables: Tables, target: String) -> Self {
        Ledger { tables, target, standing: Standing::new(PARQUET) }
    }

    /// Refuses a target that holds files of which this store knows nothing: a new store would write every log a second time
    /// beside them.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] then.
    pub async fn check_owned(&mut self, target: &dyn Target, patience: &Patience) -> Result<(), SinkError> {
        if self.knows_target().await? || until_done!(patience, target.measure("logs/", 1))?.objects == 0 {
            return Ok(());
        }
        // Files follow their rows: another worker of this start may have been quicker.
        if self.knows_target().await? {
            return Ok(());
        }
        Err(SinkError::Fatal(Fault {
            store: self.target.clone(),
            doing: "export to it".into(),
            found: format!("it holds logs already, and {} knows nothing of them", self.tables.name()),
            advice: "name another folder or prefix, or go on with the store that wrote them: both together would be every \
                     log twice"
                .into(),
        }))
    }

    async fn knows_target(&mut self) -> Result<bool, SinkError> {
        let sql = "SELECT 1 FROM export_days WHERE target = $1 LIMIT 1";
        Ok(!self.tables.query(sql, values![self.target.as_str()]).await?.is_empty())
    }

    /// Makes this sink the one that may move `partition`; gives where it stands. Waits for a predecessor's
    /// transaction that is still under way.
    pub async fn claim(&mut self, partition: &TopicPartition) -> Result<Option<i64>, SinkError> {
        self.standing.claim(&mut self.tables, partition).await
    }

    /// Gives up what was fixed for targets that are no longer ours; gives how many files that were.
    pub async fn give_up_elsewhere(&mut self, partition: &TopicPartition) -> Result<usize, SinkError> {
        let sql = "UPDATE export_files SET status = 'voided' WHERE target <> $1 AND topic = $2 AND partition = $3 \
                   AND status = 'intended' RETURNING name";
        let values = values![self.target.as_str(), partition.topic.as_str(), partition.partition];
        Ok(self.tables.query(sql, values).await?.len())
    }

    /// The range of `partition` that was fixed for this target and not completed.
    pub async fn intent(&mut self, partition: &TopicPartition) -> Result<Option<Intent>, SinkError> {
        let sql = format!(
            "SELECT {}, first_offset, next_offset FROM export_files WHERE target = $1 AND topic = $2 \
             AND partition = $3 AND status = 'intended' ORDER BY first_offset, date",
            Entry::COLUMNS
        );
        let values = values![self.target.as_str(), partition.topic.as_str(), partition.partition];
        let rows = self.tables.query(&sql, values).await?;
        let Some(range) = rows.first().map(|row| (row.int(8), row.int(9))) else { return Ok(None) };
        if rows.iter().any(|row| (row.int(8), row.int(9)) != range) {
            let found = format!("several ranges of {partition} are fixed at once");
            return Err(self.tables.broken("read export_files", found));
        }
        Ok(Some(Intent { first: range.0, next: range.1, files: rows.iter().map(Entry::read).collect() }))
    }

    /// How often the names of a range were given away already, in any state.
    pub async fn names_taken(&mut self, sealed: &Sealed) -> Result<u32, SinkError> {
        let sql = "SELECT name FROM export_files WHERE target = $1 AND topic = $2 AND partition = $3 \
                   AND first_offset = $4 AND next_offset = $5";
        let (topic, partition) = (sealed.source.topic.as_str(), sealed.source.partition);
        let values = values![self.target.as_str(), topic, partition, sealed.first, sealed.next];
        let rows = self.tables.query(sql, values).await?;
        let again = |name: &str| {
            let stem = name.strip_suffix(".parquet")?;
            stem.rsplit_once("-r").map_or(Some(0), |(_, again)| again.parse::<u32>().ok().or(Some(0)))
        };
        Ok(rows.iter().filter_map(|row| again(row.text(0))).max().map_or(0, |again| again + 1))
    }

    /// Fixes a range: from here on it is these files. What was fixed of the partition before gives way: files named in `foreign`
    /// are not ours after all, the others are voided.
    ///
    /// # Errors
    /// [`SinkError::Fenced`] when another writer holds the position.
    pub async fn intend(
        &mut self,
        sealed: &Sealed,
        files: &[Entry],
        foreign: &[String],
    ) -> Result<(), SinkError> {
        let (topic, partition) = (sealed.source.topic.as_str(), sealed.source.partition);
        let target = self.target.as_str();
        let mut steps = vec![self.hold(sealed, sealed.expected)];
        for name in foreign {
            let sql = "DELETE FROM export_files WHERE target = $1 AND topic = $2 AND partition = $3 AND name = $4 \
                       AND status = 'intended'";
            steps.push(Step::new(sql, values![target, topic, partition, name.as_str()]));
        }
        let sql = "UPDATE export_files SET status = 'voided' WHERE target = $1 AND topic = $2 AND partition = $3 \
                   AND status = 'intended'";
        steps.push(Step::new(sql, values![target, topic, partition]));
        for file in files {
            steps.push(self.insert(file, Some(sealed)));
            steps.push(self.know_day(&file.date));
        }
        if self.tables.apply(&steps).await? {
            return Ok(());
        }
        // The answer to an attempt that went through may have been lost.
        let wanted = Intent { first: sealed.first, next: sealed.next, files: files.to_vec() };
        match self.intent(&sealed.source).await? {
            Some(found) if found == wanted && self.holds(sealed).await? => Ok(()),
            _ => Err(self.fenced(sealed).await?),
        }
    }

    /// Completes a range whose objects are all there: the position moves past it.
    ///
    /// # Errors
    /// [`SinkError::Fenced`] when another writer holds the position.
    pub async fn complete(
        &mut self,
        sealed: &Sealed,
        files: &[Entry],
        used: Counted,
    ) -> Result<(), SinkError> {
        let step = moved(sealed);
        let mut steps = vec![self.standing.advance(&self.tables, &step)];
        for file in files {
            steps.push(self.complete_file(file));
        }
        let days: BTreeMap<&str, ()> = files.iter().map(|file| (file.date.as_str(), ())).collect();
        steps.extend(days.keys().map(|day| self.changed_day(day)));
        steps.extend(self.used(used));
        if self.tables.apply(&steps).await? || self.standing.has_moved(&mut self.tables, &step).await? {
            return Ok(());
        }
        Err(self.fenced(sealed).await?)
    }

    /// The files of a day that have a status, by name.
    pub async fn files(&mut self, date: &str, status: &str) -> Result<Vec<Entry>, SinkError> {
        let sql = format!(
            "SELECT {} FROM export_files WHERE target = $1 AND date = $2 AND status = $3 ORDER BY name",
            Entry::COLUMNS
        );
        let rows = self.tables.query(&sql, values![self.target.as_str(), date, status]).await?;
        Ok(rows.iter().map(Entry::read).collect())
    }

    /// Voids what a `smartlog export` of a day began before `before_us` and did not complete.
    pub async fn void_unfinished(&mut self, date: &str, before_us: i64) -> Result<(), SinkError> {
        let sql = "UPDATE export_files SET status = 'voided' WHERE target = $1 AND date = $2 AND generation > 0 \
                   AND status = 'intended' AND created_us < $3";
        let values = values![self.target.as_str(), date, before_us];
        // The day first, as where a generation is completed: of the two one waits, and neither for the other.
        let steps = [self.changed_day(date), Step::new(sql, values)];
        self.tables.apply(&steps).await.map(drop)
    }

    /// Everything that was given to this sink with `watermark_us` or before is complete.
    pub async fn note_watermark(&mut self, watermark_us: i64) -> Result<(), SinkError> {
        let step = self.standing.note_watermark(&self.tables, watermark_us);
        self.tables.apply(&[step]).await.map(drop)
    }

    /// Says that this sink lives.
    pub async fn touch(&mut self) -> Result<(), SinkError> {
        let sql = format!(
            "UPDATE sink_positions SET updated_at = {} WHERE sink = $1 AND holder = $2",
            self.tables.now()
        );
        self.tables.apply(&[Step::new(sql, values![PARQUET, self.standing.holder])]).await.map(drop)
    }

    /// Per day, what a generation held before the stream came by: (topic, partition) to the next offset.
    pub async fn covered(&mut self) -> Result<Covered, SinkError> {
        let sql = "SELECT date, covered FROM export_days WHERE target = $1 AND covered <> '[]'";
        let rows = self.tables.query(sql, values![self.target.as_str()]).await?;
        let mut covered = Covered::new();
        for row in &rows {
            let entries: Vec<(String, i32, i64)> = serde_json::from_str(row.text(1))
                .map_err(|error| self.tables.broken("read export_days.covered", error.to_string()))?;
            let of_day = covered.entry(row.text(0).to_owned()).or_default();
            of_day.extend(entries.into_iter().map(|(topic, p, next)| (TopicPartition::new(topic, p), next)));
        }
        Ok(covered)
    }

    // ------------------------------------------------------------------------------------------------- steps

    fn hold(&self, sealed: &Sealed, expected: Option<i64>) -> Step {
        let sql = format!(
            "UPDATE sink_positions SET updated_at = {} WHERE sink = $1 AND topic = $2 AND partition = $3 \
             AND holder = $4 AND next_offset IS NOT DISTINCT FROM $5",
            self.tables.now()
        );
        let (topic, partition) = (sealed.source.topic.as_str(), sealed.source.partition);
        Step::one(sql, values![PARQUET, topic, partition, self.standing.holder, expected])
    }

    /// `sealed`: the range of a file of the stream.
    pub fn insert(&self, file: &Entry, sealed: Option<&Sealed>) -> Step {
        let sql = "INSERT INTO export_files (target, date, name, status, generation, topic, partition, first_offset, \
                   next_offset, rows, bytes, row_checksum, min_timestamp_us, max_timestamp_us, created_us) \
                   VALUES ($1, $2, $3, 'intended', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let values = values![
            self.target.as_str(),
            file.date.as_str(),
            file.name.as_str(),
            file.generation,
            sealed.map(|sealed| sealed.source.topic.as_str()),
            sealed.map(|sealed| sealed.source.partition),
            sealed.map(|sealed| sealed.first),
            sealed.map(|sealed| sealed.next),
            file.rows,
            file.bytes,
            file.checksum.as_str(),
            file.min_timestamp_us,
            file.max_timestamp_us,
            wall_us(),
        ];
        Step::one(sql, values)
    }

    pub fn know_day(&self, date: &str) -> Step {
        let sql =
            "INSERT INTO export_days (target, date) VALUES ($1, $2) ON CONFLICT (target, date) DO NOTHING";
        Step::new(sql, values![self.target.as_str(), date])
    }

    pub fn complete_file(&self, file: &Entry) -> Step {
        let sql = "UPDATE export_files SET status = 'complete', completed_us = $4, bytes = $5 \
                   WHERE target = $1 AND date = $2 AND name = $3 AND status = 'intended'";
        let values =
            values![self.target.as_str(), file.date.as_str(), file.name.as_str(), wall_us(), file.bytes];
        Step::one(sql, values)
    }

    pub fn changed_day(&self, date: &str) -> Step {
        let sql = "UPDATE export_days SET revision = revision + 1 WHERE target = $1 AND date = $2";
        Step::one(sql, values![self.target.as_str(), date])
    }

    /// Writes down what the target was asked for since the last time, where nothing else is to be written with it.
    pub async fn note_usage(&mut self, target: &dyn Target) -> Result<(), SinkError> {
        match self.used(target.usage().take()) {
            Some(step) => self.tables.apply(&[step]).await.map(drop),
            None => Ok(()),
        }
    }

    /// Adds to what the target was asked for today.
    pub fn used(&self, used: Counted) -> Option<Step> {
        let sql = "INSERT INTO export_usage (target, day, puts, gets, deletes, bytes_uploaded, multipart_aborted) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (target, day) DO UPDATE SET \
                   puts = export_usage.puts + excluded.puts, gets = export_usage.gets + excluded.gets, \
                   deletes = export_usage.deletes + excluded.deletes, \
                   bytes_uploaded = export_usage.bytes_uploaded + excluded.bytes_uploaded, \
                   multipart_aborted = export_usage.multipart_aborted + excluded.multipart_aborted";
        let today = super::names::Day::of(wall_us()).map(|day| day.to_string()).unwrap_or_default();
        let values = values![
            self.target.as_str(),
            today,
            used.puts,
            used.gets,
            used.deletes,
            used.bytes_uploaded,
            used.multipart_aborted,
        ];
        (used != Counted::default()).then(|| Step::new(sql, values))
    }

    // ---------------------------------------------------------------------------------------------- fencing

    async fn holds(&mut self, sealed: &Sealed) -> Result<bool, SinkError> {
        let found = self.standing.found(&mut self.tables, &sealed.source).await?;
        Ok(found == Some((sealed.expected, Some(self.standing.holder))))
    }

    async fn fenced(&mut self, sealed: &Sealed) -> Result<SinkError, SinkError> {
        self.standing.fenced(&mut self.tables, &moved(sealed)).await
    }
}

/// What completing a range does to the position.
fn moved(sealed: &Sealed) -> Move {
    let (partition, expected, next) = (sealed.source.clone(), sealed.expected, sealed.next);
    Move { partition, expected, next, fingerprint: None }
}

/// Per date and partition, the next offset that a generation did not hold.
pub(super) type Covered = BTreeMap<String, BTreeMap<TopicPartition, i64>>;
