//! Logs in PostgreSQL's binary COPY format.
//!
//! Written by hand, for a row costs a third of what the driver's row writer takes: no boxed value, no type check a
//! field. Format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use super::types::Micros;
use bytes::{BufMut, Bytes, BytesMut};
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;

/// The statement that the rows are for.
pub(crate) const COPY: &str = "COPY logs (timestamp, level, service, host, message, metadata, kafka_topic,
    kafka_partition, kafka_offset, shape) FROM STDIN (FORMAT binary)";
const COLUMNS: i16 = 10;
const NULL: i32 = -1;

/// How much is encoded before it is sent: the server works on one piece while we make the next.
const PIECE: usize = 256 * 1024;

/// Encodes logs, piece by piece.
pub(crate) struct Encoder {
    buffer: BytesMut,
}

impl Encoder {
    pub fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(PIECE + PIECE / 4);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        buffer.put_i32(0); // flags
        buffer.put_i32(0); // length of the header's extension
        Encoder { buffer }
    }

    pub fn push(&mut self, source: &TopicPartition, log: &LogRef<'_>) {
        let out = &mut self.buffer;
        out.put_i16(COLUMNS);
        put(out, &Micros(log.timestamp_us).to_postgres().to_be_bytes());
        put(out, log.level.as_str().as_bytes());
        put(out, log.service.as_bytes());
        put_or_null(out, log.host);
        put(out, log.message.as_bytes());
        match log.metadata {
            None => out.put_i32(NULL),
            Some(json) => {
                out.put_i32(length(json.len() + 1));
                out.put_u8(1); // version of jsonb's binary form
                out.put_slice(json.as_bytes());
            }
        }
        put(out, source.topic.as_bytes());
        put(out, &source.partition.to_be_bytes());
        put(out, &log.offset.to_be_bytes());
        match log.shape {
            0 => out.put_i32(NULL),
            shape => put(out, &shape.to_be_bytes()),
        }
    }

    /// A piece that is ready to be sent, if one is.
    pub fn piece(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= PIECE).then(|| {
            let piece = self.buffer.split().freeze();
            self.buffer.reserve(PIECE + PIECE / 4);
            piece
        })
    }

    /// The last piece.
    pub fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}

fn put(out: &mut BytesMut, value: &[u8]) {
    out.put_i32(length(value.len()));
    out.put_slice(value);
}

fn put_or_null(out: &mut BytesMut, value: Option<&str>) {
    match value {
        Some(value) => put(out, value.as_bytes()),
        None => out.put_i32(NULL),
    }
}

/// A batch holds less than 4 GiB; a value beyond 2 GiB is past the server's limit of 1 GB for a field, which refuses
/// the length that this gives.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
