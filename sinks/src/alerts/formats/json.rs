//! Everything that is known, for programs. docs/ALERTS.md describes the fields.

use super::{Format, Message, Request, cut};
use crate::alerts::message::Notice;
use serde_json::json;

pub const FORMAT: Format = Format { name: "json", most: 20, message_ref: None, render };

const DESCRIPTION: usize = 1_000;
const SAMPLE: usize = 300;

fn render(url: &str, message: &Message) -> Request {
    let alerts: Vec<Notice> = message.notices.iter().map(bounded).collect();
    let body = json!({ "version": 1, "key": message.key, "sent_at": message.at, "alerts": alerts });
    Request { method: "POST", url: url.to_owned(), body }
}

fn bounded(notice: &Notice) -> Notice {
    Notice {
        description: cut(&notice.description, DESCRIPTION),
        why: notice.why.iter().map(|text| cut(text, SAMPLE)).collect(),
        samples: notice.samples.iter().map(|line| cut(line, SAMPLE)).collect(),
        ..notice.clone()
    }
}
