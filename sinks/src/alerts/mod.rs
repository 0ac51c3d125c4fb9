//! Tells people of episodes, by webhooks. At least once, each with an idempotency key, and none is lost by a restart.
//!
//! ```text
//!   anomaly_events ── follow ─▶ alert_outbox ── deliver, one task a hook ─▶ formats/x.rs ─▶ POST
//!     from the stored position     │ one row a change and hook                ▲
//!     in the same transaction      └ grouped, held, limited: policy.rs        └ retried until it is taken
//!                                    lines of the logs: lines.rs
//! ```
//!
//! Only what complete windows say is told: that an episode is there, and that it is over or was disproved. Hooks that can
//! edit show the end in the message that told of the beginning.
//!
//! A new target is a file in `formats/` and a line in [`formats::FORMATS`].

mod config;
mod deliver;
mod follow;
pub mod formats;
mod lines;
mod message;
mod policy;
mod post;

pub use config::{AlertsConfig, HookConfig, InvalidAlerts, Route};
pub use deliver::HookState;
pub use follow::MOST_PENDING;
pub use message::{Message, Notice, Phase};
pub use policy::QuietHours;

use crate::config::StoreConfig;
use crate::error::SinkError;
use crate::retry::Patience;
use crate::{CancellationToken, Health};
use std::sync::Arc;
use tokio::sync::Notify;

/// The hooks of a running pipeline, as seen from outside.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    pub states: Vec<Arc<HookState>>,
    wake: Arc<Notify>,
}

impl Hooks {
    /// Of `config`; starts nothing yet.
    pub fn new(config: &AlertsConfig) -> Self {
        let states = config.hooks.iter().map(|hook| Arc::new(HookState::new(&hook.name))).collect();
        Hooks { states, wake: Arc::default() }
    }

    /// Says that there are new rows in `anomaly_events`.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Fixes where following begins: where it stood, or now. To be done before the pipeline adds events.
///
/// # Errors
/// As any question to the store.
pub async fn begin(store: &StoreConfig, cancel: CancellationToken) -> Result<(), SinkError> {
    follow::begin(store, Patience { health: Health::new(), cancel }).await
}

/// Follows `anomaly_events` and delivers, until `stop`; what is under way then goes on at the next start. To be run by
/// one process of a set.
pub async fn keep(config: AlertsConfig, store: StoreConfig, hooks: Hooks, stop: CancellationToken) {
    let config = Arc::new(config);
    let news = Arc::new(Notify::new());
    let patience = || Patience { health: Health::new(), cancel: stop.clone() };
    let wake = Arc::clone(&hooks.wake);
    let follower = follow::run(
        Arc::clone(&config),
        store.clone(),
        patience(),
        hooks.states.clone(),
        wake,
        Arc::clone(&news),
    );
    let deliverers = config.hooks.iter().zip(&hooks.states).map(|(hook, state)| {
        let (config, store, state) = (Arc::clone(&config), store.clone(), Arc::clone(state));
        deliver::run(hook.clone(), config, store, patience(), state, Arc::clone(&news))
    });
    futures_util::future::join(follower, futures_util::future::join_all(deliverers)).await;
}

/// Sends a made-up alert by one hook, once, past the outbox.
///
/// # Errors
/// What was answered, or why nothing was.
pub async fn send_test(hook: &HookConfig, config: &AlertsConfig) -> Result<(), String> {
    let message = Message::test(config.page_url.as_deref(), jiff::Timestamp::now());
    let request = (hook.format.render)(hook.url.expose(), &message);
    match post::post(request, &message.key, config.timeout).await {
        post::Outcome::Taken { .. } => Ok(()),
        post::Outcome::Refused(found) | post::Outcome::Later { found, .. } => Err(found),
    }
}
