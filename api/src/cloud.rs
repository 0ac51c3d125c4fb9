//! What the cloud part used this month, as far as the store knows.
//!
//! ```text
//!   export_files, export_usage ── what the exporter wrote down ───────────┐
//!   export_listings ── what lay in the bucket when it was listed ─────────┼─▶ Usage of the month, and at its end
//!   function_usage ── what the function measured (else hourly_metrics) ───┘
//! ```

use crate::app::App;
use crate::costs::{GB, Micros, Month, Usage};
use crate::store::{Arg, Row, Sql, StoreError};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

/// Memory of the function, GB, and how long a call is taken to last: what it measures itself is less.
const FUNCTION_GB: f64 = 0.25;
const CALL_SECONDS: f64 = 1.0;
/// A transaction takes two units for each item; the function counts a service by two items, its contribution and
/// its sum, and an object by its head, once for each 49 services.
const UNITS_PER_ITEM: f64 = 2.0;
const SERVICES_PER_TRANSACTION: f64 = 49.0;

/// All that is known of this month.
pub struct Known {
    pub month: Month,
    /// `2026-01`.
    pub period: String,
    /// That logged this month.
    pub services: i64,
    pub usage: Usage,
    /// At the month's end.
    pub end: Usage,
    /// When the bucket was listed, and when the function's own ledger was read.
    pub listed_at: Option<Micros>,
    pub measured_at: Option<Micros>,
}

/// Asks the store.
///
/// # Errors
/// As any question to the store.
pub async fn read(app: &App, now: Timestamp) -> Result<Known, StoreError> {
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first.saturating_add(1.month());
    let month = Month { begin: midnight(first), end: midnight(next), now: now.as_microsecond() };
    let mut requests = app.store.sql(
        "select cast(coalesce(sum(puts), 0) as bigint), cast(coalesce(sum(gets), 0) as bigint) from export_usage \
         where target like 's3:%' and day >= ",
    );
    within(&mut requests, first, next);
    let mut services = app.store.sql("select count(distinct service) from hourly_metrics where hour >= ");
    services.arg(Arg::Time(Timestamp::from_microsecond(month.begin).unwrap_or(now)));
    let mut function = app.store.sql(
        "select cast(coalesce(sum(invocations), 0) as double precision), cast(coalesce(sum(gb_seconds), 0) as double precision), \
         cast(coalesce(sum(write_units), 0) as double precision), cast(coalesce(sum(read_units), 0) as double precision), \
         max(read_us) from function_usage where day >= ",
    );
    within(&mut function, first, next);
    let questions = [files(app, &month), requests, services, function, listing(app)];
    let [files, requests, services, function, listing] = app.fetch_all(questions).await?;
    let real = |rows: &[Row], column| rows.first().map_or(Ok(0.0), |row| row.get::<f64>(column));
    let whole = |rows: &[Row], column| rows.first().map_or(Ok(0), |row| row.get::<i64>(column));
    let time = |rows: &[Row], column| rows.first().map_or(Ok(None), |row| row.get::<Option<i64>>(column));
    let (services, measured_at, listed_at) = (whole(&services, 0)?, time(&function, 4)?, time(&listing, 2)?);
    // Manifests, snapshots of anomalies, what others put there, less what the bucket's lifecycle deleted, which the ledger
    // does not hear of: as if it had been so all month.
    let beyond = (real(&listing, 0)? - real(&listing, 1)?) / GB;
    let gb_months = real(&files, 0)? / GB / (month.end - month.begin) as f64 + beyond * month.passed();
    let stored = Usage {
        s3_gb: (real(&files, 1)? / GB + beyond).max(0.0),
        s3_gb_months: gb_months.max(0.0),
        s3_puts: whole(&requests, 0)? as f64,
        s3_gets: whole(&requests, 1)? as f64,
        ..Usage::default()
    };
    let usage = match measured_at {
        Some(_) => Usage {
            lambda_calls: real(&function, 0)?,
            lambda_gb_seconds: real(&function, 1)?,
            dynamodb_write_units: real(&function, 2)?,
            dynamodb_read_units: real(&function, 3)?,
            ..stored
        },
        None => at_most(stored, services as f64),
    };
    let end = usage.at_month_end(&month, real(&files, 2)? / GB);
    let period = first.strftime("%Y-%m").to_string();
    Ok(Known { month, period, services, usage, end, listed_at, measured_at })
}

fn within(sql: &mut Sql, first: Date, next: Date) {
    sql.arg(Arg::Text(first.to_string())).push(" and day < ").arg(Arg::Text(next.to_string()));
}

/// Bytes × microseconds kept this month; bytes there now; bytes more than when the month began.
fn files(app: &App, month: &Month) -> Sql {
    let mut sql =
        app.store.sql("select cast(coalesce(sum(cast(bytes as double precision) * (coalesce(deleted_us, ");
    sql.arg(Arg::Int(month.now)).push(") - case when completed_us > ").arg(Arg::Int(month.begin));
    sql.push(" then completed_us else ").arg(Arg::Int(month.begin));
    sql.push(" end)), 0) as double precision), ");
    sql.push(
        "cast(coalesce(sum(case when deleted_us is null then bytes else 0 end), 0) as double precision), ",
    );
    sql.push("cast(coalesce(sum(case when completed_us >= ").arg(Arg::Int(month.begin));
    sql.push(" then bytes else 0 end - case when deleted_us is not null then bytes else 0 end), 0) as double precision) ");
    sql.push("from export_files where target like 's3:%' and completed_us is not null and completed_us <= ");
    sql.arg(Arg::Int(month.now))
        .push(" and (deleted_us is null or deleted_us > ")
        .arg(Arg::Int(month.begin))
        .push(")");
    sql
}

/// Bytes that a listing found; bytes of the exporter's files there at that moment; when it was.
fn listing(app: &App) -> Sql {
    app.store.sql(
        "select cast(coalesce(sum(l.bytes), 0) as double precision), \
         cast(coalesce(sum(coalesce((select sum(f.bytes) from export_files f where f.target = l.target \
         and f.completed_us <= l.listed_us and (f.deleted_us is null or f.deleted_us > l.listed_us)), 0)), 0) \
         as double precision), max(l.listed_us) from export_listings l where l.target like 's3:%'",
    )
}

fn midnight(date: Date) -> Micros {
    date.to_zoned(TimeZone::UTC).map_or(0, |day| day.timestamp().as_microsecond())
}

/// What the function used at the most, where it was not asked: a call for each request that writes.
fn at_most(stored: Usage, services: f64) -> Usage {
    let calls = stored.s3_puts;
    let transactions = (services / SERVICES_PER_TRANSACTION).ceil().max(1.0);
    Usage {
        lambda_calls: calls,
        lambda_gb_seconds: calls * FUNCTION_GB * CALL_SECONDS,
        // The entry of the function's own ledger is one more.
        dynamodb_write_units: calls * (UNITS_PER_ITEM * (2.0 * services + transactions) + 1.0),
        dynamodb_read_units: calls * (services + 1.0),
        ..stored
    }
}
