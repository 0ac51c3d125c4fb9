//! `GET /api/v1/anomalies/stream`: every change of every anomaly, as it is committed, as server-sent events.

use super::anomalies::{SEVERITY, TYPE};
use super::{Answer, Call, Route, SERVICE};
use crate::app::App;
use crate::feed::{self, BATCH, Message, Rendered};
use crate::params::{Kind, Param, Params};
use crate::problem::Problem;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{self, HeaderMap};
use prometheus_client::metrics::gauge::Gauge;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

pub const ROUTE: Route = Route {
    path: "/api/v1/anomalies/stream",
    operation: "streamAnomalies",
    tag: "anomalies",
    summary: "Every change of every anomaly, live",
    about: "Server-sent events. `anomaly`: one change, its `id` is its `seq`; nothing is left out or sent twice when a \
            client comes back with `Last-Event-ID` (or `last_event_id`, for the first time); without it the stream \
            begins now. `clock`: how far the numbers are, at most once a second. `feedback`: what a user just said of an \
            anomaly. `stale`: the store cannot be read now. `reset`: the store has been replaced, ask for everything anew.",
    params: &[SERVICE, TYPE, SEVERITY, LAST_EVENT_ID],
    path_params: &[],
    produces: &["text/event-stream"],
    schema: None,
    example: None,
    also: &[],
    answer: Answer::Plain(|call| Box::pin(open(call))),
};

const LAST_EVENT_ID: Param = Param {
    name: "last_event_id",
    kind: Kind::Integer { min: 0, max: i64::MAX, default: None },
    about: "Go on behind this `seq`; the header `Last-Event-ID` comes first",
    example: "42",
};

/// Something is sent at least this often, so that a dead connection is noticed at both ends.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long to wait before a store that failed is asked again.
const RETRY: Duration = Duration::from_secs(1);

async fn open(call: Call) -> Result<Response, Problem> {
    let asked = header_id(&call.headers)?.or(call.params.integer(&LAST_EVENT_ID));
    // Joined before the store is read: what is committed in between comes by the one way or the other.
    let receiver = call.app.feed.subscribe();
    let newest = feed::newest_seq(&call.app).await?;
    let mut subscriber = Subscriber {
        receiver,
        last: asked.unwrap_or(newest),
        wanted: Wanted::of(&call.params),
        waiting: VecDeque::from([Bytes::from_static(b"retry: 1000\n\n")]),
        replaying: true,
        _counted: Counted::new(&call.app.metrics.subscribers),
        app: call.app,
    };
    if subscriber.last > newest {
        subscriber.reset(newest);
    }
    let events = stream::unfold(subscriber, |mut subscriber| async move {
        let bytes = subscriber.next().await?;
        Some((Ok::<_, Infallible>(bytes), subscriber))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, [("x-accel-buffering", "no")], Body::from_stream(events)).into_response())
}

fn header_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.parse::<i64>() {
        Ok(seq) if seq >= 0 => Ok(Some(seq)),
        _ => {
            let found = crate::problem::quotable(&text);
            let detail =
                format!("Last-Event-ID must be the id of an event of this stream, found \"{found}\"");
            Err(Problem::invalid("Last-Event-ID", detail))
        }
    }
}

/// What a subscriber asked to see.
struct Wanted {
    service: Option<String>,
    types: Option<Vec<&'static str>>,
    severities: Option<Vec<&'static str>>,
}

impl Wanted {
    fn of(params: &Params) -> Self {
        Wanted {
            service: params.text(&SERVICE).map(str::to_owned),
            types: params.words(&TYPE).map(<[_]>::to_vec),
            severities: params.words(&SEVERITY).map(<[_]>::to_vec),
        }
    }

    fn includes(&self, change: &Rendered) -> bool {
        let is_in = |words: &Option<Vec<&'static str>>, word: &Option<String>| {
            words.as_ref().is_none_or(|words| word.as_deref().is_some_and(|word| words.contains(&word)))
        };
        self.service.as_ref().is_none_or(|service| change.service.as_ref() == Some(service))
            && is_in(&self.types, &change.anomaly_type)
            && is_in(&self.severities, &change.severity)
    }
}

/// One open stream.
struct Subscriber {
    app: Arc<App>,
    receiver: Receiver<Message>,
    /// The newest `seq` that was sent or filtered out.
    last: i64,
    wanted: Wanted,
    /// Ready to send.
    waiting: VecDeque<Bytes>,
    /// Whether the store is to be read before the broadcast is heard.
    replaying: bool,
    _counted: Counted,
}

impl Subscriber {
    /// The next bytes to send; `None` when the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let stopping = self.app.stopping.clone();
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                return Some(bytes);
            }
            let step = async { if self.replaying { self.replay().await } else { self.listen().await } };
            stopping.run_until_cancelled(step).await?;
        }
    }

    async fn replay(&mut self) {
        match feed::changes_after(&self.app, self.last).await {
            Ok(changes) => {
                self.replaying = changes.len() as i64 == BATCH;
                changes.iter().for_each(|change| self.take(change));
            }
            Err(_) => {
                self.waiting.push_back(event("stale", b"{}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn listen(&mut self) {
        match tokio::time::timeout(KEEP_ALIVE, self.receiver.recv()).await {
            Err(_) => self.waiting.push_back(Bytes::from_static(b": still here\n\n")),
            Ok(Ok(Message::Change(change))) if change.seq <= self.last => {}
            Ok(Ok(Message::Change(change))) if change.seq == self.last + 1 => self.take(&change),
            // Something is missing: the broadcast began, or went on, without this subscriber.
            Ok(Ok(Message::Change(_)) | Err(RecvError::Lagged(_))) => self.replaying = true,
            Ok(Ok(Message::Newest(seq))) if seq < self.last => self.look_again().await,
            Ok(Ok(Message::Newest(seq))) => self.replaying |= seq > self.last,
            Ok(Ok(Message::Clock(clock))) => self.waiting.push_back(event("clock", &clock)),
            Ok(Ok(Message::Feedback(said))) if self.wanted.includes(&said) => {
                self.waiting.push_back(event("feedback", &said.data));
            }
            Ok(Ok(Message::Feedback(_))) => {}
            Ok(Ok(Message::Stale)) => self.waiting.push_back(event("stale", b"{}")),
            // The feed lives as long as the server.
            Ok(Err(RecvError::Closed)) => tokio::time::sleep(RETRY).await,
        }
    }

    /// The poller began behind this subscriber: either that was just earlier, or the store has been replaced.
    async fn look_again(&mut self) {
        match feed::newest_seq(&self.app).await {
            Ok(newest) if newest < self.last => self.reset(newest),
            Ok(_) => {}
            Err(_) => self.replaying = true,
        }
    }

    fn take(&mut self, change: &Rendered) {
        self.last = change.seq;
        if self.wanted.includes(change) {
            self.waiting.push_back(anomaly(change));
        }
    }

    /// Begins anew at `newest`: what the client saw is not in this store.
    fn reset(&mut self, newest: i64) {
        self.last = newest;
        let data = format!("{{\"seq\":{newest}}}");
        self.waiting.push_back(Bytes::from(format!("id: {newest}\nevent: reset\ndata: {data}\n\n")));
    }
}

fn anomaly(change: &Rendered) -> Bytes {
    let mut bytes = format!("id: {}\nevent: anomaly\ndata: ", change.seq).into_bytes();
    bytes.extend_from_slice(&change.data);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

fn event(name: &str, data: &[u8]) -> Bytes {
    let mut bytes = format!("event: {name}\ndata: ").into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// Counted as a subscriber until dropped.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
