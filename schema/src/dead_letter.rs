//! Payloads that could not become a log.

use serde::{Deserialize, Serialize};

/// Why a payload became a dead letter. Also the label of `smartlog_dead_letters_total`, hence a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// A Kafka record without a value (a tombstone).
    EmptyPayload,
    /// Longer than `max_record_bytes`.
    TooLarge,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not JSON.
    InvalidJson,
    /// JSON, but not an object.
    NotAnObject,
    /// A known field occurs twice.
    DuplicateField,
    /// No `timestamp`, `level`, `service` or `message`, or null.
    MissingTimestamp,
    MissingLevel,
    MissingService,
    MissingMessage,
    /// The field is there but cannot be read as what it should be.
    InvalidTimestamp,
    InvalidLevel,
    InvalidService,
    InvalidMessage,
    InvalidHost,
    /// Later than its Kafka record time (wall time where there is none) by more than `max_future_skew`.
    FromTheFuture,
    /// Older than the retention.
    BeforeRetention,
    /// The store refused the row.
    RefusedByStore,
}

impl Reason {
    pub const ALL: [Reason; 18] = [
        Reason::EmptyPayload,
        Reason::TooLarge,
        Reason::InvalidUtf8,
        Reason::InvalidJson,
        Reason::NotAnObject,
        Reason::DuplicateField,
        Reason::MissingTimestamp,
        Reason::MissingLevel,
        Reason::MissingService,
        Reason::MissingMessage,
        Reason::InvalidTimestamp,
        Reason::InvalidLevel,
        Reason::InvalidService,
        Reason::InvalidMessage,
        Reason::InvalidHost,
        Reason::FromTheFuture,
        Reason::BeforeRetention,
        Reason::RefusedByStore,
    ];

    /// The stored spelling and the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::EmptyPayload => "empty_payload",
            Reason::TooLarge => "too_large",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::InvalidJson => "invalid_json",
            Reason::NotAnObject => "not_an_object",
            Reason::DuplicateField => "duplicate_field",
            Reason::MissingTimestamp => "missing_timestamp",
            Reason::MissingLevel => "missing_level",
            Reason::MissingService => "missing_service",
            Reason::MissingMessage => "missing_message",
            Reason::InvalidTimestamp => "invalid_timestamp",
            Reason::InvalidLevel => "invalid_level",
            Reason::InvalidService => "invalid_service",
            Reason::InvalidMessage => "invalid_message",
            Reason::InvalidHost => "invalid_host",
            Reason::FromTheFuture => "from_the_future",
            Reason::BeforeRetention => "before_retention",
            Reason::RefusedByStore => "refused_by_store",
        }
    }
}

/// How much of a payload is kept, bytes.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// One payload that could not become a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub partition: i32,
    pub offset: i64,
    pub reason: Reason,
    /// What was found, in words, without the payload's text (it may hold secrets).
    pub detail: String,
    /// The first [`MAX_PAYLOAD_BYTES`] of the payload as it came.
    pub payload: Vec<u8>,
}
