//! The settings themselves: one struct per section of the file.
//!
//! A field is the only place where a setting is written down. Its name is the key, its doc comment the help (the first
//! paragraph in `-h`, all of it elsewhere), `Default` the default; flag, variable, example file and table in
//! docs/CONFIGURATION.md are derived from it (see [`super::options`]). `x-flag` gives a short flag beside the
//! one that follows from the key.

use super::secret::{REDACTED, Secret, is_secret_property, redact_url};
use super::units::{HumanBytes, HumanDuration, HumanZone, Start};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smartlog_operators::settings;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// All settings of one start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the logs come from.
    pub kafka: Kafka,
    /// How a payload becomes a log.
    pub parse: Parse,
    /// Threads, processes and the bounds on memory.
    pub engine: Engine,
    /// What counts as now, as late and as wrong.
    pub time: Time,
    /// Where results are kept.
    pub store: Store,
    /// The windows as a file, for other programs.
    pub windows: Windows,
    /// When something counts as trouble.
    pub detection: Detection,
    /// The REST API and the live page.
    pub api: Api,
    /// Figures about the program itself, for Prometheus.
    pub metrics: Metrics,
    /// The program's own log, on stderr.
    pub log: Log,
    /// What commands print.
    pub output: Output,
    /// `smartlog generate`: made-up logs with known incidents.
    pub generate: Generate,
    /// `smartlog demo`: everything in one process.
    pub demo: Demo,
}

/// Where the logs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to begin with, as HOST:PORT, separated by commas.
    ///
    /// The rest of the cluster is learnt from them, under the names that the brokers advertise: those must be
    /// reachable from here too.
    #[schemars(extend("x-flag" = "brokers"))]
    pub brokers: String,
    /// Topics to read, every partition of each.
    ///
    /// A topic added later is read from `kafka.start` on. A topic taken out keeps its stored position until
    /// `smartlog sinks forget` drops it.
    #[schemars(extend("x-flag" = "topic"))]
    pub topics: Vec<String>,
    /// Where a partition begins that has no stored position yet.
    ///
    /// Not a way to read again: once a position is stored, this is ignored. See `smartlog sinks set-start`.
    pub start: Start,
    /// Any property of librdkafka, passed through as it is, such as `security.protocol`.
    ///
    /// Beats what the program sets itself, except for the properties that exactly-once rests on: those are refused.
    /// Keep secrets out of here: `kafka.property_files` reads them from a file.
    pub properties: Properties,
    /// Properties of librdkafka whose value is the content of a file, such as `"sasl.password" = "/run/secrets/kafka"`.
    ///
    /// Read once, at the start; a line break at the end of the file is cut off.
    pub property_files: BTreeMap<String, PathBuf>,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "localhost:9092".into(),
            topics: vec!["logs".into()],
            start: Start::Earliest,
            properties: Properties::default(),
            property_files: BTreeMap::new(),
        }
    }
}

/// Properties of librdkafka by name. Printed without the values that are secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Names and values, the values unredacted, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, if is_secret_property(name) { REDACTED } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.redacted()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.redacted())
    }
}

/// Which names the fields of a log go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `timestamp level service host message metadata`
    #[default]
    Default,
    /// Elastic Common Schema
    Ecs,
    /// OpenTelemetry log records
    Otel,
    /// Google Cloud LogEntry
    Gcp,
    /// pino and bunyan
    Pino,
}

/// How a payload becomes a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parse {
    /// The convention that the logs follow: which members of the JSON object are the fields of a log.
    ///
    /// The keys below replace single fields of it. Try a change with `smartlog analyze` on a file first: where
    /// timestamp, level, service or message is not found, every line becomes a dead letter.
    #[schemars(extend("x-flag" = "log-format"))]
    pub format: Format,
    /// Where the timestamp is found: paths, tried in order; a dot goes one level down. Empty: as `parse.format` says.
    pub timestamp: Vec<String>,
    /// Where the level is found.
    pub level: Vec<String>,
    /// Where the service is found.
    pub service: Vec<String>,
    /// Where the message is found.
    pub message: Vec<String>,
    /// Where the host is found.
    pub host: Vec<String>,
    /// Where the metadata is found.
    pub metadata: Vec<String>,
    /// Level of a log that has none; unset: as `parse.format` says.
    pub default_level: Option<String>,
    /// Longer payloads become dead letters.
    ///
    /// Bounds what one record can cost in memory.
    #[serde(with = "HumanBytes")]
    pub max_record_bytes: u64,
}

impl Default for Parse {
    fn default() -> Self {
        Parse {
            format: Format::Default,
            timestamp: Vec::new(),
            level: Vec::new(),
            service: Vec::new(),
            message: Vec::new(),
            host: Vec::new(),
            metadata: Vec::new(),
            default_level: None,
            max_record_bytes: MIB,
        }
    }
}

/// Threads, processes and the bounds on memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Worker threads of each process; unset: one per core.
    ///
    /// May change between runs. More workers than partitions in all processes together leave some idle.
    #[schemars(extend("x-flag" = "workers"))]
    pub workers: Option<NonZeroUsize>,
    /// Processes in the set.
    ///
    /// Alone, it starts and supervises that many on this host. With `engine.process`, it says how many take part.
    #[schemars(extend("x-flag" = "processes"))]
    pub processes: NonZeroUsize,
    /// Which process of the set this is, from 0; unset: this process starts the set itself.
    #[schemars(extend("x-flag" = "process"))]
    pub process: Option<usize>,
    /// File with one HOST:PORT per line, the address of each process of the set in order.
    ///
    /// The processes trust each other and the traffic is not encrypted: keep these ports inside a private network.
    #[schemars(extend("x-flag" = "hostfile"))]
    pub hostfile: Option<PathBuf>,
    /// First of the local ports that a supervised set talks over, one per process; 0: free ones are chosen.
    pub base_port: u16,
    /// Stop at the offsets that were the end at the start, let the clock run out, and exit.
    ///
    /// The run-out writes windows and judges nothing.
    #[schemars(extend("x-flag" = "until-end"))]
    pub until_end: bool,
    /// How often results are cut, judged and committed.
    ///
    /// Shorter finds trouble sooner and costs more processor time; between 10ms and 10s.
    #[serde(with = "HumanDuration")]
    pub tick: Duration,
    /// Bytes read and not yet durable, per process, at which reading pauses.
    ///
    /// The bound on memory when a store is slow. Must hold a few of the largest records.
    #[serde(with = "HumanBytes")]
    pub max_in_flight_bytes: u64,
    /// Bytes of partial sums that may wait for the clock before partitions that run ahead are paused.
    #[serde(with = "HumanBytes")]
    pub max_waiting_bytes: u64,
    /// Services that get state of their own; the others share `__overflow__`.
    ///
    /// Guards against a field that holds ids where a service name should be.
    pub max_services: NonZeroUsize,
    /// How long a stop may take to drain and commit before the process ends anyway.
    ///
    /// Nothing is lost either way: the next start goes on at the last commit. Keep it below the supervisor's own limit.
    #[serde(with = "HumanDuration")]
    pub shutdown_grace: Duration,
}

impl Engine {
    /// Worker threads of this process.
    pub fn worker_threads(&self) -> NonZeroUsize {
        self.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            workers: None,
            processes: NonZeroUsize::MIN,
            process: None,
            hostfile: None,
            base_port: 0,
            until_end: false,
            tick: Duration::from_millis(100),
            max_in_flight_bytes: 16 * MIB,
            max_waiting_bytes: 32 * MIB,
            max_services: NonZeroUsize::MIN.saturating_add(49_999),
            shutdown_grace: 10 * SECOND,
        }
    }
}

/// What counts as now, as late and as wrong. All in event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Time {
    /// How far the watermark stays behind the clock: windows are final that much later.
    ///
    /// Logs that come later than this correct windows that were already final. Detection does not wait for it.
    #[serde(with = "HumanDuration")]
    pub watermark_delay: Duration,
    /// How late a log may still correct windows and episodes; older ones correct their hour only.
    ///
    /// Costs memory: the sums of every service and second are kept for it.
    #[serde(with = "HumanDuration")]
    pub max_lateness: Duration,
    /// How far ahead of the clock a log may lie and still be believed alone.
    ///
    /// One host with a wrong clock must not make all others late.
    #[serde(with = "HumanDuration")]
    pub max_clock_jump: Duration,
    /// A time further ahead is believed all the same when nothing else came for this long (wall time).
    #[serde(with = "HumanDuration")]
    pub lone_event_patience: Duration,
    /// Logs further than this after their Kafka record time become dead letters.
    #[serde(with = "HumanDuration")]
    pub max_future_skew: Duration,
    /// How long logs are kept; older ones that arrive become dead letters.
    ///
    /// Measured from the clock. Lowering it drops stored days at the next start.
    #[serde(with = "HumanDuration")]
    pub retention: Duration,
    /// Time zone whose hours the baseline and the feature `hour_of_day` follow.
    ///
    /// `hourly_metrics` stays in UTC.
    #[serde(with = "HumanZone")]
    pub hour_zone: TimeZone,
}

impl Default for Time {
    fn default() -> Self {
        let settings = settings::Time::default();
        Time {
            watermark_delay: seconds(settings.watermark_delay),
            max_lateness: seconds(settings.max_lateness),
            max_clock_jump: seconds(settings.max_clock_jump),
            lone_event_patience: seconds(settings.lone_event_patience),
            max_future_skew: 5 * MINUTE,
            retention: 30 * DAY,
            hour_zone: TimeZone::UTC,
        }
    }
}

impl Time {
    /// What the operators need of it.
    pub fn settings(&self) -> settings::Time {
        settings::Time {
            watermark_delay: whole_seconds(self.watermark_delay),
            max_lateness: whole_seconds(self.max_lateness),
            max_clock_jump: whole_seconds(self.max_clock_jump),
            lone_event_patience: whole_seconds(self.lone_event_patience),
        }
    }
}

/// The state store that [`Store::url`] names.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Nothing is kept: a restart begins anew.
    None,
    /// A file on this host.
    Sqlite(PathBuf),
    /// The URL as it was given, which may hold a password.
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(StoreUrl::None);
        }
        if let Some(path) = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path))
            && !path.is_empty()
        {
            return Ok(StoreUrl::Sqlite(path.into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(StoreUrl::Postgres(text.into()));
        }
        Err(format!(
            "expected postgres://USER@HOST/DATABASE, sqlite:FILE or none, found `{}`",
            redact_url(text)
        ))
    }
}

impl fmt::Display for StoreUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::None => f.write_str("none"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Postgres(url) => f.write_str(&redact_url(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for StoreUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StoreUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "x-form": "URL" })
    }
}

/// Where results are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// postgres://USER@HOST/DATABASE, sqlite:FILE, or none.
    ///
    /// With `none` nothing survives a restart. SQLite serves one process on a local disk; a network file system
    /// breaks its locks. Keep the password out of the URL: see `store.password_file`.
    #[schemars(extend("x-flag" = "store"))]
    pub url: StoreUrl,
    /// Name under which this pipeline's state is stored, so that several share one store.
    ///
    /// Two sets with the same name never run at once: the second waits for the first one's lease.
    pub pipeline: String,
    /// Keep every log in the table `logs`.
    ///
    /// Off: windows, episodes and dead letters only. The logs of the time it was off are not filled in later.
    pub raw_logs: bool,
    /// File with the password for PostgreSQL.
    ///
    /// Read once, at the start; a line break at the end of the file is cut off.
    pub password_file: Option<PathBuf>,
    /// What `password_file` holds, once loaded.
    #[serde(skip)]
    pub password: Option<Secret>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            url: StoreUrl::Sqlite("smartlog.db".into()),
            pipeline: "default".into(),
            raw_logs: true,
            password_file: None,
            password: None,
        }
    }
}

/// The windows as a file, for other programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// CSV file for the windows: one row per hop and service that has a log in the window.
    ///
    /// Columns: window_end,service,log_count,error_count,avg_message_length,unique_services. Replaced at the start.
    #[schemars(extend("x-flag" = "windows-out"))]
    pub out: Option<PathBuf>,
    /// Event time between two windows in the file, whole seconds.
    #[schemars(extend("x-flag" = "hop"))]
    #[serde(with = "HumanDuration")]
    pub hop: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Windows { out: None, hop: 10 * SECOND }
    }
}

/// When something counts as trouble. Durations are event time, in whole seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// Many more errors than usual.
    pub error_rate_spike: ErrorRateSpike,
    /// Many more logs than usual.
    pub log_volume_spike: LogVolumeSpike,
    /// Far fewer logs than usual, silence included.
    pub log_volume_drop: LogVolumeDrop,
    /// What is usual.
    pub baseline: Baseline,
    /// How long a rule must be calm before its episode is resolved.
    ///
    /// Too short, and trouble that comes in bursts makes an episode of each.
    #[serde(with = "HumanDuration")]
    pub calm: Duration,
    /// Share of the threshold that an open episode's metric must come back within to count as calm, between 0 and 1.
    ///
    /// At 1, a metric that hovers at the threshold makes episode after episode.
    pub hysteresis: f64,
    /// An episode open for this long is closed as `expired` and its level becomes the new baseline.
    #[serde(with = "HumanDuration")]
    pub max_episode: Duration,
    /// A service silent for this long gives up its state.
    #[serde(with = "HumanDuration")]
    pub retire_after: Duration,
}

impl Default for Detection {
    fn default() -> Self {
        let settings = settings::Detection::default();
        Detection {
            error_rate_spike: ErrorRateSpike::default(),
            log_volume_spike: LogVolumeSpike::default(),
            log_volume_drop: LogVolumeDrop::default(),
            baseline: Baseline::default(),
            calm: seconds(settings.calm),
            hysteresis: settings.hysteresis,
            max_episode: seconds(settings.max_episode),
            retire_after: seconds(settings.retire_after),
        }
    }
}

impl Detection {
    /// What the operators need of it.
    pub fn settings(&self) -> settings::Detection {
        settings::Detection {
            baseline: self.baseline.settings(),
            error_rate_spike: self.error_rate_spike.settings(),
            log_volume_spike: self.log_volume_spike.settings(),
            log_volume_drop: self.log_volume_drop.settings(),
            calm: whole_seconds(self.calm),
            hysteresis: self.hysteresis,
            max_episode: whole_seconds(self.max_episode),
            retire_after: whole_seconds(self.retire_after),
        }
    }
}

/// Many more errors than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorRateSpike {
    /// Error rate of the window, as a multiple of the baseline, beyond which it is raised.
    pub ratio: f64,
    /// Errors in the window below which it is never raised.
    pub min_errors: i64,
    /// Error rate that a lower baseline is lifted to, between 0 and 1.
    ///
    /// Without it the first error of a service that never has any would be infinitely more than usual.
    pub baseline_floor: f64,
    /// Largest probability that chance alone gives as many errors.
    ///
    /// Smaller means fewer false alarms, and later ones.
    pub significance: f64,
}

impl Default for ErrorRateSpike {
    fn default() -> Self {
        let settings::ErrorRateSpike { ratio, min_errors, baseline_floor, significance } = Default::default();
        ErrorRateSpike { ratio, min_errors, baseline_floor, significance }
    }
}

impl ErrorRateSpike {
    fn settings(&self) -> settings::ErrorRateSpike {
        let ErrorRateSpike { ratio, min_errors, baseline_floor, significance } = *self;
        settings::ErrorRateSpike { ratio, min_errors, baseline_floor, significance }
    }
}

/// Many more logs than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeSpike {
    /// Logs of the window, as a multiple of the baseline, beyond which it is raised.
    pub ratio: f64,
    /// Logs in the window below which it is never raised.
    pub min_logs: f64,
    /// Standard deviations of the service's own volume that the window must lie above the baseline.
    pub deviations: f64,
}

impl Default for LogVolumeSpike {
    fn default() -> Self {
        let settings::Volume { ratio, min_logs, deviations } = settings::Volume::spike();
        LogVolumeSpike { ratio, min_logs, deviations }
    }
}

impl LogVolumeSpike {
    fn settings(&self) -> settings::Volume {
        let LogVolumeSpike { ratio, min_logs, deviations } = *self;
        settings::Volume { ratio, min_logs, deviations }
    }
}

/// Far fewer logs than usual, silence included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeDrop {
    /// Logs of the window, as a multiple of the baseline, below which it is raised.
    pub ratio: f64,
    /// Logs that the baseline must expect in a window for the service to be judged at all.
    ///
    /// A service that logs once an hour is silent most of the time, and that is no incident.
    pub min_logs: f64,
    /// Standard deviations of the service's own volume that the window must lie below the baseline.
    pub deviations: f64,
}

impl Default for LogVolumeDrop {
    fn default() -> Self {
        let settings::Volume { ratio, min_logs, deviations } = settings::Volume::drop();
        LogVolumeDrop { ratio, min_logs, deviations }
    }
}

impl LogVolumeDrop {
    fn settings(&self) -> settings::Volume {
        let LogVolumeDrop { ratio, min_logs, deviations } = *self;
        settings::Volume { ratio, min_logs, deviations }
    }
}

/// What is usual: whole minutes of each service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// A minute enters the baseline this long after it ended.
    ///
    /// Too short, and a slow incident becomes its own baseline.
    #[serde(with = "HumanDuration")]
    pub lag: Duration,
    /// Minutes remembered.
    pub minutes: usize,
    /// Minutes that must have entered before they are trusted; until then all minutes so far serve.
    pub enough_minutes: usize,
    /// Minutes that a service must have at the least before it is judged on volume.
    pub first_minutes: usize,
}

impl Default for Baseline {
    fn default() -> Self {
        let settings::Baseline { lag, minutes, enough_minutes, first_minutes } = Default::default();
        Baseline { lag: seconds(lag), minutes, enough_minutes, first_minutes }
    }
}

impl Baseline {
    fn settings(&self) -> settings::Baseline {
        let Baseline { lag, minutes, enough_minutes, first_minutes } = *self;
        settings::Baseline { lag: whole_seconds(lag), minutes, enough_minutes, first_minutes }
    }
}

/// The operators count whole seconds of event time.
const fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

/// Of a duration that was checked to be whole seconds and to fit.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The REST API and the live page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address to serve on, as IP:PORT; port 0 takes a free one and prints it.
    ///
    /// Reachable from this host only, by default. 0.0.0.0 opens it to everybody who can reach the host.
    #[schemars(extend("x-flag" = "listen", "x-form" = "IP:PORT"))]
    pub listen: SocketAddr,
}

impl Default for Api {
    fn default() -> Self {
        Api { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)) }
    }
}

/// Figures about the program itself, for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address on which `smartlog run` serves `/metrics` and `/health`; unset: not served.
    ///
    /// Each process of a set needs its own.
    #[schemars(extend("x-form" = "IP:PORT"))]
    pub listen: Option<SocketAddr>,
}

/// How lines of the program's own log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person, coloured on a terminal
    #[default]
    Pretty,
    /// One JSON object per line
    Json,
}

/// The program's own log, on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Lines for a person, or one JSON object per line.
    pub format: LogFormat,
    /// What is logged: a level, or TARGET=LEVEL pairs separated by commas.
    ///
    /// `RUST_LOG` is heard too, and yields to every other way to set this.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Pretty, filter: "info".into() }
    }
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// For a person
    #[default]
    Table,
    /// For a program
    Json,
}

/// What commands print.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// The result on stdout, for a person or for a program.
    #[schemars(extend("x-flag" = "format"))]
    pub format: OutputFormat,
}

/// `smartlog generate`: made-up logs with known incidents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Logs per second, 1 to 500000, of the whole estate outside of incidents and seasons.
    #[schemars(extend("x-flag" = "rate"))]
    pub rate: u32,
    /// Seed: the same seed and start make the same logs.
    #[schemars(extend("x-flag" = "seed"))]
    pub seed: u64,
    /// Event time to cover; unset: until stopped, or until `generate.count`.
    #[schemars(extend("x-flag" = "for"), with = "Option<HumanDuration>")]
    #[serde(with = "super::units::optional_duration")]
    pub duration: Option<Duration>,
    /// Logs to make; unset: no limit.
    #[schemars(extend("x-flag" = "count"))]
    pub count: Option<u64>,
    /// Where the logs go: stdout, kafka, or a file.
    #[schemars(extend("x-flag" = "to"))]
    pub to: String,
    /// File for the incidents that were put in, one JSON object per line.
    #[schemars(extend("x-flag" = "labels"))]
    pub labels: Option<PathBuf>,
    /// Event time per wall time: 1 is real time, 60 an hour per minute, 0 as fast as it goes.
    #[schemars(extend("x-flag" = "speed"))]
    pub speed: f64,
    /// Event time of the first log, such as 2026-01-15T10:30:00Z; unset: now.
    #[schemars(extend("x-flag" = "start", "x-form" = "time"), with = "Option<String>")]
    pub start: Option<jiff::Timestamp>,
}

impl Default for Generate {
    fn default() -> Self {
        Generate {
            rate: 1000,
            seed: 42,
            duration: None,
            count: None,
            to: "stdout".into(),
            labels: None,
            speed: 1.0,
            start: None,
        }
    }
}

/// `smartlog demo`: everything in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Demo {
    /// End by itself after this long and print a summary; unset: until stopped.
    #[schemars(extend("x-flag" = "for"), with = "Option<HumanDuration>")]
    #[serde(with = "super::units::optional_duration")]
    pub duration: Option<Duration>,
    /// Logs per second.
    #[schemars(extend("x-flag" = "rate"))]
    pub rate: u32,
    /// Seed of the logs and incidents.
    #[schemars(extend("x-flag" = "seed"))]
    pub seed: u64,
    /// Folder for the demo's store and files. Emptied at each start.
    #[schemars(extend("x-flag" = "dir"))]
    pub dir: PathBuf,
}

impl Default for Demo {
    fn default() -> Self {
        Demo { duration: None, rate: 1000, seed: 42, dir: "smartlog-demo".into() }
    }
}
