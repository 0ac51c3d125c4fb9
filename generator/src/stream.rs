//! The stream: lines in order of arrival, made second by second, with bounded memory.
//!
//! ```text
//!   event second s ──► for each service, callers first: Cell ─► lines (time, host, level, template, request)
//!                                  │ delay: usual, late, or held with its host
//!                                  ▼
//!             waiting[arrival second] … ──► second s is complete: sort by arrival ──► render, count, hand out
//! ```
//!
//! No line arrives before it happens, so once event second `s` is made, all that arrives in `s` is known.

use crate::config::GeneratorConfig;
use crate::error::GeneratorError;
use crate::incidents::{Incident, IncidentKind};
use crate::labels::{Label, Labels, Tally};
use crate::line::{Form, Line, LineWriter, uniform};
use crate::malformed::{MalformedKind, OddKind};
use crate::model::{Cell, Cells, Model, error_line, poisson, usual_line};
use crate::requests::Requests;
use crate::rng::{Purpose, Rng, keyed};
use jiff::Timestamp;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use smartlog_schema::level::Level;
use smartlog_schema::window::MICROS;
use std::collections::VecDeque;
use std::sync::Arc;

/// Spread of the usual delays.
const DELAY_SIGMA: f64 = 0.8;
/// Their median, as a share of the greatest.
const DELAY_MEDIAN: f64 = 0.1;
/// Over that time held lines come in once they are let go, microseconds.
const FLUSH_US: i64 = 2_000_000;

/// One line, as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it arrives, microseconds since 1970.
    pub arrival_us: i64,
    /// The event time that it tells, microseconds since 1970. For a malformed line: when it was written.
    pub event_us: i64,
    /// Name of the service: the Kafka key.
    pub key: Arc<str>,
    /// The bytes, without a line break.
    pub payload: Vec<u8>,
}

/// What [`Generator::next_into`] tells of a line; the bytes are in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// When it arrives, microseconds since 1970.
    pub arrival_us: i64,
    /// The event time that it tells, microseconds since 1970.
    pub event_us: i64,
    /// Index of its service: see [`Generator::service`].
    pub service: usize,
}

/// Makes the lines of a [`GeneratorConfig`], in order of arrival.
#[derive(Debug)]
pub struct Generator {
    model: Arc<Model>,
    maker: Maker,
    writer: LineWriter,
    tally: Tally,
    keys: Vec<Arc<str>>,
    /// Lines of the arrival second that is being handed out, in order of arrival.
    arriving: Vec<Line>,
    cursor: usize,
    /// Lines that may still be handed out.
    left: u64,
}

impl Generator {
    /// Prepares the traffic; nothing is made yet.
    ///
    /// # Errors
    /// When a setting cannot be worked with; the message says which and what is accepted.
    pub fn new(config: GeneratorConfig) -> Result<Generator, GeneratorError> {
        let model = Model::new(config)?;
        Ok(Generator {
            maker: Maker::new(Arc::clone(&model)),
            writer: LineWriter::new(Arc::clone(&model)),
            tally: Tally::new(model.services.len()),
            keys: model.services.iter().map(|service| Arc::from(service.config.name.as_str())).collect(),
            arriving: Vec::new(),
            cursor: 0,
            left: model.config.lines.unwrap_or(u64::MAX),
            model,
        })
    }

    /// Appends the next line's bytes to `out` (which it does not clear) and tells what it is; `None` at the end.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Option<Head> {
        self.left = self.left.checked_sub(1)?;
        while self.cursor == self.arriving.len() {
            self.arriving.clear();
            self.cursor = 0;
            if !self.maker.next_second(&mut self.arriving) {
                return None;
            }
        }
        let line = self.arriving[self.cursor];
        self.cursor += 1;
        let before = out.len();
        let chars = self.writer.write(&line, out);
        self.tally.count(&line, chars, out.len() - before);
        let service = usize::from(line.service);
        Some(Head { arrival_us: line.arrival_us, event_us: line.event_us, service })
    }

    /// Name of a service by its index.
    pub fn service(&self, index: usize) -> &str {
        &self.keys[index]
    }

    /// Everything that is planned, in order of start, whether it has begun or not.
    pub fn plan(&self) -> Vec<Label> {
        self.model.incidents.iter().map(|incident| Label::new(incident, &self.model)).collect()
    }

    /// Labels of the traffic as far as it was handed out: what has begun by then, and the counts. After the last line
    /// they are those of the whole.
    pub fn labels(&self) -> Labels {
        let end = Timestamp::from_second(self.maker.made_until()).unwrap_or(Timestamp::MAX);
        Labels::new(&self.model, &self.tally, end)
    }

    /// Lines that wait to arrive.
    pub fn held(&self) -> usize {
        self.maker.waiting.held + self.arriving.len() - self.cursor
    }

    /// The settings.
    pub fn config(&self) -> &GeneratorConfig {
        &self.model.config
    }
}

impl Iterator for Generator {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let mut payload = Vec::with_capacity(400);
        let head = self.next_into(&mut payload)?;
        let key = Arc::clone(&self.keys[head.service]);
        Some(Record { arrival_us: head.arrival_us, event_us: head.event_us, key, payload })
    }
}

/// Lines that wait, by the second in which they arrive.
#[derive(Debug)]
struct Waiting {
    /// The first is the second that arrives next.
    seconds: VecDeque<Vec<Line>>,
    first: i64,
    held: usize,
}

impl Waiting {
    fn put(&mut self, line: Line) {
        let index = (line.arrival_us.div_euclid(MICROS) - self.first).max(0) as usize;
        while self.seconds.len() <= index {
            self.seconds.push_back(Vec::new());
        }
        self.seconds[index].push(line);
        self.held += 1;
    }

    /// Moves what arrives in the first second into `out`, in order.
    fn take_first(&mut self, out: &mut Vec<Line>) {
        self.first += 1;
        let Some(lines) = self.seconds.pop_front() else { return };
        self.held -= lines.len();
        *out = lines;
        // The seed breaks ties: equal arrivals must not depend on a sort's whims.
        out.sort_unstable_by_key(|line| (line.arrival_us, line.seed));
    }
}

/// Makes lines, second by second.
#[derive(Debug)]
struct Maker {
    model: Arc<Model>,
    cells: Cells,
    requests: Requests,
    waiting: Waiting,
    /// The event second that is made next, and where to stop.
    second: i64,
    end: i64,
    /// Running sums of the services' rates, for malformed lines.
    shares: Vec<f64>,
    times: Vec<i64>,
}

impl Maker {
    fn new(model: Arc<Model>) -> Self {
        let (first, end) = model.config.seconds();
        let shares = model.services.iter().scan(0.0, |sum, service| {
            *sum += service.rate;
            Some(*sum)
        });
        Maker {
            cells: Cells::new(Arc::clone(&model)),
            requests: Requests::new(model.services.len()),
            waiting: Waiting { seconds: VecDeque::new(), first, held: 0 },
            second: first,
            end,
            shares: shares.collect(),
            times: Vec::new(),
            model,
        }
    }

    fn made_until(&self) -> i64 {
        self.second
    }

    /// Fills `out` with what arrives in the next second; false at the end.
    fn next_second(&mut self, out: &mut Vec<Line>) -> bool {
        if self.second < self.end {
            self.make_second(self.second);
            self.second += 1;
        } else if self.waiting.held == 0 {
            return false;
        }
        self.waiting.take_first(out);
        true
    }

    fn make_second(&mut self, second: i64) {
        self.requests.advance(second * MICROS);
        let model = Arc::clone(&self.model);
        for &service in &model.order {
            let cell = self.cells.draw(service, second);
            if cell.lines() > 0 {
                self.make_cell(&model, service, second, cell);
            }
        }
        self.make_malformed(&model, second);
    }

    /// The lines of one service in one second, in order of time.
    fn make_cell(&mut self, model: &Model, service: usize, second: i64, cell: Cell) {
        let config = &model.config;
        let about = &model.services[service];
        let mut rng = keyed(config.seed, Purpose::Lines, service as u64, second as u64);
        let rolling = about.deployments.rolling(about.config.hosts, second);
        let disturbed = Disturbed::of(model, service, second);
        let mut sorts = Sorts { left: cell };
        let mut times = std::mem::take(&mut self.times);
        times.clear();
        times.extend((0..cell.lines()).map(|_| second * MICROS + rng.random_range(0..MICROS)));
        times.sort_unstable();
        self.requests.enter(service, &about.callers);
        for &true_us in &times {
            let host = rng.random_range(0..about.config.hosts);
            let (mut level, mut template) = sorts.next(model, service, &mut rng);
            if rolling && level == Level::Info && about.deployments.starting(host, second) && rng.random() {
                template = model.catalogue.starting(uniform(&mut rng));
                level = Level::Info;
            }
            let mut line = Line {
                arrival_us: true_us + self.delay(&mut rng),
                event_us: true_us,
                true_us,
                request: self.requests.of(true_us, &mut rng),
                seed: rng.random(),
                template,
                service: service as u16,
                host,
                level,
                form: form(config, &mut rng),
            };
            if line.host + 1 == about.config.hosts {
                disturbed.bend(&mut line, self.waiting.held < config.max_held, &mut rng);
            }
            self.waiting.put(line);
        }
        self.times = times;
    }

    /// How long a line is on its way, microseconds.
    fn delay(&self, rng: &mut Rng) -> i64 {
        let config = &self.model.config;
        let usual_max = config.disorder.as_micros() as i64;
        let late_max = config.late_max.as_micros() as i64;
        let late = uniform(rng) < config.late_share;
        if late && late_max > usual_max && self.waiting.held < config.max_held {
            return rng.random_range(usual_max..late_max);
        }
        let normal: f64 = StandardNormal.sample(rng);
        let delay = usual_max as f64 * DELAY_MEDIAN * (DELAY_SIGMA * normal).exp();
        (delay as i64).min(usual_max)
    }

    fn make_malformed(&mut self, model: &Model, second: i64) {
        let config = &model.config;
        let mut rng = keyed(config.seed, Purpose::Malformed, second as u64, 0);
        for _ in 0..poisson(config.rate_per_s * config.malformed_share, &mut rng) {
            let share = uniform(&mut rng) * config.rate_per_s;
            let service = self.shares.partition_point(|&sum| sum <= share).min(self.shares.len() - 1);
            let about = &model.services[service].config;
            let (level, template) =
                usual_line(&model.catalogue, about.family, uniform(&mut rng), uniform(&mut rng));
            let true_us = second * MICROS + rng.random_range(0..MICROS);
            let kind: MalformedKind =
                config.malformed_kinds[rng.random_range(0..config.malformed_kinds.len())];
            self.waiting.put(Line {
                arrival_us: true_us + self.delay(&mut rng),
                event_us: true_us,
                true_us,
                request: rng.random(),
                seed: rng.random(),
                template,
                service: service as u16,
                host: rng.random_range(0..about.hosts),
                level,
                form: Form::Malformed(kind),
            });
        }
    }
}

fn form(config: &GeneratorConfig, rng: &mut Rng) -> Form {
    if uniform(rng) >= config.odd_share {
        return Form::Log;
    }
    let kind: OddKind = config.odd_kinds[rng.random_range(0..config.odd_kinds.len())];
    Form::Odd(kind)
}

/// Deals a cell's lines out in random order.
struct Sorts {
    left: Cell,
}

impl Sorts {
    /// Level and template of the next line: each of the lines that are left is equally likely.
    fn next(&mut self, model: &Model, service: usize, rng: &mut Rng) -> (Level, u32) {
        let family = model.services[service].config.family;
        let catalogue = &model.catalogue;
        let left = &mut self.left;
        let drawn = rng.random_range(0..left.lines());
        let (level, text) = (uniform(rng), uniform(rng));
        if drawn < left.usual {
            left.usual -= 1;
            usual_line(catalogue, family, level, text)
        } else if drawn < left.usual + left.errors {
            left.errors -= 1;
            error_line(catalogue, family, level, text)
        } else if drawn < left.usual + left.errors + left.long {
            left.long -= 1;
            (Level::Info, catalogue.long(family, text))
        } else {
            left.pattern -= 1;
            (Level::Error, left.pattern_template)
        }
    }
}

/// What is wrong with one host of a service in one second. It is always the service's last host.
#[derive(Debug, Default)]
struct Disturbed {
    clock_ahead_us: i64,
    held_until_us: i64,
}

impl Disturbed {
    fn of(model: &Model, service: usize, second: i64) -> Self {
        let mut disturbed = Disturbed::default();
        let all = model.services[service].incidents.iter().map(|&index| &model.incidents[index]);
        let active = |incident: &&Incident| incident.active(second);
        for incident in all.filter(active) {
            match incident.kind {
                IncidentKind::BadClock => disturbed.clock_ahead_us = (incident.magnitude * 3.6e9) as i64,
                IncidentKind::HeldHost => {
                    disturbed.held_until_us =
                        incident.end_second() * MICROS + (incident.magnitude * 6e7) as i64;
                }
                _ => {}
            }
        }
        disturbed
    }

    fn bend(&self, line: &mut Line, room: bool, rng: &mut Rng) {
        line.event_us += self.clock_ahead_us;
        if room && self.held_until_us > line.arrival_us {
            line.arrival_us = self.held_until_us + rng.random_range(0..FLUSH_US);
        }
    }
}
