//! The logs that are measured with: equal arguments make equal bytes.
//!
//! The bench job is 4,000,000 logs of about 250 bytes: 20 services with rates of 1/rank, one hour of event time, up to
//! 2 s out of order, three incidents in it. Its variants spread the logs evenly over as many services as wanted.

use crate::truth::Truth;
use smartlog_benches::logs::{Log, SERVICES, START_MS, kind};
use smartlog_benches::random::Random;

/// How far a log lies behind the newest before it, at the most.
const DISORDER_MS: u64 = 2_000;
pub const PARTITIONS: usize = 4;

const API_GATEWAY: usize = 0;
const PAYMENT: usize = 2;
const SEARCH: usize = 6;
const FRAUD: usize = 17;

/// Logs over a stretch of event time.
pub struct Workload {
    pub logs: u64,
    span_ms: u64,
    services: Vec<String>,
    /// Sums of the services' weights so far.
    cumulative: Vec<u64>,
    incidents: bool,
}

impl Workload {
    /// The bench job, one hour of event time whatever the number of logs.
    pub fn bench_job(logs: u64) -> Self {
        let weights = (1..=SERVICES.len() as u64).map(|rank| 1_000_000 / rank);
        let services = SERVICES.map(str::to_owned).to_vec();
        Workload { logs, span_ms: 3_600_000, services, cumulative: sums_so_far(weights), incidents: true }
    }

    /// A thousand logs a second of event time: the bench job's 20 services, or that many alike.
    pub fn of_services(services: usize, logs: u64) -> Self {
        if services == SERVICES.len() {
            return Workload { span_ms: logs, incidents: false, ..Self::bench_job(logs) };
        }
        Workload {
            logs,
            span_ms: logs,
            services: (0..services).map(|index| format!("service-{index:05}")).collect(),
            cumulative: (1..=services as u64).collect(),
            incidents: false,
        }
    }

    /// Makes the logs in the order in which they are produced; log `i` belongs to partition `i % PARTITIONS`.
    pub fn each(&self, mut visit: impl FnMut(&Log<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.draw(|log, _| visit(log))
    }

    /// As [`Workload::each`], with the log's bytes, and what a program that counted them right would say.
    pub fn produce(
        &self,
        mut visit: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Truth> {
        let mut truth = Truth::new(self.services.clone(), START_MS, START_MS + self.last_ms());
        let (mut line, mut index) = (Vec::with_capacity(512), 0);
        self.draw(|log, service| {
            truth.count(service, log);
            log.write(&mut line);
            visit(index, &line)?;
            index += 1;
            Ok(())
        })?;
        Ok(truth)
    }

    fn last_ms(&self) -> i64 {
        (self.span_ms + DISORDER_MS) as i64
    }

    fn draw(&self, mut visit: impl FnMut(&Log<'_>, usize) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut random = Random::new(42);
        let whole = self.cumulative.last().copied().unwrap_or(1);
        for index in 0..self.logs {
            let newest_ms = DISORDER_MS + index * self.span_ms / self.logs;
            let at_ms = (newest_ms - random.below(DISORDER_MS)) as i64;
            let dice = random.below(whole);
            let usual = self.cumulative.partition_point(|sum| *sum <= dice);
            let (service, errors) = self.troubled(usual, at_ms / 1_000, &mut random);
            let kind = kind(errors, &mut random);
            visit(&Log::draw(START_MS + at_ms, &self.services[service], kind, &mut random), service)?;
        }
        Ok(())
    }

    /// The service that logs instead of the usual one, and its errors in a thousand, at a second of the hour.
    fn troubled(&self, usual: usize, second: i64, random: &mut Random) -> (usize, u64) {
        const USUAL_ERRORS: u64 = 20;
        match usual {
            _ if !self.incidents => (usual, USUAL_ERRORS),
            SEARCH if (3_000..3_360).contains(&second) => (API_GATEWAY, USUAL_ERRORS),
            API_GATEWAY if (1_800..1_920).contains(&second) && random.below(2) == 0 => (FRAUD, USUAL_ERRORS),
            PAYMENT if (2_400..2_520).contains(&second) => (PAYMENT, 300),
            _ => (usual, USUAL_ERRORS),
        }
    }
}

fn sums_so_far(weights: impl Iterator<Item = u64>) -> Vec<u64> {
    let add = |sum: &mut u64, weight| {
        *sum += weight;
        Some(*sum)
    };
    weights.scan(0, add).collect()
}
