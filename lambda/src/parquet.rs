//! Counting a Parquet file by service: only the columns that are needed, a row group at a time.
//!
//! ```text
//!  footer ─▶ is it what its key says? ─▶ level, service, message_chars of each row group ─▶ counts by service
//! ```

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, RecordBatch};
use futures_util::TryStreamExt;
use jiff::civil::Date;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use smartlog_schema::level::Level;

use crate::contribution::{ByService, Counts};
use crate::failure::Failure;

/// Under this name the episodes of the whole stream are counted: DynamoDB has no empty keys.
pub const WHOLE_STREAM: &str = "__stream__";

const BATCH_ROWS: usize = 8_192;

type Column = (&'static str, Physical);

const LOG_COLUMNS: [Column; 3] =
    [("level", Physical::BYTE_ARRAY), ("service", Physical::BYTE_ARRAY), ("message_chars", Physical::INT32)];
const EPISODE_COLUMNS: [Column; 2] = [("service", Physical::BYTE_ARRAY), ("status", Physical::BYTE_ARRAY)];

/// Counts of a file of `logs/` that holds the day `date`.
///
/// # Errors
/// Broken, when it is no such file; transient, when it could not be read.
pub async fn logs(file: impl AsyncFileReader + Unpin + 'static, date: Date) -> Result<ByService, Failure> {
    let mut counts = ByService::new();
    let footer = scan(file, &LOG_COLUMNS, |batch| add_logs(&mut counts, batch)).await?;
    let counted = counts.values().map(|c| c.logs).sum::<i64>().to_string();
    for (key, found) in [("smartlog-date", date.to_string()), ("smartlog-rows", counted)] {
        let said = said(&footer, key);
        if said != Some(found.as_str()) {
            return Err(Failure::broken(format!(
                "expected '{key}' of the footer to be {found}, found {said:?}"
            )));
        }
    }
    Ok(counts)
}

/// Episodes by service of an object of `anomalies/`, without those that are retracted.
///
/// # Errors
/// As [`logs`].
pub async fn episodes(file: impl AsyncFileReader + Unpin + 'static) -> Result<ByService, Failure> {
    let mut counts = ByService::new();
    scan(file, &EPISODE_COLUMNS, |batch| add_episodes(&mut counts, batch)).await?;
    Ok(counts)
}

async fn scan(
    file: impl AsyncFileReader + Unpin + 'static,
    columns: &[Column],
    mut add: impl FnMut(&RecordBatch) -> Result<(), Failure>,
) -> Result<Vec<KeyValue>, Failure> {
    // The types of Parquet itself, whatever program wrote the file.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchStreamBuilder::new_with_options(file, options).await.map_err(unreadable)?;
    let schema = builder.parquet_schema();
    let mut leaves = Vec::with_capacity(columns.len());
    for (name, physical) in columns {
        let found = schema.columns().iter().position(|c| c.path().string() == *name);
        let found = found.filter(|at| schema.column(*at).physical_type() == *physical);
        leaves.push(found.ok_or_else(|| {
            let have: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
            Failure::broken(format!(
                "expected a column {name} of type {physical}, found columns {}",
                have.join(", ")
            ))
        })?);
    }
    let mask = ProjectionMask::leaves(schema, leaves);
    let footer = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let mut batches =
        builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
    while let Some(batch) = batches.try_next().await.map_err(unreadable)? {
        add(&batch)?;
    }
    Ok(footer)
}

/// An error of the network comes wrapped; all others are the file's.
fn unreadable(error: ParquetError) -> Failure {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(other) => Failure::transient(format!("reading broke off: {other}")),
        },
        other => Failure::broken(format!("cannot be read as Parquet: {other}")),
    }
}

fn add_logs(counts: &mut ByService, batch: &RecordBatch) -> Result<(), Failure> {
    let levels = text(batch, "level")?;
    let services = text(batch, "service")?;
    let lengths = batch.column_by_name("message_chars").and_then(|c| c.as_primitive_opt::<Int32Type>());
    let lengths = lengths.ok_or_else(|| Failure::broken("expected message_chars to be INT32"))?;
    if levels.null_count() + services.null_count() + lengths.null_count() > 0 {
        return Err(Failure::broken("expected level, service and message_chars without nulls"));
    }
    // Rows are sorted by service, so a run of them is counted before the map is asked.
    let mut run = (String::new(), Counts::default());
    for row in 0..batch.num_rows() {
        let service = services.value(row);
        if service != run.0 {
            close_run(counts, std::mem::replace(&mut run, (service.to_owned(), Counts::default())));
        }
        run.1.logs += 1;
        run.1.errors += i64::from(is_error(levels.value(row))?);
        run.1.message_chars += i64::from(lengths.value(row));
    }
    close_run(counts, run);
    Ok(())
}

fn close_run(counts: &mut ByService, (service, run): (String, Counts)) {
    if !run.is_zero() {
        let sum = counts.entry(service).or_default();
        *sum = sum.replaced(Counts::default(), run);
    }
}

fn is_error(level: &str) -> Result<bool, Failure> {
    let known = Level::ALL.iter().find(|known| known.as_str() == level);
    known.map(|level| level.is_error()).ok_or_else(|| {
        Failure::broken(format!(
            "expected a level of TRACE, DEBUG, INFO, WARN, ERROR, FATAL, found '{level}'"
        ))
    })
}

fn add_episodes(counts: &mut ByService, batch: &RecordBatch) -> Result<(), Failure> {
    let services = text(batch, "service")?;
    let states = text(batch, "status")?;
    for row in 0..batch.num_rows() {
        if states.is_null(row) {
            return Err(Failure::broken("expected status without nulls"));
        }
        if states.value(row) != "retracted" {
            let service = if services.is_null(row) { WHOLE_STREAM } else { services.value(row) };
            counts.entry(service.to_owned()).or_default().anomalies += 1;
        }
    }
    Ok(())
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow_array::StringArray, Failure> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| Failure::broken(format!("expected {name} to be text")))
}

fn said<'a>(footer: &'a [KeyValue], key: &str) -> Option<&'a str> {
    footer.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref())
}
