//! Serves the API over a store that something else fills:
//! `cargo run --release -p smartlog-api --example serve -- sqlite:state.db 127.0.0.1:8000`

use smartlog_api::{ApiConfig, serve};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let store = arguments.next().ok_or("usage: serve sqlite:FILE|postgres://… [ADDRESS:PORT]")?;
    let mut config = ApiConfig::new(store.parse()?);
    if let Some(listen) = arguments.next() {
        config.listen = listen.parse()?;
    }
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    serve(config, Arc::new(|_: &mut String| Ok(())), stop).await?;
    Ok(())
}
