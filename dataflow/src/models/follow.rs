//! The thread that keeps the models in force: follows the registry's aliases, and trains where nobody else does.

use super::learn::Memory;
use super::read_bundle;
use super::status::{Serving, State, Status};
use crate::training::{self, Wanted};
use smartlog_models::registry::Folder;
use smartlog_models::{Bundle, CHAMPION, Registry, RegistryError, Version, registry};
use smartlog_operators::score::ModelOrder;
use smartlog_schema::model::Role;
use smartlog_sinks::StoreConfig;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// Tag of a version that the program trained by itself: the next one may take its place.
const AUTO_TAG: &str = "smartlog.auto";
/// Orders that may wait for the dataflow: one a role, and one more.
const ORDERS_MAX: usize = 4;
/// Between two looks whether the program is to end.
const SLICE: Duration = Duration::from_millis(200);

/// How the follower works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder or an MLflow URL.
    pub registry: String,
    /// Where what was fetched or trained is kept on this host.
    pub folder: PathBuf,
    pub poll: Duration,
    /// Between two trainings from the stream; `None`: never.
    pub retrain_every: Option<Duration>,
    pub fit: smartlog_models::fit::Settings,
}

/// What the engine takes of it, and what can be watched.
pub struct Follower {
    pub orders: Receiver<ModelOrder>,
    pub watch: Watch,
}

/// What can be watched of it while it runs.
pub struct Watch {
    pub status: Arc<Status>,
    pub memory: Arc<Memory>,
    wake: Sender<()>,
}

impl Watch {
    /// Makes it look at the aliases at once.
    pub fn look(&self) {
        // It is gone only when the program ends.
        let _ = self.wake.send(());
    }
}

struct Follow {
    settings: Settings,
    registry: Box<dyn Registry>,
    store: Option<(StoreConfig, tokio::runtime::Handle)>,
    orders: SyncSender<ModelOrder>,
    status: Arc<Status>,
    memory: Arc<Memory>,
    /// Version and run that serve, or were refused.
    seen: BTreeMap<Role, (String, String)>,
    /// The champion was trained by this program, or there is none.
    is_ours: bool,
    trained_at: Option<Instant>,
    told: Option<super::status::Snapshot>,
    /// The last fault that was logged, not to log it at every look.
    fault: String,
}

/// Starts the follower. What serves already is ordered before this returns, so that no window goes unscored: a folder's
/// aliases, or what was last fetched from a server, which may be slow to answer or away.
///
/// # Errors
/// A registry that cannot be opened.
pub fn start(
    settings: Settings,
    store: Option<(StoreConfig, tokio::runtime::Handle)>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Follower> {
    let (orders, receiver) = sync_channel(ORDERS_MAX);
    let (wake, woken) = channel();
    let (status, memory) = (Arc::<Status>::default(), Arc::<Memory>::default());
    let mut follow = Follow {
        registry: registry::open(&settings.registry)?,
        settings,
        store,
        orders,
        status: Arc::clone(&status),
        memory: Arc::clone(&memory),
        seen: BTreeMap::new(),
        is_ours: true,
        trained_at: None,
        told: None,
        fault: String::new(),
    };
    if follow.is_local() {
        follow.look();
    } else {
        Role::ALL.into_iter().for_each(|role| follow.serve_from_cache(role));
    }
    std::thread::Builder::new().name("models".into()).spawn(move || follow.run(&woken, &stop))?;
    Ok(Follower { orders: receiver, watch: Watch { status, memory, wake } })
}

impl Follow {
    fn run(mut self, woken: &Receiver<()>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            self.train_when_due();
            self.tell();
            let until = Instant::now() + self.settings.poll;
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                match woken.recv_timeout(SLICE) {
                    Ok(()) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(SLICE),
                }
            }
        }
    }

    fn is_local(&self) -> bool {
        self.registry.place() == self.settings.folder.display().to_string()
    }

    /// Brings what serves in line with the aliases.
    fn look(&mut self) {
        for role in Role::ALL {
            match self.registry.alias(role.as_str()) {
                Ok(version) => self.follow(role, version.as_ref()),
                Err(fault) => return self.say(&fault),
            }
        }
    }

    fn say(&mut self, fault: &RegistryError) {
        let told = fault.to_string();
        if told != self.fault {
            tracing::warn!("models stay as they are: {told}");
            self.fault = told;
        }
    }

    fn follow(&mut self, role: Role, version: Option<&Version>) {
        let Some(version) = version else {
            if role == Role::Challenger && self.seen.remove(&role).is_some() {
                self.order(role, "", "", Vec::new());
                self.status.serve(role, None);
            }
            return;
        };
        let name = (version.version.clone(), version.run_id.clone());
        if self.seen.get(&role) == Some(&name) {
            return;
        }
        match self.registry.bundle(version) {
            Err(fault) => self.say(&fault),
            Ok(bytes) => {
                self.seen.insert(role, name);
                self.serve(role, version, bytes, true);
            }
        }
    }

    /// A bundle that cannot serve is refused, and what served before stays.
    fn serve(&mut self, role: Role, version: &Version, bytes: Vec<u8>, keep: bool) {
        let digest = Bundle::digest_of(&bytes);
        let expected = version.digest().unwrap_or(&digest);
        let read = if expected == digest {
            read_bundle(&bytes).map_err(|fault| fault.to_string())
        } else {
            Err(format!("expected the digest {expected} that it was registered with, found {digest}"))
        };
        let bundle = match read {
            Ok(bundle) => bundle,
            Err(fault) => {
                self.status.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "the {} {} is refused, the old one stays: {fault}",
                    role.as_str(),
                    version.version
                );
                return;
            }
        };
        if role == Role::Champion {
            self.is_ours = version.tags.contains_key(AUTO_TAG);
            self.status.set(State::Ready, format!("version {}", version.version));
        }
        if keep {
            self.keep_in_cache(role, version, &bytes);
        }
        tracing::info!("model version {} is the {} now", version.version, role.as_str());
        self.status.serve(role, Some(Serving::new(version, &digest, &bundle)));
        self.order(role, &version.version, &digest, bytes);
    }

    fn order(&self, role: Role, version: &str, digest: &str, bytes: Vec<u8>) {
        let order = ModelOrder { role, version: version.to_owned(), digest: digest.to_owned(), bytes };
        // The receiver is gone only when the dataflow is.
        let _ = self.orders.send(order);
    }

    fn cache(&self) -> PathBuf {
        self.settings.folder.join("cache")
    }

    /// For a start while the registry is away.
    fn keep_in_cache(&self, role: Role, version: &Version, bytes: &[u8]) {
        let folder = self.cache();
        let kept = fs::create_dir_all(&folder).and_then(|()| {
            fs::write(folder.join(format!("{}.bundle", role.as_str())), bytes)?;
            fs::write(folder.join(format!("{}.json", role.as_str())), serde_json::to_vec(version)?)
        });
        if let Err(fault) = kept {
            tracing::warn!(
                "{}: the model could not be kept for a start without the registry: {fault}",
                folder.display()
            );
        }
    }

    fn serve_from_cache(&mut self, role: Role) {
        let folder = self.cache();
        let read = || {
            let version = fs::read(folder.join(format!("{}.json", role.as_str()))).ok()?;
            let bytes = fs::read(folder.join(format!("{}.bundle", role.as_str()))).ok()?;
            Some((serde_json::from_slice::<Version>(&version).ok()?, bytes))
        };
        if let Some((version, bytes)) = read() {
            tracing::info!(
                "the {} of the last run serves until {} answers",
                role.as_str(),
                self.registry.place()
            );
            self.seen.insert(role, (version.version.clone(), version.run_id.clone()));
            self.serve(role, &version, bytes, false);
        }
    }

    /// Trains from the stream when no champion is there, and daily while it is one of ours.
    fn train_when_due(&mut self) {
        let Some(every) = self.settings.retrain_every.filter(|_| self.is_ours) else { return };
        let serving = self.status.now().models.contains_key(&Role::Champion);
        if serving && self.trained_at.get_or_insert_with(Instant::now).elapsed() < every {
            return;
        }
        let (have, needed) = (self.memory.stream_rows(), self.settings.fit.min_rows);
        if have < needed {
            if !serving {
                self.status.set(State::Waiting, format!("{have} of {needed} windows"));
            }
            return;
        }
        if !serving {
            self.status.set(State::Training, format!("{have} windows"));
        }
        self.tell();
        self.trained_at = Some(Instant::now());
        match self.train() {
            Ok(version) => {
                self.status.trained.fetch_add(1, Ordering::Relaxed);
                tracing::info!("trained version {version} from the stream");
                self.look();
            }
            Err(fault) => {
                tracing::error!("training from the stream failed: {fault:#}");
                self.status.set(State::Failed, format!("{fault:#}"));
            }
        }
    }

    fn train(&self) -> anyhow::Result<String> {
        let wanted = Wanted {
            name: "from the stream".into(),
            source: "stream".into(),
            fit: self.settings.fit.clone(),
        };
        let trained = training::train(&self.memory.rows(), &wanted)?;
        let mut tags = trained.tags();
        tags.insert(AUTO_TAG.into(), "1".into());
        let local = Folder::new(self.settings.folder.clone());
        let run_id = local.log_run(&trained.run)?;
        let is_local = self.is_local();
        let (registry, run_id): (&dyn Registry, String) =
            if is_local { (&local, run_id) } else { (&*self.registry, self.registry.log_run(&trained.run)?) };
        let version = registry.register(&run_id, &tags)?.version;
        registry.set_alias(CHAMPION, &version)?;
        Ok(version)
    }

    /// Writes the status to the store where it changed.
    fn tell(&mut self) {
        let now = self.status.now();
        if self.told.as_ref() == Some(&now) {
            return;
        }
        if let Some((store, runtime)) = &self.store {
            let (state, models) = (now.state.as_str(), now.models_json());
            let place = self.registry.place();
            let work = smartlog_sinks::set_model_status(store, state, &now.detail, &place, &models);
            if let Err(fault) = crate::committer::wait(runtime, work) {
                tracing::warn!("the status of the models could not be stored: {fault}");
                return;
            }
        }
        self.told = Some(now);
    }
}
