//! Why an episode was raised, in terms of the logs: typical against actual, who changed, who fell silent, which lines.
//!
//! ```text
//!   Finding ── words ──▶ typical against actual, each feature's share ─┐
//!                                                                      ├─▶ Explanation
//!   Breakdown ── evidence ── compare, between two spans of minutes ────┘
//! ```
//!
//! Only episodes that change are explained, each time anew while the minutes around their worst window are kept, so that
//! late logs are in it; then what was said last stays. So when the input has ended, what is said depends on the logs
//! alone, not on ticks, workers or restarts; but for templates, which are those that were known when it was looked.

mod compare;
mod evidence;
mod spans;
pub mod words;

use crate::breakdown::Breakdown;
use crate::record::WHOLE_STREAM;
use crate::rules::{self, Side};
use evidence::Scene;
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use smartlog_schema::explanation::{Explanation, Span, VERSION};
use smartlog_schema::window::WINDOW_SECONDS;
pub use spans::REACH;
use spans::Spans;
use std::collections::BTreeMap;

/// What one worker knows to explain the episodes of its services.
#[derive(Default)]
pub struct Explainer {
    /// What was said of episodes that may change again.
    said: BTreeMap<EpisodeKey, Said>,
}

/// What was said of an episode last.
struct Said {
    explanation: Explanation,
    /// When it was over, epoch seconds.
    over: Option<i64>,
}

impl Said {
    fn of(episode: &Episode, explanation: Explanation) -> Self {
        let over = episode.status.is_closed().then(|| episode.ended_at.unwrap_or(episode.last_seen));
        Said { explanation, over }
    }
}

impl Explainer {
    /// Takes note of what a former run said.
    pub fn remember(&mut self, episode: &Episode) {
        self.said.insert(episode.key.clone(), Said::of(episode, read(&episode.explanation)));
    }

    /// Says why, in `episode`. `news`: the shapes that it is about, where they are new.
    pub fn explain(&mut self, episode: &mut Episode, breakdown: &Breakdown, news: &[u64]) {
        let mut explanation = read(&episode.explanation);
        let is_seen = look(episode, &mut explanation, breakdown, news);
        if let Some(Said { explanation: before, .. }) = self.said.remove(&episode.key) {
            keep_model_shares(&mut explanation, &before);
            if !is_seen {
                explanation = with_evidence_of(explanation, before);
            }
        }
        episode.explanation = text(&explanation);
        self.said.insert(episode.key.clone(), Said::of(episode, explanation));
    }

    /// Forgets episodes that were over before `second`, for no late log reaches them.
    pub fn forget_before(&mut self, second: i64) {
        self.said.retain(|_, said| said.over.is_none_or(|over| over >= second));
    }
}

/// Whether the minutes around the worst window are there to be looked at; if so, what they say is in `explanation`.
fn look(episode: &Episode, explanation: &mut Explanation, breakdown: &Breakdown, news: &[u64]) -> bool {
    let service = episode.key.service.as_ref().unwrap_or(&WHOLE_STREAM);
    let rule = rules::of(episode.key.anomaly_type);
    let window = match &explanation.window {
        Some(Span { from, to }) => from.as_second()..to.as_second(),
        None => episode.started_at - WINDOW_SECONDS..episode.started_at,
    };
    explanation.window = evidence::span(&window);
    let spans = Spans::of(&window, episode.started_at, rule.map_or(Side::Above, |rule| rule.side));
    if !breakdown.reaches(spans.before.start) {
        return false;
    }
    let counts_errors = explanation.counted == words::ERRORS;
    Scene::new(breakdown, service, spans, counts_errors).describe(explanation, news);
    true
}

/// How an explanation is stored.
pub(crate) fn text(explanation: &Explanation) -> String {
    // The type holds nothing that serde_json refuses.
    serde_json::to_string(explanation).unwrap_or_else(|_| "{}".to_owned())
}

/// Reads what an episode holds. Of what this program did not write nothing is known.
pub(crate) fn read(text: &str) -> Explanation {
    let read = serde_json::from_str(text).unwrap_or_default();
    Explanation { version: VERSION, ..read }
}

/// A restart forgets what a model made of the features, for it keeps no window that is over.
fn keep_model_shares(explanation: &mut Explanation, before: &Explanation) {
    if explanation.features.iter().any(|feature| feature.model_share.is_some()) {
        return;
    }
    for was in before.features.iter().filter(|feature| feature.model_share.is_some()) {
        match explanation.features.iter_mut().find(|feature| feature.name == was.name) {
            Some(feature) => feature.model_share = was.model_share,
            None => explanation.features.push(was.clone()),
        }
    }
}

/// The numbers of the one, and what the logs said of the other.
fn with_evidence_of(numbers: Explanation, evidence: Explanation) -> Explanation {
    let said = evidence.summary.into_iter().skip(1);
    let summary = numbers.summary.into_iter().take(1).chain(said).collect();
    let Explanation { before, services, hosts, templates, silent, samples, .. } = evidence;
    Explanation { summary, before, services, hosts, templates, silent, samples, ..numbers }
}
