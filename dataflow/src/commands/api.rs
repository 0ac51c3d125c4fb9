//! `smartlog api`: the REST API and the page, in a process of its own.

use super::job;
use crate::cli::ApiAction;
use crate::config::{Config, StoreUrl};
use crate::metrics::Metrics;
use anyhow::Context;
use smartlog_api::{ApiConfig, Limits, RateLimit, RedisConfig, Scope, Token};
use smartlog_sinks::CancellationToken;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Serves until it is stopped.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = super::store_config(config)?;
    let api = api_config(config, &store.url)?;
    let runtime = job::runtime()?;
    let stop = Arc::new(AtomicBool::new(false));
    super::run::stop_on_signal(&runtime, Arc::clone(&stop));
    let token = CancellationToken::new();
    let ends = token.clone();
    runtime.spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ends.cancel();
    });
    // The dataflow's numbers are at the dataflow's own address.
    let process = Arc::new(Metrics::of_process());
    crate::committer::wait(runtime.handle(), smartlog_api::serve(api, process, token))?;
    Ok(ExitCode::SUCCESS)
}

/// `smartlog api token`: makes a token and prints what goes where.
pub fn token(action: &ApiAction) -> anyhow::Result<ExitCode> {
    let ApiAction::Token { name, scope } = action;
    let scopes: Vec<Scope> = scope.iter().filter_map(|scope| Scope::parse(scope)).collect();
    let (token, secret) = Token::generate(name, &scopes);
    // The name as it will be read back.
    let token: Token = token.to_string().parse()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{secret}")?;
    writeln!(out, "{token}")?;
    let mut hint = std::io::stderr().lock();
    writeln!(
        hint,
        "The first line is the secret, for whoever asks: it is shown once. The second goes into api.tokens."
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The API's settings, for the store at `store_url`.
pub fn api_config(config: &Config, store_url: &str) -> anyhow::Result<ApiConfig> {
    let (api, limits) = (&config.api, &config.api.limits);
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let tokens = api.tokens.iter().map(|token| token.parse()).collect::<Result<Vec<Token>, _>>();
    let feedback_store = match &api.feedback_store {
        StoreUrl::Postgres(url) => Some(url.parse().context("api.feedback_store")?),
        StoreUrl::None | StoreUrl::Sqlite(_) => None,
    };
    Ok(ApiConfig {
        listen: api.listen,
        feedback_store,
        tokens: tokens.context("api.tokens")?,
        store_connections: api.store_connections.get(),
        statement_timeout: api.statement_timeout,
        limits: Limits {
            connections: limits.connections.get(),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            write_timeout: limits.write_timeout,
            request_timeout: limits.request_timeout,
            drain_timeout: limits.drain_timeout,
            body_bytes: bytes(limits.body_bytes),
            head_bytes: bytes(limits.head_bytes),
        },
        cors_origins: api.cors_origins.clone(),
        rate_limit: api.rate_limit.map(|per_second| RateLimit { per_second, burst: api.rate_burst }),
        allow_public: api.allow_public,
        cache_bytes: api.cache_bytes,
        cloud: config.cloud_costs().context("cloud.region: there are no prices of it")?,
        redis: config.redis.sink_config().map(|redis| RedisConfig { url: redis.url, prefix: redis.prefix }),
        ..ApiConfig::new(store_url.parse().context("the API cannot read this store")?)
    })
}
