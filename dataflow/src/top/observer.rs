//! Asks the API and `/metrics`, and puts what they answer together.

use super::exposition::Samples;
use super::frame::{self, Counters, Episodes, Flow, Frame, Services, Sort, Source, Status};
use crate::commands::health::reachable;
use crate::config::Config;
use crate::config::secret::Secret;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use smartlog_http::agent;
use std::time::{Duration, Instant};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longer answers are refused: a thousand services are a megabyte.
const ANSWER_MAX: u64 = 16 << 20;
/// What is asked for at most: what no screen shows need not be sent.
const MAX_SERVICES: usize = 1_000;
const MAX_EPISODES: usize = 200;

/// Looks, again and again.
pub struct Observer {
    agent: ureq::Agent,
    api: String,
    metrics: String,
    token: Option<Secret>,
    before: Option<Counters>,
}

impl Observer {
    pub fn new(config: &Config) -> Self {
        let top = &config.top;
        let local = |listen| format!("http://{}", reachable(listen));
        let api = top.url.clone().unwrap_or_else(|| local(config.api.listen));
        let api = api.trim_end_matches('/').to_owned();
        let of_run = || config.metrics.listen.map(|listen| format!("{}/metrics", local(listen)));
        let metrics = top.metrics_url.clone().or_else(of_run).unwrap_or_else(|| format!("{api}/metrics"));
        Observer { agent: agent(PATIENCE), api, metrics, token: top.token.clone(), before: None }
    }

    /// One look. What cannot be had is left out, and said.
    pub fn look(&mut self, sort: Sort) -> Frame {
        let mut shown = Frame { at: Timestamp::now(), ..Frame::default() };
        let samples = self.figures(&mut shown);
        let trouble = self.materialised(sort, &mut shown).err();
        shown.api = Source { url: self.api.clone(), trouble };
        let clocks = shown.status.as_ref().map_or(&[][..], |status| &status.partitions);
        shown.partitions = frame::partitions(&samples, clocks);
        shown
    }

    /// What the dataflow says of itself.
    fn figures(&mut self, shown: &mut Frame) -> Samples {
        let page = self.text(&self.metrics);
        let samples = Samples::parse(page.as_deref().unwrap_or_default());
        let now = Counters::read(&samples, Instant::now());
        let none = "there are no figures of `smartlog run`: name its address by top.metrics_url";
        let trouble = page.err().or_else(|| (!now.are_there()).then(|| none.to_owned()));
        shown.metrics = Source { url: self.metrics.clone(), trouble };
        let grown = self.before.replace(now).map_or_else(Flow::default, |before| now.since(&before));
        shown.flow = Flow { lag_records: samples.sum("smartlog_lag_records"), ..grown };
        shown.queues = frame::queues(&samples);
        shown.failing_sinks = frame::failing(&samples);
        samples
    }

    /// What the API says of services and episodes.
    fn materialised(&self, sort: Sort, shown: &mut Frame) -> Result<(), String> {
        let status: Status = self.json("/api/v1/status")?;
        let query = format!("sort={}&per_page={MAX_SERVICES}", sort.parameter());
        let services: Services = self.json(&format!("/api/v1/services?{query}"))?;
        let query = format!("status=provisional,open&per_page={MAX_EPISODES}");
        let episodes: Episodes = self.json(&format!("/api/v1/anomalies?{query}"))?;
        shown.status = Some(status);
        (shown.services, shown.services_total) = (services.services, services.total);
        (shown.episodes, shown.episodes_total) = (episodes.anomalies, episodes.total);
        Ok(())
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let text = self.text(&format!("{}{path}", self.api))?;
        serde_json::from_str(&text).map_err(|error| {
            format!("expected smartlog's API, found something else at {path} ({error}): see top.url")
        })
    }

    fn text(&self, url: &str) -> Result<String, String> {
        let mut request = self.agent.get(url);
        // For the API alone: what else is asked may be someone else's.
        if let Some(token) = self.token.as_ref().filter(|_| url.starts_with(&format!("{}/", self.api))) {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let mut answer = request.call().map_err(|fault| in_words(&fault))?;
        match answer.status().as_u16() {
            200 => {
                let body = answer.body_mut().with_config().limit(ANSWER_MAX);
                body.read_to_string().map_err(|fault| in_words(&fault))
            }
            401 | 403 => {
                Err("it asks for a token that may read: name the file with its secret by top.token_file"
                    .into())
            }
            503 => Err("it cannot read its store now (503)".into()),
            status => Err(format!("expected 200, found {status}")),
        }
    }
}

fn in_words(fault: &ureq::Error) -> String {
    match fault {
        ureq::Error::Timeout(_) => format!("no answer within {PATIENCE:?}"),
        ureq::Error::HostNotFound => "its host is not known".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::Io(error) => crate::config::in_words(error),
        other => other.to_string(),
    }
}
