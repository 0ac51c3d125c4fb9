//! `GET /api/v1/patterns`: the templates of messages.

use super::{Answer, Call, ClockNow, JSON, Route, SERVICE, SINCE, UNTIL, encode, schema_of};
use crate::listing::{Count, Frame, Listed, Listing};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, Sql, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/patterns",
    operation: "listPatterns",
    tag: "logs",
    summary: "Templates of messages",
    about: "What messages have in common once numbers, names and addresses are left out. `/api/v1/logs?template=ID` \
            lists the logs of one. All logs are counted, each once: those of patterns that were forgotten have the id \
            `0000000000000000`. Empty while patterns are off.",
    params: &[SERVICE, TEXT, FIRST_SEEN, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<PatternPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const TEXT: Param = Param {
    name: "text",
    kind: Kind::Text { max_chars: 200 },
    about: "Only templates that contain this, in any case",
    example: "timeout",
};
const FIRST_SEEN: Param = Param {
    name: "first_seen_since",
    kind: Kind::Time,
    about: "Only templates first seen at this time or later; `since` and `until` are about when they were last seen",
    example: "-1h",
};
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-log_count", "log_count", "-last_seen", "last_seen", "-first_seen", "first_seen"]),
    about: "The order; `-` is descending",
    example: "-first_seen",
};
/// Templates are counted up to here.
const MAX_COUNTED: i64 = 100_000;
/// Several shapes may share a template; a count without one is that of what was forgotten.
const TEMPLATES: &str = "(select coalesce(template_id, 0) as id, min(template) as template, \
     min(first_seen) as first_seen, max(last_seen) as last_seen, cast(sum(log_count) as bigint) as log_count, \
     cast(sum(error_count) as bigint) as error_count, count(distinct pattern_counts.shape) as shapes \
     from pattern_counts left join patterns on patterns.shape = pattern_counts.shape \
     group by coalesce(template_id, 0)) as templates";
/// The same for each service.
const TEMPLATES_OF_SERVICES: &str = "(select coalesce(template_id, 0) as id, service, min(template) as template, \
     min(first_seen) as first_seen, max(last_seen) as last_seen, cast(sum(log_count) as bigint) as log_count, \
     cast(sum(error_count) as bigint) as error_count, count(distinct pattern_counts.shape) as shapes \
     from pattern_counts left join patterns on patterns.shape = pattern_counts.shape \
     group by coalesce(template_id, 0), service) as templates";

/// One template.
#[derive(Debug, Serialize, ToSchema)]
struct Pattern {
    /// Made from the template alone; the same as `smartlog patterns` shows.
    #[schema(example = "5b0a41c1e2d3f405")]
    id: String,
    #[serde(skip)]
    key: i64,
    /// Null: the logs of patterns that were forgotten.
    #[schema(example = "Database connection timeout after <*> ms")]
    template: Option<String>,
    /// Distinct message shapes that it covers.
    #[schema(example = 3)]
    shapes: i64,
    #[schema(example = 4812)]
    log_count: i64,
    /// Those at ERROR and above.
    #[schema(example = 4812)]
    error_count: i64,
    #[schema(value_type = String, format = DateTime)]
    first_seen: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
}

/// A page of templates.
#[derive(Debug, Serialize, ToSchema)]
struct PatternPage {
    patterns: Vec<Pattern>,
    #[serde(flatten)]
    frame: Frame,
}

/// Sort key and id.
type Key = fn(&Pattern) -> (i64, i64);

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let sort = call.params.choice(&SORT);
    let descending = sort.starts_with('-');
    let (column, kind, key): (_, _, Key) = match sort.trim_start_matches('-') {
        "last_seen" => ("last_seen", KeyKind::Time, |p| (p.last_seen.as_microsecond(), p.key)),
        "first_seen" => ("first_seen", KeyKind::Time, |p| (p.first_seen.as_microsecond(), p.key)),
        _ => ("log_count", KeyKind::Number, |p| (p.log_count, p.key)),
    };
    let listing = Listing {
        table: if call.params.text(&SERVICE).is_some() { TEMPLATES_OF_SERVICES } else { TEMPLATES },
        columns: "id, template, shapes, log_count, first_seen, last_seen, error_count",
        order: Order { column, key: kind, descending },
        count: Count::UpTo(MAX_COUNTED),
        reached: ClockNow::SQL,
        filter,
        read: pattern,
        key,
    };
    let Listed { rows, frame, .. } = listing.page(&call).await?;
    encode(&PatternPage { patterns: rows, frame })
}

fn filter(call: &Call, sql: &mut Sql) {
    let params = &call.params;
    sql.and("first_seen >=", params.time(&FIRST_SEEN).map(Arg::Time))
        .and("service =", params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .and("last_seen >=", params.time(&SINCE).map(Arg::Time))
        .and("last_seen <", params.time(&UNTIL).map(Arg::Time));
    if let Some(text) = params.text(&TEXT) {
        sql.contains("template", text);
    }
}

fn pattern(row: &Row) -> Result<Pattern, StoreError> {
    let key: i64 = row.get(0)?;
    Ok(Pattern {
        id: id_of(key),
        key,
        template: row.get(1)?,
        shapes: row.get(2)?,
        log_count: row.get(3)?,
        first_seen: row.get(4)?,
        last_seen: row.get(5)?,
        error_count: row.get(6)?,
    })
}

/// A template's id, as people see it.
pub fn id_of(stored: i64) -> String {
    format!("{:016x}", stored.cast_unsigned())
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "patterns": [{"id": "5b0a41c1e2d3f405", "template": "Database connection timeout after <*> ms", "shapes": 3,
                      "log_count": 4812, "error_count": 4812,
                      "first_seen": "2026-01-15T08:12:44Z", "last_seen": "2026-01-15T10:30:04Z"}],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
