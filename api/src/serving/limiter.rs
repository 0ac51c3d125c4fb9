//! How many requests one client may send.
//!
//! ```text
//!   request ─▶ this process's bucket ─▶ the bucket that all processes share by Redis, while that answers ─▶ route
//! ```

use crate::auth::Caller;
use crate::config::RateLimit;
use crate::problem::Problem;
use crate::shared::Shared;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use redis::Script;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// How many clients the rate limit remembers before it forgets those that are at rest.
const MAX_KEYS: usize = 65_536;

/// The generic cell rate algorithm, by the clock of Redis: a key holds when its bucket is full again, microseconds, and
/// goes when it is. ARGV: microseconds a request, and those that may be borrowed. Answers how long to wait; 0: admitted.
const BUCKET: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = full - now - ARGV[2]
if wait > 0 then return math.ceil(wait) end
full = full + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
";

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Token(Arc<str>),
    Network(IpAddr),
}

impl Key {
    pub fn of(caller: Option<&Caller>, address: IpAddr) -> Key {
        match caller {
            Some(caller) => Key::Token(Arc::clone(&caller.name)),
            None => Key::Network(network(address)),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Token(name) => write!(f, "rate:token:{name}"),
            Key::Network(address) => write!(f, "rate:address:{address}"),
        }
    }
}

/// A bound on the requests of each [`Key`].
pub struct Limiter {
    buckets: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
    shared: Option<SharedBuckets>,
}

struct SharedBuckets {
    redis: Arc<Shared>,
    script: Script,
    /// What [`BUCKET`] is told.
    pace: [f64; 2],
}

impl Limiter {
    /// With `redis`, all processes that are given the same one count together.
    pub fn new(limit: RateLimit, redis: Option<Arc<Shared>>) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        let each_us = 1e6 / f64::from(limit.per_second.get());
        let pace = [each_us, each_us * f64::from(limit.burst.get() - 1)];
        let shared = redis.map(|redis| SharedBuckets { redis, script: Script::new(BUCKET), pace });
        Limiter { buckets: RateLimiter::keyed(quota), clock: DefaultClock::default(), shared }
    }

    /// A client that is refused here costs Redis nothing.
    pub async fn admit(&self, key: &Key) -> Result<(), Problem> {
        if self.buckets.len() > MAX_KEYS {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(key).map_err(|until| refused(until.wait_time_from(self.clock.now())))?;
        let Some(SharedBuckets { redis, script, pace }) = &self.shared else { return Ok(()) };
        match redis.run(script, &key.to_string(), pace).await {
            Some(wait_us @ 1..) => Err(refused(Duration::from_micros(wait_us.unsigned_abs()))),
            _ => Ok(()),
        }
    }
}

fn refused(wait: Duration) -> Problem {
    Problem::too_many(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
}

/// One customer's network: an IPv6 client has 2^64 addresses to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_shares_one_bucket() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
