//! `/api/v1/calendar`: events that are known to come, such as releases and maintenance. What they explain is retracted.

use super::when::When;
use super::{Answer, Call, JSON, Route, encode, fresh, schema_of};
use crate::problem::{Problem, quotable};
use crate::store::{Arg, Opinion, Row, StoreError};
use axum::response::Response;
use compact_str::CompactString;
use hyper::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::feedback::{Applies, MOST_IN_FORCE};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, SchemaType, Type};

const PATH: &str = "/api/v1/calendar";

pub const LIST: Route = Route {
    path: PATH,
    operation: "listEvents",
    tag: "calendar",
    summary: "Known events",
    about: "Releases, maintenance, load tests: what was announced and not called off, the newest first. An episode that an \
            event covers is `retracted`, with the event's name as the reason, for as long as the event stands here.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Calendar>),
    example: Some(|| serde_json::json!({"events": [example()]})),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

pub const ANNOUNCE: Route = Route {
    path: PATH,
    operation: "announceEvent",
    tag: "calendar",
    summary: "Announce an event",
    about: "Episodes of these services and of this type (absent: of any) that start while the event lasts are retracted, \
            past ones too, and come back when it is called off.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Event>),
    example: Some(example),
    also: &[(409, "It would be over before it begins")],
    answer: Answer::Told {
        body: schema_of::<Announcement>,
        example: || {
            serde_json::json!({
                "name": "release 2.4", "services": ["payment-service"],
                "when": {"since": "2026-01-15T22:00:00Z", "until": "2026-01-15T23:00:00Z", "weekdays": ["thu"]}
            })
        },
        answer: |call| Box::pin(announce(call)),
    },
};

pub const CALL_OFF: Route = Route {
    path: "/api/v1/calendar/{id}",
    operation: "callOffEvent",
    tag: "calendar",
    summary: "Call an event off",
    about: "What it explained and nothing else does comes back as it is by now.",
    params: &[],
    path_params: &[("id", "The event's id", "7")],
    produces: JSON,
    schema: Some(schema_of::<CalledOff>),
    example: Some(|| serde_json::json!({"id": 7})),
    also: &[(404, "No event has this id")],
    answer: Answer::Removed(|call| Box::pin(call_off(call))),
};

/// The longest name, characters, and the most services of one event.
const MAX_NAME_CHARS: usize = 200;
const MAX_SERVICES: usize = 100;
const MAX_SERVICE_CHARS: usize = 100;

/// What is to come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Announcement {
    /// What it is, for those who look for a reason later
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000]+$", example = "release 2.4")]
    name: String,
    /// Of these services; absent: of all of them and the whole stream
    #[serde(default)]
    #[schema(schema_with = named_services)]
    services: Option<Vec<CompactString>>,
    /// Of this type alone
    #[serde(default, rename = "type")]
    #[schema(value_type = Option<super::feedback::Type>)]
    anomaly_type: Option<AnomalyType>,
    #[serde(default, deserialize_with = "super::when::object")]
    when: When,
}

fn named_services() -> Array {
    let name = ObjectBuilder::new().schema_type(Type::String);
    let name = name.min_length(Some(1)).max_length(Some(MAX_SERVICE_CHARS)).pattern(Some("^[^\\u0000]+$"));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(name)
        .min_items(Some(1))
        .max_items(Some(MAX_SERVICES))
        .description(Some("Of these services; absent: of all of them and the whole stream"))
        .build()
}

/// An event of the calendar.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CalendarEvent)]
struct Event {
    #[schema(example = 7)]
    id: i64,
    #[schema(example = "release 2.4")]
    name: String,
    #[schema(value_type = Option<Vec<String>>)]
    services: Option<Vec<CompactString>>,
    #[schema(value_type = Option<super::feedback::Type>)]
    r#type: Option<AnomalyType>,
    when: When,
    /// The name of the token that announced it, or of the file
    author: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct Calendar {
    events: Vec<Event>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CalledOff {
    #[schema(example = 7)]
    id: i64,
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "id": 7, "name": "release 2.4", "services": ["payment-service"], "type": null,
        "when": {"since": "2026-01-15T22:00:00Z", "until": "2026-01-15T23:00:00Z", "hours": null, "weekdays": ["thu"]},
        "author": "ops", "created_at": "2026-01-15T10:30:00Z"
    })
}

const COLUMNS: &str = "select id, name, applies, author, created_at from calendar";

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let mut sql = call.app.store.sql(COLUMNS);
    sql.push(" order by id desc limit ").arg(Arg::Int(MOST_IN_FORCE as i64));
    let rows = call.app.fetch(sql).await?;
    encode(&Calendar { events: rows.iter().map(event).collect::<Result<_, _>>()? })
}

fn event(row: &Row) -> Result<Event, StoreError> {
    let applies: Applies = serde_json::from_str(&row.get::<String>(2)?)
        .map_err(|error| StoreError::Mismatch(format!("calendar.applies: {error}")))?;
    let time = |second| Timestamp::from_second(second).ok();
    let Applies { services, anomaly_type, since, until, hours, weekdays, .. } = applies;
    Ok(Event {
        id: row.get(0)?,
        name: row.get::<Option<String>>(1)?.unwrap_or_default(),
        services,
        r#type: anomaly_type,
        when: When { since: time(since), until: time(until), hours, weekdays },
        author: row.get(3)?,
        created_at: row.get(4)?,
    })
}

async fn announce(call: Call) -> Result<Response, Problem> {
    let Announcement { name, services, anomaly_type, when } =
        super::when::body(&call.body).map_err(|error| {
            super::feedback::unreadable(&error, "{\"name\": \"release\", \"when\": {\"until\": \"…\"}}")
        })?;
    let is_name =
        |text: &str, most: usize| (1..=most).contains(&text.chars().count()) && !text.contains('\0');
    if !is_name(&name, MAX_NAME_CHARS) {
        let detail = format!("name must be 1 to {MAX_NAME_CHARS} characters without U+0000");
        return Err(Problem::unprocessable("name", detail));
    }
    let fits = |services: &Vec<CompactString>| {
        (1..=MAX_SERVICES).contains(&services.len()) && services.iter().all(|s| is_name(s, MAX_SERVICE_CHARS))
    };
    if !services.as_ref().is_none_or(fits) {
        let detail = format!(
            "services must be 1 to {MAX_SERVICES} names of 1 to {MAX_SERVICE_CHARS} characters without U+0000; leave it \
             out for all of them"
        );
        return Err(Problem::unprocessable("services", detail));
    }
    let (since, until) = when.interval(call.now)?;
    let (hours, weekdays) = (when.hours, when.weekdays);
    let applies = Applies { services, anomaly_type, since, until, hours, weekdays, first_raised_at: None };
    let applies = super::feedback::as_json(&applies)?;
    let author = call.caller.as_ref().map(|caller| caller.name.to_string());
    let opinion = Opinion {
        verdict: "event",
        applies: Some(applies.clone()),
        note: Some(name.clone()),
        author,
        ..Opinion::default()
    };
    call.app.keep_opinion(opinion).await?;
    // Whoever may insert need not be able to read: the newest of its like is this one, or its equal.
    let mut sql = call.app.store.sql(COLUMNS);
    sql.push(" where applies = ").arg(Arg::Text(applies)).push(" and name = ").arg(Arg::Text(name));
    sql.push(" order by id desc limit 1");
    let rows = call.app.fetch(sql).await?;
    let kept = rows.first().ok_or_else(|| Problem::internal("the event was called off at once"))?;
    fresh(StatusCode::OK, &event(kept)?)
}

async fn call_off(call: Call) -> Result<Response, Problem> {
    let given = call.path.first().map(String::as_str).unwrap_or_default();
    let id = super::anomaly::id(given)?;
    let mut sql = call.app.store.sql("select id from calendar where id = ");
    sql.arg(Arg::Int(id));
    if call.app.fetch(sql).await?.is_empty() {
        let detail = format!("no event has the id {}; {PATH} lists them", quotable(given));
        return Err(Problem::not_found(detail));
    }
    let author = call.caller.as_ref().map(|caller| caller.name.to_string());
    let opinion = Opinion { event: Some(id), verdict: "undo", author, ..Opinion::default() };
    call.app.keep_opinion(opinion).await?;
    fresh(StatusCode::OK, &CalledOff { id })
}
