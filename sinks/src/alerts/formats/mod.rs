//! What each kind of receiver is sent.

mod alertmanager;
mod discord;
mod json;
mod slack;

use super::message::Message;
use serde_json::Value;
use smartlog_schema::explanation::cut;

/// Every format, one line each.
pub const FORMATS: &[Format] = &[json::FORMAT, slack::FORMAT, discord::FORMAT, alertmanager::FORMAT];

/// A kind of receiver.
#[derive(Debug)]
pub struct Format {
    /// As settings call it.
    pub name: &'static str,
    /// Notices that fit into one message.
    pub most: usize,
    /// Whether a message can be changed after it was sent: the name of the message, from the answer to it.
    pub message_ref: Option<fn(&str) -> Option<String>>,
    /// The request that tells `Message` at a URL.
    pub render: fn(url: &str, message: &Message) -> Request,
}

/// One request; its body is JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: &'static str,
    pub url: String,
    pub body: Value,
}

/// Colour of a notice: of how bad it is, or that it is over.
fn colour(notice: &super::message::Notice) -> u32 {
    match (notice.status, notice.severity.as_str()) {
        (super::message::Phase::Firing, "critical") => 0x8B_0000,
        (super::message::Phase::Firing, "high") => 0xE0_2F44,
        (super::message::Phase::Firing, "medium") => 0xFF_9830,
        (super::message::Phase::Firing, _) => 0xFA_DE2A,
        (super::message::Phase::Retracted, _) => 0x80_8080,
        _ => 0x37_872D,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::message::{Notice, Phase};
    use jiff::Timestamp;

    fn notice(id: i64) -> Notice {
        Notice {
            id,
            ended_at: None,
            ..Message::test(Some("http://page:8000"), Timestamp::UNIX_EPOCH).notices.remove(0)
        }
    }

    fn message(notices: Vec<Notice>) -> Message {
        Message { key: "k".into(), notices, edits: None, at: Timestamp::from_second(3_600).expect("a time") }
    }

    fn rendered(name: &str, url: &str, message: &Message) -> Request {
        let format = FORMATS.iter().find(|format| format.name == name).expect("a format");
        (format.render)(url, message)
    }

    #[test]
    fn json_is_all_that_is_known() {
        let request = rendered("json", "http://h/x?a=1", &message(vec![notice(7)]));
        assert_eq!((request.method, request.url.as_str()), ("POST", "http://h/x?a=1"));
        let alert = &request.body["alerts"][0];
        assert_eq!(request.body["key"], "k");
        assert_eq!(
            (&alert["id"], &alert["status"], &alert["type"]),
            (&7.into(), &"firing".into(), &"error_rate_spike".into())
        );
        assert_eq!((&alert["typical"], &alert["actual"]), (&1.0.into(), &12.5.into()));
    }

    #[test]
    fn slack_gets_what_logs_say_as_text_and_not_as_commands() {
        let mut told = notice(7);
        told.description = "5 < 6 & <!channel> ping".into();
        told.samples = vec!["```<http://evil|click>```".into()];
        let request = rendered("slack", "http://h/x", &message(vec![told]));
        let text = request.body.to_string();
        assert!(text.contains("5 &lt; 6 &amp; &lt;!channel&gt; ping"), "{text}");
        assert!(!text.contains("<!channel>") && !text.contains("<http://evil"), "{text}");
        assert!(text.contains("<http://page:8000/|"), "{text}");
    }

    #[test]
    fn discord_edits_the_message_that_told_of_the_beginning_and_pings_nobody() {
        let mut told = message(vec![notice(7)]);
        let request = rendered("discord", "http://h/api/webhooks/1/tok", &told);
        assert_eq!((request.method, request.url.as_str()), ("POST", "http://h/api/webhooks/1/tok?wait=true"));
        assert_eq!(request.body["allowed_mentions"]["parse"], serde_json::json!([]));
        told.edits = Some("99".into());
        told.notices[0].status = Phase::Resolved;
        let request = rendered("discord", "http://h/api/webhooks/1/tok?thread_id=5", &told);
        assert_eq!(request.method, "PATCH");
        assert_eq!(request.url, "http://h/api/webhooks/1/tok/messages/99?thread_id=5");
        let format = FORMATS.iter().find(|format| format.name == "discord").expect("discord");
        let name = format.message_ref.expect("it can edit");
        assert_eq!(name(r#"{"id": "99", "type": 0}"#).as_deref(), Some("99"));
        assert_eq!(name("nonsense"), None);
        assert_eq!(name(r#"{"id": "../x"}"#), None, "a name that would lead elsewhere");
    }

    #[test]
    fn alertmanager_knows_an_alert_by_labels_that_stay() {
        let (begin, mut end) = (notice(7), notice(7));
        end.status = Phase::Resolved;
        end.ended_at = Some(Timestamp::from_second(60).expect("a time"));
        end.description = "other words".into();
        let first = rendered("alertmanager", "http://h:9093", &message(vec![begin]));
        let last = rendered("alertmanager", "http://h:9093/api/v2/alerts", &message(vec![end]));
        assert_eq!(first.url, "http://h:9093/api/v2/alerts");
        assert_eq!(last.url, "http://h:9093/api/v2/alerts");
        assert_eq!(first.body[0]["labels"], last.body[0]["labels"]);
        assert_eq!(last.body[0]["endsAt"], "1970-01-01T00:01:00Z");
        assert!(
            first.body[0]["endsAt"].as_str() > last.body[0]["endsAt"].as_str(),
            "open: it ends later than now"
        );
    }

    #[test]
    fn whatever_logs_hold_messages_stay_within_the_receivers_limits() {
        let mut told = notice(7);
        told.description = "ü".repeat(10_000);
        told.service = Some("s".repeat(100));
        told.samples = vec!["x\u{1b}[31m\"\\".repeat(5_000); 3];
        told.why = vec!["<&>".repeat(5_000); 4];
        for format in FORMATS {
            let request = (format.render)("http://h", &message(vec![told.clone(); format.most]));
            let size = request.body.to_string().len();
            assert!(size < 1 << 20, "{}: {size}", format.name);
        }
        let embeds = rendered("discord", "http://h", &message(vec![told.clone(); 5])).body["embeds"].clone();
        let total: usize = embeds
            .as_array()
            .into_iter()
            .flatten()
            .map(|embed| {
                let text = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
                text(&embed["title"]) + text(&embed["description"])
            })
            .sum();
        assert!(total <= 6_000, "Discord takes 6000 characters in all embeds, not {total}");
        let blocks =
            rendered("slack", "http://h", &message(vec![told])).body["attachments"][0]["blocks"].clone();
        for block in blocks.as_array().into_iter().flatten() {
            let length = block["text"]["text"].as_str().map_or(0, |text| text.chars().count());
            assert!(length <= 3_000, "Slack takes 3000 characters in a block, not {length}");
        }
    }
}
