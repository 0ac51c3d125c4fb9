//! One line: what is known of it while it waits to arrive, and its bytes.
//!
//! A waiting line is a few numbers; its text is rendered from them only when it arrives. So a million lines that are
//! held back cost some tens of megabytes, and their text is the same whenever it is made.

use crate::malformed::{Fields, MalformedKind, OddKind};
use crate::model::{Model, Service};
use crate::rng::Rng;
use crate::templates::{Context, REGIONS, escape, put_hex, put_number, put_user};
use rand::{Rng as _, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use smartlog_schema::level::Level;
use smartlog_schema::window::{DAY, MICROS};
use std::sync::Arc;

/// Spread of the latencies.
const LATENCY_SIGMA: f64 = 0.8;
/// Errors take that much longer: time-outs.
const ERROR_LATENCY: f64 = 3.0;
/// Longest latency, milliseconds.
const MAX_LATENCY: f64 = 1e7;
/// Users of the shop.
const USERS: u64 = 50_000;

/// In which form a line is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Log,
    Odd(OddKind),
    Malformed(MalformedKind),
}

/// A line that waits to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) arrival_us: i64,
    /// The time that the line tells: not the true one where the host's clock is wrong.
    pub(crate) event_us: i64,
    /// When it happened.
    pub(crate) true_us: i64,
    pub(crate) request: u64,
    /// From which its parameters are drawn.
    pub(crate) seed: u64,
    pub(crate) template: u32,
    pub(crate) service: u16,
    pub(crate) host: u8,
    pub(crate) level: Level,
    pub(crate) form: Form,
}

/// Host and version texts of one host of one service, as of one deployment.
#[derive(Debug, Clone, Default)]
struct HostText {
    deployment: Option<i64>,
    /// JSON-escaped, without quotes.
    name: Vec<u8>,
    version: Vec<u8>,
}

/// Writes lines.
#[derive(Debug)]
pub(crate) struct LineWriter {
    model: Arc<Model>,
    /// Of all services one after the other.
    hosts: Vec<HostText>,
    /// Where each service's hosts begin.
    first_host: Vec<usize>,
    stamp: Stamp,
    fields: Fields,
}

impl LineWriter {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let mut first_host = Vec::with_capacity(model.services.len());
        let mut hosts = 0;
        for service in &model.services {
            first_host.push(hosts);
            hosts += usize::from(service.config.hosts);
        }
        let hosts = vec![HostText::default(); hosts];
        LineWriter { model, hosts, first_host, stamp: Stamp::default(), fields: Fields::default() }
    }

    /// Appends the line's bytes and returns its message's length in characters.
    pub(crate) fn write(&mut self, line: &Line, out: &mut Vec<u8>) -> u32 {
        match line.form {
            Form::Log => self.write_log(line, out),
            Form::Odd(kind) => {
                let (chars, _) = self.fill_fields(line);
                kind.write(&self.fields, line.level, out);
                chars + kind.extra_chars()
            }
            Form::Malformed(kind) => {
                let (chars, mut rng) = self.fill_fields(line);
                kind.write(&self.fields, line.level, &mut rng, out);
                chars
            }
        }
    }

    fn write_log(&mut self, line: &Line, out: &mut Vec<u8>) -> u32 {
        let model = Arc::clone(&self.model);
        let service = &model.services[usize::from(line.service)];
        let mut text = Text::new(service, line);
        out.extend_from_slice(b"{\"timestamp\":\"");
        self.stamp.put(line.event_us, out);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(line.level.as_str().as_bytes());
        out.extend_from_slice(b"\",\"service\":\"");
        out.extend_from_slice(service.escaped.as_bytes());
        out.extend_from_slice(b"\",\"host\":\"");
        let host = self.host(service, line);
        out.extend_from_slice(&host.name);
        out.extend_from_slice(b"\",\"message\":\"");
        let chars = text.put_message(&model, line, out);
        out.extend_from_slice(b"\",\"metadata\":");
        text.put_metadata(line, &host.version, out);
        out.push(b'}');
        chars
    }

    /// The slow way, for lines that are put together differently: all fields by themselves.
    fn fill_fields(&mut self, line: &Line) -> (u32, Rng) {
        let model = Arc::clone(&self.model);
        let service = &model.services[usize::from(line.service)];
        let mut text = Text::new(service, line);
        let mut fields = std::mem::take(&mut self.fields);
        for field in [&mut fields.timestamp, &mut fields.message, &mut fields.metadata] {
            field.clear();
        }
        self.stamp.put(line.event_us, &mut fields.timestamp);
        fields.timestamp_ms = line.event_us.div_euclid(1000);
        fields.service = [b"\"", service.escaped.as_bytes(), b"\""].concat();
        let host = self.host(service, line);
        fields.host = [b"\"", &host.name[..], b"\""].concat();
        let chars = text.put_message(&model, line, &mut fields.message);
        text.put_metadata(line, &host.version, &mut fields.metadata);
        self.fields = fields;
        (chars, text.rng)
    }

    fn host(&mut self, service: &Service, line: &Line) -> &HostText {
        let deployment = service.deployments.number(line.host, line.true_us.div_euclid(MICROS));
        let text = &mut self.hosts[self.first_host[usize::from(line.service)] + usize::from(line.host)];
        if text.deployment != Some(deployment) {
            let name = service.deployments.host_name(&service.config.name, line.host, deployment);
            text.name = escape(&name).into_bytes();
            text.version = service.deployments.version(deployment).into_bytes();
            text.deployment = Some(deployment);
        }
        text
    }
}

/// The part of a line that is drawn from its seed.
struct Text<'a> {
    rng: Rng,
    context: Context<'a>,
}

impl<'a> Text<'a> {
    fn new(service: &'a Service, line: &Line) -> Self {
        let mut rng = Rng::seed_from_u64(line.seed);
        let duration_ms = latency_ms(service.config.latency_ms, line.level, &mut rng);
        let user = line.request % USERS;
        let context =
            Context { duration_ms, user, service: &service.escaped, service_chars: service.name_chars };
        Text { rng, context }
    }

    fn put_message(&mut self, model: &Model, line: &Line, out: &mut Vec<u8>) -> u32 {
        model.catalogue.get(line.template).render(&mut self.rng, &self.context, out)
    }

    fn put_metadata(&self, line: &Line, version: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"request_id\":\"");
        put_hex(line.request, 16, out);
        out.extend_from_slice(b"\",\"user_id\":\"");
        put_user(self.context.user, out);
        out.extend_from_slice(b"\",\"duration_ms\":");
        put_number(self.context.duration_ms, out);
        if line.seed.is_multiple_of(5) {
            out.extend_from_slice(b",\"version\":\"");
            out.extend_from_slice(version);
            out.push(b'"');
        }
        if line.seed % 10 == 3 {
            out.extend_from_slice(b",\"region\":\"");
            out.extend_from_slice(REGIONS[(line.request >> 40) as usize % REGIONS.len()].as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}

/// A log-normal latency around `median`.
pub(crate) fn latency_ms(median: f64, level: Level, rng: &mut Rng) -> u64 {
    let normal: f64 = StandardNormal.sample(rng);
    let factor = if level.is_error() { ERROR_LATENCY } else { 1.0 };
    (median * factor * (LATENCY_SIGMA * normal).exp()).clamp(1.0, MAX_LATENCY) as u64
}

/// Writes RFC 3339 times in UTC with milliseconds; looks the date up once a day.
#[derive(Debug, Default)]
struct Stamp {
    /// Days since 1970, and their date.
    day: Option<i64>,
    date: Vec<u8>,
}

impl Stamp {
    fn put(&mut self, us: i64, out: &mut Vec<u8>) {
        let second = us.div_euclid(MICROS);
        let day = second.div_euclid(DAY);
        if self.day != Some(day) {
            let midnight = jiff::Timestamp::from_second(day * DAY).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            self.date = midnight.to_zoned(jiff::tz::TimeZone::UTC).date().to_string().into_bytes();
            self.day = Some(day);
        }
        let second = second.rem_euclid(DAY) as u32;
        let ms = us.rem_euclid(MICROS) as u32 / 1000;
        let mut text = *b"T00:00:00.000Z";
        two_digits(&mut text[1..3], second / 3600);
        two_digits(&mut text[4..6], second / 60 % 60);
        two_digits(&mut text[7..9], second % 60);
        text[10] = b'0' + (ms / 100) as u8;
        two_digits(&mut text[11..13], ms % 100);
        out.extend_from_slice(&self.date);
        out.extend_from_slice(&text);
    }
}

fn two_digits(into: &mut [u8], number: u32) {
    into[0] = b'0' + (number / 10) as u8;
    into[1] = b'0' + (number % 10) as u8;
}

/// A uniform number in [0, 1).
pub(crate) fn uniform(rng: &mut Rng) -> f64 {
    rng.random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_are_the_ones_jiff_writes(us in 0i64..4_000_000_000_000_000) {
            let mut out = Vec::new();
            let mut stamp = Stamp::default();
            stamp.put(0, &mut Vec::new());
            stamp.put(us, &mut out);
            let told = format!("{:.3}", jiff::Timestamp::from_millisecond(us / 1000).unwrap());
            prop_assert_eq!(String::from_utf8(out).unwrap(), told);
        }
    }
}
