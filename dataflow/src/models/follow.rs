//! The thread that keeps the models in force: follows the registry's aliases, and trains where nobody else does.

use super::learn::Memory;
use super::status::{Serving, State, Status};
use super::{Scoring, check_counted, read_bundle};
use crate::training::{self, Wanted};
use smartlog_models::registry::Folder;
use smartlog_models::{Bundle, CHAMPION, Registry, RegistryError, Version, registry};
use smartlog_operators::features::Columns;
use smartlog_operators::score::ModelOrder;
use smartlog_schema::model::{ModelSwap, Role};
use smartlog_schema::window::WINDOW_SECONDS;
use smartlog_sinks::StoreConfig;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Tag of a version that the program trained by itself: the next one may take its place.
const AUTO_TAG: &str = "smartlog.auto";
/// Orders that may wait for the dataflow: what was in force, what is to take its place, and more.
const ORDERS_MAX: usize = 8;
/// Bundles kept on this host for a start while the registry is away.
const CACHED_MAX: usize = 8;
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
    /// What models that are trained from the stream look at.
    pub columns: Columns,
    /// Whether patterns are counted: a model that looks at them is refused where they are not.
    pub has_patterns: bool,
}

impl Settings {
    /// What the dataflow does where nothing is learnt.
    pub fn scoring(&self) -> Scoring {
        Scoring { counts_patterns: self.columns.of_patterns().is_some(), ..Scoring::default() }
    }
}

/// A follower that was not started yet.
pub struct Follower {
    follow: Follow,
    woken: Receiver<()>,
    orders: Receiver<ModelOrder>,
    stop: Arc<AtomicBool>,
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

/// Opens the registry.
///
/// # Errors
/// A registry that cannot be opened.
pub fn follower(
    settings: Settings,
    store: Option<(StoreConfig, tokio::runtime::Handle)>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Follower, Watch)> {
    let (sender, orders) = sync_channel(ORDERS_MAX);
    let (wake, woken) = channel();
    let (status, memory) = (Arc::<Status>::default(), Arc::new(Memory::new(settings.columns.clone())));
    let follow = Follow {
        registry: registry::open(&settings.registry)?,
        settings,
        store,
        orders: sender,
        status: Arc::clone(&status),
        memory: Arc::clone(&memory),
        seen: BTreeMap::new(),
        is_ours: true,
        trained_at: None,
        told: None,
        fault: String::new(),
    };
    Ok((Follower { follow, woken, orders, stop }, Watch { status, memory, wake }))
}

impl Follower {
    /// Starts the thread. Models are ordered before this returns, so that no window goes unscored: what was in force
    /// when the pipeline stopped, whatever the aliases say by now; else a folder's aliases, or what was last fetched
    /// from a server, which may be slow to answer or away.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(self, in_force: &[ModelSwap]) -> anyhow::Result<Receiver<ModelOrder>> {
        let Follower { mut follow, woken, orders, stop } = self;
        for role in Role::ALL {
            let before = in_force.iter().find(|swap| swap.role == role && !swap.digest.is_empty());
            match before {
                Some(swap) => follow.resume(swap),
                None if !follow.is_local() => follow.serve_from_cache(role),
                None => {}
            }
        }
        if follow.is_local() {
            follow.look();
        }
        std::thread::Builder::new().name("models".into()).spawn(move || follow.run(&woken, &stop))?;
        Ok(orders)
    }
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
                self.order(ModelOrder::none(role));
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
                self.serve(role, version, bytes, false);
            }
        }
    }

    /// A bundle that cannot serve is refused, and what served before stays.
    fn serve(&mut self, role: Role, version: &Version, bytes: Vec<u8>, resumed: bool) {
        let digest = Bundle::digest_of(&bytes);
        let expected = version.digest().unwrap_or(&digest);
        let read = if expected == digest {
            read_bundle(&bytes).and_then(|(bundle, columns)| Ok((bundle, self.is_of_patterns(&columns)?)))
        } else {
            Err(anyhow::anyhow!("expected the digest {expected} that it was registered with, found {digest}"))
        };
        let (bundle, is_of_patterns) = match read {
            Ok(read) => read,
            Err(fault) => {
                self.status.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "the {} {} is refused, the old one stays: {fault:#}",
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
        self.keep_in_cache(role, version, &digest, &bytes);
        let verb = if resumed { "goes on as" } else { "is" };
        tracing::info!("model version {} {verb} the {} now", version.version, role.as_str());
        self.status.serve(role, Some(Serving::new(version, &digest, &bundle)));
        let version = version.version.clone();
        self.order(ModelOrder { role, version, digest, bytes, is_of_patterns, resumed });
    }

    fn order(&self, order: ModelOrder) {
        // The receiver is gone only when the dataflow is.
        let _ = self.orders.send(order);
    }

    /// Whether a model of these columns looks at patterns.
    fn is_of_patterns(&self, columns: &Columns) -> anyhow::Result<bool> {
        check_counted(columns, self.settings.has_patterns)?;
        Ok(columns.of_patterns().is_some())
    }

    fn cache(&self) -> PathBuf {
        self.settings.folder.join("cache")
    }

    /// For a start while the registry is away, or has changed its mind.
    fn keep_in_cache(&self, role: Role, version: &Version, digest: &str, bytes: &[u8]) {
        let folder = self.cache();
        let bundle = folder.join(format!("{digest}.bundle"));
        let kept = fs::create_dir_all(&folder).and_then(|()| {
            let told = serde_json::to_vec(version)?;
            fs::write(folder.join(format!("{}.json", role.as_str())), &told)?;
            fs::write(bundle.with_extension("json"), &told)?;
            // Half a file of a program that was killed is found out by its digest.
            if fs::read(&bundle).is_ok_and(|there| there == bytes) {
                Ok(())
            } else {
                fs::write(&bundle, bytes)
            }
        });
        let in_force = self.status.now().models.into_values().map(|serving| serving.digest);
        let needed: Vec<String> = in_force.chain([digest.to_owned()]).collect();
        if let Err(fault) = kept.and_then(|()| forget_oldest(&folder, &needed)) {
            tracing::warn!(
                "{}: the model could not be kept for a start without the registry: {fault}",
                folder.display()
            );
        }
    }

    fn cached(&self, digest: &str) -> Option<(Version, Vec<u8>)> {
        let bundle = self.cache().join(format!("{digest}.bundle"));
        let version = serde_json::from_slice(&fs::read(bundle.with_extension("json")).ok()?).ok()?;
        let bytes = fs::read(bundle).ok()?;
        (Bundle::digest_of(&bytes) == digest).then_some((version, bytes))
    }

    /// Goes on with the model that was in force when the pipeline stopped.
    fn resume(&mut self, swap: &ModelSwap) {
        let of_registry = || {
            let version = self.registry.resolve(&swap.version).ok()?;
            let bytes = self.registry.bundle(&version).ok()?;
            (Bundle::digest_of(&bytes) == swap.digest).then_some((version, bytes))
        };
        let found = self.cached(&swap.digest).or_else(of_registry);
        let Some((version, bytes)) = found.map(|(v, b)| (Version { version: swap.version.clone(), ..v }, b))
        else {
            tracing::warn!(
                "the {} {} that was in force at the last stop is neither in {} nor at {}; the alias decides what \
                 takes its place",
                swap.role.as_str(),
                swap.version,
                self.cache().display(),
                self.registry.place()
            );
            return;
        };
        self.seen.insert(swap.role, (version.version.clone(), version.run_id.clone()));
        self.serve(swap.role, &version, bytes, true);
    }

    fn serve_from_cache(&mut self, role: Role) {
        let pointer = self.cache().join(format!("{}.json", role.as_str()));
        let read = || serde_json::from_slice::<Version>(&fs::read(pointer).ok()?).ok();
        let Some((version, bytes)) = read().and_then(|version| self.cached(version.digest()?)) else {
            return;
        };
        tracing::info!(
            "the {} of the last run serves until {} answers",
            role.as_str(),
            self.registry.place()
        );
        self.seen.insert(role, (version.version.clone(), version.run_id.clone()));
        self.serve(role, &version, bytes, false);
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
        let rows = self.memory.rows().without(&self.expected()?, WINDOW_SECONDS);
        let trained = training::train(&rows, &wanted)?;
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

    /// When people called an anomaly expected: that is not to be learnt as usual.
    fn expected(&self) -> anyhow::Result<Vec<(i64, i64)>> {
        let Some((store, runtime)) = &self.store else { return Ok(Vec::new()) };
        Ok(crate::committer::wait(runtime, smartlog_sinks::anomaly_intervals(store, true))?)
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

/// Forgets the oldest bundles of a cache, and what was said of them; `needed`, digests, are not among those.
fn forget_oldest(cache: &Path, needed: &[String]) -> io::Result<()> {
    let is_needed = |path: &Path| needed.iter().any(|digest| path.file_stem() == Some(OsStr::new(digest)));
    let mut bundles = Vec::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension() == Some(OsStr::new("bundle")) && !is_needed(&path) {
            bundles.push((entry.metadata()?.modified()?, path));
        }
    }
    bundles.sort();
    let surplus = bundles.len().saturating_sub(CACHED_MAX);
    for (_, bundle) in bundles.drain(..surplus) {
        fs::remove_file(bundle.with_extension("json"))?;
        fs::remove_file(bundle)?;
    }
    Ok(())
}
