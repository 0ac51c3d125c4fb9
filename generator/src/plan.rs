//! Which incidents happen when: none, those asked for, or a plan drawn from the seed.
//!
//! A drawn plan never lets two incidents meet on one service: after each the service rests until its windows have
//! forgotten it, so every alarm belongs to one label.

use crate::error::{GeneratorError, refuse};
use crate::estate::ServiceConfig;
use crate::incidents::{Incident, IncidentKind, IncidentSpec};
use crate::rng::{Purpose, Rng, keyed};
use jiff::Timestamp;
use rand::Rng as _;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Seconds for which a service rests after an incident.
const REST_SECONDS: i64 = 20 * 60;
/// The same in the demo, where an incident starts each minute: the window and a little more.
const DEMO_REST_SECONDS: i64 = 7 * 60;
/// Most incidents in a plan.
const MAX_INCIDENTS: usize = 10_000;

/// Which incidents happen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IncidentPlan {
    /// None: quiet traffic.
    #[default]
    None,
    /// Drawn from the seed; the first 10,000 of them.
    Auto {
        /// Incidents a day, over all services.
        per_day: f64,
        /// Disturbances a day, over all services.
        #[serde(default)]
        disturbances_per_day: f64,
        /// Kinds to take in turn; all when empty.
        #[serde(default)]
        kinds: Vec<IncidentKind>,
    },
    /// One each minute for a week, strong and short, each kind of anomaly in turn: for people to watch.
    Demo,
    /// These.
    Explicit(Vec<IncidentSpec>),
}

/// A service as the plan sees it.
#[derive(Debug, Clone)]
struct Candidate {
    /// Mean logs per second.
    rate: f64,
    /// Part of the whole traffic.
    part: f64,
    error_share: f64,
    hosts: u8,
    /// Stretches of event seconds in which it is bent, each with what it needs to settle.
    taken: Vec<Range<i64>>,
    /// Where level shifts have brought its rate, relative to the start.
    level: f64,
}

/// Draws plans.
struct Planner {
    rng: Rng,
    services: Vec<Candidate>,
    rest: i64,
    incidents: Vec<Incident>,
}

/// What a plan is drawn for.
pub(crate) struct PlanInput<'a> {
    pub(crate) seed: u64,
    pub(crate) services: &'a [ServiceConfig],
    pub(crate) rate_per_s: f64,
    /// Start of the traffic, epoch seconds.
    pub(crate) start: i64,
    /// Seconds in which incidents may lie.
    pub(crate) open: Range<i64>,
}

impl IncidentPlan {
    /// The incidents, in order of start.
    pub(crate) fn resolve(&self, input: &PlanInput<'_>) -> Result<Vec<Incident>, GeneratorError> {
        let mut incidents = match self {
            IncidentPlan::None => Vec::new(),
            IncidentPlan::Auto { per_day, disturbances_per_day, kinds } => {
                auto(input, *per_day, *disturbances_per_day, kinds)?
            }
            IncidentPlan::Demo => demo(input),
            IncidentPlan::Explicit(specs) if specs.len() > MAX_INCIDENTS => {
                let found = format!("{} incidents", specs.len());
                return Err(refuse("incidents", found, format!("ask for at most {MAX_INCIDENTS}")));
            }
            IncidentPlan::Explicit(specs) => {
                specs.iter().map(|spec| explicit(input, spec)).collect::<Result<_, _>>()?
            }
        };
        incidents.sort_by_key(|incident| (incident.start, incident.service));
        incidents.truncate(MAX_INCIDENTS);
        (1..).zip(&mut incidents).for_each(|(id, incident)| incident.id = id);
        Ok(incidents)
    }
}

fn explicit(input: &PlanInput<'_>, spec: &IncidentSpec) -> Result<Incident, GeneratorError> {
    let service = input.services.iter().position(|service| service.name == spec.service);
    let service = service.ok_or_else(|| {
        refuse("incidents", format!("no service is called {:?}", spec.service), "name one of the services")
    })?;
    let magnitude = spec.magnitude.unwrap_or(spec.kind.usual_magnitude());
    let (least, greatest) = spec.kind.magnitudes();
    if !(least..=greatest).contains(&magnitude) {
        let found = format!("magnitude {magnitude} of {:?} on {:?}", spec.kind, spec.service);
        return Err(refuse("incidents", found, format!("give {least} to {greatest}")));
    }
    let (after, lasts) = (spec.after.as_secs(), spec.lasts.as_secs());
    if after < 0 || lasts < 1 {
        let found =
            format!("{:?} on {:?} begins after {after} s and lasts {lasts} s", spec.kind, spec.service);
        return Err(refuse("incidents", found, "begin at 0 s or later and last at least 1 s"));
    }
    let start = input.start + after;
    incident(spec.kind, service, start..start.saturating_add(lasts), magnitude).ok_or_else(|| {
        refuse("incidents", format!("{:?} on {:?} ends too late", spec.kind, spec.service), "end before 9999")
    })
}

fn incident(kind: IncidentKind, service: usize, seconds: Range<i64>, magnitude: f64) -> Option<Incident> {
    Some(Incident {
        id: 0,
        kind,
        service,
        start: Timestamp::from_second(seconds.start).ok()?,
        end: Timestamp::from_second(seconds.end).ok()?,
        magnitude,
        note: Incident::describe(kind, magnitude),
    })
}

fn auto(
    input: &PlanInput<'_>,
    per_day: f64,
    disturbances_per_day: f64,
    kinds: &[IncidentKind],
) -> Result<Vec<Incident>, GeneratorError> {
    for (name, value) in [("per_day", per_day), ("disturbances_per_day", disturbances_per_day)] {
        if !(0.0..=10_000.0).contains(&value) {
            return Err(refuse("incidents", format!("{name} is {value}"), "give 0 to 10000"));
        }
    }
    let chosen = |all: &[IncidentKind]| -> Vec<IncidentKind> {
        let wanted = |kind: &&IncidentKind| kinds.is_empty() || kinds.contains(kind);
        all.iter().filter(wanted).copied().collect()
    };
    let mut planner = Planner::new(input, REST_SECONDS);
    planner.scatter(&input.open, per_day, chosen(&IncidentKind::INCIDENTS));
    planner.scatter(&input.open, disturbances_per_day, chosen(&IncidentKind::DISTURBANCES));
    Ok(planner.incidents)
}

/// Strong, short incidents, one each minute from ten seconds after the start on.
fn demo(input: &PlanInput<'_>) -> Vec<Incident> {
    const TURN: [IncidentKind; 5] = [
        IncidentKind::ErrorRateSpike,
        IncidentKind::LogVolumeSpike,
        IncidentKind::NewPattern,
        IncidentKind::LogVolumeDrop,
        IncidentKind::MultivariateOutlier,
    ];
    let mut planner = Planner::new(input, DEMO_REST_SECONDS);
    let starts = (input.open.start + 10..input.open.end).step_by(60).take(MAX_INCIDENTS);
    for (start, &kind) in starts.zip(TURN.iter().cycle()) {
        let seconds = match kind {
            IncidentKind::LogVolumeDrop => 420,
            IncidentKind::MultivariateOutlier => 240,
            _ => 120,
        };
        planner.place(kind, start..start + seconds, Strength::Demo);
    }
    planner.incidents
}

/// How strong incidents are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Strength {
    /// As in life: some just beyond the rules.
    Usual,
    /// Beyond the rules' 5-minute ratios within half a minute.
    Demo,
}

impl Planner {
    fn new(input: &PlanInput<'_>, rest: i64) -> Self {
        let total: f64 = input.services.iter().map(|service| service.weight).sum();
        let candidate = |service: &ServiceConfig| Candidate {
            rate: input.rate_per_s * service.weight / total,
            part: service.weight / total,
            error_share: service.error_share,
            hosts: service.hosts,
            taken: Vec::new(),
            level: 1.0,
        };
        Planner {
            rng: keyed(input.seed, Purpose::Plan, 0, 0),
            services: input.services.iter().map(candidate).collect(),
            rest,
            incidents: Vec::new(),
        }
    }

    /// Places incidents at random moments (a Poisson process), the kinds in a shuffled order, round and round.
    fn scatter(&mut self, open: &Range<i64>, per_day: f64, mut kinds: Vec<IncidentKind>) {
        if per_day <= 0.0 || kinds.is_empty() {
            return;
        }
        let mut at = open.start as f64;
        for turn in 0..MAX_INCIDENTS {
            if turn % kinds.len() == 0 {
                kinds.shuffle(&mut self.rng);
            }
            let gap: f64 = Exp1.sample(&mut self.rng);
            at += gap * 86_400.0 / per_day;
            let kind = kinds[turn % kinds.len()];
            let minutes = match kind {
                IncidentKind::SlowRampVolume | IncidentKind::SlowRampErrors => self.rng.random_range(40..=80),
                IncidentKind::HeldHost => self.rng.random_range(2..=5),
                IncidentKind::LevelShift => 10,
                _ => self.rng.random_range(8..=20),
            };
            let (start, lasts) = (at as i64, minutes * 60);
            if start + lasts > open.end {
                return;
            }
            self.place(kind, start..start + lasts, Strength::Usual);
        }
    }

    /// Puts an incident on a fitting service that is free; none is free: no incident.
    fn place(&mut self, kind: IncidentKind, seconds: Range<i64>, strength: Strength) {
        let Some(service) = self.choose(kind, &seconds, strength) else { return };
        let magnitude = self.magnitude(kind, service, strength);
        // What is held back still arrives after the end, and after a level shift the baseline has to follow.
        let settles = match kind {
            IncidentKind::HeldHost => (magnitude * 60.0) as i64,
            IncidentKind::LevelShift => 3 * 3600,
            _ => 0,
        };
        if kind == IncidentKind::LevelShift {
            self.services[service].level *= magnitude;
        }
        self.services[service].taken.push(seconds.start..seconds.end + settles);
        self.incidents.extend(incident(kind, service, seconds, magnitude));
    }

    fn choose(&mut self, kind: IncidentKind, seconds: &Range<i64>, strength: Strength) -> Option<usize> {
        let free: Vec<usize> = (0..self.services.len())
            .filter(|&service| self.free(service, seconds))
            .filter(|&service| fits(kind, &self.services[service]))
            .collect();
        let (least, greatest) = wanted(kind, strength);
        let small: Vec<usize> =
            free.into_iter().filter(|&service| self.services[service].part <= greatest).collect();
        let loud: Vec<usize> =
            small.iter().copied().filter(|&service| self.services[service].rate >= least).collect();
        if !loud.is_empty() {
            return loud.choose(&mut self.rng).copied();
        }
        // At low rates nothing is loud enough: the loudest that is free has to do.
        small.into_iter().max_by(|&a, &b| self.services[a].rate.total_cmp(&self.services[b].rate))
    }

    /// Whether `service` rests before, during and after `seconds` from all that is planned already.
    fn free(&self, service: usize, seconds: &Range<i64>) -> bool {
        let apart = |taken: &Range<i64>| {
            seconds.end + self.rest <= taken.start || taken.end + self.rest <= seconds.start
        };
        self.services[service].taken.iter().all(apart)
    }

    fn magnitude(&mut self, kind: IncidentKind, service: usize, strength: Strength) -> f64 {
        let rng = &mut self.rng;
        let raw = match (kind, strength) {
            (IncidentKind::Silence, _) => 0.0,
            (IncidentKind::LogVolumeDrop, Strength::Demo) => 0.0,
            (IncidentKind::ErrorRateSpike, Strength::Demo) => {
                rng.random_range(0.4..0.6) / self.services[service].error_share
            }
            (IncidentKind::LogVolumeSpike, Strength::Demo) => rng.random_range(40.0..60.0),
            (IncidentKind::NewPattern, Strength::Demo) => 60.0,
            (IncidentKind::MultivariateOutlier, Strength::Demo) => 1.6,
            (IncidentKind::ErrorRateSpike, Strength::Usual) => rng.random_range(6.0..20.0),
            (IncidentKind::FlappingErrors, _) => rng.random_range(12.0..25.0),
            (IncidentKind::LogVolumeSpike, Strength::Usual) => rng.random_range(6.0..12.0),
            (IncidentKind::LogVolumeDrop, Strength::Usual) => rng.random_range(0.0..0.06),
            (IncidentKind::NewPattern, Strength::Usual) => rng.random_range(3.0..30.0),
            (IncidentKind::MultivariateOutlier, Strength::Usual) => rng.random_range(0.8..1.2),
            (IncidentKind::SlowRampVolume, _) => rng.random_range(4.0..8.0),
            (IncidentKind::SlowRampErrors, _) => rng.random_range(6.0..12.0),
            // Up and down in turn, so that a long run stays near its configured rate.
            (IncidentKind::LevelShift, _) if self.services[service].level > 1.0 => {
                rng.random_range(0.55..0.7)
            }
            (IncidentKind::LevelShift, _) => rng.random_range(1.4..1.8),
            (IncidentKind::BadClock, _) => rng.random_range(1.0..12.0),
            (IncidentKind::HeldHost, _) => rng.random_range(2.0..5.0),
        };
        let rounded = (raw * 1000.0).round() / 1000.0;
        let (least, greatest) = kind.magnitudes();
        rounded.clamp(least, greatest)
    }
}

/// Whether `kind` can show on `service` at all.
fn fits(kind: IncidentKind, service: &Candidate) -> bool {
    match kind {
        IncidentKind::ErrorRateSpike | IncidentKind::SlowRampErrors | IncidentKind::FlappingErrors => {
            service.error_share >= 0.003
        }
        IncidentKind::BadClock | IncidentKind::HeldHost => service.hosts >= 3,
        _ => true,
    }
}

/// The logs per second from which `kind` can be told from chance, and the part of the whole traffic up to which it does
/// not drown everything else.
fn wanted(kind: IncidentKind, strength: Strength) -> (f64, f64) {
    let greatest_part = match (kind, strength) {
        (IncidentKind::LogVolumeSpike, Strength::Demo) => 0.008,
        (IncidentKind::LogVolumeSpike | IncidentKind::SlowRampVolume, Strength::Usual) => 0.1,
        _ => 1.0,
    };
    let least_rate = match kind {
        IncidentKind::SlowRampErrors | IncidentKind::FlappingErrors | IncidentKind::MultivariateOutlier => {
            4.0
        }
        IncidentKind::ErrorRateSpike => 4.0,
        _ => 0.5,
    };
    (least_rate, greatest_part)
}
