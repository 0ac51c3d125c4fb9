//! What changed: whose share, and who fell silent.
//!
//! A part's change is measured by its *surprise*, its term of the Jensen–Shannon divergence between the shares before and
//! after, as in Adtributor (Bhagwan et al., NSDI 2014). As there, a part explains a rise only by rising itself, and a
//! drop by dropping: those that went the other way come after. Changes that chance explains are left out.

use crate::breakdown::Counts;
use smartlog_schema::explanation::Change;
use smartlog_schema::window::MINUTE;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// With fewer errors before, a part's share of the logs says how many of the errors to expect of it.
const FEW: f64 = 10.0;
/// A change of share is told from this many standard deviations of chance on …
const DEVIATIONS: f64 = 3.0;
/// … and from this much of the whole on.
const LEAST_CHANGE: f64 = 0.02;
/// Who logged in at least this part of the minutes before logged steadily.
const STEADY: f64 = 0.8;
/// Who is silent while fewer logs than these were to be expected may be so by chance.
const LEAST_MISSING: f64 = 10.0;

/// The counts of one span of time.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub total: Counts,
    pub minutes: f64,
}

/// What is counted of a part.
pub type Measure = fn(Counts) -> u64;

/// Counts by name.
pub type Tallies = BTreeMap<String, Counts>;

/// The parts whose share changed, those that explain the change of the whole first. Names are as long as they are.
pub fn changes(before: (&Tallies, Counted), after: (&Tallies, Counted), measure: Measure) -> Vec<Change> {
    let ((of_before, before), (of_after, after)) = (before, after);
    let (total_before, total_after) = (measure(before.total) as f64, measure(after.total) as f64);
    let rises = total_after / after.minutes >= total_before / before.minutes;
    let logs: Measure = |counts| counts.logs;
    let reference = if total_before < FEW { logs } else { measure };
    let total_reference = reference(before.total) as f64;
    let names: BTreeSet<&String> = of_before.keys().chain(of_after.keys()).collect();
    let mut changes: Vec<(bool, f64, Change)> = Vec::new();
    for name in names {
        let of = |counts: &Tallies| counts.get(name).copied().unwrap_or_default();
        let (n, m) = (measure(of(of_before)) as f64, measure(of(of_after)) as f64);
        let (p, q) = (share(reference(of(of_before)) as f64, total_reference), share(m, total_after));
        if !is_change((p, total_reference), (q, total_after)) {
            continue;
        }
        let change = Change {
            name: name.clone(),
            id: None,
            before: n / before.minutes,
            after: m / after.minutes,
            share_before: p,
            share_after: q,
        };
        changes.push(((change.after > change.before) == rises, surprise(p, q), change));
    }
    changes.sort_by(|(a_explains, a_surprise, a), (b_explains, b_surprise, b)| {
        (b_explains.cmp(a_explains)).then(b_surprise.total_cmp(a_surprise)).then_with(|| a.name.cmp(&b.name))
    });
    changes.into_iter().map(|(_, _, change)| change).collect()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Whether two shares, of so many each, differ by more than chance: the test of two proportions.
fn is_change((p, before): (f64, f64), (q, after): (f64, f64)) -> bool {
    if before == 0.0 || after == 0.0 {
        return false;
    }
    let pooled = (p * before + q * after) / (before + after);
    // One log more or less is none.
    let chance = DEVIATIONS * (pooled * (1.0 - pooled) * (1.0 / before + 1.0 / after)).sqrt() + 1.0 / after;
    (q - p).abs() >= LEAST_CHANGE.max(chance)
}

/// A part's term of the divergence; never negative.
fn surprise(p: f64, q: f64) -> f64 {
    let middle = f64::midpoint(p, q);
    let term = |x: f64| if x > 0.0 { x * (x / middle).ln() } else { 0.0 };
    f64::midpoint(term(p), term(q))
}

/// A part that logged steadily, and does not any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    pub name: String,
    /// Logs a minute, before.
    pub before: f64,
    /// End of the last minute with a log, epoch seconds.
    pub since: i64,
}

/// Minutes in which a part logged, and how often in the minutes before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presence {
    /// Minutes with a log before, and logs in them.
    pub minutes: u32,
    pub logs: u64,
    /// Start of the last minute with a log.
    pub last: i64,
}

/// Who of `parts` is silent at `end`, the end of a whole minute, of those that logged in `minutes` minutes before; the
/// loudest first.
pub fn silent(parts: &BTreeMap<String, Presence>, minutes: f64, end: i64) -> Vec<Gone> {
    let gone = |(name, presence): (&String, &Presence)| {
        let (rate, since) = (presence.logs as f64 / minutes, presence.last + MINUTE);
        let missing = rate * (end - since) as f64 / MINUTE as f64;
        let was_steady = f64::from(presence.minutes) >= STEADY * minutes;
        (was_steady && missing >= LEAST_MISSING).then(|| Gone { name: name.clone(), before: rate, since })
    };
    let mut silent: Vec<Gone> = parts.iter().filter_map(gone).collect();
    silent.sort_by(|a, b| match b.before.total_cmp(&a.before) {
        Ordering::Equal => a.name.cmp(&b.name),
        order => order,
    });
    silent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(parts: &[(&str, u64)]) -> (Tallies, Counts) {
        let of = |logs| Counts { logs, errors: 0 };
        (
            parts.iter().map(|(name, logs)| ((*name).to_owned(), of(*logs))).collect(),
            of(parts.iter().map(|(_, logs)| logs).sum()),
        )
    }

    fn changed(before: &[(&str, u64)], after: &[(&str, u64)]) -> Vec<(String, f64, f64)> {
        let ((before, total), (after, total_after)) = (counts(before), counts(after));
        let of = |total, minutes| Counted { total, minutes };
        let changes =
            changes((&before, of(total, 10.0)), (&after, of(total_after, 5.0)), |counts| counts.logs);
        let round = |share: f64| (share * 100.0).round() / 100.0;
        changes.into_iter().map(|c| (c.name, round(c.share_before), round(c.share_after))).collect()
    }

    #[test]
    fn who_explains_a_rise_comes_first() {
        let before = [("a", 500), ("b", 500), ("c", 1000)];
        let found = changed(&before, &[("a", 250), ("b", 2000), ("c", 500)]);
        assert_eq!(found[0], ("b".to_owned(), 0.25, 0.73));
        assert_eq!(found.len(), 3, "the others' shares fell");
    }

    #[test]
    fn who_explains_a_drop_comes_first() {
        let found = changed(&[("a", 500), ("b", 500)], &[("a", 250), ("b", 2)]);
        assert_eq!(found[0].0, "b");
    }

    #[test]
    fn what_is_new_is_told_and_what_changed_alike_is_not() {
        assert_eq!(changed(&[("a", 500)], &[("a", 250), ("new", 100)])[0].0, "new");
        assert_eq!(changed(&[("a", 500), ("b", 700)], &[("a", 2500), ("b", 3500)]), []);
        assert_eq!(changed(&[("a", 5), ("b", 7)], &[("a", 2), ("b", 5)]), [], "chance");
        assert_eq!(changed(&[], &[]), []);
        assert_eq!(changed(&[("a", 500)], &[]), [], "all are silent: no share is known");
    }

    #[test]
    fn silent_is_who_was_steady_and_would_have_logged() {
        let of = |minutes, logs, last| Presence { minutes, logs, last };
        let parts = [
            ("goes on", of(10, 400, 1_140)),
            ("loud", of(10, 900, 1_000)),
            ("quiet", of(10, 400, 900)),
            ("rare", of(10, 10, 900)),
            ("unsteady", of(4, 400, 900)),
        ];
        let parts = parts.into_iter().map(|(name, presence)| (name.to_owned(), presence)).collect();
        let names: Vec<String> = silent(&parts, 10.0, 1_200).into_iter().map(|gone| gone.name).collect();
        assert_eq!(names, ["loud", "quiet"]);
    }
}
