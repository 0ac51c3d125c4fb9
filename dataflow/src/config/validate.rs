//! What cannot work is refused before anything starts: what, and what to do.
//!
//! One function per section; each looks only at values, except where a file that a setting names must be read.

use super::secret::Secret;
use super::settings::*;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// A setting that is refused.
pub(super) struct Refusal {
    pub key: &'static str,
    pub message: String,
}

/// Refuses `key` with the formatted message when the condition does not hold.
macro_rules! require {
    ($refusals:ident, $condition:expr, $key:literal, $($message:tt)+) => {
        if !$condition {
            $refusals.push(Refusal { key: $key, message: format!($($message)+) });
        }
    };
}

type Refusals = Vec<Refusal>;

/// Everything that is wrong with `config`.
pub(super) fn refusals(config: &Config) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    kafka(&config.kafka, &mut refusals);
    parse(config, &mut refusals);
    engine(config, &mut refusals);
    processes(config, &mut refusals);
    time(&config.time, &mut refusals);
    store(&config.store, &mut refusals);
    detection(&config.detection, &mut refusals);
    serving(config, &mut refusals);
    tools(config, &mut refusals);
    refusals
}

/// Properties that exactly-once or the program's own settings rest on, each with what to use in its place.
const RESERVED_PROPERTIES: [(&str, &str); 8] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("enable.auto.commit", "positions are stored with the data, never committed by Kafka's client"),
    ("enable.auto.offset.store", "positions are stored with the data, never committed by Kafka's client"),
    ("auto.offset.reset", "set kafka.start; a gap is reported, never skipped in silence"),
    ("enable.partition.eof", "the clock rests on it"),
    ("group.id", "it follows from store.pipeline"),
    ("group.instance.id", "no consumer group is joined"),
];

fn kafka(kafka: &Kafka, refusals: &mut Refusals) {
    require!(
        refusals,
        !kafka.brokers.trim().is_empty(),
        "kafka.brokers",
        "empty; name one broker at least, as HOST:PORT"
    );
    require!(refusals, !kafka.topics.is_empty(), "kafka.topics", "empty; name one topic at least");
    for (at, topic) in kafka.topics.iter().enumerate() {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let legal = !topic.is_empty() && topic.len() <= 249 && topic.chars().all(is_legal);
        require!(
            refusals,
            legal,
            "kafka.topics",
            "`{topic}` is no topic's name: letters, digits, `.`, `_`, `-`, up to 249"
        );
        require!(
            refusals,
            !kafka.topics[..at].contains(topic),
            "kafka.topics",
            "`{topic}` is named twice; name it once"
        );
    }
    for (name, instead) in RESERVED_PROPERTIES {
        let given = kafka.properties.get(name).is_some() || kafka.property_files.contains_key(name);
        require!(refusals, !given, "kafka.properties", "`{name}` is not to be set: {instead}");
    }
    for name in kafka.property_files.keys() {
        let twice = kafka.properties.get(name).is_some();
        require!(
            refusals,
            !twice,
            "kafka.property_files",
            "`{name}` is in kafka.properties too; keep one of them"
        );
    }
    if !cfg!(feature = "tls") {
        let has = |name: &str, mark: &str| {
            kafka.properties.get(name).is_some_and(|value| value.to_ascii_lowercase().contains(mark))
        };
        let needs_tls = has("security.protocol", "ssl")
            || has("sasl.mechanism", "scram")
            || has("sasl.mechanisms", "scram");
        require!(
            refusals,
            !needs_tls,
            "kafka.properties",
            "TLS and SCRAM are not part of this build; build with `--features tls`"
        );
    }
}

fn parse(config: &Config, refusals: &mut Refusals) {
    const SMALLEST: u64 = 1 << 10;
    const LARGEST: u64 = 64 << 20;
    let max = config.parse.max_record_bytes;
    require!(
        refusals,
        (SMALLEST..=LARGEST).contains(&max),
        "parse.max_record_bytes",
        "{max} bytes; must lie between 1 KiB and 64 MiB"
    );
    require!(
        refusals,
        max.saturating_mul(2) <= config.engine.max_in_flight_bytes,
        "parse.max_record_bytes",
        "more than half of engine.max_in_flight_bytes ({} bytes): two such records would stop reading; raise that, \
         or lower this",
        config.engine.max_in_flight_bytes
    );
    if let Err((key, message)) = config.parse.mapping() {
        refusals.push(Refusal { key, message });
    }
}

fn engine(config: &Config, refusals: &mut Refusals) {
    let Engine { tick, max_in_flight_bytes, max_waiting_bytes, shutdown_grace, workers, .. } = &config.engine;
    let ticks = Duration::from_millis(10)..=Duration::from_secs(10);
    require!(refusals, ticks.contains(tick), "engine.tick", "{tick:?}; must lie between 10ms and 10s");
    for (key, bytes) in [
        ("engine.max_in_flight_bytes", *max_in_flight_bytes),
        ("engine.max_waiting_bytes", *max_waiting_bytes),
    ] {
        if bytes < 1 << 20 {
            refusals.push(Refusal { key, message: format!("{bytes} bytes; must be 1 MiB at least") });
        }
    }
    require!(refusals, !shutdown_grace.is_zero(), "engine.shutdown_grace", "0s; must be longer, 10s say");
    let threads = workers.map_or(1, |workers| workers.get());
    require!(
        refusals,
        threads <= 256,
        "engine.workers",
        "{threads}; must be 256 at most: one per core is the most of use"
    );
    let hop = config.windows.hop;
    let whole = is_whole_seconds(hop) && !hop.is_zero();
    require!(refusals, whole, "windows.hop", "{hop:?}; must be whole seconds, one at least");
}

fn processes(config: &Config, refusals: &mut Refusals) {
    let Engine { processes, process, hostfile, base_port, .. } = &config.engine;
    let processes = processes.get();
    require!(refusals, processes <= 64, "engine.processes", "{processes}; must be 64 at most");
    require!(
        refusals,
        processes == 1 || !matches!(config.store.url, StoreUrl::Sqlite(_)),
        "engine.processes",
        "{processes} processes cannot share the SQLite store `{}`; set store.url to a PostgreSQL database",
        config.store.url
    );
    require!(
        refusals,
        *base_port == 0 || usize::from(*base_port) + processes <= 65_536,
        "engine.base_port",
        "{base_port} leaves no room for {processes} ports; lower it"
    );
    match (process, hostfile) {
        (Some(process), _) if *process >= processes => require!(
            refusals,
            false,
            "engine.process",
            "{process}; with engine.processes = {processes} the last one is {}",
            processes - 1
        ),
        (Some(_), None) if processes > 1 => {
            require!(
                refusals,
                false,
                "engine.process",
                "needs engine.hostfile, the addresses of all processes"
            )
        }
        (None, Some(_)) => {
            require!(
                refusals,
                false,
                "engine.hostfile",
                "needs engine.process, which line of it this process is"
            )
        }
        (Some(_), Some(path)) => refusals.extend(hostfile_refusal(path, processes)),
        (Some(_), None) | (None, None) => {}
    }
}

fn hostfile_refusal(path: &Path, processes: usize) -> Option<Refusal> {
    let message = match std::fs::read_to_string(path) {
        Err(fault) => format!("{} cannot be read: {fault}", path.display()),
        Ok(text) => {
            let hosts = text.lines().filter(|line| !line.trim().is_empty()).count();
            if hosts >= processes {
                return None;
            }
            let path = path.display();
            format!(
                "{path} has {hosts} addresses, engine.processes is {processes}; add one HOST:PORT per line and process"
            )
        }
    };
    Some(Refusal { key: "engine.hostfile", message })
}

fn time(time: &Time, refusals: &mut Refusals) {
    let durations = [
        ("time.watermark_delay", time.watermark_delay),
        ("time.max_lateness", time.max_lateness),
        ("time.max_clock_jump", time.max_clock_jump),
        ("time.lone_event_patience", time.lone_event_patience),
    ];
    whole_seconds(&durations, refusals);
    require!(
        refusals,
        time.max_lateness >= time.watermark_delay,
        "time.max_lateness",
        "{:?}, less than time.watermark_delay ({:?}); raise this or lower that",
        time.max_lateness,
        time.watermark_delay
    );
    require!(
        refusals,
        time.max_lateness <= Duration::from_secs(86_400),
        "time.max_lateness",
        "{:?}; must be a day at most: the sums of every service and second are kept that long",
        time.max_lateness
    );
    require!(
        refusals,
        time.retention >= time.max_lateness + Duration::from_secs(3600),
        "time.retention",
        "{:?}; must be an hour longer than time.max_lateness at least",
        time.retention
    );
}

fn store(store: &Store, refusals: &mut Refusals) {
    let name = &store.pipeline;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let legal = (1..=63).contains(&name.len()) && name.chars().all(is_legal);
    require!(refusals, legal, "store.pipeline", "`{name}`; use 1 to 63 letters, digits, `.`, `_`, `-`");
    if store.password_file.is_some() {
        match &store.url {
            StoreUrl::Postgres(url) => require!(
                refusals,
                !carries_password(url),
                "store.password_file",
                "store.url carries a password too; take it out of the URL"
            ),
            url => require!(
                refusals,
                false,
                "store.password_file",
                "only PostgreSQL asks for one, and store.url is `{url}`"
            ),
        }
    }
}

fn carries_password(url: &str) -> bool {
    super::secret::redact_url(url) != url
}

fn detection(detection: &Detection, refusals: &mut Refusals) {
    let Detection { error_rate_spike, log_volume_spike, log_volume_drop, baseline, .. } = detection;
    whole_seconds(
        &[
            ("detection.calm", detection.calm),
            ("detection.max_episode", detection.max_episode),
            ("detection.retire_after", detection.retire_after),
            ("detection.baseline.lag", baseline.lag),
        ],
        refusals,
    );
    let ratio = error_rate_spike.ratio;
    require!(refusals, ratio > 1.0, "detection.error_rate_spike.ratio", "{ratio}; must be more than 1");
    let floor = error_rate_spike.baseline_floor;
    let share = floor > 0.0 && floor < 1.0;
    require!(
        refusals,
        share,
        "detection.error_rate_spike.baseline_floor",
        "{floor}; must lie between 0 and 1"
    );
    let chance = error_rate_spike.significance;
    let probability = chance > 0.0 && chance < 1.0;
    require!(
        refusals,
        probability,
        "detection.error_rate_spike.significance",
        "{chance}; must lie between 0 and 1"
    );
    let least = error_rate_spike.min_errors;
    require!(refusals, least >= 1, "detection.error_rate_spike.min_errors", "{least}; must be 1 at least");
    let ratio = log_volume_spike.ratio;
    require!(refusals, ratio > 1.0, "detection.log_volume_spike.ratio", "{ratio}; must be more than 1");
    let ratio = log_volume_drop.ratio;
    let share = ratio > 0.0 && ratio < 1.0;
    require!(refusals, share, "detection.log_volume_drop.ratio", "{ratio}; must lie between 0 and 1");
    for (key, value) in [
        ("detection.log_volume_spike.min_logs", log_volume_spike.min_logs),
        ("detection.log_volume_spike.deviations", log_volume_spike.deviations),
        ("detection.log_volume_drop.min_logs", log_volume_drop.min_logs),
        ("detection.log_volume_drop.deviations", log_volume_drop.deviations),
    ] {
        if !(value >= 0.0 && value.is_finite()) {
            refusals.push(Refusal { key, message: format!("{value}; must be 0 or more") });
        }
    }
    let hysteresis = detection.hysteresis;
    let share = hysteresis > 0.0 && hysteresis <= 1.0;
    require!(refusals, share, "detection.hysteresis", "{hysteresis}; must be more than 0 and 1 at most");
    let Baseline { minutes, enough_minutes, .. } = *baseline;
    let fits = (1..=minutes).contains(&enough_minutes);
    require!(
        refusals,
        fits,
        "detection.baseline.enough_minutes",
        "{enough_minutes}; must lie between 1 and detection.baseline.minutes ({minutes})"
    );
}

fn serving(config: &Config, refusals: &mut Refusals) {
    let Config { api, metrics, log, .. } = config;
    let clash = api.listen.port() != 0 && metrics.listen == Some(api.listen);
    require!(refusals, !clash, "metrics.listen", "{} is api.listen too; give it another port", api.listen);
    if let Err(fault) = EnvFilter::builder().parse(&log.filter) {
        let filter = &log.filter;
        require!(
            refusals,
            false,
            "log.filter",
            "`{filter}`: {fault}; write a level such as info, or TARGET=LEVEL pairs"
        );
    }
}

fn tools(config: &Config, refusals: &mut Refusals) {
    let Config { generate, demo, .. } = config;
    let rate = generate.rate;
    let sane = rate > 0.0 && rate <= 5e6;
    require!(refusals, sane, "generate.rate", "{rate}; must be more than 0 and 5000000 at most");
    let speed = generate.speed;
    require!(refusals, speed >= 0.0 && speed.is_finite(), "generate.speed", "{speed}; must be 0 or more");
    let sane = (1..=500_000).contains(&demo.rate);
    require!(refusals, sane, "demo.rate", "{}; must lie between 1 and 500000", demo.rate);
}

fn whole_seconds(durations: &[(&'static str, Duration)], refusals: &mut Refusals) {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
    for (key, duration) in durations {
        if !is_whole_seconds(*duration) || *duration > LONGEST {
            refusals.push(Refusal {
                key,
                message: format!("{duration:?}; must be whole seconds, 100 years at most"),
            });
        }
    }
}

fn is_whole_seconds(duration: Duration) -> bool {
    duration.subsec_nanos() == 0
}

/// Reads the files that hold secrets, for the settings that are in use.
pub(super) fn read_secrets(config: &mut Config, uses: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if uses("store")
        && let Some(path) = &config.store.password_file
    {
        match read_secret(path) {
            Ok(secret) => config.store.password = Some(Secret::new(secret)),
            Err(message) => refusals.push(Refusal { key: "store.password_file", message }),
        }
    }
    if uses("kafka") {
        for (name, path) in &config.kafka.property_files {
            match read_secret(path) {
                Ok(secret) => config.kafka.properties.set_hidden(name, secret),
                Err(message) => refusals
                    .push(Refusal { key: "kafka.property_files", message: format!("`{name}`: {message}") }),
            }
        }
    }
    refusals
}

fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|fault| format!("{} cannot be read: {fault}", path.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(secret.to_string()) }
}
