//! `[export]`: every log as Parquet.

use super::{Config, MIB};
use crate::config::units::{HumanBytes, HumanDuration, optional_duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_sinks::parquet::{ExportConfig, Kept, Precondition, S3Config};
use std::path::PathBuf;
use std::time::Duration;

/// How a write leaves alone what has its name already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// If-None-Match: AWS, MinIO and most others.
    #[default]
    S3,
    /// By looking first: Google Cloud Storage with interoperability keys.
    Gcs,
}

/// Every log as Parquet, in a folder or bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// A folder, s3://BUCKET/PREFIX, or none.
    ///
    /// What lies there afterwards: docs/EXPORT.md. Credentials for S3 come by the SDK's chain: environment, profile, role.
    #[schemars(extend("x-flag" = "export", "x-form" = "none|DIR|s3://BUCKET/PREFIX"))]
    pub target: String,
    /// A file is finished when it is this old; unset: 15m for a folder, at the close of the day for S3.
    ///
    /// On S3 each file costs requests. Must be shorter than Kafka's retention: what is not in a finished file is read again
    /// after a restart.
    #[schemars(with = "Option<HumanDuration>")]
    #[serde(with = "optional_duration")]
    pub roll_every: Option<Duration>,
    /// A file is finished when it has about this many bytes.
    #[serde(with = "HumanBytes")]
    pub roll_bytes: u64,
    /// Bytes of logs per worker that may wait in memory to be encoded.
    #[serde(with = "HumanBytes")]
    pub max_buffer_bytes: u64,
    /// Bytes of files per worker that may wait on disk to be finished or uploaded; beyond it the export reads on later.
    #[serde(with = "HumanBytes")]
    pub max_spool_bytes: u64,
    /// Folder for files under way; unset: in the target if that is a folder, else the system's temporary folder.
    #[schemars(extend("x-form" = "DIR"))]
    pub spool_dir: Option<PathBuf>,
    /// URL of an S3-compatible service; unset: AWS.
    #[schemars(extend("x-form" = "URL"))]
    pub s3_endpoint: Option<String>,
    /// Region of the bucket; unset: as the environment or the profile says.
    #[schemars(extend("x-form" = "REGION"))]
    pub s3_region: Option<String>,
    /// Put the bucket's name into the path rather than into the host name, as MinIO wants it.
    pub s3_path_style: bool,
    /// How a write leaves alone what has its name already: s3 or gcs.
    pub s3_dialect: Dialect,
}

impl Default for Export {
    fn default() -> Self {
        Export {
            target: "none".into(),
            roll_every: None,
            roll_bytes: 128 * MIB,
            max_buffer_bytes: 64 * MIB,
            max_spool_bytes: 2048 * MIB,
            spool_dir: None,
            s3_endpoint: None,
            s3_region: None,
            s3_path_style: false,
            s3_dialect: Dialect::S3,
        }
    }
}

impl Export {
    /// What the sink is handed, for `target` in place of the configured one.
    pub fn config_for(&self, target: &str) -> ExportConfig {
        ExportConfig {
            target: target.to_owned(),
            roll_every: self.roll_every,
            roll_bytes: self.roll_bytes,
            max_buffer_bytes: usize::try_from(self.max_buffer_bytes).unwrap_or(usize::MAX),
            max_spool_bytes: self.max_spool_bytes,
            spool: self.spool_dir.clone(),
            s3: S3Config {
                endpoint: self.s3_endpoint.clone(),
                region: self.s3_region.clone(),
                path_style: self.s3_path_style,
                precondition: match self.s3_dialect {
                    Dialect::S3 => Precondition::S3,
                    Dialect::Gcs => Precondition::Gcs,
                },
            },
            kept: Kept::default(),
            measure: None,
        }
    }
}

impl Config {
    /// What the Parquet sink is handed; `None` where nothing is exported.
    pub fn export_config(&self) -> Option<ExportConfig> {
        let to =
            |target| ExportConfig { measure: Some(self.cloud.measure()), ..self.export.config_for(target) };
        (self.export.target != "none").then(|| to(&self.export.target))
    }
}
