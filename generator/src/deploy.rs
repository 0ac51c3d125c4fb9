//! Deployments: which version of a service a host runs at a moment, and what the host is then called.
//!
//! A deployment replaces a service's hosts one after the other (a roll), as an orchestrator does: the new host has a
//! new name and the new version.

use crate::rng::{Purpose, hash};

/// Seconds between one host's replacement and the next one's.
const ROLL_SECONDS: i64 = 40;
/// Seconds for which a replaced host writes start-up lines among its others.
const STARTING_SECONDS: i64 = 30;

/// The deployments of one service.
#[derive(Debug, Clone)]
pub(crate) struct Deployments {
    key: u64,
    /// Seconds between deployments; differs from service to service.
    period: i64,
    offset: i64,
}

impl Deployments {
    /// Deployments of `service` about every `mean_period` seconds (half to one and a half of it).
    pub(crate) fn new(seed: u64, service: usize, mean_period: i64) -> Self {
        let key = hash(seed, Purpose::Deploy, service as u64, 0);
        let period = mean_period / 2 + (key % mean_period.max(1) as u64) as i64;
        let period = period.max(60);
        Deployments { key, period, offset: (key >> 32) as i64 % period }
    }

    fn since_offset(&self, host: u8, second: i64) -> i64 {
        second - self.offset - ROLL_SECONDS * i64::from(host)
    }

    /// Number of the deployment that `host` runs at `second`.
    pub(crate) fn number(&self, host: u8, second: i64) -> i64 {
        self.since_offset(host, second).div_euclid(self.period)
    }

    /// Whether `host` was replaced so recently that it still starts.
    pub(crate) fn starting(&self, host: u8, second: i64) -> bool {
        self.since_offset(host, second).rem_euclid(self.period) < STARTING_SECONDS
    }

    /// Whether any of the first `hosts` hosts starts at `second`: the cheap question before the exact one.
    pub(crate) fn rolling(&self, hosts: u8, second: i64) -> bool {
        let span = ROLL_SECONDS * i64::from(hosts.saturating_sub(1)) + STARTING_SECONDS;
        (second - self.offset).rem_euclid(self.period) < span
    }

    /// Version text of deployment `number`.
    pub(crate) fn version(&self, number: i64) -> String {
        let build = number.rem_euclid(10_000);
        format!("{}.{}.{}", 1 + self.key % 4, build / 10, build % 10)
    }

    /// Name of `host` in deployment `number`, as an orchestrator makes them: service, deployment hash, host hash.
    pub(crate) fn host_name(&self, service: &str, host: u8, number: i64) -> String {
        let deployment = hash(self.key, Purpose::Deploy, number as u64, 0);
        let pod = hash(self.key, Purpose::Deploy, number as u64, u64::from(host) + 1);
        let service: String = service.chars().take(80).collect();
        format!("{service}-{}-{}", letters(deployment, 8), letters(pod, 5))
    }
}

fn letters(mut word: u64, count: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdfghjkmnpqrstvwxyz7";
    (0..count)
        .map(|_| {
            let letter = ALPHABET[(word % 32) as usize];
            word /= 32;
            char::from(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_replaces_one_host_after_the_other() {
        let deployments = Deployments::new(5, 2, 7200);
        let start = deployments.offset + 3 * deployments.period;
        for host in 0..4 {
            let moment = start + ROLL_SECONDS * i64::from(host);
            assert_eq!(deployments.number(host, moment - 1), 2);
            assert_eq!(deployments.number(host, moment), 3);
            assert!(deployments.starting(host, moment) && deployments.rolling(4, moment));
            assert!(!deployments.starting(host, moment - 1));
            assert!(!deployments.starting(host, moment + STARTING_SECONDS));
            assert_ne!(deployments.host_name("s", host, 2), deployments.host_name("s", host, 3));
        }
        assert_ne!(deployments.version(2), deployments.version(3));
    }
}
