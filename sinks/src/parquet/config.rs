//! What an export needs to know.

use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Where logs are exported to, and when a file is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConfig {
    /// A folder, or `s3://BUCKET/PREFIX`.
    pub target: String,
    /// A range ends when it is that old. `None`: 15 minutes for a folder, the close of the day for S3.
    pub roll_every: Option<Duration>,
    /// A range ends when one of its files has that many bytes.
    pub roll_bytes: u64,
    /// Bytes of rows that wait in memory to be encoded, per worker.
    pub max_buffer_bytes: usize,
    /// Bytes of files that wait on disk to be written to the target, per worker; beyond it the sink is not fed.
    pub max_spool_bytes: u64,
    /// Where files are put together. `None`: in the target if that is a folder, else the system's temporary folder.
    pub spool: Option<PathBuf>,
    pub s3: S3Config,
    pub kept: Kept,
    /// What the cloud part used, measured: not at all where it is unset.
    pub measure: Option<Measure>,
}

/// What Kafka keeps of a partition: a range that could outlive it is cut early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// `None`: for ever, or not known.
    pub time: Option<Duration>,
    /// `None`: any number, or not known.
    pub bytes: Option<u64>,
}

/// How often, and where, to look what the cloud part used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    pub every: Duration,
    /// The table in which the function keeps what it used. `None`: the bucket alone is looked at.
    pub contributions: Option<String>,
}

/// How to reach S3 or what speaks its language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    /// `None`: AWS.
    pub endpoint: Option<String>,
    /// `None`: as the environment and the profile say.
    pub region: Option<String>,
    /// The bucket in the path rather than in the host name.
    pub path_style: bool,
    pub precondition: Precondition,
}

/// How a write leaves alone what has its name already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precondition {
    /// `If-None-Match: *`: AWS, MinIO and most others.
    #[default]
    S3,
    /// By looking first: Google Cloud Storage passes over `If-None-Match`, and refuses its own `x-goog-if-generation-match`
    /// beside the `x-amz-` headers of every signed request.
    Gcs,
}

impl ExportConfig {
    /// The defaults for `target`.
    pub fn new(target: impl Into<String>) -> Self {
        ExportConfig {
            target: target.into(),
            roll_every: None,
            roll_bytes: 128 * MIB,
            max_buffer_bytes: (64 * MIB) as usize,
            max_spool_bytes: 2048 * MIB,
            spool: None,
            s3: S3Config::default(),
            kept: Kept::default(),
            measure: None,
        }
    }

    /// Whether requests cost nothing.
    pub(super) fn is_local(&self) -> bool {
        !self.target.starts_with("s3://")
    }

    /// `None`: only at the close of a day.
    pub(super) fn roll_every(&self) -> Option<Duration> {
        self.roll_every.or(self.is_local().then_some(Duration::from_secs(15 * 60)))
    }
}
