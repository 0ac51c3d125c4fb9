//! A model as one unit: forests, thresholds, what is usual, and where all that comes from.
//!
//! ```text
//!   service "a" ─┬─ a forest of its own ─────────────────┐
//!                └─ else the shared one, on scaled values ┼─▶ score, threshold, alert threshold
//!   whole stream ── the stream's forest ──────────────────┘
//! ```

use crate::profile::Profile;
use crate::rows::{WHOLE_STREAM, hex};
use linfa_isolation_forest::IsolationForest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;

/// Version of the stored form. A change of meaning raises it.
pub const FORMAT: u32 = 1;
/// The bundle's file in a model folder.
pub const FILE: &str = "bundle.json.zst";
/// What a stored bundle may take once decompressed, bytes: one from outside must not fill the memory.
pub const BYTES_MAX: u64 = 1 << 30;
/// Features that a bundle may have: rows are scaled on the stack.
pub const FEATURES_MAX: usize = 32;

const COMPRESSION: i32 = 9;

/// Which forest scores a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoping {
    /// The one that was fitted on the whole stream's windows.
    Stream,
    /// Its own where it had enough windows, else the shared one.
    Service,
    /// One for all services, on values scaled by what is usual for each.
    Shared,
}

impl Scoping {
    pub const ALL: [Scoping; 3] = [Scoping::Stream, Scoping::Service, Scoping::Shared];

    /// The spelling in settings and parameters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scoping::Stream => "stream",
            Scoping::Service => "service",
            Scoping::Shared => "shared",
        }
    }
}

impl std::str::FromStr for Scoping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Scoping::ALL.into_iter().find(|scoping| scoping.as_str() == text);
        found.ok_or_else(|| format!("expected stream, service or shared, found `{text}`"))
    }
}

/// A forest with its thresholds. Scores are those of the papers: 0 to 1, the higher, the stranger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub forest: IsolationForest,
    /// Windows that it was fitted on.
    pub rows: u64,
    /// The share `contamination` of them scores above it.
    pub threshold: f64,
    /// Beyond it for some time, a score alone is worth an alarm: no quiet time that it was calibrated on held it.
    pub alert_threshold: f64,
}

/// How a bundle came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of the program that fitted it.
    pub program: String,
    /// First and last end of its windows, epoch seconds.
    pub interval: (i64, i64),
    /// Windows, the whole stream's included.
    pub rows: u64,
    /// [`crate::rows::Rows::digest`] of them.
    pub rows_digest: String,
    pub seed: u64,
    pub contamination: f64,
    pub n_estimators: usize,
    pub max_samples: usize,
    /// Seconds of event time that a score must stay beyond its alert threshold.
    pub hold_seconds: i64,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub format: u32,
    /// Names of the features, in the order of the values.
    pub features: Vec<String>,
    pub scoping: Scoping,
    pub stream: Member,
    /// `None` where no service had enough windows.
    pub shared: Option<Member>,
    /// Services with a forest of their own.
    pub services: BTreeMap<String, Member>,
    /// What is usual; the whole stream's under the empty name.
    pub profiles: BTreeMap<String, Profile>,
    pub origin: Origin,
}

/// What a model says of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// 0 to 1, the higher, the stranger.
    pub score: f64,
    /// Beyond it the window counts as an outlier.
    pub threshold: f64,
    /// Beyond it for some time, it is worth an alarm.
    pub alert_threshold: f64,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(
        "expected a bundle of format {FORMAT}, found {0}; a program that is as new as the one that fitted it reads it"
    )]
    Format(u32),
    #[error("expected forests of {expected} features, found one of {found} ({scope})")]
    Width { scope: String, expected: usize, found: usize },
    #[error("expected {what}, found {found}")]
    Value { what: String, found: String },
    #[error("the file is no bundle: {0}")]
    Unreadable(String),
    #[error("expected a bundle of at most {BYTES_MAX} bytes, found a longer one")]
    TooLarge,
}

impl Bundle {
    /// The bytes that are stored: equal bundles have equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let unwritable = |fault: &dyn std::fmt::Display| BundleError::Unreadable(fault.to_string());
        let json = serde_json::to_vec(self).map_err(|fault| unwritable(&fault))?;
        zstd::encode_all(&json[..], COMPRESSION).map_err(|fault| unwritable(&fault))
    }

    /// Reads what [`Bundle::to_bytes`] wrote, and checks it whole.
    ///
    /// # Errors
    /// What is wrong with the bytes: they may come from anywhere.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let unreadable = |fault: &dyn std::fmt::Display| BundleError::Unreadable(fault.to_string());
        let mut json = Vec::new();
        let decoder = zstd::Decoder::new(bytes).map_err(|fault| unreadable(&fault))?;
        decoder.take(BYTES_MAX + 1).read_to_end(&mut json).map_err(|fault| unreadable(&fault))?;
        if json.len() as u64 > BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        let head: Head = serde_json::from_slice(&json).map_err(|fault| unreadable(&fault))?;
        if head.format != FORMAT {
            return Err(BundleError::Format(head.format));
        }
        let bundle: Bundle = serde_json::from_slice(&json).map_err(|fault| unreadable(&fault))?;
        bundle.check()?;
        Ok(bundle)
    }

    /// SHA-256 of the stored bytes, in hexadecimal: what a commit names the model by.
    pub fn digest_of(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    /// What the model says of the window of `service` (empty: the whole stream) with `values`; `None` where it does not
    /// know the service, or a value is not finite.
    pub fn score(&self, service: &str, values: &[f64]) -> Option<Scored> {
        let (member, profile) = self.member_for(service)?;
        let score = match profile {
            None => member.forest.score_row(values),
            Some(profile) => {
                let mut scaled = [0.0; FEATURES_MAX];
                profile.scale(values, &mut scaled);
                member.forest.score_row(scaled.get(..values.len())?)
            }
        };
        let Member { threshold, alert_threshold, .. } = *member;
        Some(Scored { score: -score.ok()?, threshold, alert_threshold })
    }

    /// Each feature's share of the score, in the order of the features; they add up to 1.
    pub fn explain(&self, service: &str, values: &[f64]) -> Option<Vec<f64>> {
        let (member, profile) = self.member_for(service)?;
        let mut row = values.to_vec();
        if let Some(profile) = profile {
            profile.scale(values, &mut row);
        }
        Some(member.forest.explain(&row).ok()?.shares().to_vec())
    }

    /// The forest that scores `service`, and the profile that scales its values first.
    pub fn member_for(&self, service: &str) -> Option<(&Member, Option<&Profile>)> {
        if service == WHOLE_STREAM || self.scoping == Scoping::Stream {
            return Some((&self.stream, None));
        }
        if let Some(member) = self.services.get(service).filter(|_| self.scoping == Scoping::Service) {
            return Some((member, None));
        }
        Some((self.shared.as_ref()?, Some(self.profiles.get(service)?)))
    }

    /// Every forest with the name of its scope.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        let services = self.services.iter().map(|(name, member)| (name.as_str(), member));
        std::iter::once(("stream", &self.stream))
            .chain(self.shared.iter().map(|member| ("shared", member)))
            .chain(services)
    }

    fn check(&self) -> Result<(), BundleError> {
        let expected = self.features.len();
        let value = |what: &str, found: String| Err(BundleError::Value { what: what.into(), found });
        if expected == 0 || expected > FEATURES_MAX {
            return value(&format!("1 to {FEATURES_MAX} features"), expected.to_string());
        }
        for (scope, member) in self.members() {
            let found = member.forest.n_features();
            if found != expected {
                return Err(BundleError::Width { scope: scope.into(), expected, found });
            }
            if !(member.threshold.is_finite() && member.alert_threshold.is_finite()) {
                return value(&format!("finite thresholds ({scope})"), format!("{member:?}"));
            }
        }
        for (service, profile) in &self.profiles {
            let whole = |usual: &[crate::profile::Usual]| {
                usual.len() == expected && usual.iter().all(|u| u.median.is_finite() && u.spread > 0.0)
            };
            let hours = profile.hours.iter().flatten().all(|usual| whole(usual));
            if !(whole(&profile.overall) && hours && profile.hours.len() == 24) {
                return value(
                    &format!("a profile of {expected} features and 24 hours"),
                    format!("another of `{service}`"),
                );
            }
        }
        Ok(())
    }
}
