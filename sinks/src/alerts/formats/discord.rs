//! Discord's webhooks: an embed for each notice. The message that told of the beginning is edited at the end.

use super::{Format, Message, Request, colour, cut};
use crate::alerts::message::Notice;
use serde_json::{Value, json};

/// Discord takes 10 embeds, and 6000 characters in all of them.
pub const FORMAT: Format = Format { name: "discord", most: 5, message_ref: Some(message_ref), render };

const TITLE: usize = 200;
const DESCRIPTION: usize = 300;
const SAMPLE: usize = 90;
const WHY: usize = 90;

fn render(url: &str, message: &Message) -> Request {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let and = |first: &str| match query {
        Some(query) if first.is_empty() => format!("?{query}"),
        Some(query) => format!("?{first}&{query}"),
        None if first.is_empty() => String::new(),
        None => format!("?{first}"),
    };
    let (method, url) = match &message.edits {
        Some(name) => ("PATCH", format!("{path}/messages/{name}{}", and(""))),
        // Only then is the answer the message, with its name.
        None => ("POST", format!("{path}{}", and("wait=true"))),
    };
    let embeds: Vec<Value> = message.notices.iter().map(embed).collect();
    // What stands in a log must not ping anybody.
    let body = json!({ "username": "smartlog", "embeds": embeds, "allowed_mentions": { "parse": [] } });
    Request { method, url, body }
}

fn embed(notice: &Notice) -> Value {
    let mut lines = vec![cut(&notice.description, DESCRIPTION)];
    lines.extend(notice.comparison());
    lines.extend(notice.why.iter().take(2).map(|text| cut(text, WHY)));
    lines.extend(notice.reason.as_deref().map(|reason| cut(reason, SAMPLE)));
    if !notice.samples.is_empty() {
        let sample = |line: &String| cut(line, SAMPLE).replace('`', "'");
        let samples: Vec<String> = notice.samples.iter().map(sample).collect();
        lines.push(format!("```\n{}\n```", samples.join("\n")));
    }
    let mut embed = json!({
        "title": cut(&notice.title(), TITLE),
        "description": lines.join("\n"),
        "color": colour(notice),
        "timestamp": notice.started_at,
    });
    if let Some(url) = &notice.url {
        embed["url"] = url.as_str().into();
    }
    embed
}

/// The id of the message that was made; digits, for it becomes part of a path.
fn message_ref(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let id = answer.get("id")?.as_str()?;
    let is_id = !id.is_empty() && id.len() <= 20 && id.bytes().all(|byte| byte.is_ascii_digit());
    is_id.then(|| id.to_owned())
}
