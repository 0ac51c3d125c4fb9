//! The event sinks of a run: each follows the store on a task of its own, woken by commits ([`smartlog_sinks::follow`]).

use crate::committer::Observer;
use smartlog_sinks::{CancellationToken, EventSinkEntry, Health, Wake};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What follows the store: all of them end with one token.
#[derive(Default)]
pub struct Followers {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    wakes: Vec<Wake>,
    /// Of each, by its name.
    pub health: Vec<(&'static str, Health)>,
}

impl Followers {
    /// Starts one of each.
    ///
    /// # Errors
    /// When the configuration of one cannot be understood.
    pub fn start(runtime: &Handle, entries: &[EventSinkEntry]) -> anyhow::Result<Self> {
        let mut followers = Followers::default();
        for entry in entries {
            let (health, wake) = (Health::new(), Wake::default());
            let sink = entry.open(health.clone(), followers.stop.clone())?;
            let following =
                smartlog_sinks::follow(sink, wake.clone(), health.clone(), followers.stop.clone());
            followers.tasks.push(runtime.spawn(following));
            followers.wakes.push(wake);
            followers.health.push((entry.name, health));
        }
        Ok(followers)
    }

    /// Wakes them when an episode changed, besides `observer`.
    pub fn waking(&self, mut observer: Observer) -> Observer {
        let wakes = self.wakes.clone();
        Box::new(move |commit| {
            if !commit.episodes.is_empty() {
                wakes.iter().for_each(Wake::wake);
            }
            observer(commit);
        })
    }

    /// Has them catch up once more, and waits for them; whether all ended well.
    pub async fn end(self) -> bool {
        self.stop.cancel();
        let mut is_well = true;
        for task in self.tasks {
            is_well &= task.await.is_ok();
        }
        is_well
    }
}
