//! One bulk request, and what became of each of its documents.
//!
//! ```text
//!   documents ──▶ Request ──▶ POST /_bulk ──▶ 200: each by itself ──▶ done | later (429, 5xx, …) | refused
//!                    ▲                     ├▶ 413: halves
//!                    └── those for later ──┘▶ else: all of it later
//! ```

use super::client::{Answer, Client};
use crate::error::SinkError;
use crate::retry::Patience;
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use ureq::http::{Method, StatusCode};

const DOING: &str = "index logs";
/// Only what tells how each document fared: a tenth of the whole answer.
const PATH: &str = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";
/// Of a document that says these of itself no repetition will be taken. Everything else at 400 may be the server's affair,
/// such as its limit of shards.
const REFUSALS: [&str; 6] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
    "max_bytes_length_exceeded_exception",
    "not_x_content_exception",
];
/// What is shown of a reason, characters.
const SHOWN_MAX: usize = 200;

/// A log of the batches that are being written: which batch, which of its rows.
pub(super) type At = (usize, usize);

/// Documents that are sent together.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    body: Vec<u8>,
    /// Where in the body each lies.
    items: Vec<(At, Range<usize>)>,
}

impl Request {
    /// Adds the document that `write` appends.
    pub fn push(&mut self, at: At, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.body.len();
        write(&mut self.body);
        self.items.push((at, start..self.body.len()));
    }

    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Some of its documents, as a request of their own.
    fn only(&self, wanted: impl Iterator<Item = usize>) -> Request {
        let mut part = Request::default();
        for item in wanted {
            let (at, range) = &self.items[item];
            part.push(*at, |body| body.extend_from_slice(&self.body[range.clone()]));
        }
        part
    }

    fn halves(&self) -> [Request; 2] {
        let middle = self.items.len() / 2;
        [self.only(0..middle), self.only(middle..self.items.len())]
    }
}

/// A log that the server refuses, and why. The reason may quote the log.
pub(super) type Refused = (At, String);

/// Sends documents until the server has, or has refused, each of them.
///
/// # Errors
/// [`SinkError::Transient`] when the process shuts down before.
pub(super) async fn send(
    client: &Client,
    patience: &Patience,
    request: Request,
) -> Result<Vec<Refused>, SinkError> {
    let mut refused = Vec::new();
    let mut waiting = vec![request];
    while let Some(mut request) = waiting.pop() {
        let mut attempts = patience.attempts();
        while !request.is_empty() {
            let body = Bytes::from(request.body.clone());
            let asked = patience.within_grace(client.ask(DOING, Method::POST, PATH, Some(body))).await;
            let asked = asked
                .unwrap_or_else(|| Err(client.trouble(DOING, "no answer yet".into(), "the process ends")));
            let error = match asked.and_then(|answer| judge(client, &answer, request.items.len())) {
                Ok(Fared::Each(verdicts)) => {
                    let left = settle(&request, verdicts, &mut refused);
                    // What it did take counts as progress: the pauses begin anew.
                    if left.0.items.len() < request.items.len() {
                        attempts = patience.attempts();
                    }
                    request = left.0;
                    match left.1 {
                        Some(why) => client.trouble(DOING, why, "it is sent again until it is taken"),
                        None => continue,
                    }
                }
                Ok(Fared::TooLarge) if request.items.len() > 1 => {
                    waiting.extend(request.halves());
                    break;
                }
                Ok(Fared::TooLarge) => {
                    refused.extend(request.items.iter().map(|(at, _)| (*at, "413: too large".to_owned())));
                    break;
                }
                Err(error) => error,
            };
            attempts.after(error).await?;
        }
    }
    Ok(refused)
}

/// What is left of `request` after these verdicts, and why.
fn settle(
    request: &Request,
    verdicts: Vec<Verdict>,
    refused: &mut Vec<Refused>,
) -> (Request, Option<String>) {
    let (mut later, mut why) = (Vec::new(), None);
    for (item, verdict) in verdicts.into_iter().enumerate() {
        match verdict {
            Verdict::Done => {}
            Verdict::Refused(reason) => refused.push((request.items[item].0, reason)),
            Verdict::Later(reason) => {
                later.push(item);
                why.get_or_insert(reason);
            }
        }
    }
    let why = why.map(|reason| format!("{} documents were not taken yet: {reason}", later.len()));
    (request.only(later.into_iter()), why)
}

/// How a request fared.
#[derive(Debug, PartialEq)]
enum Fared {
    Each(Vec<Verdict>),
    TooLarge,
}

/// How one document fared.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    Done,
    Later(String),
    Refused(String),
}

#[derive(Deserialize)]
struct Told {
    errors: bool,
    #[serde(default)]
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
    caused_by: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
}

fn judge(client: &Client, answer: &Answer, documents: usize) -> Result<Fared, SinkError> {
    let advice = match answer.status {
        StatusCode::OK => "expected the answer to a bulk request: is it Elasticsearch or OpenSearch?",
        StatusCode::PAYLOAD_TOO_LARGE => return Ok(Fared::TooLarge),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "let the login write to the indexes: search.login_file"
        }
        StatusCode::TOO_MANY_REQUESTS => "it has more to do than it can; it is sent again",
        _ => "look at the server; it is sent again",
    };
    let told = match answer.status {
        StatusCode::OK => serde_json::from_slice::<Told>(&answer.body).ok(),
        _ => None,
    };
    match told {
        Some(told) if told.items.len() == documents => Ok(Fared::Each(verdicts(told))),
        _ => Err(client.trouble(DOING, answer.shown(), advice)),
    }
}

fn verdicts(told: Told) -> Vec<Verdict> {
    if !told.errors {
        return vec![Verdict::Done; told.items.len()];
    }
    told.items.into_iter().map(|item| item.into_values().next().map_or(Verdict::Done, verdict)).collect()
}

fn verdict(item: Item) -> Verdict {
    let Item { status, error } = item;
    if (200..300).contains(&status) {
        return Verdict::Done;
    }
    let (kind, reason) = match error {
        Some(Reason { kind, reason, caused_by }) => {
            let cause = caused_by.map(|cause| format!(" ({})", cause.reason)).unwrap_or_default();
            (kind, format!("{reason}{cause}"))
        }
        None => (String::new(), String::new()),
    };
    let reason: String = format!("{status} {kind}: {reason}").chars().take(SHOWN_MAX).collect();
    match status {
        400 if REFUSALS.contains(&kind.as_str()) => Verdict::Refused(reason),
        413 => Verdict::Refused(reason),
        _ => Verdict::Later(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(documents: usize) -> Request {
        let mut request = Request::default();
        for n in 0..documents {
            request.push((0, n), |body| body.extend_from_slice(format!("{n};").as_bytes()));
        }
        request
    }

    fn told(items: &str, errors: bool) -> Vec<Verdict> {
        verdicts(
            serde_json::from_str(&format!(r#"{{"errors": {errors}, "items": [{items}]}}"#)).expect("JSON"),
        )
    }

    #[test]
    fn only_what_a_document_is_to_blame_for_is_refused() {
        let of = |status: u16, kind: &str| {
            told(
                &format!(
                    r#"{{"index": {{"status": {status}, "error": {{"type": "{kind}", "reason": "r"}}}}}}"#
                ),
                true,
            )
            .remove(0)
        };
        for kind in REFUSALS {
            assert_eq!(of(400, kind), Verdict::Refused(format!("400 {kind}: r")));
        }
        for (status, kind) in [
            (429, "es_rejected_execution_exception"),
            (429, "rejected_execution_exception"),
            (503, "unavailable_shards_exception"),
            (404, "index_not_found_exception"),
            (403, "cluster_block_exception"),
            (403, "security_exception"),
            // The limit of shards is reached: no document's fault.
            (400, "validation_exception"),
            (400, "invalid_index_name_exception"),
            (500, "mapper_parsing_exception"),
        ] {
            assert_eq!(of(status, kind), Verdict::Later(format!("{status} {kind}: r")));
        }
        assert_eq!(
            told(r#"{"index": {"status": 201}}, {"index": {"status": 200}}"#, false),
            [Verdict::Done, Verdict::Done]
        );
    }

    #[test]
    fn what_is_left_after_verdicts_is_just_what_was_not_taken() {
        let (done, later) = (Verdict::Done, |why: &str| Verdict::Later(why.into()));
        let verdicts = vec![done.clone(), later("429"), Verdict::Refused("no".into()), later("503"), done];
        let mut refused = Vec::new();
        let (left, why) = settle(&request(5), verdicts, &mut refused);
        assert_eq!(
            (left.body.as_slice(), why.as_deref()),
            (&b"1;3;"[..], Some("2 documents were not taken yet: 429"))
        );
        assert_eq!(left.items.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [(0, 1), (0, 3)]);
        assert_eq!(refused, [((0, 2), "no".to_owned())]);
        let (left, why) = settle(&request(2), vec![Verdict::Done; 2], &mut refused);
        assert!(left.is_empty() && why.is_none());
    }

    #[test]
    fn halves_hold_everything_once() {
        let [first, second] = request(5).halves();
        assert_eq!((first.body.as_slice(), second.body.as_slice()), (&b"0;1;"[..], &b"2;3;4;"[..]));
    }
}
