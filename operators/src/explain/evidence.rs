//! What the logs say of an episode: who changed, who is silent, which lines to look at.

use super::compare::{Counted, Gone, Measure, Presence, Tallies, changes, silent};
use super::spans::{Spans, minutes};
use crate::breakdown::{Breakdown, Cited, Counts, Parts};
use crate::patterns::PatternId;
use jiff::Timestamp;
use smartlog_schema::explanation::{
    Change, Explanation, Kind, MAX_CHANGES, MAX_NAME_CHARS, MAX_SAMPLES, MAX_SENTENCES, MAX_SILENT,
    MAX_TEMPLATE_CHARS, Sample, Silent, Span, cut, significant,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// What is looked at for one explanation.
pub struct Scene<'a> {
    breakdown: &'a Breakdown,
    service: &'a str,
    spans: Spans,
    measure: Measure,
    before: Parts,
    after: Parts,
}

impl<'a> Scene<'a> {
    pub fn new(breakdown: &'a Breakdown, service: &'a str, spans: Spans, counts_errors: bool) -> Self {
        let Range { start, end } = spans.before;
        // A service that is younger than that is compared with what there is of it.
        let first = breakdown.minutes(service, start, end).next().map_or(end, |(minute, _)| minute);
        let spans = Spans { before: first..end, ..spans };
        let measure: Measure = if counts_errors { |counts| counts.errors } else { |counts| counts.logs };
        let parts = |span: &Range<i64>| breakdown.parts(service, span.start, span.end);
        let (before, after) = (parts(&spans.before), parts(&spans.after));
        Scene { breakdown, service, spans, measure, before, after }
    }

    /// Puts what the logs say into `explanation`; `news`: shapes that are new, and the reason for it.
    pub fn describe(&self, explanation: &mut Explanation, news: &[u64]) {
        let [services, hosts, mut templates] =
            [Kind::Service, Kind::Host, Kind::Template].map(|kind| self.changes(kind));
        let gone = [Kind::Service, Kind::Host, Kind::Partition, Kind::Template]
            .map(|kind| (kind, self.silent(kind)));
        let mut summary = std::mem::take(&mut explanation.summary);
        summary.truncate(1);
        let news = self.news(news);
        let is_about_news = !news.is_empty();
        summary.extend(news_sentence(&news));
        templates.retain(|change| news.iter().all(|new| new.id != change.id));
        templates.splice(0..0, news);
        templates.truncate(MAX_CHANGES);
        let no_templates = Vec::new();
        let of_templates = if is_about_news { &no_templates } else { &templates };
        let changed = [(Kind::Service, &services), (Kind::Host, &hosts), (Kind::Template, of_templates)];
        let counted = explanation.counted.as_str();
        summary
            .extend(changed.into_iter().filter_map(|(kind, changes)| share_sentence(kind, changes, counted)));
        summary.extend(silence_sentence(&gone));
        let alike = self.after.hosts.len();
        let is_compared = !self.spans.before.is_empty();
        if is_compared && hosts.is_empty() && alike > 1 {
            summary.push(format!("all {alike} hosts changed alike"));
        }
        summary.truncate(MAX_SENTENCES);
        *explanation = Explanation {
            summary,
            before: span(&self.spans.before).filter(|_| is_compared),
            services,
            hosts,
            templates,
            silent: gone.into_iter().flat_map(|(kind, gone)| named(kind, gone)).take(MAX_SILENT).collect(),
            samples: self.samples(),
            ..std::mem::take(explanation)
        };
    }

    /// The counts of one kind of parts.
    fn tallies(&self, kind: Kind, parts: &Parts) -> Tallies {
        let own = |(name, counts): (&str, Counts)| (name.to_owned(), counts);
        match kind {
            Kind::Service => parts.seen.services.iter().map(own).collect(),
            Kind::Partition => parts.seen.partitions.iter().map(own).collect(),
            Kind::Host => parts.hosts.iter().map(|(name, counts)| own((name, *counts))).collect(),
            Kind::Template => {
                let mut templates = Tallies::new();
                for (shape, counts) in &parts.shapes {
                    if let Some((_, text)) = self.breakdown.pattern_of(*shape) {
                        *templates.entry(text.to_owned()).or_default() += *counts;
                    }
                }
                templates
            }
        }
    }

    fn changes(&self, kind: Kind) -> Vec<Change> {
        let side = |parts: &Parts, span: &Range<i64>| {
            (self.tallies(kind, parts), Counted { total: parts.seen.total, minutes: minutes(span) })
        };
        let (was, is) = (side(&self.before, &self.spans.before), side(&self.after, &self.spans.after));
        let mut changes = changes((&was.0, was.1), (&is.0, is.1), self.measure);
        changes.truncate(MAX_CHANGES);
        if kind == Kind::Template {
            changes.iter_mut().for_each(|change| change.id = self.template_id(&change.name));
        }
        changes.iter_mut().for_each(|change| change.name = cut(&change.name, most_chars(kind)));
        changes
    }

    /// The templates of shapes that are new, those with the most logs first: of the errors, where there are any.
    fn news(&self, shapes: &[u64]) -> Vec<Change> {
        let mut news: BTreeMap<PatternId, (&str, Counts)> = BTreeMap::new();
        for shape in shapes {
            let Some(counts) = self.after.shapes.get(shape) else { continue };
            let Some((id, text)) = self.breakdown.pattern_of(*shape) else { continue };
            news.entry(id).or_insert((text, Counts::default())).1 += *counts;
        }
        if news.values().any(|(_, counts)| counts.errors > 0) {
            news.retain(|_, (_, counts)| counts.errors > 0);
        }
        let mut news: Vec<_> = news.into_iter().collect();
        news.sort_by_key(|(id, (_, counts))| (Reverse(counts.logs), *id));
        let total = self.after.seen.total.logs.max(1) as f64;
        let change = |(id, (text, counts)): (PatternId, (&str, Counts))| Change {
            name: cut(text, MAX_TEMPLATE_CHARS),
            id: Some(id.to_string()),
            before: 0.0,
            after: counts.logs as f64 / minutes(&self.spans.after),
            share_before: 0.0,
            share_after: counts.logs as f64 / total,
        };
        news.into_iter().take(MAX_CHANGES).map(change).collect()
    }

    fn template_id(&self, text: &str) -> Option<String> {
        let shapes = self.before.shapes.keys().chain(self.after.shapes.keys());
        let mut patterns = shapes.filter_map(|shape| self.breakdown.pattern_of(*shape));
        patterns.find(|(_, known)| *known == text).map(|(id, _)| id.to_string())
    }

    fn silent(&self, kind: Kind) -> Vec<Gone> {
        let Spans { before, after } = &self.spans;
        let mut presence: BTreeMap<String, Presence> = BTreeMap::new();
        for (minute, parts) in self.breakdown.minutes(self.service, before.start, after.end) {
            for (name, counts) in self.tallies(kind, parts) {
                let part = presence.entry(name).or_default();
                part.last = minute;
                if minute < before.end {
                    part.minutes += 1;
                    part.logs += counts.logs;
                }
            }
        }
        let mut gone = silent(&presence, minutes(before), after.end);
        gone.iter_mut().for_each(|gone| gone.name = cut(&gone.name, most_chars(kind)));
        gone
    }

    /// Lines of the worst window: errors, where it is about errors; where nothing was logged, what was logged before.
    fn samples(&self) -> Vec<Sample> {
        let errors_only = (self.measure)(Counts { logs: 0, errors: 1 }) == 1;
        let mut cited = cited(&self.after, !errors_only);
        if cited.is_empty() {
            cited = self::cited(&self.before, true);
        }
        let sample = |line: &Cited| {
            Some(Sample {
                timestamp: Timestamp::from_microsecond(line.timestamp_us).ok()?,
                topic: line.topic.to_string(),
                partition: line.partition,
                offset: line.offset,
            })
        };
        let mut samples: Vec<Sample> = cited.into_iter().filter_map(sample).collect();
        samples.sort_unstable();
        samples
    }
}

/// The lines to cite; `all`: not errors alone.
fn cited(parts: &Parts, all: bool) -> Vec<&Cited> {
    let others = parts.seen.others.iter().filter(|_| all);
    let mut lines: Vec<&Cited> = parts.seen.errors.iter().chain(others).collect();
    lines.sort_unstable();
    lines.truncate(MAX_SAMPLES);
    lines
}

fn most_chars(kind: Kind) -> usize {
    if kind == Kind::Template { MAX_TEMPLATE_CHARS } else { MAX_NAME_CHARS }
}

/// Seconds as times.
pub fn span(span: &Range<i64>) -> Option<Span> {
    let at = |second: i64| Timestamp::from_second(second).ok();
    Some(Span { from: at(span.start)?, to: at(span.end)? })
}

fn named(kind: Kind, gone: Vec<Gone>) -> impl Iterator<Item = Silent> {
    gone.into_iter().take(MAX_CHANGES).filter_map(move |Gone { name, before, since }| {
        Some(Silent { kind, name, before, since: Timestamp::from_second(since).ok()? })
    })
}

/// "new: “No route to host <*>”, 2.2 logs/min, and 1 more".
fn news_sentence(news: &[Change]) -> Option<String> {
    let first = news.first()?;
    let more = if news.len() > 1 { format!(", and {} more", news.len() - 1) } else { String::new() };
    Some(format!("new: {}, {} logs/min{more}", called(Kind::Template, &first.name), significant(first.after)))
}

/// "host web-3: 92 % of the errors, 10 % before".
fn share_sentence(kind: Kind, changes: &[Change], counted: &str) -> Option<String> {
    let Change { name, share_before, share_after, .. } = changes.first()?;
    let percent = |share: &f64| significant((share * 1000.0).round() / 10.0);
    let (now, before) = (percent(share_after), percent(share_before));
    Some(format!("{}: {now} % of the {counted}, {before} % before", called(kind, name)))
}

/// "host web-3", "“request took <*> ms”".
fn called(kind: Kind, name: &str) -> String {
    if kind == Kind::Template { format!("“{name}”") } else { format!("{} {name}", kind.as_str()) }
}

/// "silent: host web-3 since 10:31, host web-4 since 10:32 and 2 more".
fn silence_sentence(gone: &[(Kind, Vec<Gone>)]) -> Option<String> {
    const NAMED: usize = 2;
    let all: Vec<(Kind, &Gone)> =
        gone.iter().flat_map(|(kind, gone)| gone.iter().map(|gone| (*kind, gone))).collect();
    let told = |(kind, gone): &(Kind, &Gone)| {
        let since = Timestamp::from_second(gone.since)
            .map_or_else(|_| String::new(), |at| at.strftime("%H:%M").to_string());
        format!("{} since {since}", called(*kind, &gone.name))
    };
    let named: Vec<String> = all.iter().take(NAMED).map(told).collect();
    let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
    (!named.is_empty()).then(|| format!("silent: {}{more}", named.join(", ")))
}
