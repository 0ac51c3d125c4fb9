//! `smartlog generate`: made-up logs with known incidents, to stdout, a file or Kafka.

use crate::config::{Config, Generate, Kafka};
use anyhow::Context as _;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use smartlog_generator::output::{KafkaTarget, Pace, Partitioning, Progress, to_file, to_kafka, to_writer};
use smartlog_generator::{Generator, GeneratorConfig, IncidentPlan, Services};
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let settings = &config.generate;
    let traffic = generator_config(settings, Timestamp::now())?;
    let mut generator = Generator::new(traffic)?;
    let pace = Pace { speed: speed(settings), now_us: None, cancelled: cancelled_by_signal()? };
    let bar = progress_bar(settings);
    let start = generator.config().start;
    let mut told = |progress: &Progress| tell(&bar, start, progress);
    let written = match settings.to.as_str() {
        "stdout" => to_writer(&mut generator, &mut io::stdout().lock(), &pace, &mut told)?,
        "kafka" => to_kafka(&mut generator, &kafka_target(&config.kafka), &pace, &mut told)?.sent,
        file => to_file(&mut generator, Path::new(file), &pace, &mut told)?,
    };
    bar.finish_and_clear();
    if let Some(path) = &settings.labels {
        let labels = generator.labels().to_json();
        std::fs::write(path, labels)
            .with_context(|| format!("generate.labels: {} cannot be written", path.display()))?;
    }
    let (lines, bytes) = (HumanCount(written.lines), HumanBytes(written.bytes));
    tracing::info!(to = settings.to, "made {lines} lines, {bytes}");
    Ok(ExitCode::SUCCESS)
}

/// The traffic that the settings describe.
fn generator_config(settings: &Generate, now: Timestamp) -> anyhow::Result<GeneratorConfig> {
    let span = |key: &str, duration: Duration| {
        SignedDuration::try_from(duration)
            .with_context(|| format!("generate.{key}: {duration:?} is too long"))
    };
    let duration = settings.duration.map(|duration| span("duration", duration)).transpose()?;
    let covered = duration.or_else(|| covered_by_count(settings));
    Ok(GeneratorConfig {
        seed: settings.seed,
        start: start(settings, covered, now)?,
        duration,
        lines: settings.count.map(NonZeroU64::get),
        rate_per_s: settings.rate,
        services: settings.services.map_or(Services::Builtin, |count| Services::Count(count.get())),
        incidents: incidents(settings)?,
        learn: span("learn", settings.learn)?,
        malformed_share: settings.malformed_share,
        odd_share: settings.odd_share,
        disorder: span("disorder", settings.disorder)?,
        late_share: settings.late_share,
        late_max: span("late_max", settings.late_max)?,
        deploy_every: span("deploy_every", settings.deploy_every)?,
        ..GeneratorConfig::default()
    })
}

/// Event time that `generate.count` lines take at most: at night the rate is a third of its mean.
fn covered_by_count(settings: &Generate) -> Option<SignedDuration> {
    const QUIETEST: f64 = 1.0 / 3.0;
    let seconds = settings.count?.get() as f64 / (settings.rate * QUIETEST);
    SignedDuration::try_from_secs_f64(seconds.ceil()).ok()
}

/// At full speed the traffic is there at once, and what lies in the future is no log: so it ends now.
fn start(settings: &Generate, duration: Option<SignedDuration>, now: Timestamp) -> anyhow::Result<Timestamp> {
    match (settings.start, duration) {
        (Some(start), _) => Ok(start),
        (None, Some(duration)) if settings.speed == 0.0 => now
            .checked_sub(duration)
            .context("generate.duration reaches back too far; give generate.start as well"),
        (None, _) => Ok(now),
    }
}

fn incidents(settings: &Generate) -> anyhow::Result<IncidentPlan> {
    match settings.incidents.as_str() {
        "none" => Ok(IncidentPlan::None),
        "demo" => Ok(IncidentPlan::Demo),
        "auto" => Ok(IncidentPlan::Auto {
            per_day: settings.incidents_per_day,
            disturbances_per_day: settings.disturbances_per_day,
            kinds: settings.incident_kinds.clone(),
        }),
        file => {
            let text = std::fs::read_to_string(file).with_context(|| {
                format!("generate.incidents: expected none, auto, demo or a file, and {file} cannot be read")
            })?;
            let specs = serde_json::from_str(&text).with_context(|| {
                format!("generate.incidents: {file} is not a JSON list of {{kind, service, after, lasts, magnitude}}")
            })?;
            Ok(IncidentPlan::Explicit(specs))
        }
    }
}

fn kafka_target(kafka: &Kafka) -> KafkaTarget {
    KafkaTarget {
        brokers: kafka.brokers.clone(),
        topic: kafka.topics.first().cloned().unwrap_or_default(),
        partitioning: Partitioning::default(),
        properties: kafka.properties.iter().map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

/// The generator's word for full speed is infinity.
fn speed(settings: &Generate) -> f64 {
    if settings.speed == 0.0 { f64::INFINITY } else { settings.speed }
}

/// A flag that SIGINT and SIGTERM set: what was made until then is written out, and so are the labels.
fn cancelled_by_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(cancelled)
}

/// Shown where stderr is a terminal that the lines themselves do not go to.
fn progress_bar(settings: &Generate) -> ProgressBar {
    if settings.to == "stdout" && io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
    match settings.duration {
        Some(duration) => ProgressBar::new(duration.as_secs())
            .with_style(style("{bar:40} {percent}% of the event time, {msg}, {eta} to go")),
        None => ProgressBar::new_spinner().with_style(style("{spinner} {msg} in {elapsed}")),
    }
}

fn tell(bar: &ProgressBar, start: Timestamp, progress: &Progress) {
    let covered_us = progress.arrival_us.saturating_sub(start.as_microsecond()).max(0);
    bar.set_position(covered_us.unsigned_abs() / 1_000_000);
    bar.set_message(format!("{} lines, {}", HumanCount(progress.lines), HumanBytes(progress.bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_generator::IncidentKind;

    fn now() -> Timestamp {
        "2026-01-15T10:30:00Z".parse().expect("a time")
    }

    #[test]
    fn the_defaults_are_the_generators_own_but_for_the_moment() {
        let config = generator_config(&Generate::default(), now()).expect("defaults work");
        let own = GeneratorConfig { start: now(), duration: None, ..GeneratorConfig::default() };
        assert_eq!(config, own);
    }

    #[test]
    fn at_full_speed_the_traffic_ends_now() {
        let hour = Some(Duration::from_secs(3600));
        let settings = Generate { duration: hour, speed: 0.0, ..Generate::default() };
        let config = generator_config(&settings, now()).expect("valid");
        assert_eq!(config.start.to_string(), "2026-01-15T09:30:00Z");
        assert!(speed(&settings).is_infinite());
        let settings = Generate { duration: hour, speed: 60.0, ..Generate::default() };
        assert_eq!(generator_config(&settings, now()).expect("valid").start, now());
        let settings = Generate { count: NonZeroU64::new(600_000), speed: 0.0, ..Generate::default() };
        let config = generator_config(&settings, now()).expect("valid");
        assert_eq!(
            (config.start.to_string().as_str(), config.lines),
            ("2026-01-15T10:00:00Z", Some(600_000))
        );
        let given = "2026-02-03T04:05:06Z".parse().ok();
        let settings = Generate { duration: hour, speed: 0.0, start: given, ..Generate::default() };
        assert_eq!(Some(generator_config(&settings, now()).expect("valid").start), given);
    }

    #[test]
    fn incidents_come_from_the_seed_or_from_a_file() {
        let plan = |incidents: &str| incidents_of(incidents).map_err(|fault| format!("{fault:#}"));
        assert_eq!(plan("none"), Ok(IncidentPlan::None));
        let auto = IncidentPlan::Auto {
            per_day: 24.0,
            disturbances_per_day: 6.0,
            kinds: vec![IncidentKind::Silence],
        };
        assert_eq!(plan("auto"), Ok(auto));
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_str().expect("UTF-8");
        std::fs::write(path, r#"[{"kind": "silence", "service": "cart", "after": "10m", "lasts": "5m"}]"#)
            .expect("written");
        assert!(
            matches!(plan(path), Ok(IncidentPlan::Explicit(specs)) if specs.len() == 1 && specs[0].service == "cart")
        );
        std::fs::write(path, r#"[{"kind": "quiet"}]"#).expect("written");
        let fault = plan(path).expect_err("no such kind");
        assert!(
            fault.contains("is not a JSON list of") && fault.contains("unknown variant `quiet`"),
            "{fault}"
        );
        let fault = plan("/dev/null/plan.json").expect_err("no such file");
        assert!(
            fault.starts_with("generate.incidents: expected none, auto, demo or a file, and /dev/null"),
            "{fault}"
        );
    }

    fn incidents_of(incidents: &str) -> anyhow::Result<IncidentPlan> {
        let settings = Generate {
            incidents: incidents.into(),
            incident_kinds: vec![IncidentKind::Silence],
            ..Generate::default()
        };
        super::incidents(&settings)
    }
}
