//! One Parquet file, written row group by row group.

use super::checksum::RowChecksum;
use super::columns::{CLOSE_NUMBERS, Columns, FEW_VALUES, LOGS, RANDOM_TEXT, SORTED_BY};
use super::names::Day;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use smartlog_schema::position::TopicPartition;
use std::io::Write;

/// Rows of a row group at most: what a reader must hold at a time.
pub(super) const ROW_GROUP_ROWS: usize = 131_072;
/// Rows of a page: small enough that the page index spares reading.
const PAGE_ROWS: usize = 20_000;
const CREATED_BY: &str = concat!("smartlog version ", env!("CARGO_PKG_VERSION"));
/// Services of a row group for which the bloom filter is exact enough (1 % false positives).
const BLOOM_SERVICES: u64 = 4_096;

/// What a file holds, as its footer and its object's metadata tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub day: Day,
    pub generation: i64,
    pub rows: i64,
    pub checksum: RowChecksum,
}

impl Contents {
    /// The key-values of docs/EXPORT.md.
    pub(super) fn tags(&self) -> Vec<(String, String)> {
        vec![
            ("smartlog-rows".into(), self.rows.to_string()),
            ("smartlog-row-checksum".into(), self.checksum.to_string()),
            ("smartlog-date".into(), self.day.to_string()),
            ("smartlog-generation".into(), self.generation.to_string()),
        ]
    }
}

/// Writes a file of logs into `W`.
pub(super) struct LogFile<W: Write + Send> {
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> LogFile<W> {
    pub fn new(into: W) -> Result<Self, ParquetError> {
        let properties = properties(&LOGS).build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        Ok(LogFile { writer: ArrowWriter::try_new_with_options(into, LOGS.clone(), options)? })
    }

    /// Writes the rows as one row group, sorted.
    pub fn row_group(&mut self, columns: Columns, source: &TopicPartition) -> Result<(), ParquetError> {
        self.writer.write(&columns.sorted(source)?)?;
        self.writer.flush()
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Writes the footer; gives `W` back.
    pub fn finish(mut self, contents: &Contents) -> Result<W, ParquetError> {
        for (key, value) in contents.tags() {
            self.writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        self.writer.into_inner()
    }
}

/// What all files have in common.
pub(super) fn common() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_created_by(CREATED_BY.into())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_enabled(false)
}

fn properties(schema: &SchemaRef) -> parquet::file::properties::WriterPropertiesBuilder {
    let column = |name: &str| ColumnPath::from(name.to_owned());
    let sorted = SORTED_BY.iter().filter_map(|name| schema.index_of(name).ok());
    let sorted =
        sorted.map(|at| SortingColumn { column_idx: at as i32, descending: false, nulls_first: false });
    let mut properties = common()
        .set_sorting_columns(Some(sorted.collect()))
        .set_column_bloom_filter_enabled(column("service"), true)
        .set_column_bloom_filter_fpp(column("service"), 0.01)
        .set_column_bloom_filter_max_ndv(column("service"), BLOOM_SERVICES);
    for name in FEW_VALUES.into_iter().chain(["kafka_partition", "message_chars", "shape", "user_id"]) {
        properties = properties.set_column_dictionary_enabled(column(name), true);
    }
    for name in RANDOM_TEXT {
        properties = properties.set_column_encoding(column(name), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    for name in CLOSE_NUMBERS {
        properties = properties.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use smartlog_schema::level::Level;
    use smartlog_schema::log::LogRef;

    #[test]
    fn pages_are_bounded_however_long_the_text_is() {
        let (mut columns, text) = (Columns::default(), "x".repeat(40_000));
        for offset in 0..400 {
            columns.push(&LogRef {
                offset,
                timestamp_us: 0,
                level: Level::Info,
                service: "s",
                host: None,
                message: &text,
                metadata: Some(&text),
                shape: 0,
            });
        }
        let mut file = LogFile::new(Vec::new()).expect("a file");
        file.row_group(columns, &TopicPartition::new("t", 0)).expect("a row group");
        let day = Day::of(0).expect("a day");
        let contents = Contents { day, generation: 0, rows: 400, checksum: RowChecksum::default() };
        let bytes = file.finish(&contents).expect("a footer");
        let reader = SerializedFileReader::new(Bytes::from(bytes)).expect("a Parquet file");
        for column in ["message", "metadata"] {
            let at = LOGS.index_of(column).expect("a column");
            let group = reader.get_row_group(0).expect("a row group");
            let pages = group.get_column_page_reader(at).expect("pages");
            let sizes: Vec<usize> = pages.map(|page| page.expect("a page").buffer().len()).collect();
            assert!(sizes.iter().all(|size| *size < 2 << 20), "{column}: pages of {sizes:?} bytes");
        }
    }
}
