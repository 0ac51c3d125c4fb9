//! Alertmanager's API v2: an alert is known by its labels, and over once its end is past.

use super::{Format, Message, Request, cut};
use crate::alerts::message::{Notice, Phase};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

pub const FORMAT: Format = Format { name: "alertmanager", most: 50, message_ref: None, render };

const PATH: &str = "/api/v2/alerts";
const DESCRIPTION: usize = 1_000;
const SAMPLE: usize = 300;
/// An alert without an end would be taken for over after Alertmanager's `resolve_timeout` (5 minutes): it is told no end
/// that could come before ours does.
const LONGEST_HOURS: i64 = 48;

fn render(url: &str, message: &Message) -> Request {
    let url = if url.ends_with(PATH) { url.to_owned() } else { format!("{url}{PATH}") };
    let alerts: Vec<Value> = message.notices.iter().map(|notice| alert(notice, message.at)).collect();
    Request { method: "POST", url, body: alerts.into() }
}

fn alert(notice: &Notice, now: Timestamp) -> Value {
    let ends_at = match notice.status {
        Phase::Firing => now.checked_add(LONGEST_HOURS.hours()).unwrap_or(Timestamp::MAX),
        // An end in the future would leave it open.
        _ => notice.ended_at.unwrap_or(now).min(now).max(notice.started_at),
    };
    let mut labels = json!({
        "alertname": "SmartlogEpisode",
        "type": notice.anomaly_type,
        "severity": notice.severity,
        "episode": notice.id.to_string(),
    });
    if let Some(service) = &notice.service {
        labels["service"] = service.as_str().into();
    }
    let mut annotations =
        json!({ "summary": notice.title(), "description": cut(&notice.description, DESCRIPTION) });
    let samples: Vec<String> = notice.samples.iter().map(|line| cut(line, SAMPLE)).collect();
    for (name, text) in [
        ("comparison", notice.comparison()),
        ("why", Some(notice.why.iter().map(|text| cut(text, SAMPLE)).collect::<Vec<_>>().join("\n"))),
        ("reason", notice.reason.clone()),
        ("samples", Some(samples.join("\n"))),
    ] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            annotations[name] = text.into();
        }
    }
    let mut alert = json!({ "labels": labels, "annotations": annotations, "startsAt": notice.started_at, "endsAt": ends_at });
    if let Some(url) = &notice.url {
        alert["generatorURL"] = url.as_str().into();
    }
    alert
}
