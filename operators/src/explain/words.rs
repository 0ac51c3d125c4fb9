//! What an episode's own numbers say, in words and as the beginning of an [`Explanation`]: typical against actual, and
//! each feature's share.

use super::evidence::span;
use crate::features::{Columns, Window, values};
use crate::peak::{COMPARED, Peak, shares};
use crate::rules::{Rule, Verdict};
use crate::score::Scored;
use smartlog_schema::anomaly::{AnomalyType, Episode};
use smartlog_schema::explanation::{Explanation, Feature, VERSION, significant};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS};

/// One sentence for a person: what was when it was raised, what is usual, where the line was.
pub fn describe(rule: &Rule, verdict: &Verdict, end: i64) -> String {
    let Verdict { value, threshold, baseline, seconds } = *verdict;
    let at = jiff::Timestamp::from_second(end).map_or_else(|_| end.to_string(), |t| t.to_string());
    let time =
        if seconds % MINUTE == 0 { count(seconds / MINUTE, "minute") } else { count(seconds, "second") };
    let name = rule.measure.name;
    let (times, shown) = (against_usual(rule, value, baseline), |value: f64| show(rule, value));
    format!("{name} {} in the {time} to {at}: {times} (threshold {})", shown(value), shown(threshold))
}

/// What the numbers of the worst window say. The parts that only the logs can tell are empty.
pub fn of_numbers(rule: &Rule, verdict: &Verdict, peak: &Peak) -> Explanation {
    let (scale, baseline) = (rule.measure.scale, verdict.baseline);
    let sentence = format!(
        "{} {}: {}",
        rule.measure.name,
        show(rule, peak.value),
        against_usual(rule, peak.value, baseline)
    );
    Explanation {
        version: VERSION,
        summary: vec![sentence],
        metric: rule.measure.name.to_owned(),
        unit: rule.measure.unit.to_owned(),
        typical: baseline * scale,
        actual: peak.value * scale,
        ratio: (baseline > 0.0).then_some(peak.value / baseline),
        window: span(&(peak.end - peak.seconds..peak.end)),
        // Sums tell nothing of patterns.
        features: if rule.anomaly_type == AnomalyType::NewPattern { Vec::new() } else { features(peak) },
        counted: counted(rule.anomaly_type).to_owned(),
        ..Explanation::default()
    }
}

/// What the score of `window` says, of which a model looks at `columns`. What the features' shares of it are it tells
/// later, if it is asked.
pub fn of_score(window: &Window, columns: &Columns, scored: &Scored) -> Explanation {
    let Scored { score, threshold, .. } = *scored;
    let feature = |(name, actual): (&'static str, f64)| Feature {
        name: name.to_owned(),
        typical: None,
        actual,
        share: None,
        model_share: None,
    };
    Explanation {
        version: VERSION,
        summary: vec![format!("Isolation forest score {score:.3}: outliers begin at {threshold:.3}")],
        metric: "Isolation forest score".to_owned(),
        typical: threshold,
        actual: score,
        ratio: (threshold > 0.0).then_some(score / threshold),
        window: span(&(window.end - WINDOW_SECONDS..window.end)),
        features: columns.of_values(&values(window)).map(feature).collect(),
        counted: counted(AnomalyType::MultivariateOutlier).to_owned(),
        ..Explanation::default()
    }
}

/// Puts what a model makes of each feature beside what is said of it: names, values and shares.
pub fn add_model_shares(episode: &mut Episode, features: &[(&str, f64, f64)]) {
    let mut explanation = super::read(&episode.explanation);
    for (name, value, share) in features {
        let known = explanation.features.iter_mut().find(|feature| feature.name == *name);
        match known {
            Some(feature) => feature.model_share = Some(*share),
            None => explanation.features.push(Feature {
                name: (*name).to_owned(),
                typical: None,
                actual: *value,
                share: None,
                model_share: Some(*share),
            }),
        }
    }
    episode.explanation = super::text(&explanation);
}

/// What the shares of hosts and templates are shares of.
fn counted(anomaly_type: AnomalyType) -> &'static str {
    if anomaly_type == AnomalyType::ErrorRateSpike { ERRORS } else { "logs" }
}

/// How an explanation calls errors that are counted.
pub const ERRORS: &str = "errors";

fn features(peak: &Peak) -> Vec<Feature> {
    let shares = shares(&peak.features);
    let any = shares.iter().any(|share| *share > 0.0);
    let feature = |((name, departure), share): ((&str, &crate::peak::Departure), f64)| Feature {
        name: name.to_owned(),
        typical: departure.typical,
        actual: departure.actual,
        share: (any && departure.typical.is_some()).then_some(share),
        model_share: None,
    };
    COMPARED.into_iter().zip(&peak.features).zip(shares).map(feature).collect()
}

/// "5.2 × the usual 40 logs/min".
fn against_usual(rule: &Rule, value: f64, baseline: f64) -> String {
    if baseline <= 0.0 {
        return "usual: none".to_owned();
    }
    let usual = show(rule, baseline);
    if value == 0.0 {
        format!("none of the usual {usual}")
    } else {
        format!("{} × the usual {usual}", significant(value / baseline))
    }
}

/// "minute", "5 minutes".
fn count(number: i64, unit: &str) -> String {
    if number == 1 { unit.to_owned() } else { format!("{number} {unit}s") }
}

fn show(rule: &Rule, value: f64) -> String {
    format!("{} {}", significant(value * rule.measure.scale), rule.measure.unit)
}
