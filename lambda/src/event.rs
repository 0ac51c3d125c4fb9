//! What the function is called with: an S3 notification, the test message that S3 sends when one is set up, an EventBridge
//! event, or a batch of SQS messages that hold one of these.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

/// One object that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub bucket: String,
    /// Decoded.
    pub key: String,
    /// Orders the events of one key; absent from some S3-compatible servers.
    pub sequencer: Option<Sequencer>,
}

/// S3's order of events of one key: hexadecimal numbers of varying length, compared as if filled up with zeros at the right.
#[derive(Debug, Clone, Eq)]
pub struct Sequencer(String);

impl Sequencer {
    /// `None` for what is no hexadecimal number.
    pub fn new(digits: &str) -> Option<Self> {
        let hexadecimal =
            !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        hexadecimal.then(|| Self(digits.to_ascii_uppercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn significant(&self) -> &str {
        self.0.trim_end_matches('0')
    }
}

impl PartialEq for Sequencer {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.significant().cmp(other.significant())
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The objects of one call.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Called by S3 or EventBridge: a failure of one fails the call, which is repeated as a whole.
    Direct(Vec<Created>),
    /// Called by a queue: messages that fail are named in the answer, the others are done.
    Queue(Vec<Message>),
}

/// One message of a queue, with what it holds or why that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub created: Result<Vec<Created>, String>,
}

/// Reads what the function was called with.
///
/// # Errors
/// What was expected, when it is none of the known events.
pub fn read(payload: &Value) -> Result<Call, String> {
    let queued =
        payload["Records"].as_array().filter(|records| records.iter().any(|r| r["eventSource"] == "aws:sqs"));
    let Some(records) = queued else { return created(payload).map(Call::Direct) };
    let message = |record: &Value| Message {
        id: record["messageId"].as_str().unwrap_or_default().to_owned(),
        created: body(record).and_then(|body| created(&body)),
    };
    Ok(Call::Queue(records.iter().map(message).collect()))
}

fn body(record: &Value) -> Result<Value, String> {
    let text = record["body"].as_str().ok_or("expected a message with a body, found none")?;
    serde_json::from_str(text).map_err(|e| format!("expected JSON in the message's body: {e}"))
}

fn created(payload: &Value) -> Result<Vec<Created>, String> {
    if payload["Event"] == "s3:TestEvent" {
        return Ok(Vec::new());
    }
    if payload["detail-type"] == "Object Created" {
        return Detail::deserialize(&payload["detail"])
            .map(|detail| vec![detail.created(detail.object.key.clone())])
            .map_err(|e| format!("expected an EventBridge event of S3: {e}"));
    }
    let Some(records) = payload["Records"].as_array() else {
        return Err(
            "expected an S3 notification, an EventBridge event of S3, or SQS messages with one of these; \
                    found none of 'Records', 'detail-type'"
                .to_owned(),
        );
    };
    records.iter().filter(|record| is_creation(record)).map(notified).collect()
}

/// Other events (a removal, a change of tags) say nothing about what an object holds.
fn is_creation(record: &Value) -> bool {
    let name = record["eventName"].as_str().unwrap_or_default();
    name.trim_start_matches("s3:").starts_with("ObjectCreated:")
}

fn notified(record: &Value) -> Result<Created, String> {
    let detail = Detail::deserialize(&record["s3"])
        .map_err(|e| format!("expected a record of an S3 notification: {e}"))?;
    let key = decode(&detail.object.key)?;
    Ok(detail.created(key))
}

/// Keys in notifications are written as in a form: a space is `+`, a plus `%2B`.
fn decode(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(|key| key.into_owned()).map_err(|_| format!("expected a key in UTF-8, found '{key}'"))
}

#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: Key,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Key {
    key: String,
    sequencer: Option<String>,
}

impl Detail {
    fn created(&self, key: String) -> Created {
        let sequencer = self.object.sequencer.as_deref().and_then(Sequencer::new);
        Created { bucket: self.bucket.name.clone(), key, sequencer }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(key: &str, sequencer: &str) -> Value {
        json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": "b"}, "object": {"key": key, "size": 1, "sequencer": sequencer}}})
    }

    fn one(key: &str, sequencer: &str) -> Created {
        Created { bucket: "b".into(), key: key.into(), sequencer: Sequencer::new(sequencer) }
    }

    #[test]
    fn a_notification_of_s3_has_its_keys_decoded() {
        let payload = json!({"Records": [record("date%3D2026-01-15/a+b%2Bc%C3%A9.parquet", "0A1")]});
        assert_eq!(read(&payload), Ok(Call::Direct(vec![one("date=2026-01-15/a b+cé.parquet", "0A1")])));
    }

    #[test]
    fn an_eventbridge_event_holds_its_key_as_it_is() {
        let detail =
            json!({"bucket": {"name": "b"}, "object": {"key": "a+b%20.parquet", "sequencer": "0A1"}});
        let payload = json!({"detail-type": "Object Created", "source": "aws.s3", "detail": detail});
        assert_eq!(read(&payload), Ok(Call::Direct(vec![one("a+b%20.parquet", "0A1")])));
    }

    #[test]
    fn the_message_that_tests_a_notification_and_removals_are_nothing_to_do() {
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"});
        assert_eq!(read(&test), Ok(Call::Direct(vec![])));
        let removal = json!({"Records": [{"eventName": "ObjectRemoved:Delete", "s3": {}}]});
        assert_eq!(read(&removal), Ok(Call::Direct(vec![])));
    }

    #[test]
    fn a_message_of_a_queue_that_cannot_be_read_does_not_spoil_the_others() {
        let good = json!({"Records": [record("k", "1")]}).to_string();
        let payload = json!({"Records": [
            {"eventSource": "aws:sqs", "messageId": "m1", "body": good},
            {"eventSource": "aws:sqs", "messageId": "m2", "body": "{"},
        ]});
        let Ok(Call::Queue(messages)) = read(&payload) else { panic!("a queue") };
        assert_eq!(messages[0], Message { id: "m1".into(), created: Ok(vec![one("k", "1")]) });
        assert!(
            messages[1]
                .created
                .as_ref()
                .expect_err("broken")
                .starts_with("expected JSON in the message's body")
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for payload in [json!({}), json!([]), json!(null), json!({"detail-type": "Object Deleted"})] {
            let error = read(&payload).expect_err("refused");
            assert!(error.starts_with("expected an S3 notification"), "{error}");
        }
        let broken = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}}}]});
        assert!(read(&broken).expect_err("refused").contains("missing field `name`"));
    }

    #[test]
    fn sequencers_are_compared_as_if_filled_with_zeros_at_the_right() {
        let of = |digits| Sequencer::new(digits).expect("hexadecimal");
        assert!(of("0055AED6DCD90281E5") < of("0055AED6DCD90281E6"));
        assert!(of("0055") < of("00551"));
        assert!(of("0056") > of("00551"));
        assert_eq!(of("00ab"), of("00AB00"));
        assert_eq!(
            (Sequencer::new(""), Sequencer::new("xyz"), Sequencer::new(&"0".repeat(65))),
            (None, None, None)
        );
    }
}
