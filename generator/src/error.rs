//! What can go wrong, in words that say what to do.

use std::path::PathBuf;

/// An error of the generator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// A setting that cannot be worked with.
    #[error("generator setting `{setting}`: {found}; {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What was found.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}; check that the folder exists and has room")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The output stream could not be written.
    #[error("cannot write the output: {0}")]
    Write(#[from] std::io::Error),
    /// Kafka refused something before any message was lost.
    #[error("Kafka at {brokers}: {doing}: {source}")]
    Kafka {
        /// The bootstrap servers.
        brokers: String,
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: Box<rdkafka::error::KafkaError>,
    },
    /// Kafka did not take all that was sent.
    #[error(
        "{failed} of {sent} messages were not delivered to topic {topic} at {brokers} (first reason: {reason}); \
         {delivered} were; check the brokers and send again to an empty topic"
    )]
    Undelivered {
        /// The bootstrap servers.
        brokers: String,
        /// The topic.
        topic: String,
        /// Messages handed to the client.
        sent: u64,
        /// Messages acknowledged.
        delivered: u64,
        /// Messages lost.
        failed: u64,
        /// The first failure.
        reason: String,
    },
}

/// Shorthand for a refused setting.
pub(crate) fn refuse(
    setting: &'static str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> GeneratorError {
    GeneratorError::Setting { setting, found: found.into(), expected: expected.into() }
}
