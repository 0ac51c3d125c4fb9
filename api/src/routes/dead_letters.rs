//! `GET /api/v1/dead-letters`: payloads that could not become a log, newest first.

use super::{Answer, Call, JSON, RAW_COMPLETE_SQL, Route, encode, schema_of};
use crate::listing::{Count, Frame, Listed, Listing};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, Sql, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use smartlog_schema::dead_letter::Reason;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/dead-letters",
    operation: "listDeadLetters",
    tag: "logs",
    summary: "Payloads that could not become a log, newest first",
    about: "`payload` is the beginning of what came, with U+FFFD for what is not UTF-8. Topic, partition and offset \
            name the record in Kafka.",
    params: &[REASON, TOPIC, PARTITION, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<DeadLetterPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const fn reason_words() -> [&'static str; Reason::ALL.len()] {
    let mut words = [""; Reason::ALL.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = Reason::ALL[i].as_str();
        i += 1;
    }
    words
}

const REASON: Param = Param {
    name: "reason",
    kind: Kind::Words(&reason_words()),
    about: "Only these reasons, separated by commas",
    example: "invalid_json,missing_service",
};
const TOPIC: Param =
    Param { name: "topic", kind: Kind::Text { max_chars: 249 }, about: "Only this topic", example: "logs" };
const PARTITION: Param = Param {
    name: "partition",
    kind: Kind::Integer { min: 0, max: i32::MAX as i64, default: None },
    about: "Only this partition",
    example: "0",
};
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-id", "id"]),
    about: "The order in which they were stored; `-` is newest first",
    example: "-id",
};

/// One payload that could not become a log.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetter {
    id: i64,
    #[schema(example = "logs")]
    topic: String,
    #[schema(example = 0)]
    partition: i64,
    #[schema(example = 12345)]
    offset: i64,
    #[schema(example = "invalid_json")]
    reason: String,
    /// What was found, in words.
    #[schema(example = "expected `,` or `}` at line 1 column 17")]
    detail: String,
    /// The payload's first 2,048 bytes.
    payload: String,
    /// How much of it is stored, bytes.
    #[schema(example = 310)]
    stored_bytes: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterPage {
    dead_letters: Vec<DeadLetter>,
    #[serde(flatten)]
    frame: Frame,
}

/// Of each payload 2,048 bytes are shown; the store keeps up to 64 KiB.
const COLUMNS: &str = "id, kafka_topic, kafka_partition, kafka_offset, reason, detail, \
     substr(payload, 1, 2048), cast(length(payload) as bigint), created_at";
/// Rows are counted up to here.
const MAX_COUNTED: i64 = 100_000;

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let listing = Listing {
        table: "dead_letters",
        columns: COLUMNS,
        order: Order { column: "id", key: KeyKind::Id, descending: call.params.choice(&SORT) == "-id" },
        count: Count::UpTo(MAX_COUNTED),
        reached: RAW_COMPLETE_SQL,
        filter,
        read: dead_letter,
        key: |letter| (letter.id, letter.id),
    };
    let Listed { rows, frame, .. } = listing.page(&call).await?;
    encode(&DeadLetterPage { dead_letters: rows, frame })
}

fn filter(call: &Call, sql: &mut Sql) {
    let params = &call.params;
    sql.and("kafka_topic =", params.text(&TOPIC).map(|topic| Arg::Text(topic.into())))
        .and("cast(kafka_partition as bigint) =", params.integer(&PARTITION).map(Arg::Int))
        .one_of("reason", params.words(&REASON));
}

fn dead_letter(row: &Row) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        id: row.get(0)?,
        topic: row.get(1)?,
        partition: row.get(2)?,
        offset: row.get(3)?,
        reason: row.get(4)?,
        detail: row.get(5)?,
        payload: String::from_utf8_lossy(&row.get::<Vec<u8>>(6)?).into_owned(),
        stored_bytes: row.get(7)?,
        created_at: row.get(8)?,
    })
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "dead_letters": [{"id": 7, "topic": "logs", "partition": 0, "offset": 12345, "reason": "invalid_json",
                          "detail": "expected `,` or `}` at line 1 column 17", "payload": "{\"timestamp\": 1 2}",
                          "stored_bytes": 18, "created_at": "2026-01-15T10:30:00Z"}],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
