//! How many requests one client may send.

use crate::auth::Caller;
use crate::problem::Problem;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// How many clients the rate limit remembers before it forgets those that are at rest.
const MAX_KEYS: usize = 65_536;

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

/// A bound on the requests of each [`Key`].
pub struct Limiter {
    buckets: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
}

impl Limiter {
    pub fn new(limit: crate::config::RateLimit) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Limiter { buckets: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    pub fn admit(&self, key: &Key) -> Result<(), Problem> {
        if self.buckets.len() > MAX_KEYS {
            self.buckets.retain_recent();
        }
        self.buckets.check_key(key).map_err(|until| {
            Problem::too_many(
                u32::try_from(until.wait_time_from(self.clock.now()).as_secs())
                    .unwrap_or(u32::MAX)
                    .saturating_add(1),
            )
        })
    }
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
