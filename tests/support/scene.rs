//! A topic, a store and the services behind them: what tests that disturb a running program begin with.

use crate::judge::judge;
use crate::program::Program;
use crate::store::{Kind, Store};
use crate::topic::Topic;
use crate::traffic::Traffic;
use crate::{eventually, now_us, unique};
use smartlog_test_services::{Service, disturbing};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

pub const SECOND_US: i64 = 1_000_000;
pub const MINUTE_US: i64 = 60 * SECOND_US;
/// Of the topic at first.
pub const PARTITIONS: i32 = 4;
/// Long: the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A stop that is not done in 10 s is a bad end by the program's own word; a busy machine gets more for the rest.
pub const STOP: Duration = Duration::from_secs(40);

/// A topic, a store, and the services behind them.
pub struct Scene {
    pub topic: Topic,
    pub store: Store,
    pub traffic: Traffic,
    pub kafka: Service,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    /// With the topic made, or not yet.
    pub fn with(kind: Kind, stem: &str, made: bool) -> Option<Self> {
        let kafka = Service::require("kafka")?;
        let turn = disturbing();
        let store = Store::create(kind)?;
        let (brokers, name) = (kafka.address(), unique(stem));
        let topic =
            if made { Topic::create(&brokers, &name, PARTITIONS) } else { Topic::named(&brokers, &name) };
        Some(Scene { topic, store, traffic: Traffic::new(5, PARTITIONS as usize), kafka, _turn: turn })
    }

    pub fn create(kind: Kind, stem: &str) -> Option<Self> {
        Self::with(kind, stem, true)
    }

    pub fn arguments(&self, more: &[&str]) -> Vec<String> {
        let brokers = self.kafka.address();
        let base = ["run", "--brokers", &brokers, "--topic", &self.topic.name, "--store", &self.store.url];
        base.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    pub fn start(&self, more: &[&str]) -> Program {
        Program::start(&self.arguments(more))
    }

    pub fn run_to_end(&self) {
        self.start(&["--until-end"]).succeed(PATIENCE);
    }

    /// Logs of the last ten minutes.
    pub fn backlog(&mut self, count: usize) {
        let now = now_us();
        self.traffic.send(&self.topic, count, (now - 10 * MINUTE_US, now - SECOND_US));
        self.topic.flush();
    }

    /// Twenty-five usual minutes, then three, up to now, in which `checkout` says nothing but errors.
    pub fn incident(&mut self) {
        let now = now_us();
        self.traffic.unruly.late = 0;
        self.traffic.send(&self.topic, 60_000, (now - 28 * MINUTE_US, now - 3 * MINUTE_US));
        self.traffic.failing = Some("checkout");
        self.traffic.send(&self.topic, 7_200, (now - 3 * MINUTE_US, now));
        self.topic.flush();
    }

    /// Logs as they happen, `rate` a second, until `done`.
    pub fn live_until(
        &mut self,
        what: &str,
        rate: i64,
        patience: Duration,
        mut done: impl FnMut(&mut Store) -> bool,
    ) {
        let (began, mut sent_to) = (Instant::now(), now_us());
        while !done(&mut self.store) {
            assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
            std::thread::sleep(Duration::from_millis(50));
            let count = (now_us() - sent_to) * rate / SECOND_US;
            let to = sent_to + count * SECOND_US / rate;
            self.traffic.send(&self.topic, count as usize, (sent_to, to));
            sent_to = to;
        }
    }

    pub fn live_for(&mut self, rate: i64, time: Duration) {
        let until = Instant::now() + time;
        self.live_until("time passes", rate, time * 2, |_| Instant::now() >= until);
    }

    /// Waits until both sinks stand at the ends of the topic.
    pub fn settle(&mut self) {
        self.topic.flush();
        let end: i64 = self.topic.ends().values().map(|(_, end)| end).sum();
        let store = &mut self.store;
        eventually(&format!("both sinks are done with {end} records"), PATIENCE, || {
            let at = (store.progress("aggregates"), store.progress("logs"));
            (at == (end, end)).then_some(())
        });
    }

    /// SIGTERM, a good end in time, and everything judged.
    pub fn end_and_judge(&mut self, mut program: Program) {
        self.settle();
        program.terminate();
        program.succeed(STOP);
        judge(&mut self.store, &self.topic, |_| {});
    }
}
