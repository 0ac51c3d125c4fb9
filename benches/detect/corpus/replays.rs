//! The shared replay, and others made by its own maker from specifications drawn here.
//!
//! The replay, its maker and its evaluator lie beside the checkout (`../shared`, or where SMARTLOG_SHARED says); they are
//! not part of it. What they make is kept in the build folder, by the specification and the maker that it came from.

use super::{Amount, Case, Corpus, Excused, GRACE, Incident, Labels, Lines, Second, TAIL};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is said where there is nothing to judge by.
pub const ABSENT: &str = "the shared replay and the replays of other specifications are NOT part of these figures: \
     ../shared/data/replay is not there (SMARTLOG_SHARED names another place)";
/// Replays of other specifications.
const OTHERS: u64 = 20;
const HOURS: i64 = 12;
const LEARN_MINUTES: i64 = 180;
/// Minutes that a service rests between two incidents.
const REST_MINUTES: i64 = 45;
/// Services whose texts include errors, and some that have none.
const WITH_ERRORS: [&str; 8] = [
    "ts-basic-service",
    "ts-food-service",
    "ts-inside-payment-service",
    "ts-preserve-other-service",
    "ts-preserve-service",
    "ts-seat-service",
    "ts-travel-service",
    "ts-travel2-service",
];
const WITHOUT_ERRORS: [&str; 6] = [
    "ts-order-service",
    "ts-order-other-service",
    "ts-station-service",
    "ts-route-service",
    "ts-user-service",
    "ts-verification-code-service",
];
/// One that logs about once a minute, in bursts, a fifth of it errors: nothing happens to it, and nothing may be raised.
const SPARSE: &str = "ts-execute-service";
const PROFILES: [&str; 4] = ["taxi", "tweets", "elb", "flat"];

/// The maker, and the folder of the shared replay.
pub struct Maker {
    folder: PathBuf,
    kept: PathBuf,
}

impl Maker {
    /// Where the shared replay is; `None` where it is not.
    pub fn find() -> Option<Self> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        let shared = std::env::var_os("SMARTLOG_SHARED").map_or_else(|| beside.into(), PathBuf::from);
        let folder = shared.join("data/replay");
        let kept = smartlog_benches::program::target_folder().ok()?.join("detect-replays");
        folder.join("make_replay.py").exists().then_some(Maker { folder, kept })
    }

    /// The evaluator that comes with the replay.
    pub fn evaluator(&self) -> PathBuf {
        self.folder.join("evaluate.py")
    }

    /// The labels that the evaluator reads.
    pub fn shared_labels(&self) -> PathBuf {
        self.folder.join("labels.json")
    }

    /// The shared replay.
    pub fn shared(&self) -> anyhow::Result<Case> {
        case(Corpus::Shared, "shared replay".into(), &self.folder)
    }

    /// Replays of other specifications, made where they are not kept from before.
    pub fn others(&self, amount: &Amount) -> anyhow::Result<Vec<Case>> {
        let seeds: Vec<u64> = amount.set.seeds(amount.cases(OTHERS, 3)).collect();
        let folders = crate::parallel(&seeds, |seed| self.make(*seed));
        let named = seeds.iter().zip(folders);
        named.map(|(seed, folder)| case(Corpus::Mixed, format!("replay-{seed}"), &folder?)).collect()
    }

    fn make(&self, seed: u64) -> anyhow::Result<PathBuf> {
        let spec = serde_json::to_string_pretty(&Draft::new(seed).spec())?;
        let maker = std::fs::read_to_string(self.folder.join("make_replay.py"))?;
        let folder = self.kept.join(format!("{seed}-{:08x}", crc(&[&spec, &maker])));
        if folder.join("labels.json").exists() {
            return Ok(folder);
        }
        std::fs::create_dir_all(&self.kept)?;
        let draft = tempfile::tempdir_in(&self.kept)?;
        let spec_file = draft.path().join("spec.json");
        std::fs::write(&spec_file, spec)?;
        let output = Command::new("python3")
            .arg(self.folder.join("make_replay.py"))
            .args([&spec_file, &self.folder.join("pool.json.gz")])
            .arg(draft.path())
            .output()
            .context("starting python3 for make_replay.py")?;
        ensure!(output.status.success(), "make_replay.py: {}", String::from_utf8_lossy(&output.stderr));
        // Another run may have made the same meanwhile.
        if let Err(error) = std::fs::rename(draft.keep(), &folder) {
            ensure!(folder.join("labels.json").exists(), "keeping {}: {error}", folder.display());
        }
        Ok(folder)
    }
}

fn crc(texts: &[&str]) -> u32 {
    let mut crc = flate2::Crc::new();
    texts.iter().for_each(|text| crc.update(text.as_bytes()));
    crc.sum()
}

fn case(corpus: Corpus, name: String, folder: &Path) -> anyhow::Result<Case> {
    let lines = ["replay.ndjson.gz", "replay.ndjson"].map(|file| folder.join(file));
    let lines = lines.into_iter().find(|file| file.exists());
    let lines = lines.with_context(|| format!("{} holds no replay.ndjson.gz", folder.display()))?;
    let file = folder.join("labels.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let document: Document = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let labels = document.labels();
    Ok(Case { corpus, name, size: document.facts.lines, lines: Lines::File(lines, labels) })
}

/// A replay's labels.json, as far as it matters here.
#[derive(Deserialize)]
struct Document {
    evaluate_from: Timestamp,
    services: Vec<String>,
    incidents: Vec<Item>,
    excused: Vec<Item>,
    facts: Facts,
}

#[derive(Deserialize)]
struct Facts {
    end: Timestamp,
    lines: u64,
}

#[derive(Deserialize)]
struct Item {
    service: String,
    #[serde(rename = "type")]
    kind: String,
    start: Timestamp,
    end: Timestamp,
    how: String,
}

impl Document {
    fn labels(&self) -> Labels {
        let excused = |item: &Item| Excused {
            service: item.service.clone(),
            start: item.start.as_second(),
            end: item.end.as_second(),
        };
        Labels {
            from: self.evaluate_from.as_second(),
            to: self.facts.end.as_second(),
            grace: GRACE,
            tail: TAIL,
            services: self.services.len(),
            incidents: self.incidents.iter().map(Item::incident).collect(),
            excused: self.excused.iter().map(excused).collect(),
        }
    }
}

impl Item {
    fn incident(&self) -> Incident {
        let bends_errors = self.how.starts_with("errors");
        let (kind, accepts): (&str, &[&str]) = match self.kind.as_str() {
            "slow_ramp" if bends_errors => ("slow_ramp_errors", &["error_rate_spike"]),
            "slow_ramp" => ("slow_ramp_volume", &["log_volume_spike"]),
            "log_volume_drop" if self.how.starts_with("total silence") => ("silence", &["log_volume_drop"]),
            other => (other, &[]),
        };
        let named = if accepts.is_empty() { vec![self.kind.clone()] } else { Vec::new() };
        let accepts = accepts.iter().map(|&name| name.to_owned());
        Incident {
            service: self.service.clone(),
            kind: kind.to_owned(),
            accepts: accepts.chain(named).chain(["multivariate_outlier".to_owned()]).collect(),
            start: self.start.as_second(),
            end: self.end.as_second(),
            how: self.how.clone(),
        }
    }
}

/// A service as the specification has it.
struct Service {
    name: &'static str,
    has_errors: bool,
    /// Logs a minute.
    rate: f64,
    /// Usual share of errors.
    errors: f64,
    hosts: u32,
    taken: Vec<Range<i64>>,
}

/// A specification under way.
struct Draft {
    seed: u64,
    rng: Xoshiro256PlusPlus,
    services: Vec<Service>,
    incidents: Vec<Value>,
    benign: Vec<Value>,
}

const KINDS: [&str; 7] = ["errors", "spike", "drop", "silence", "ramp_volume", "ramp_errors", "new_pattern"];

impl Draft {
    fn new(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let with = WITH_ERRORS.choose_multiple(&mut rng, 4).map(|&name| (name, true)).collect::<Vec<_>>();
        let count = rng.random_range(1..=3);
        let without = WITHOUT_ERRORS.choose_multiple(&mut rng, count).map(|&name| (name, false));
        let named: Vec<(&str, bool)> = with.into_iter().chain(without.collect::<Vec<_>>()).collect();
        let mut services = Vec::new();
        for (name, has_errors) in named {
            services.push(Service {
                name,
                has_errors,
                // From 5 to 40 a minute, small ones as often as large ones.
                rate: 5.0 * 8.0_f64.powf(rng.random()),
                errors: if has_errors { 0.004 * 12.0_f64.powf(rng.random()) } else { 0.0 },
                hosts: rng.random_range(1..=4),
                taken: Vec::new(),
            });
        }
        Draft { seed, rng, services, incidents: Vec::new(), benign: Vec::new() }
    }

    /// The document that the maker reads.
    fn spec(mut self) -> Value {
        self.level_shift();
        self.plan();
        let mut services: Vec<Value> = (0..self.services.len()).map(|index| self.service(index)).collect();
        services.push(json!({
            "name": SPARSE, "pool": SPARSE, "rate": round(self.rng.random_range(0.7..2.0)), "err": 0.19,
            "profile": "flat", "cv": 0.8, "hosts": 1, "warn": 0.02,
        }));
        let first = self.services[0].name;
        let flush_at = self.rng.random_range(240..600);
        // Another hour and day each time.
        let start =
            Timestamp::from_second(1_741_046_400 + self.seed as i64 % 200 * 31 * 3600).unwrap_or_default();
        json!({
            "name": format!("replay {}", self.seed), "seed": self.seed, "start": start.to_string(),
            "hours": HOURS, "learn_hours": LEARN_MINUTES / 60, "malformed_per_10k": 15, "huge": 1,
            "services": services, "incidents": self.incidents, "benign": self.benign,
            "host_flush": [{"service": first, "host": 0, "start_min": flush_at, "minutes": 4, "held_min": 5}],
            "bad_clock": [{"service": first, "start_min": flush_at + 20, "minutes": 2, "count": 12,
                "timestamp": "2099-06-01T00:00:00Z"}],
        })
    }

    fn service(&mut self, index: usize) -> Value {
        let rng = &mut self.rng;
        let profile = PROFILES.choose(rng).copied().unwrap_or("flat");
        let (cv, warn) = (rng.random_range(0.15..0.4), rng.random_range(0.01..0.2));
        let Service { name, rate, errors, hosts, .. } = &self.services[index];
        json!({
            "name": name, "pool": name, "rate": round(*rate), "err": round(*errors), "profile": profile,
            "cv": round(cv), "hosts": hosts, "warn": round(warn),
        })
    }

    /// One service moves to another level for good: no incident once the move is over.
    fn level_shift(&mut self) {
        let index = self.rng.random_range(0..self.services.len());
        let up = self.rng.random_bool(0.5);
        let factor =
            round(if up { self.rng.random_range(1.4..1.8) } else { self.rng.random_range(0.55..0.7) });
        let start = self.rng.random_range(LEARN_MINUTES + 20..HOURS * 60 - 200);
        let (change, rest) = (start..start + 20, start + 20..HOURS * 60);
        let part = |minutes: Range<i64>, excused: bool| {
            json!({
                "service": self.services[index].name, "type": "level_shift", "start_min": minutes.start,
                "minutes": minutes.end - minutes.start, "bends": "volume", "factor": factor, "excused": excused,
                "how": format!("volume moves to x{factor} for good"),
            })
        };
        self.benign = vec![part(change, true), part(rest, false)];
        self.services[index].taken.push(start..start + 180);
    }

    fn plan(&mut self) {
        let mut at = LEARN_MINUTES + 15;
        let mut kinds = KINDS.to_vec();
        for turn in 0.. {
            if turn % kinds.len() == 0 {
                kinds.shuffle(&mut self.rng);
            }
            let kind = kinds[turn % kinds.len()];
            let minutes = match kind {
                "ramp_volume" | "ramp_errors" => self.rng.random_range(50..=80),
                "silence" | "drop" => self.rng.random_range(12..=20),
                _ => self.rng.random_range(8..=14),
            };
            if at + minutes > HOURS * 60 - 10 {
                return;
            }
            self.place(kind, at..at + minutes);
            at += self.rng.random_range(15..=50);
        }
    }

    /// Puts an incident on a service on which it can show and which is free; there is none: no incident.
    fn place(&mut self, kind: &str, time: Range<i64>) {
        let minutes = time.end - time.start;
        let free = |service: &Service| {
            let apart = |taken: &Range<i64>| {
                time.end + REST_MINUTES <= taken.start || taken.end + REST_MINUTES <= time.start
            };
            service.taken.iter().all(apart)
        };
        let fits = |service: &Service| match kind {
            // A dozen errors more than usual, and in the end one line in twenty.
            "errors" => {
                service.has_errors
                    && service.rate * service.errors * 12.0 * minutes as f64 >= 12.0
                    && service.errors <= 0.03
            }
            "ramp_errors" => {
                service.has_errors && service.rate >= 10.0 && (0.006..=0.05).contains(&service.errors)
            }
            "new_pattern" => service.has_errors,
            _ => true,
        };
        let fitting: Vec<usize> = (0..self.services.len())
            .filter(|&index| free(&self.services[index]) && fits(&self.services[index]))
            .collect();
        let Some(&index) = fitting.choose(&mut self.rng) else { return };
        let incident = self.incident(kind, &time, index);
        self.incidents.push(incident);
        self.services[index].taken.push(time);
    }

    fn incident(&mut self, kind: &str, time: &Range<i64>, index: usize) -> Value {
        let rng = &mut self.rng;
        let Service { name, rate, errors, .. } = &self.services[index];
        let usual = format!("{rate:.0}/min, {:.1} % errors", errors * 100.0);
        let (type_name, bends, factor, how) = match kind {
            "errors" => ("error_rate_spike", "errors", rng.random_range(10.0..20.0), "errors x"),
            "spike" => ("log_volume_spike", "volume", rng.random_range(6.0..10.0), "volume x"),
            "drop" => ("log_volume_drop", "volume", rng.random_range(0.02..0.07), "volume x"),
            "silence" => ("log_volume_drop", "volume", 0.0, "total silence x"),
            "ramp_volume" => ("slow_ramp", "volume", rng.random_range(3.5..6.0), "volume grows to x"),
            "ramp_errors" => ("slow_ramp", "errors", rng.random_range(7.0..12.0), "errors grow to x"),
            _ => ("new_pattern", "pattern", 1.0, "an ERROR line of an unseen kind x"),
        };
        let factor = round(factor);
        let mut incident = json!({
            "service": name, "type": type_name, "start_min": time.start, "minutes": time.end - time.start,
            "bends": bends, "factor": factor, "how": format!("{how}{factor} ({usual})"),
        });
        if kind.starts_with("ramp") {
            incident["shape"] = "ramp".into();
        }
        if kind == "new_pattern" {
            incident["per_min"] = 2.into();
            incident["level"] = "ERROR".into();
            incident["messages"] =
                json!(["java.net.NoRouteToHostException: No route from {ip} to mongo-{n}:27017"]);
        }
        incident
    }
}

/// Three digits behind the point: specifications are for people, too.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Seconds since 1970, as the evaluator reads times.
pub fn shown(at: Second) -> String {
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}
