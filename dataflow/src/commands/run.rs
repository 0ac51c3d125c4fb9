//! `smartlog run`: Kafka to the stores, until it is stopped.

use super::job;
use crate::cli::exit;
use crate::config::Config;
use crate::engine::{Cluster, Engine, Job};
use crate::metrics::Metrics;
use crate::models::{Scoring, follow};
use crate::sources::{Sources, kafka_retention};
use crate::status;
use anyhow::Context;
use smartlog_schema::model::ModelSwap;
use smartlog_sinks::parquet::Kept;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Runs one process of the pipeline.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let cluster = cluster(config)?;
    if cluster.is_none() && config.engine.processes.get() > 1 {
        return super::supervise::run(config);
    }
    if cluster.is_some() {
        end_with_the_set();
    }
    let runtime = job::runtime()?;
    let mut job = job::from_config(config, cluster, kept(config, &runtime))?;
    job.alerts = config.alerts_config()?;
    if job.alerts.is_some() && job.storage.is_none() {
        tracing::warn!("nobody is told of episodes: alerts go by way of the store, and store.url is none");
    }
    let models_stop = Arc::<AtomicBool>::default();
    let follower = follow(config, &mut job, &runtime, &models_stop)?;
    tracing::info!("smartlog {} starts: {} workers", env!("CARGO_PKG_VERSION"), job.workers);
    let kafka = match &job.sources {
        Sources::Kafka(settings) => Some(Arc::clone(settings)),
        Sources::Files(_) => None,
    };
    let engine = Engine::start(job, runtime.handle(), Box::new(|_| {}))?;
    if let Some(listen) = config.metrics.listen {
        let gauges = engine.gauges().clone();
        let metrics = Metrics::new(gauges.clone(), kafka, follower.as_ref().map(|f| Arc::clone(&f.status)));
        crate::committer::wait(runtime.handle(), status::serve(listen, metrics, gauges))?;
    }
    stop_on_signal(&runtime, engine.stop_flag());
    let gauges = engine.gauges().clone();
    let result = engine.join(config.engine.shutdown_grace);
    models_stop.store(true, Ordering::Relaxed);
    drop(follower);
    result?;
    match gauges.most_behind() {
        0 => tracing::info!("everything that was read is committed; ended"),
        behind => tracing::info!(
            "everything that was read is counted and committed; a log sink is {behind} records behind and goes on with \
             the next start; ended"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// What Kafka keeps of a partition, where logs are exported: a file is finished before its first log could be deleted.
fn kept(config: &Config, runtime: &tokio::runtime::Runtime) -> Kept {
    if config.export_config().is_none() {
        return Kept::default();
    }
    match runtime.block_on(kafka_retention::kept(&job::kafka_settings(config))) {
        Ok(kept) => {
            let time =
                kept.time.map_or("for ever".into(), |time| humantime::format_duration(time).to_string());
            let bytes =
                kept.bytes.map_or(String::new(), |bytes| format!(", at most {bytes} bytes of a partition"));
            tracing::info!(
                "Kafka keeps records {time}{bytes}; the export's files are finished well before that"
            );
            kept
        }
        Err(error) => {
            tracing::warn!(
                "how long Kafka keeps records is not known ({error:#}): the export's files are finished by export.roll_every \
                 alone, which must be shorter"
            );
            Kept::default()
        }
    }
}

/// Has the leading process follow the registry, and every process score.
fn follow(
    config: &Config,
    job: &mut Job,
    runtime: &tokio::runtime::Runtime,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Option<Arc<follow::Watch>>> {
    let Some(settings) = config.follow()? else { return Ok(None) };
    let scoring = settings.scoring();
    job.scoring = Some(scoring.clone());
    if job.cluster.as_ref().is_some_and(|cluster| cluster.process != 0) {
        return Ok(None);
    }
    let store = job.storage.as_ref().map(|storage| (storage.store.clone(), runtime.handle().clone()));
    let (follower, watch) = follow::follower(settings, store, Arc::clone(stop))?;
    job.models = Some(Box::new(|in_force: Vec<ModelSwap>| follower.start(&in_force)));
    job.scoring = Some(Scoring { tap: watch.memory.tap(), ..scoring });
    let watch = Arc::new(watch);
    let woken = Arc::clone(&watch);
    runtime.spawn(async move {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            woken.look();
        }
    });
    Ok(Some(watch))
}

/// When another process of the set is gone, its connections break, and nothing can go on without it: ends this process
/// with the code that asks for a restart of the whole set. What was not committed is read again.
fn end_with_the_set() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let talks_to_others = |name: &str| name.starts_with("timely:recv") || name.starts_with("timely:send");
        if thread.name().is_some_and(talks_to_others) {
            tracing::error!(
                "another process of the set ended; restart the whole set, it goes on at the last commit"
            );
            std::process::exit(i32::from(exit::RESTART_SET));
        }
        usual(panic);
    }));
}

/// SIGTERM and SIGINT end reading; a second one ends the process.
pub fn stop_on_signal(runtime: &tokio::runtime::Runtime, stop: Arc<AtomicBool>) {
    runtime.spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("signals cannot be caught: end it with a kill; nothing is lost by that");
            return;
        };
        loop {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if stop.swap(true, Ordering::Relaxed) {
                tracing::warn!("stopped at once; the next start goes on at the last commit");
                std::process::exit(130);
            }
            tracing::info!("stopping: what was read is being committed; once more to stop at once");
        }
    });
}

/// The set that this process is part of, where it was told its place.
fn cluster(config: &Config) -> anyhow::Result<Option<Cluster>> {
    let Some(process) = config.engine.process else { return Ok(None) };
    let path = config.engine.hostfile.as_ref().context(
        "engine.process is set, engine.hostfile is not: the addresses of the set are needed, one HOST:PORT per line",
    )?;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading the host file {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let addresses: Vec<String> =
        lines.take(config.engine.processes.get().max(1)).map(str::to_owned).collect();
    anyhow::ensure!(
        process < addresses.len() && addresses.len() >= config.engine.processes.get(),
        "{} names {} addresses; process {process} of {} needs one each",
        path.display(),
        addresses.len(),
        config.engine.processes
    );
    Ok(Some(Cluster { process, addresses }))
}
