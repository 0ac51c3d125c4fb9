//! Kills the program again and again under load, most often inside a commit or while it recovers from the last kill, and
//! then asks for every log, every count and every episode.
//!
//! ```text
//!   feeder (thread) ──▶ Kafka ──▶ smartlog, 1 or 2 workers ──▶ store, many of its commits slowed down
//!                                   ▲ SIGKILL, started again at once: a zombie commit may still be under way
//! ```
//!
//! `SMARTLOG_RECOVERY_KILLS` kills per store (default 10), drawn by `SMARTLOG_RECOVERY_SEED`. The figures are printed.

#![expect(clippy::print_stderr, reason = "figures are told to whoever reads the test's output")]

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use smartlog_test_services::{Service, disturbing};
use smartlog_tests::judge::{episodes, judge};
use smartlog_tests::program::{Program, run_to_end};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{eventually, now_us, unique};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
const MINUTE_US: i64 = 60_000_000;
/// Bounds every wait. How long it takes to resume is printed, and measured by the benchmarks.
const PATIENCE: Duration = Duration::from_secs(120);
/// Logs per second of event time.
const EVENT_RATE: i64 = 50;
/// Logs per second of wall time, at most; and how many may lie unread.
const FEED_RATE: f64 = 15_000.0;
const MOST_UNREAD: i64 = 40_000;
/// Event time between two incidents, and how long one lasts.
const INCIDENT_EVERY_US: i64 = 20 * MINUTE_US;
const INCIDENT_US: i64 = 3 * MINUTE_US;
const FAILING: &str = "checkout";

/// Keeps the topic ahead of the program, until it is told to stop.
struct Feeder {
    done: Arc<AtomicBool>,
    stored: Arc<AtomicI64>,
    thread: JoinHandle<Fed>,
}

/// What was fed.
struct Fed {
    topic: Topic,
    records: u64,
    /// Begin and end of each incident, whole ones only.
    incidents: Vec<(i64, i64)>,
}

impl Feeder {
    fn start(topic: Topic, begin_us: i64) -> Self {
        let (done, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (ended, read) = (Arc::clone(&done), Arc::clone(&stored));
        let thread = std::thread::spawn(move || feed(topic, begin_us, &ended, &read));
        Feeder { done, stored, thread }
    }

    fn stop(self) -> Fed {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the feeder ends well")
    }
}

fn feed(topic: Topic, begin_us: i64, done: &AtomicBool, stored: &AtomicI64) -> Fed {
    let mut traffic = Traffic::new(11, PARTITIONS as usize);
    let (mut at, began, mut incidents) = (begin_us, Instant::now(), Vec::new());
    // An incident that has begun is ended, so that there is one decided answer.
    while !done.load(Ordering::Relaxed) || (at - begin_us) % INCIDENT_EVERY_US < INCIDENT_EVERY_US / 2 {
        let made = traffic.made() as i64;
        let allowed = 60_000 + (began.elapsed().as_secs_f64() * FEED_RATE) as i64;
        let is_full = made - stored.load(Ordering::Relaxed) > MOST_UNREAD || made > allowed;
        if is_full && !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let step_us = 10_000_000;
        // In the middle of each stretch: by then it is known what is usual.
        let phase = (at - begin_us) % INCIDENT_EVERY_US - INCIDENT_EVERY_US / 2;
        let is_on = (0..INCIDENT_US).contains(&phase);
        if phase == INCIDENT_US {
            incidents.push((at - INCIDENT_US, at));
        }
        traffic.failing = is_on.then_some(FAILING);
        traffic.send(&topic, (EVENT_RATE * step_us / 1_000_000) as usize, (at, at + step_us));
        at += step_us;
    }
    topic.flush();
    Fed { topic, records: traffic.made(), incidents }
}

/// When a kill comes.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Commit,
    Recovery,
    Anywhere,
}

/// Where a kill landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Landed {
    /// Inside a transaction of a program that had committed before.
    InCommit,
    /// Before the first new commit, outside any transaction.
    InRecovery,
    /// Both: inside the first transaction after a start.
    InFirstCommit,
    Elsewhere,
}

#[derive(Default)]
struct Figures {
    landed: Vec<Landed>,
    /// From the start of the process to its first new commit.
    resumed: Vec<Duration>,
    workers: [usize; 2],
    /// Kills after which the server still held the dead program's commit.
    zombies: usize,
}

impl Figures {
    fn print(&mut self, kind: Kind) {
        self.resumed.sort_unstable();
        let at = |share: f64| {
            self.resumed.get(((self.resumed.len() as f64 * share) as usize).min(self.resumed.len() - 1))
        };
        eprintln!(
            "{kind:?}: {} kills, workers 1: {}, 2: {}",
            self.landed.len(),
            self.workers[0],
            self.workers[1]
        );
        for place in [Landed::InCommit, Landed::InFirstCommit, Landed::InRecovery, Landed::Elsewhere] {
            let count = self.landed.iter().filter(|l| **l == place).count();
            eprintln!("  {:<14} {count:>4} {}", format!("{place:?}"), "#".repeat(count));
        }
        eprintln!("  commits that went on in the server after the kill: {}", self.zombies);
        if !self.resumed.is_empty() {
            eprintln!(
                "  resumed: {} times, p50 {:?}, p90 {:?}, most {:?}",
                self.resumed.len(),
                at(0.5),
                at(0.9),
                at(1.0)
            );
        }
    }
}

struct Trial {
    store: Store,
    rng: StdRng,
    arguments: Vec<String>,
    stored: Arc<AtomicI64>,
    figures: Figures,
    last_resumed: Duration,
}

impl Trial {
    fn progress(&mut self) -> i64 {
        let progress = self.store.progress("aggregates");
        self.stored.store(progress, Ordering::Relaxed);
        progress
    }

    /// Starts the program, lets it run or recover, and kills it.
    fn round(&mut self) {
        let workers = self.rng.random_range(1..=2_usize);
        self.figures.workers[workers - 1] += 1;
        let aim = match self.rng.random_range(0..10) {
            0..5 => Aim::Commit,
            5..8 => Aim::Recovery,
            _ => Aim::Anywhere,
        };
        let count = workers.to_string();
        let before = self.progress();
        let arguments: Vec<&str> =
            self.arguments.iter().map(String::as_str).chain(["--workers", &count]).collect();
        let began = Instant::now();
        let mut program = Program::start(&arguments);
        match aim {
            Aim::Recovery => {
                let until = self.last_resumed.mul_f64(self.rng.random_range(0.0..1.0));
                std::thread::sleep(until.saturating_sub(began.elapsed()));
            }
            Aim::Anywhere => {
                self.wait_until_resumed(&program, began);
                self.run_for_up_to(1_000);
            }
            Aim::Commit => {
                self.wait_until_resumed(&program, began);
                self.run_for_up_to(600);
                let store = &mut self.store;
                eventually("a commit is under way", PATIENCE, || store.is_committing().then_some(()));
            }
        }
        let is_committing = self.store.is_committing();
        program.kill();
        self.figures.zombies += usize::from(self.store.kind == Kind::Postgres && self.store.is_committing());
        let has_resumed = !matches!(aim, Aim::Recovery) || self.progress() > before;
        self.figures.landed.push(match (is_committing, has_resumed) {
            (true, true) => Landed::InCommit,
            (true, false) => Landed::InFirstCommit,
            (false, false) => Landed::InRecovery,
            (false, true) => Landed::Elsewhere,
        });
    }

    /// A commit of this process, not the predecessor's last one: it has read the stored positions by then.
    fn wait_until_resumed(&mut self, program: &Program, began: Instant) {
        program.wait_for_words("from offset", PATIENCE);
        let before = self.progress();
        let what = format!("a new commit; it said:\n{}", program.said());
        eventually(&what, PATIENCE, || (self.progress() > before).then_some(()));
        self.last_resumed = began.elapsed();
        self.figures.resumed.push(self.last_resumed);
    }

    /// A time drawn from up to `most_ms` milliseconds.
    fn run_for_up_to(&mut self, most_ms: u64) {
        let until = Instant::now() + Duration::from_millis(self.rng.random_range(0..most_ms));
        while Instant::now() < until {
            self.progress();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn survives_kills(kind: Kind) {
    let Some(kafka) = Service::require("kafka") else { return };
    let Some(mut store) = Store::create(kind) else { return };
    let _turn = disturbing();
    let (kills, seed) = (number("SMARTLOG_RECOVERY_KILLS", 10), number("SMARTLOG_RECOVERY_SEED", 1));
    let brokers = kafka.address();
    let topic = Topic::create(&brokers, &unique("recovery"), PARTITIONS);
    let (status, _, said) = run_to_end(&["migrate", "--store", &store.url], PATIENCE);
    assert!(status.success(), "{said}");
    store.slow_commits_down();
    let base = ["run", "--brokers", &brokers, "--topic", &topic.name, "--store", &store.url];
    let arguments: Vec<String> = base.iter().map(|argument| (*argument).to_owned()).collect();
    // Far enough back that event time, which runs faster than the wall, does not overtake it.
    let begin_us = (now_us() - 48 * 60 * MINUTE_US) / (60 * MINUTE_US) * 60 * MINUTE_US;
    let feeder = Feeder::start(topic, begin_us);
    let stored = Arc::clone(&feeder.stored);
    let rng = StdRng::seed_from_u64(seed);
    let mut trial = Trial {
        store,
        rng,
        arguments,
        stored,
        figures: Figures::default(),
        last_resumed: Duration::from_secs(1),
    };
    for _ in 0..kills {
        trial.round();
    }
    trial.figures.print(kind);
    let fed = feeder.stop();
    let Trial { mut store, arguments, figures, .. } = trial;
    let last: Vec<&str> = arguments.iter().map(String::as_str).chain(["--until-end"]).collect();
    Program::start(&last).succeed(PATIENCE + Duration::from_secs(fed.records / 5_000));

    let totals = judge(&mut store, &fed.topic, |_| {});
    assert_eq!(totals.logs + totals.dead_letters, fed.records);
    let inside = figures.landed.iter().filter(|l| **l != Landed::Elsewhere).count();
    assert!(
        inside * 2 >= figures.landed.len(),
        "too few kills inside a commit or a recovery: nothing was proven"
    );
    judge_detection(&mut store, &fed, &brokers);
}

/// The episodes are those of a run that nobody disturbed, and incidents are among them. Not every one: where trouble comes
/// each twenty minutes for hours, it is the usual after a while.
fn judge_detection(store: &mut Store, fed: &Fed, brokers: &str) {
    let found = episodes(store);
    eprintln!("  {} records, {} incidents, {} episodes", fed.records, fed.incidents.len(), found.len());
    let (started, ended) = (store.micros("started_at"), store.micros("coalesce(ended_at, last_seen)"));
    let mut is_found = |(from, to): &(i64, i64)| {
        let is_it = format!(
            "select count(*) from anomalies where service = '{FAILING}' and anomaly_type = 'error_rate_spike' and status <> \
             'retracted' and {started} < {to} and {ended} >= {from}"
        );
        store.number(&is_it) > 0
    };
    let count = fed.incidents.iter().filter(|incident| is_found(incident)).count();
    assert!(count * 2 > fed.incidents.len(), "{count} of {:?} were found: {found:?}", fed.incidents);
    let mut calm = Store::create(Kind::Sqlite).expect("SQLite is always there");
    let arguments =
        ["run", "--until-end", "--brokers", brokers, "--topic", &fed.topic.name, "--store", &calm.url];
    Program::start(&arguments).succeed(PATIENCE + Duration::from_secs(fed.records / 5_000));
    assert_eq!(found, episodes(&mut calm), "episodes after kills (left) and of an undisturbed run (right)");
}

#[test]
fn recovery_short_on_postgres() {
    survives_kills(Kind::Postgres);
}

#[test]
fn recovery_short_on_sqlite() {
    survives_kills(Kind::Sqlite);
}
