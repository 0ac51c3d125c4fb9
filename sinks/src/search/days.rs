//! The indexes as such: how they are made, and when they go.

use super::SearchConfig;
use super::client::{Answer, Client};
use super::document::{day_of, of_day};
use crate::error::{Fault, SinkError};
use crate::parquet::Day;
use bytes::Bytes;
use serde_json::Value;
use std::time::{Duration, Instant};
use ureq::http::{Method, StatusCode};

const TEMPLATE: &str = include_str!("index-template.json");
/// After days could not be deleted, this long until the next attempt.
const AGAIN: Duration = Duration::from_secs(60);

/// Which days are kept.
pub(super) struct Days {
    prefix: String,
    retention_us: i64,
    /// The oldest that is kept; `None` while the watermark is not known.
    oldest: Option<Day>,
    /// Everything before this one is gone.
    deleted_before: Option<Day>,
    next_attempt: Instant,
}

impl Days {
    pub fn new(config: &SearchConfig) -> Self {
        Days {
            prefix: config.prefix.clone(),
            retention_us: i64::try_from(config.retention.as_micros()).unwrap_or(i64::MAX),
            oldest: None,
            deleted_before: None,
            next_attempt: Instant::now(),
        }
    }

    /// Whether logs of this day are to be there. Whatever is older would be deleted at once.
    pub fn keeps(&self, day: Day) -> bool {
        self.oldest.is_none_or(|oldest| day >= oldest)
    }

    /// Makes the template of the indexes, unless there is one of that name: people may have changed it.
    pub async fn prepare(&self, client: &Client) -> Result<(), SinkError> {
        let doing = "look for the template of its indexes";
        let path = format!("/_index_template/{}", self.prefix);
        let found = client.ask(doing, Method::GET, &path, None).await?;
        match found.status {
            StatusCode::OK => return Ok(()),
            StatusCode::NOT_FOUND => {}
            _ => return Err(unusable(client, doing, &found)),
        }
        let template = Bytes::from(TEMPLATE.replace("PREFIX", &self.prefix));
        let doing = "make the template of its indexes";
        let made = client.ask(doing, Method::PUT, &path, Some(template)).await?;
        match made.status {
            StatusCode::OK => Ok(()),
            _ => Err(unusable(client, doing, &made)),
        }
    }

    /// Deletes the days that the watermark has left behind. Trouble with it holds nothing up: it is tried again.
    pub async fn advance(&mut self, client: &Client, watermark_us: i64) {
        let oldest =
            (watermark_us != i64::MIN).then(|| Day::of(watermark_us.saturating_sub(self.retention_us)));
        self.oldest = self.oldest.max(oldest.flatten());
        if self.oldest == self.deleted_before || Instant::now() < self.next_attempt {
            return;
        }
        match self.delete_old(client).await {
            Ok(()) => self.deleted_before = self.oldest,
            Err(error) => {
                tracing::warn!(%error, "days of the search index that are too old stay for now");
                self.next_attempt = Instant::now() + AGAIN;
            }
        }
    }

    async fn delete_old(&self, client: &Client) -> Result<(), SinkError> {
        let doing = "list its days";
        let path =
            format!("/_cat/indices/{}-*?h=index&format=json&expand_wildcards=open,closed", self.prefix);
        let listed = client.ask(doing, Method::GET, &path, None).await?;
        let indexes = match listed.status {
            StatusCode::OK => serde_json::from_slice::<Vec<Value>>(&listed.body).ok(),
            StatusCode::NOT_FOUND => Some(Vec::new()),
            _ => None,
        };
        let Some(indexes) = indexes else { return Err(unusable(client, doing, &listed)) };
        for index in indexes.iter().filter_map(|row| row["index"].as_str()) {
            if day_of(&self.prefix, index).is_none_or(|day| self.keeps(day)) {
                continue;
            }
            let doing = "delete a day that is too old";
            let gone = client.ask(doing, Method::DELETE, &format!("/{index}"), None).await?;
            match gone.status {
                StatusCode::OK => tracing::info!(index, "deleted: older than search.retention"),
                // Another worker was quicker.
                StatusCode::NOT_FOUND => {}
                _ => return Err(unusable(client, doing, &gone)),
            }
        }
        Ok(())
    }
}

/// An answer with which nothing can be begun: waiting may help, unless the login is to blame.
fn unusable(client: &Client, doing: &str, answer: &Answer) -> SinkError {
    let advice = "look at the server; it is tried again";
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SinkError::Fatal(Fault {
            store: client.name().to_owned(),
            doing: doing.to_owned(),
            found: answer.shown(),
            advice: "let search.login_file (or the URL) name a login that may manage templates and indexes of search.prefix"
                .into(),
        }),
        _ => client.trouble(doing, answer.shown(), advice),
    }
}

/// Who answers at the configured URL, in which version, how it fares, and whether today's index can be written.
///
/// # Errors
/// When nobody answers, or not as a search index would.
pub async fn probe_search(config: &SearchConfig) -> Result<String, SinkError> {
    let client = Client::new(config)?;
    let doing = "ask who it is";
    let told = client.ask(doing, Method::GET, "/", None).await?;
    let root: Value = serde_json::from_slice(&told.body).unwrap_or_default();
    let version = &root["version"];
    let (StatusCode::OK, Some(number)) = (told.status, version["number"].as_str()) else {
        return Err(unusable(&client, doing, &told));
    };
    let product = version["distribution"].as_str().unwrap_or("elasticsearch");
    let doing = "ask how its indexes fare";
    let path = format!("/_cluster/health/{}-*?level=indices", config.prefix);
    let told = client.ask(doing, Method::GET, &path, None).await?;
    let health: Value = serde_json::from_slice(&told.body).unwrap_or_default();
    let (StatusCode::OK, Some(status)) = (told.status, health["status"].as_str()) else {
        return Err(unusable(&client, doing, &told));
    };
    let days = health["indices"].as_object().map_or(0, serde_json::Map::len);
    let example = Day::of(jiff::Timestamp::now().as_microsecond()).map(|day| of_day(&config.prefix, day));
    let name = client.name();
    if status == "red" {
        let found = format!("{product} {number} answers, and some of {days} indexes are red");
        return Err(client.trouble(
            "write to its indexes",
            found,
            "look at its shards: GET /_cluster/allocation/explain",
        ));
    }
    Ok(format!(
        "{name} answers: {product} {number}, {status}, {days} indexes such as {}",
        example.unwrap_or_default()
    ))
}
