//! What cannot work is refused before anything starts: what, and what to do.
//!
//! One function per section; each looks only at values, except where a file that a setting names must be read.

use super::error::in_words;
use super::secret::Secret;
use super::settings::*;
use crate::sources::kafka_client::RESERVED;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// A setting that is refused.
pub(super) struct Refusal {
    pub key: &'static str,
    pub message: String,
}

type Refusals = Vec<Refusal>;

/// Refuses `key` with `message` when the condition does not hold.
fn require(refusals: &mut Refusals, holds: bool, key: &'static str, message: fmt::Arguments<'_>) {
    if !holds {
        refusals.push(Refusal { key, message: message.to_string() });
    }
}

/// Everything that is wrong with `config`.
pub(super) fn refusals(config: &Config) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    kafka(&config.kafka, &mut refusals);
    parse(config, &mut refusals);
    engine(config, &mut refusals);
    processes(config, &mut refusals);
    time(&config.time, &mut refusals);
    store(&config.store, &mut refusals);
    export(config, &mut refusals);
    cloud(config, &mut refusals);
    alerts(&config.alerts, &mut refusals);
    detection(&config.detection, &mut refusals);
    models(config, &mut refusals);
    redis(config, &mut refusals);
    search(config, &mut refusals);
    serving(config, &mut refusals);
    telemetry(&config.telemetry, &mut refusals);
    top(&config.top, &mut refusals);
    tools(config, &mut refusals);
    refusals
}

fn cloud(config: &Config, refusals: &mut Refusals) {
    require(
        refusals,
        config.cloud_costs().is_some(),
        "cloud.region",
        format_args!(
            "there are no prices of `{}`, but of {}: take the nearest",
            config.cloud.region,
            smartlog_api::CloudCosts::regions().join(", ")
        ),
    );
    let cloud = &config.cloud;
    for (key, name, usual) in [
        ("cloud.contributions_table", cloud.contributions(), "summary_contributions"),
        ("cloud.summaries_table", cloud.summaries_table.clone(), "daily_summaries"),
        ("cloud.function", cloud.function.clone(), "log-processor"),
    ] {
        require(refusals, !name.trim().is_empty(), key, format_args!("empty; Terraform makes {usual}"));
    }
}

/// What can be told before the files with the addresses are read; the rest is refused when they were.
fn alerts(alerts: &Alerts, refusals: &mut Refusals) {
    for name in alerts.hooks.keys() {
        let has_address = alerts.urls.get(name).is_some() || alerts.url_files.contains_key(name);
        require(
            refusals,
            has_address,
            "alerts.hooks",
            format_args!("`{name}` has no address; name a file that holds it in alerts.url_files"),
        );
    }
    for name in alerts.urls.names().chain(alerts.url_files.keys().map(String::as_str)) {
        require(
            refusals,
            alerts.hooks.contains_key(name),
            "alerts.hooks",
            format_args!("an address is given for `{name}`, which is no hook; say what it understands"),
        );
    }
    require(
        refusals,
        !alerts.timeout.is_zero() && alerts.timeout <= Duration::from_secs(300),
        "alerts.timeout",
        format_args!("{:?}; must be more than nothing and 5 minutes at most", alerts.timeout),
    );
    require(
        refusals,
        alerts.group_wait <= Duration::from_secs(600),
        "alerts.group_wait",
        format_args!("{:?}; 10 minutes at most", alerts.group_wait),
    );
}

fn export(config: &Config, refusals: &mut Refusals) {
    let export = &config.export;
    let target = export.target.trim();
    require(
        refusals,
        !target.is_empty(),
        "export.target",
        format_args!("empty; name a folder, s3://BUCKET/PREFIX, or none"),
    );
    let known = target.split_once("://").is_none_or(|(scheme, _)| matches!(scheme, "s3" | "file"));
    require(
        refusals,
        known,
        "export.target",
        format_args!("expected a folder, s3://BUCKET/PREFIX, or none, found `{target}`"),
    );
    let keeps_positions = target == "none" || config.store.url != StoreUrl::None;
    require(
        refusals,
        keeps_positions,
        "export.target",
        format_args!("the export keeps its positions in the store, and store.url is none: name a store"),
    );
    let least = Duration::from_secs(1);
    require(
        refusals,
        export.roll_every.is_none_or(|every| every >= least),
        "export.roll_every",
        format_args!("below 1s; each file costs requests and readers"),
    );
    for (key, bytes, least) in [
        ("export.roll_bytes", export.roll_bytes, 64 << 10),
        ("export.max_buffer_bytes", export.max_buffer_bytes, 1 << 20),
        ("export.max_spool_bytes", export.max_spool_bytes, 1 << 20),
    ] {
        require(refusals, bytes >= least, key, format_args!("{bytes} bytes; at least {least} are needed"));
    }
}

fn models(config: &Config, refusals: &mut Refusals) {
    let models = &config.models;
    match models.columns() {
        Err(fault) => require(refusals, false, "models.features", format_args!("{fault}")),
        Ok(columns) => {
            let uncounted = columns.of_patterns().filter(|_| !config.patterns.enabled);
            let message = format_args!("{} needs patterns.enabled = true", uncounted.unwrap_or_default());
            require(refusals, uncounted.is_none(), "models.features", message);
        }
    }
    let share = models.contamination;
    require(
        refusals,
        share > 0.0 && share <= 0.5,
        "models.contamination",
        format_args!("expected a share above 0 and at most 0.5, found {share}"),
    );
    for (key, value, least) in [
        ("models.n_estimators", models.n_estimators, 1),
        ("models.max_samples", models.max_samples, 2),
        ("models.min_windows", models.min_windows, 2),
    ] {
        require(refusals, value >= least, key, format_args!("expected at least {least}, found {value}"));
    }
    require(
        refusals,
        models.poll >= Duration::from_secs(1),
        "models.poll",
        format_args!("expected at least 1s, found {:?}", models.poll),
    );
    if let Some(url) = &models.mlflow {
        let is_url = url.starts_with("http://") || url.starts_with("https://");
        let message = format_args!("expected a URL with http:// or https://, found another text");
        require(refusals, is_url, "models.mlflow", message);
    }
}

fn kafka(kafka: &Kafka, refusals: &mut Refusals) {
    require(
        refusals,
        !kafka.brokers.trim().is_empty(),
        "kafka.brokers",
        format_args!("empty; name one broker at least, as HOST:PORT"),
    );
    require(
        refusals,
        !kafka.topics.is_empty(),
        "kafka.topics",
        format_args!("empty; name one topic at least"),
    );
    for (at, topic) in kafka.topics.iter().enumerate() {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let legal = !topic.is_empty() && topic.len() <= 249 && topic.chars().all(is_legal);
        require(
            refusals,
            legal,
            "kafka.topics",
            format_args!("`{topic}` is no topic's name: letters, digits, `.`, `_`, `-`, up to 249"),
        );
        require(
            refusals,
            !kafka.topics[..at].contains(topic),
            "kafka.topics",
            format_args!("`{topic}` is named twice; name it once"),
        );
    }
    for (name, instead) in RESERVED {
        let given = kafka.properties.get(name).is_some() || kafka.property_files.contains_key(name);
        require(refusals, !given, "kafka.properties", format_args!("`{name}` is not to be set: {instead}"));
    }
    for name in kafka.property_files.keys() {
        let twice = kafka.properties.get(name).is_some();
        require(
            refusals,
            !twice,
            "kafka.property_files",
            format_args!("`{name}` is in kafka.properties too; keep one of them"),
        );
    }
    if !cfg!(feature = "tls") {
        let has = |name: &str, mark: &str| {
            kafka.properties.get(name).is_some_and(|value| value.to_ascii_lowercase().contains(mark))
        };
        let needs_tls = has("security.protocol", "ssl")
            || has("sasl.mechanism", "scram")
            || has("sasl.mechanisms", "scram");
        require(
            refusals,
            !needs_tls,
            "kafka.properties",
            format_args!("TLS and SCRAM are not part of this build; build with `--features tls`"),
        );
    }
}

fn parse(config: &Config, refusals: &mut Refusals) {
    const SMALLEST: u64 = 1 << 10;
    const LARGEST: u64 = 64 << 20;
    let max = config.parse.max_record_bytes;
    require(
        refusals,
        (SMALLEST..=LARGEST).contains(&max),
        "parse.max_record_bytes",
        format_args!("{max} bytes; must lie between 1 KiB and 64 MiB"),
    );
    require(
        refusals,
        max.saturating_mul(2) <= config.engine.max_in_flight_bytes,
        "parse.max_record_bytes",
        format_args!(
            "more than half of engine.max_in_flight_bytes ({} bytes): hardly one would find room; raise that, or lower \
         this",
            config.engine.max_in_flight_bytes
        ),
    );
    if let Err((key, message)) = config.parse.mapping() {
        refusals.push(Refusal { key, message });
    }
}

fn engine(config: &Config, refusals: &mut Refusals) {
    let Engine { tick, max_in_flight_bytes, max_waiting_bytes, shutdown_grace, workers, .. } = &config.engine;
    let ticks = Duration::from_millis(10)..=Duration::from_secs(10);
    require(
        refusals,
        ticks.contains(tick),
        "engine.tick",
        format_args!("{tick:?}; must lie between 10ms and 10s"),
    );
    for (key, bytes) in [
        ("engine.max_in_flight_bytes", *max_in_flight_bytes),
        ("engine.max_waiting_bytes", *max_waiting_bytes),
    ] {
        if bytes < 1 << 20 {
            refusals.push(Refusal { key, message: format!("{bytes} bytes; must be 1 MiB at least") });
        }
    }
    require(
        refusals,
        !shutdown_grace.is_zero(),
        "engine.shutdown_grace",
        format_args!("0s; must be longer, 10s say"),
    );
    let threads = workers.map_or(1, |workers| workers.get());
    require(
        refusals,
        threads <= 256,
        "engine.workers",
        format_args!("{threads}; must be 256 at most: one per core is the most of use"),
    );
    let hop = config.windows.hop;
    let whole = is_whole_seconds(hop) && !hop.is_zero();
    require(refusals, whole, "windows.hop", format_args!("{hop:?}; must be whole seconds, one at least"));
}

fn processes(config: &Config, refusals: &mut Refusals) {
    let Engine { processes, process, hostfile, base_port, .. } = &config.engine;
    let processes = processes.get();
    require(refusals, processes <= 64, "engine.processes", format_args!("{processes}; must be 64 at most"));
    require(
        refusals,
        processes == 1 || !matches!(config.store.url, StoreUrl::Sqlite(_)),
        "engine.processes",
        format_args!(
            "{processes} processes cannot share the SQLite store `{}`; set store.url to a PostgreSQL database",
            config.store.url
        ),
    );
    require(
        refusals,
        *base_port == 0 || usize::from(*base_port) + processes <= 65_536,
        "engine.base_port",
        format_args!("{base_port} leaves no room for {processes} ports; lower it"),
    );
    match (process, hostfile) {
        (Some(process), _) if *process >= processes => require(
            refusals,
            false,
            "engine.process",
            format_args!("{process}; with engine.processes = {processes} the last one is {}", processes - 1),
        ),
        (Some(_), None) if processes > 1 => require(
            refusals,
            false,
            "engine.process",
            format_args!("needs engine.hostfile, the addresses of all processes"),
        ),
        (None, Some(_)) => require(
            refusals,
            false,
            "engine.hostfile",
            format_args!("needs engine.process, which line of it this process is"),
        ),
        (Some(_), Some(path)) => refusals.extend(hostfile_refusal(path, processes)),
        (Some(_), None) | (None, None) => {}
    }
}

fn hostfile_refusal(path: &Path, processes: usize) -> Option<Refusal> {
    let message = match std::fs::read_to_string(path) {
        Err(fault) => format!("{} cannot be read: {}", path.display(), in_words(&fault)),
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
    require(
        refusals,
        time.max_lateness >= time.watermark_delay,
        "time.max_lateness",
        format_args!(
            "{:?}, less than time.watermark_delay ({:?}); raise this or lower that",
            time.max_lateness, time.watermark_delay
        ),
    );
    require(
        refusals,
        time.max_lateness <= Duration::from_secs(86_400),
        "time.max_lateness",
        format_args!(
            "{:?}; must be a day at most: the sums of every service and second are kept that long",
            time.max_lateness
        ),
    );
    require(
        refusals,
        time.retention >= time.max_lateness + Duration::from_secs(3600),
        "time.retention",
        format_args!("{:?}; must be an hour longer than time.max_lateness at least", time.retention),
    );
}

fn store(store: &Store, refusals: &mut Refusals) {
    let name = &store.pipeline;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let legal = (1..=63).contains(&name.len()) && name.chars().all(is_legal);
    require(
        refusals,
        legal,
        "store.pipeline",
        format_args!("`{name}`; use 1 to 63 letters, digits, `.`, `_`, `-`"),
    );
    if store.password_file.is_some() {
        match &store.url {
            StoreUrl::Postgres(url) => require(
                refusals,
                !carries_password(url),
                "store.password_file",
                format_args!("store.url carries a password too; take it out of the URL"),
            ),
            url => require(
                refusals,
                false,
                "store.password_file",
                format_args!("only PostgreSQL asks for one, and store.url is `{url}`"),
            ),
        }
    }
}

fn telemetry(telemetry: &Telemetry, refusals: &mut Refusals) {
    let Some(endpoint) = &telemetry.otlp_endpoint else { return };
    let key = "telemetry.otlp_endpoint";
    without_user(key, endpoint, refusals);
    let found = "this program was built without traces: build it with --features otlp";
    require(refusals, cfg!(feature = "otlp"), key, format_args!("{found}"));
}

fn top(top: &Top, refusals: &mut Refusals) {
    for (key, url) in [("top.url", &top.url), ("top.metrics_url", &top.metrics_url)] {
        let Some(url) = url else { continue };
        without_user(key, url, refusals);
    }
    let refresh = top.refresh;
    let is_bearable = (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&refresh);
    require(refusals, is_bearable, "top.refresh", format_args!("{refresh:?}; use 100ms to 1h"));
}

/// A server over HTTP. A password in its URL would be shown in error messages.
fn without_user(key: &'static str, url: &str, refusals: &mut Refusals) {
    let place = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_legal = place.is_some_and(|place| !place.is_empty() && !place.contains('@'));
    let expected = "expected http://HOST:PORT without a user, found something else";
    require(refusals, is_legal, key, format_args!("{expected}"));
}

fn carries_password(url: &str) -> bool {
    super::secret::redact_url(url) != url
}

fn detection(detection: &Detection, refusals: &mut Refusals) {
    let Detection { calm, max_episode, retire_after, hysteresis, baseline, .. } = detection;
    let Baseline { minutes, enough_minutes, first_minutes, season_days, lag, drift, .. } = *baseline;
    whole_seconds(
        &[
            ("detection.calm", *calm),
            ("detection.max_episode", *max_episode),
            ("detection.retire_after", *retire_after),
            ("detection.baseline.lag", lag),
            ("detection.new_pattern.warm_up", detection.new_pattern.warm_up),
        ],
        refusals,
    );
    let whole_minutes = drift.as_secs() >= 60 && drift.as_secs().is_multiple_of(60);
    let message = format_args!("{drift:?}; must be whole minutes, one at least");
    require(refusals, whole_minutes, "detection.baseline.drift", message);
    let first = (1..=minutes).contains(&first_minutes);
    let message =
        format_args!("{first_minutes}; must lie between 1 and detection.baseline.minutes ({minutes})");
    require(refusals, first, "detection.baseline.first_minutes", message);
    let message = format_args!("{season_days}; must lie between 1 and 7");
    require(refusals, (1..=7).contains(&season_days), "detection.baseline.season_days", message);
    let share = *hysteresis > 0.0 && *hysteresis <= 1.0;
    let message = format_args!("{hysteresis}; must be more than 0 and 1 at most");
    require(refusals, share, "detection.hysteresis", message);
    for (key, value) in [
        ("detection.episodes_per_week", detection.episodes_per_week),
        ("detection.baseline.spread", baseline.spread),
        ("detection.baseline.error_spread", baseline.error_spread),
    ] {
        at_least_zero(key, value, refusals);
    }
    let fits = (1..=minutes).contains(&enough_minutes);
    let message =
        format_args!("{enough_minutes}; must lie between 1 and detection.baseline.minutes ({minutes})");
    require(refusals, fits, "detection.baseline.enough_minutes", message);
    rules(detection, refusals);
    match detection.of_services() {
        Err(message) => refusals.push(Refusal { key: "detection.services", message }),
        Ok(services) => services.iter().for_each(|(service, own)| of_service(service, own, refusals)),
    }
}

/// What a service has of its own must work, too.
fn of_service(service: &str, own: &Detection, refusals: &mut Refusals) {
    let mut found = Vec::new();
    rules(own, &mut found);
    refusals.extend(found.into_iter().map(|Refusal { key, message }| {
        let key = key.trim_start_matches("detection.");
        Refusal { key: "detection.services", message: format!("`{service}.{key}`: {message}") }
    }));
}

fn at_least_zero(key: &'static str, value: f64, refusals: &mut Refusals) {
    let some = value >= 0.0 && value.is_finite();
    require(refusals, some, key, format_args!("{value}; must be 0 or more"));
}

fn rules(detection: &Detection, refusals: &mut Refusals) {
    let Detection { error_rate_spike: errors, log_volume_spike: spike, log_volume_drop: drop, .. } =
        detection;
    let above = |ratio: f64| ratio > 1.0 && ratio.is_finite();
    let below = |ratio: f64| ratio > 0.0 && ratio < 1.0;
    let keys = [
        ["detection.error_rate_spike.minute.ratio", "detection.error_rate_spike.minute.significance"],
        ["detection.error_rate_spike.window.ratio", "detection.error_rate_spike.window.significance"],
        ["detection.error_rate_spike.drift.ratio", "detection.error_rate_spike.drift.significance"],
    ];
    tests(keys, [errors.minute, errors.window, errors.drift], above, "be more than 1", refusals);
    let keys = [
        ["detection.log_volume_spike.minute.ratio", "detection.log_volume_spike.minute.significance"],
        ["detection.log_volume_spike.window.ratio", "detection.log_volume_spike.window.significance"],
        ["detection.log_volume_spike.drift.ratio", "detection.log_volume_spike.drift.significance"],
    ];
    tests(keys, [spike.minute, spike.window, spike.drift], above, "be more than 1", refusals);
    let keys = [
        ["detection.log_volume_drop.minute.ratio", "detection.log_volume_drop.minute.significance"],
        ["detection.log_volume_drop.window.ratio", "detection.log_volume_drop.window.significance"],
        ["detection.log_volume_drop.drift.ratio", "detection.log_volume_drop.drift.significance"],
    ];
    tests(keys, [drop.minute, drop.window, drop.drift], below, "lie between 0 and 1", refusals);
    let floor = errors.baseline_floor;
    let message = format_args!("{floor}; must lie between 0 and 1");
    require(refusals, below(floor), "detection.error_rate_spike.baseline_floor", message);
    for (key, value) in [
        ("detection.log_volume_spike.min_logs", spike.min_logs),
        ("detection.log_volume_drop.min_logs", drop.min_logs),
    ] {
        at_least_zero(key, value, refusals);
    }
    let new = &detection.new_pattern;
    for (key, least) in [
        ("detection.error_rate_spike.min_errors", errors.min_errors),
        ("detection.new_pattern.min_errors", new.min_errors),
        ("detection.new_pattern.min_burst", new.min_burst),
    ] {
        require(refusals, least >= 1, key, format_args!("{least}; must be 1 at least"));
    }
    let ratio = new.burst_ratio;
    let message = format_args!("{ratio}; must be more than 1");
    require(refusals, above(ratio), "detection.new_pattern.burst_ratio", message);
}

fn redis(config: &Config, refusals: &mut Refusals) {
    let Config { redis, store, .. } = config;
    let prefix = &redis.prefix;
    let legal = (1..=100).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_graphic());
    require(
        refusals,
        legal,
        "redis.prefix",
        format_args!("`{prefix}`; use 1 to 100 visible ASCII characters"),
    );
    require(
        refusals,
        redis.url.is_none() || store.url != StoreUrl::None,
        "redis.url",
        format_args!("what it is given comes from the store, and store.url is none: name a store"),
    );
}

fn search(config: &Config, refusals: &mut Refusals) {
    let Config { search, store, .. } = config;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let prefix = &search.prefix;
    let begins_well = prefix.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    require(
        refusals,
        begins_well && prefix.len() <= 100 && prefix.bytes().all(legal),
        "search.prefix",
        format_args!("`{prefix}`; use 1 to 100 of a-z, 0-9, `-`, `_` and `.`, a letter or digit first"),
    );
    require(
        refusals,
        search.url.is_none() || store.url != StoreUrl::None,
        "search.url",
        format_args!("its positions are kept in the store, and store.url is none: name a store"),
    );
    require(
        refusals,
        search.retention.is_none_or(|retention| retention >= Duration::from_secs(86_400)),
        "search.retention",
        format_args!("below 24h; an index holds a day"),
    );
    let bytes = search.max_request_bytes;
    require(
        refusals,
        (64 << 10..=100 << 20).contains(&bytes),
        "search.max_request_bytes",
        format_args!("{bytes} bytes; from 64 KiB to 100 MiB, which is what a server takes by default"),
    );
    require(
        refusals,
        search.timeout >= Duration::from_secs(1),
        "search.timeout",
        format_args!("{:?}; at least 1s", search.timeout),
    );
}

/// The tests of one rule: over the minute, the window and the drift. `keys`: of ratio and significance.
fn tests(
    keys: [[&'static str; 2]; 3],
    tests: [Test; 3],
    is_beyond: impl Fn(f64) -> bool,
    must: &str,
    refusals: &mut Refusals,
) {
    for ([of_ratio, of_significance], Test { ratio, significance }) in keys.into_iter().zip(tests) {
        require(refusals, is_beyond(ratio), of_ratio, format_args!("{ratio}; must {must}"));
        let share = significance > 0.0 && significance < 1.0;
        let message = format_args!("{significance}; must lie between 0 and 1");
        require(refusals, share, of_significance, message);
    }
}

fn serving(config: &Config, refusals: &mut Refusals) {
    let Config { api, metrics, log, .. } = config;
    let clash = api.listen.port() != 0 && metrics.listen == Some(api.listen);
    require(
        refusals,
        !clash,
        "metrics.listen",
        format_args!("{} is api.listen too; give it another port", api.listen),
    );
    for token in &api.tokens {
        if let Err(fault) = token.parse::<smartlog_api::Token>() {
            refusals.push(Refusal { key: "api.tokens", message: fault.to_string() });
        }
    }
    require(
        refusals,
        !matches!(api.feedback_store, StoreUrl::Sqlite(_)),
        "api.feedback_store",
        format_args!("a SQLite file has no roles; leave it out"),
    );
    if let Err(fault) = EnvFilter::builder().parse(&log.filter) {
        let filter = &log.filter;
        require(
            refusals,
            false,
            "log.filter",
            format_args!("`{filter}`: {fault}; write a level such as info, or TARGET=LEVEL pairs"),
        );
    }
}

fn tools(config: &Config, refusals: &mut Refusals) {
    let Config { generate, demo, .. } = config;
    let rate = generate.rate;
    let sane = rate > 0.0 && rate <= 5e6;
    require(refusals, sane, "generate.rate", format_args!("{rate}; must be more than 0 and 5000000 at most"));
    let speed = generate.speed;
    require(
        refusals,
        speed >= 0.0 && speed.is_finite(),
        "generate.speed",
        format_args!("{speed}; must be 0 or more"),
    );
    let sane = (1..=500_000).contains(&demo.rate);
    require(refusals, sane, "demo.rate", format_args!("{}; must lie between 1 and 500000", demo.rate));
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
    if uses("top")
        && let Some(path) = &config.top.token_file
    {
        match read_secret(path) {
            Ok(secret) => config.top.token = Some(Secret::new(secret)),
            Err(message) => refusals.push(Refusal { key: "top.token_file", message }),
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
    if uses("alerts") {
        let mut unread = 0;
        for (name, path) in &config.alerts.url_files {
            match read_secret(path) {
                Ok(url) => config.alerts.urls.set(name, url),
                Err(message) => {
                    unread += 1;
                    refusals
                        .push(Refusal { key: "alerts.url_files", message: format!("`{name}`: {message}") });
                }
            }
        }
        if let (0, Err((key, message))) = (unread, config.alerts.config()) {
            refusals.push(Refusal { key, message });
        }
    }
    refusals
}

fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|fault| format!("{} cannot be read: {}", path.display(), in_words(&fault)))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(secret.to_string()) }
}
