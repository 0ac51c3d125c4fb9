//! The estate: which services there are, how busy, how faulty, who calls whom.

use crate::error::{GeneratorError, refuse};
use crate::rng::{Purpose, keyed};
use crate::season::Season;
use crate::templates::Family;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Most services that one estate can have.
pub const MAX_SERVICES: usize = 65_000;
/// Most hosts that one service can have.
pub const MAX_HOSTS: u8 = 64;

/// Which services make the traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Services {
    /// The built-in web shop: 26 services, rates over more than three orders of magnitude.
    #[default]
    Builtin,
    /// That many made-up services with shares by Zipf's law.
    Count(u32),
    /// These.
    List(Vec<ServiceConfig>),
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Name: the `service` of its logs.
    pub name: String,
    /// Which texts it writes.
    pub family: Family,
    /// Its part of the whole rate, relative to the other services' weights.
    pub weight: f64,
    /// Share of ERROR and FATAL lines when all is well, 0 to 0.5.
    pub error_share: f64,
    /// Hosts it runs on.
    pub hosts: u8,
    /// Daily and weekly season.
    pub season: Season,
    /// Spread (sigma of the log) of the slow bursts, 0 to 1.
    pub burst: f64,
    /// Over-dispersion of the counts per second: their variance is `mean + mean² / dispersion`.
    pub dispersion: f64,
    /// Median of `duration_ms` (log-normal, sigma 0.8).
    pub latency_ms: f64,
    /// Names of the services whose requests it works on; a chain without circles.
    #[serde(default)]
    pub callers: Vec<String>,
}

impl Services {
    /// The services themselves.
    pub(crate) fn resolve(&self, seed: u64) -> Result<Vec<ServiceConfig>, GeneratorError> {
        let list = match self {
            Services::Builtin => builtin(),
            Services::Count(count) => synthetic(*count, seed),
            Services::List(list) => list.clone(),
        };
        check(&list)?;
        Ok(list)
    }
}

/// One row of [`BUILTIN`]: name, family, weight, error share, hosts, (daily, peak hour, weekly), burst, latency, callers.
type Row = (&'static str, Family, f64, f64, u8, (f64, f64, f64), f64, f64, &'static [&'static str]);

#[rustfmt::skip]
const BUILTIN: &[Row] = &[
    ("api-gateway",            Family::Gateway,   300.0, 0.006,  6, (0.35, 14.0, 0.12), 0.12,   18.0, &[]),
    ("web-frontend",           Family::Web,       120.0, 0.004,  4, (0.38, 14.5, 0.12), 0.14,   35.0, &["api-gateway"]),
    ("session-cache",          Family::Cache,      90.0, 0.003,  3, (0.35, 14.0, 0.10), 0.14,    2.0, &["api-gateway"]),
    ("catalog-service",        Family::Catalog,    80.0, 0.005,  4, (0.36, 15.0, 0.10), 0.15,   22.0, &["api-gateway", "web-frontend"]),
    ("search-service",         Family::Search,     70.0, 0.008,  4, (0.40, 19.0, 0.08), 0.18,   55.0, &["api-gateway"]),
    ("orders-db",              Family::Database,   60.0, 0.002,  2, (0.32, 14.0, 0.14), 0.12,    6.0, &["catalog-service", "search-service"]),
    ("auth-service",           Family::Auth,       50.0, 0.012,  3, (0.34, 9.0,  0.20), 0.15,   28.0, &["api-gateway"]),
    ("cart-service",           Family::Orders,     40.0, 0.006,  3, (0.42, 20.0, 0.05), 0.18,   16.0, &["api-gateway", "web-frontend"]),
    ("recommendation-service", Family::Ml,         30.0, 0.010,  3, (0.40, 20.0, 0.05), 0.20,   80.0, &["web-frontend"]),
    ("event-bus",              Family::Queue,      30.0, 0.002,  3, (0.30, 14.0, 0.12), 0.14,    4.0, &["cart-service", "catalog-service"]),
    ("order-service",          Family::Orders,     20.0, 0.010,  4, (0.42, 20.0, 0.08), 0.18,   60.0, &["api-gateway", "cart-service"]),
    ("inventory-service",      Family::Catalog,    18.0, 0.007,  3, (0.35, 13.0, 0.12), 0.18,   25.0, &["order-service", "catalog-service"]),
    ("pricing-service",        Family::Catalog,    15.0, 0.005,  2, (0.35, 15.0, 0.10), 0.16,   12.0, &["catalog-service", "cart-service"]),
    ("payment-service",        Family::Payments,   12.0, 0.015,  4, (0.42, 20.0, 0.08), 0.20,  220.0, &["order-service"]),
    ("user-profile",           Family::Auth,       10.0, 0.006,  2, (0.34, 18.0, 0.08), 0.18,   20.0, &["api-gateway", "auth-service"]),
    ("notification-service",   Family::Queue,       8.0, 0.015,  2, (0.38, 11.0, 0.15), 0.22,   90.0, &["order-service", "event-bus"]),
    ("shipping-service",       Family::Orders,      6.0, 0.010,  3, (0.45, 10.0, 0.30), 0.20,  140.0, &["order-service"]),
    ("media-resizer",          Family::Web,         5.0, 0.008,  2, (0.30, 16.0, 0.05), 0.24,  310.0, &["catalog-service"]),
    ("fraud-detection",        Family::Ml,          4.0, 0.008,  2, (0.42, 20.0, 0.08), 0.20,  110.0, &["payment-service"]),
    ("warehouse-db",           Family::Database,    3.0, 0.004,  1, (0.20, 3.0,  0.05), 0.24,  450.0, &["inventory-service"]),
    ("invoice-service",        Family::Payments,    2.0, 0.010,  2, (0.40, 20.0, 0.15), 0.22,  180.0, &["payment-service"]),
    ("review-service",         Family::Catalog,     1.5, 0.009,  2, (0.36, 21.0, 0.05), 0.22,   40.0, &["web-frontend"]),
    ("loyalty-service",        Family::Orders,      1.0, 0.010,  1, (0.40, 20.0, 0.08), 0.24,   45.0, &["order-service"]),
    ("cdn-purger",             Family::Batch,       0.6, 0.020,  1, (0.20, 11.0, 0.20), 0.28,  700.0, &["catalog-service"]),
    ("scheduler",              Family::Batch,       0.4, 0.010,  1, (0.10, 2.0,  0.02), 0.15, 1500.0, &[]),
    ("ledger-export",          Family::Batch,       0.2, 0.012,  1, (0.30, 2.0,  0.10), 0.25, 5200.0, &[]),
];

fn builtin() -> Vec<ServiceConfig> {
    BUILTIN
        .iter()
        .map(|&(name, family, weight, error_share, hosts, season, burst, latency_ms, callers)| {
            ServiceConfig {
                name: name.to_owned(),
                family,
                weight,
                error_share,
                hosts,
                season: Season { daily: season.0, peak_hour: season.1, weekly: season.2 },
                burst,
                dispersion: 12.0,
                latency_ms,
                callers: callers.iter().map(|&caller| caller.to_owned()).collect(),
            }
        })
        .collect()
}

fn synthetic(count: u32, seed: u64) -> Vec<ServiceConfig> {
    (0..count)
        .map(|index| {
            let mut rng = keyed(seed, Purpose::Estate, u64::from(index), 0);
            let caller = (index > 0 && index % 4 != 0).then(|| service_name(rng.random_range(0..index)));
            ServiceConfig {
                name: service_name(index),
                family: Family::ALL[index as usize % Family::ALL.len()],
                weight: 1.0 / f64::from(index + 1),
                error_share: rng.random_range(0.002..0.02),
                hosts: rng.random_range(1..=4),
                season: Season {
                    daily: rng.random_range(0.1..0.45),
                    peak_hour: rng.random_range(8.0..22.0),
                    weekly: rng.random_range(0.0..0.25),
                },
                burst: rng.random_range(0.1..0.28),
                dispersion: 12.0,
                latency_ms: 10f64.powf(rng.random_range(0.5..3.0)),
                callers: caller.into_iter().collect(),
            }
        })
        .collect()
}

fn service_name(index: u32) -> String {
    format!("service-{index:05}")
}

fn check(list: &[ServiceConfig]) -> Result<(), GeneratorError> {
    if list.is_empty() || list.len() > MAX_SERVICES {
        return Err(refuse(
            "services",
            format!("{} services", list.len()),
            format!("give 1 to {MAX_SERVICES}"),
        ));
    }
    let mut names = HashSet::new();
    for service in list {
        check_service(service)?;
        if !names.insert(&service.name) {
            return Err(refuse(
                "services",
                format!("two are called {:?}", service.name),
                "every name must be unique",
            ));
        }
    }
    calling_order(list).map(drop)
}

fn check_service(service: &ServiceConfig) -> Result<(), GeneratorError> {
    let wrong = |what: &str, found: String, expected: &str| {
        Err(refuse("services", format!("{:?} has {what} {found}", service.name), expected))
    };
    let within = |value: f64, low: f64, high: f64| value >= low && value <= high;
    let length = service.name.chars().count();
    if !(1..=100).contains(&length) {
        return wrong("a name of length", length.to_string(), "give 1 to 100 characters");
    }
    if !(service.weight > 0.0 && service.weight.is_finite()) {
        return wrong("weight", service.weight.to_string(), "give a number above 0");
    }
    if !within(service.error_share, 0.0, 0.5) {
        return wrong("error_share", service.error_share.to_string(), "give 0 to 0.5");
    }
    if !(1..=MAX_HOSTS).contains(&service.hosts) {
        return wrong("hosts", service.hosts.to_string(), "give 1 to 64");
    }
    if !within(service.season.daily, 0.0, 0.7) || !within(service.season.weekly, 0.0, 0.7) {
        return wrong("season", format!("{:?}", service.season), "give amplitudes of 0 to 0.7");
    }
    if !within(service.burst, 0.0, 1.0) {
        return wrong("burst", service.burst.to_string(), "give 0 to 1");
    }
    if !within(service.dispersion, 0.1, 1e6) {
        return wrong("dispersion", service.dispersion.to_string(), "give 0.1 to 1000000");
    }
    if !within(service.latency_ms, 0.01, 1e7) {
        return wrong("latency_ms", service.latency_ms.to_string(), "give 0.01 to 10000000");
    }
    Ok(())
}

/// Indexes of all services, callers before those they call, and for each service its callers' indexes.
pub(crate) fn calling_order(list: &[ServiceConfig]) -> Result<(Vec<usize>, Vec<Vec<usize>>), GeneratorError> {
    let index: HashMap<&str, usize> = list.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut callers = vec![Vec::new(); list.len()];
    let mut callees = vec![Vec::new(); list.len()];
    for (at, service) in list.iter().enumerate() {
        for name in &service.callers {
            let &caller = index.get(name.as_str()).ok_or_else(|| {
                refuse(
                    "services",
                    format!("{:?} is called by {name:?}", service.name),
                    "name a service of the list",
                )
            })?;
            callers[at].push(caller);
            callees[caller].push(at);
        }
    }
    let mut waiting: Vec<usize> = callers.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..list.len()).filter(|&i| waiting[i] == 0).collect();
    let mut done = 0;
    while let Some(&caller) = order.get(done) {
        done += 1;
        for &callee in &callees[caller] {
            waiting[callee] -= 1;
            if waiting[callee] == 0 {
                order.push(callee);
            }
        }
    }
    if let Some(stuck) = waiting.iter().position(|&count| count > 0) {
        let name = &list[stuck].name;
        return Err(refuse(
            "services",
            format!("the callers of {name:?} go in a circle"),
            "break the circle",
        ));
    }
    Ok((order, callers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_estate_spans_three_orders_of_magnitude() {
        let list = Services::Builtin.resolve(1).unwrap();
        assert!(list.len() >= 20);
        let weights: Vec<f64> = list.iter().map(|s| s.weight).collect();
        let (low, high) = weights.iter().fold((f64::MAX, 0.0f64), |(l, h), &w| (l.min(w), h.max(w)));
        assert!(high / low >= 1000.0);
    }

    #[test]
    fn callers_come_before_callees() {
        for services in [Services::Builtin, Services::Count(500)] {
            let list = services.resolve(3).unwrap();
            let (order, callers) = calling_order(&list).unwrap();
            let mut rank = vec![usize::MAX; list.len()];
            order.iter().enumerate().for_each(|(at, &service)| rank[service] = at);
            for (service, callers) in callers.iter().enumerate() {
                assert!(callers.iter().all(|&caller| rank[caller] < rank[service]), "{}", list[service].name);
            }
        }
    }

    #[test]
    fn a_wrong_estate_is_refused_with_the_reason() {
        let mut list = builtin();
        list[0].callers = vec!["ledger-export".into()];
        list[25].callers = vec!["api-gateway".into()];
        let circle = Services::List(list.clone()).resolve(1).unwrap_err().to_string();
        assert!(circle.contains("go in a circle; break the circle"), "{circle}");
        list[0].callers = vec!["nobody".into()];
        let unknown = Services::List(list.clone()).resolve(1).unwrap_err().to_string();
        assert!(unknown.contains("\"api-gateway\" is called by \"nobody\""), "{unknown}");
        list[0] = ServiceConfig { error_share: f64::NAN, ..list[1].clone() };
        let share = Services::List(list.clone()).resolve(1).unwrap_err().to_string();
        assert!(share.contains("error_share NaN; give 0 to 0.5"), "{share}");
        let none = Services::List(Vec::new()).resolve(1).unwrap_err().to_string();
        assert!(none.contains("0 services; give 1 to 65000"), "{none}");
    }
}
