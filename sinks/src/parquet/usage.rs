//! What the cloud part used, measured where it happened: the bucket by listing it, the function by what it notes of itself.
//! The estimate of costs rests on it (docs/decisions/018-costs-from-the-exporters-ledger.md).
//!
//! ```text
//!   LIST of the target ─────────────────▶ export_listings ─┐
//!   `usage` in summary_contributions ───▶ function_usage ──┴─▶ /api/v1/costs/estimate
//! ```

use super::config::{ExportConfig, Measure};
use super::days::Days;
use super::ledger::wall_us;
use crate::database::{Step, values};
use crate::error::{Fault, SinkError};
use crate::retry::until_done;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;

/// What the function noted of one day.
#[derive(Debug, Clone, PartialEq)]
struct FunctionDay {
    day: String,
    invocations: f64,
    failures: f64,
    gb_seconds: f64,
    read_units: f64,
    write_units: f64,
}

/// Measures if it is time to.
pub(super) async fn measure(days: &mut Days, export: &ExportConfig, how: &Measure) -> Result<(), SinkError> {
    let sql = "SELECT listed_us FROM export_listings WHERE target = $1";
    let target = days.ledger.target.clone();
    let rows = days.ledger.tables.query(sql, values![target.as_str()]).await?;
    let every_us = i64::try_from(how.every.as_micros()).unwrap_or(i64::MAX);
    if rows.first().is_some_and(|row| wall_us().saturating_sub(row.int(0)) < every_us) {
        return Ok(());
    }
    let (mut objects, mut bytes) = (0, 0);
    for folder in ["logs/", "anomalies/"] {
        let measured = until_done!(days.patience, days.target.measure(folder, i64::MAX))?;
        (objects, bytes) = (objects + measured.objects, bytes + measured.bytes);
    }
    let now_us = wall_us();
    let sql = "INSERT INTO export_listings (target, objects, bytes, listed_us) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (target) DO UPDATE SET objects = excluded.objects, bytes = excluded.bytes, \
               listed_us = excluded.listed_us";
    // Noted at once: should the function's table not answer, the bucket is not listed again and again for it.
    days.ledger.tables.apply(&[Step::new(sql, values![target, objects, bytes, now_us])]).await?;
    let Some(table) = &how.contributions else { return Ok(()) };
    let noted = function_days(export, table).await?;
    let steps: Vec<Step> = noted.into_iter().map(|day| noted_day(day, now_us)).collect();
    days.ledger.tables.apply(&steps).await.map(drop)
}

fn noted_day(noted: FunctionDay, now_us: i64) -> Step {
    let sql = "INSERT INTO function_usage (day, invocations, failures, gb_seconds, read_units, write_units, read_us) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (day) DO UPDATE SET invocations = excluded.invocations, \
               failures = excluded.failures, gb_seconds = excluded.gb_seconds, read_units = excluded.read_units, \
               write_units = excluded.write_units, read_us = excluded.read_us";
    let FunctionDay { day, invocations, failures, gb_seconds, read_units, write_units } = noted;
    Step::new(sql, values![day, invocations, failures, gb_seconds, read_units, write_units, now_us])
}

/// The days of this month and of the one before: older ones do not change.
async fn function_days(export: &ExportConfig, table: &str) -> Result<Vec<FunctionDay>, SinkError> {
    let failed = |found: String| {
        SinkError::Transient(Fault {
            store: format!("DynamoDB's table {table}"),
            doing: "read what the function used".into(),
            found,
            advice: "set cloud.contributions_table to the output of Terraform, or unset it; smartlog doctor --aws tells more"
                .into(),
        })
    };
    let config = crate::aws::loader(export.s3.region.as_deref()).load().await;
    let from = jiff::Timestamp::from_microsecond(wall_us() - 62 * 86_400_000_000).unwrap_or_default();
    let from = from.strftime("%Y-%m-%d").to_string();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let question = aws_sdk_dynamodb::Client::new(&config)
        .query()
        .table_name(table)
        .key_condition_expression("#object = :usage AND #day >= :from")
        .expression_attribute_names("#object", "object")
        .expression_attribute_names("#day", "part")
        .expression_attribute_values(":usage", text("usage"))
        .expression_attribute_values(":from", text(&from));
    let answer = question.send().await.map_err(|error| {
        failed(match error.message() {
            Some(message) => format!("{}: {message}", error.code().unwrap_or_default()),
            None => DisplayErrorContext(&error).to_string(),
        })
    })?;
    let day = |item: &HashMap<String, AttributeValue>| {
        let number =
            |name: &str| item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or(0.0);
        Some(FunctionDay {
            day: item.get("part")?.as_s().ok()?.clone(),
            invocations: number("invocations"),
            failures: number("failures"),
            gb_seconds: number("gb_seconds"),
            read_units: number("read_units"),
            write_units: number("write_units"),
        })
    };
    Ok(answer.items().iter().filter_map(day).collect())
}
