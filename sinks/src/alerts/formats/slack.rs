//! Slack's incoming webhooks: an attachment of blocks for each notice. They cannot be edited.

use super::{Format, Message, Request, colour, cut};
use crate::alerts::message::Notice;
use serde_json::{Value, json};

pub const FORMAT: Format = Format { name: "slack", most: 10, message_ref: None, render };

/// Slack takes 3000 characters in a block; what is escaped grows.
const DESCRIPTION: usize = 300;
const REASON: usize = 150;
const WHY: usize = 160;
const MOST_WHY: usize = 3;
const SAMPLE: usize = 160;

fn render(url: &str, message: &Message) -> Request {
    let text = match &message.notices[..] {
        [one] => escaped(&one.title()),
        many => format!("{} changes of anomalies", many.len()),
    };
    let attachments: Vec<Value> = message.notices.iter().map(attachment).collect();
    Request { method: "POST", url: url.to_owned(), body: json!({ "text": text, "attachments": attachments }) }
}

fn attachment(notice: &Notice) -> Value {
    let title = escaped(&notice.title());
    let title = match &notice.url {
        // A `|` or `>` would end the link.
        Some(url) => {
            format!("*<{}|{}>*", url.replace('|', "%7C").replace('>', "%3E"), title.replace('|', "¦"))
        }
        None => format!("*{title}*"),
    };
    let mut lines = vec![title, escaped(&cut(&notice.description, DESCRIPTION))];
    lines.extend(notice.comparison().map(|text| escaped(&text)));
    lines.extend(notice.reason.as_deref().map(|reason| escaped(&cut(reason, REASON))));
    let mut blocks = vec![section(lines.join("\n"))];
    let why: Vec<String> = notice.why.iter().take(MOST_WHY).map(|text| escaped(&cut(text, WHY))).collect();
    if !why.is_empty() {
        blocks.push(section(why.join("\n")));
    }
    if !notice.samples.is_empty() {
        let sample = |line: &String| escaped(&cut(line, SAMPLE).replace('`', "'"));
        let samples: Vec<String> = notice.samples.iter().map(sample).collect();
        blocks.push(section(format!("```{}```", samples.join("\n"))));
    }
    json!({ "color": format!("#{:06x}", colour(notice)), "blocks": blocks })
}

fn section(text: String) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

/// The three characters that mean something to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
