//! `GET /api/v1/services`: each service now against what is usual for it.

use super::{Answer, Call, ClockNow, JSON, Route, encode, schema_of};
use crate::app::App;
use crate::paging::{PAGE, PER_PAGE, Page};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, StoreError};
use crate::time;
use jiff::Timestamp;
use serde::Serialize;
use smartlog_schema::anomaly::Severity;
use std::collections::BTreeMap;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/services",
    operation: "listServices",
    tag: "services",
    summary: "Each service now: rates, what is usual, open anomalies",
    about: "The window is the 5 minutes up to the clock. `minutes` are the last 15 minutes, oldest first. `baseline` is \
            the mean of the last 24 whole hours, or of the 10 minutes before the window while there are fewer than \
            three, with the least and the most of them; anomalies are judged against the detector's own baseline, \
            which `warming_up` tells the state of.",
    params: &[SERVICE, SORT, PAGE, PER_PAGE],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<ServicePage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const SERVICE: Param = super::SERVICE;
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-severity", "service", "-log_rate", "-error_rate"]),
    about: "The order; `-severity` is the worst open anomaly first, then by name",
    example: "-severity",
};

/// The window, the minutes shown and those of the recent baseline, in seconds and minutes.
const WINDOW_S: i64 = 300;
const MINUTES: i64 = 15;
/// Whole hours of the baseline, and how few are too few.
const BASELINE_HOURS: i64 = 24;
const MIN_HOURS: i64 = 3;
/// Open episodes that are looked at, newest first.
const MAX_OPEN: i64 = 5_000;
/// The name under which the aggregates keep the whole stream.
const STREAM: &str = "";

/// One service now.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct Service {
    #[schema(example = "payment-service")]
    service: String,
    /// `anomalous`: an episode is open; `silent`: no log in the window; else `ok`.
    #[schema(example = "anomalous")]
    state: &'static str,
    /// Logs per minute over the window.
    #[schema(example = 812.4)]
    log_rate: f64,
    /// Errors per log over the window; null without logs.
    #[schema(example = 0.15)]
    error_rate: Option<f64>,
    #[schema(example = 4062)]
    log_count: i64,
    #[schema(example = 609)]
    error_count: i64,
    /// Characters; null without logs.
    avg_message_length: Option<f64>,
    baseline: Option<Baseline>,
    /// How far the detector's baseline is; null once it has what it needs.
    warming_up: Option<WarmingUp>,
    /// The last second with a log; the last hour's start for a service silent for 15 minutes.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    open_anomalies: Vec<OpenAnomaly>,
    minutes: Vec<Minute>,
}

/// What is usual.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Baseline {
    /// Logs per minute.
    #[schema(example = 790.1)]
    log_rate: f64,
    /// The least and the most of the hours or minutes that it is made of.
    #[schema(example = 602.0)]
    log_rate_low: f64,
    #[schema(example = 960.5)]
    log_rate_high: f64,
    #[schema(example = 0.012)]
    error_rate: Option<f64>,
    #[schema(example = 0.004)]
    error_rate_low: Option<f64>,
    #[schema(example = 0.031)]
    error_rate_high: Option<f64>,
    /// `hours` or `recent_minutes`.
    #[schema(example = "hours")]
    source: &'static str,
}

/// A baseline that does not know enough yet: until it does, the model's or a shorter one stands in for it.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct WarmingUp {
    /// Minutes that it knows.
    #[schema(example = 12)]
    minutes: i64,
    /// Minutes from which on it is trusted.
    #[schema(example = 30)]
    needed: i64,
}

/// An episode that is provisional or open.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OpenAnomaly {
    id: i64,
    #[serde(rename = "type")]
    #[schema(example = "error_rate_spike")]
    anomaly_type: String,
    #[schema(example = "high")]
    severity: Option<String>,
    #[schema(example = "open")]
    status: String,
}

/// Counts of one minute.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
struct Minute {
    logs: i64,
    errors: i64,
}

/// All services now.
#[derive(Debug, Serialize, ToSchema)]
struct ServicePage {
    services: Vec<Service>,
    /// The whole stream; `service` is empty.
    stream: Service,
    #[schema(value_type = Option<String>, format = DateTime)]
    window_start: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    window_end: Option<Timestamp>,
    total: usize,
    page: i64,
    per_page: i64,
    #[serde(flatten)]
    reached: ClockNow,
}

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let page = Page::in_memory(&call.params);
    let reached = ClockNow::read(&call.app).await?;
    let end_s = reached.clock.map(|clock| clock.as_second() + 1);
    let mut services = match end_s {
        Some(end_s) => read(&call.app, end_s).await?,
        None => BTreeMap::new(),
    };
    let kept = services.remove(STREAM);
    let stream = whole_stream(kept, services.values());
    let mut services: Vec<Service> = services.into_values().collect();
    if let Some(wanted) = call.params.text(&SERVICE) {
        services.retain(|service| service.service == wanted);
    }
    sort(&mut services, call.params.choice(&SORT));
    let total = services.len();
    let per_page = usize::try_from(page.per_page).unwrap_or(usize::MAX);
    let second = |s: i64| s.checked_mul(1_000_000).and_then(time::from_micros);
    encode(&ServicePage {
        services: services.into_iter().skip(page.offset()).take(per_page).collect(),
        stream,
        window_start: end_s.and_then(|end_s| second(end_s - WINDOW_S)),
        window_end: end_s.and_then(second),
        total,
        page: page.number,
        per_page: page.per_page,
        reached,
    })
}

/// All that is known of each service, by name.
async fn read(app: &App, end_s: i64) -> Result<BTreeMap<String, Service>, Problem> {
    let first_minute = end_s.div_euclid(60) - MINUTES + 1;
    let sums = "cast(sum(logs) as bigint), cast(sum(errors) as bigint)";
    let mut window = app.store.sql(&format!(
        "select service, {sums}, cast(sum(message_chars) as bigint) from window_state where second >= "
    ));
    window
        .arg(Arg::Int(end_s - WINDOW_S))
        .push(" and second < ")
        .arg(Arg::Int(end_s))
        .push(" group by service");
    let mut minutes = app.store.sql(&format!(
        "select service, second / 60, {sums}, max(case when logs > 0 then second end) from window_state where second >= "
    ));
    minutes
        .arg(Arg::Int(first_minute * 60))
        .push(" and second < ")
        .arg(Arg::Int(end_s))
        .push(" group by 1, 2");
    let mut hours = app.store.sql(
        "select service, cast(sum(log_count) as bigint), cast(sum(error_count) as bigint), count(*), max(hour), \
         min(log_count), max(log_count), min(cast(error_count as double precision) / nullif(log_count, 0)), \
         max(cast(error_count as double precision) / nullif(log_count, 0)) from hourly_metrics where hour >= ",
    );
    let this_hour = end_s.div_euclid(3_600);
    let hour = |hour: i64| Arg::Time(Timestamp::from_second(hour * 3_600).unwrap_or_default());
    hours
        .arg(hour(this_hour - BASELINE_HOURS))
        .push(" and hour < ")
        .arg(hour(this_hour))
        .push(" group by service");
    let mut open = app.store.sql(
        "select id, service, anomaly_type, severity, status from anomalies \
         where status in ('provisional', 'open') order by detected_at desc limit ",
    );
    open.arg(Arg::Int(MAX_OPEN));
    let warming = app.store.sql(
        "select service, known_minutes, needed_minutes from baseline_state where known_minutes < needed_minutes",
    );
    let [window, minutes, hours, open, warming] =
        app.fetch_all([window, minutes, hours, open, warming]).await?;

    let mut services = BTreeMap::new();
    hours.iter().try_for_each(|row| add_hours(&mut services, row))?;
    minutes.iter().try_for_each(|row| add_minute(&mut services, row, first_minute))?;
    window.iter().try_for_each(|row| add_window(&mut services, row))?;
    open.iter().try_for_each(|row| add_open(&mut services, row))?;
    warming.iter().try_for_each(|row| add_warming(&mut services, row))?;
    let whole_minutes_before = (end_s - WINDOW_S).div_euclid(60) - first_minute;
    for service in services.values_mut() {
        finish(service, usize::try_from(whole_minutes_before).unwrap_or(0));
    }
    Ok(services)
}

fn entry(services: &mut BTreeMap<String, Service>, name: String) -> &mut Service {
    services.entry(name).or_insert_with_key(|name| Service {
        service: name.clone(),
        minutes: vec![Minute::default(); usize::try_from(MINUTES).unwrap_or(0)],
        ..Service::default()
    })
}

fn add_hours(services: &mut BTreeMap<String, Service>, row: &Row) -> Result<(), StoreError> {
    let (logs, errors, hours): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let service = entry(services, row.get(0)?);
    service.last_seen = row.get(4)?;
    if hours >= MIN_HOURS {
        let (least, most): (i64, i64) = (row.get(5)?, row.get(6)?);
        let rate = |logs: i64, hours: i64| rounded(logs as f64 / (hours * 60) as f64);
        service.baseline = Some(Baseline {
            log_rate: rate(logs, hours),
            log_rate_low: rate(least, 1),
            log_rate_high: rate(most, 1),
            error_rate: share(errors, logs),
            error_rate_low: row.get::<Option<f64>>(7)?.map(parts_per_million),
            error_rate_high: row.get::<Option<f64>>(8)?.map(parts_per_million),
            source: "hours",
        });
    }
    Ok(())
}

fn add_minute(services: &mut BTreeMap<String, Service>, row: &Row, first: i64) -> Result<(), StoreError> {
    let counts = Minute { logs: row.get(2)?, errors: row.get(3)? };
    let place = usize::try_from(row.get::<i64>(1)? - first).unwrap_or(usize::MAX);
    let last: Option<i64> = row.get(4)?;
    let service = entry(services, row.get(0)?);
    if let Some(minute) = service.minutes.get_mut(place) {
        *minute = counts;
    }
    let last = last.and_then(|second| Timestamp::from_second(second).ok());
    service.last_seen = service.last_seen.max(last);
    Ok(())
}

fn add_window(services: &mut BTreeMap<String, Service>, row: &Row) -> Result<(), StoreError> {
    let chars: i64 = row.get(3)?;
    let service = entry(services, row.get(0)?);
    service.log_count = row.get(1)?;
    service.error_count = row.get(2)?;
    service.avg_message_length = share(chars, service.log_count).map(rounded);
    Ok(())
}

fn add_open(services: &mut BTreeMap<String, Service>, row: &Row) -> Result<(), StoreError> {
    let name: Option<String> = row.get(1)?;
    let open = OpenAnomaly {
        id: row.get(0)?,
        anomaly_type: row.get(2)?,
        severity: row.get(3)?,
        status: row.get(4)?,
    };
    entry(services, name.unwrap_or_default()).open_anomalies.push(open);
    Ok(())
}

/// A service that is known by its baseline alone was retired, or has not had a whole hour yet: it is left out.
fn add_warming(services: &mut BTreeMap<String, Service>, row: &Row) -> Result<(), StoreError> {
    if let Some(service) = services.get_mut(&row.get::<String>(0)?) {
        service.warming_up = Some(WarmingUp { minutes: row.get(1)?, needed: row.get(2)? });
    }
    Ok(())
}

/// Rates and state, from the counts. `whole_minutes_before` of `minutes` lie before the window.
fn finish(service: &mut Service, whole_minutes_before: usize) {
    service.log_rate = rounded(service.log_count as f64 * 60.0 / WINDOW_S as f64);
    service.error_rate = share(service.error_count, service.log_count);
    service.state = match (service.open_anomalies.is_empty(), service.log_count) {
        (false, _) => "anomalous",
        (true, 0) => "silent",
        (true, _) => "ok",
    };
    if service.baseline.is_none() {
        service.baseline = recent(&service.minutes[..whole_minutes_before.min(service.minutes.len())]);
    }
}

/// What the minutes since the first log say; `None` while there are fewer than two.
fn recent(minutes: &[Minute]) -> Option<Baseline> {
    // The minute of the first log may not be a whole one.
    let whole: Vec<&Minute> = minutes.iter().skip_while(|minute| minute.logs == 0).skip(1).collect();
    let (logs, errors) = whole.iter().fold((0, 0), |(logs, errors), m| (logs + m.logs, errors + m.errors));
    let shares: Vec<f64> = whole.iter().filter_map(|minute| share(minute.errors, minute.logs)).collect();
    let (least, most) = (whole.iter().map(|m| m.logs).min()?, whole.iter().map(|m| m.logs).max()?);
    (whole.len() >= 2).then(|| Baseline {
        log_rate: rounded(logs as f64 / whole.len() as f64),
        log_rate_low: least as f64,
        log_rate_high: most as f64,
        error_rate: share(errors, logs),
        error_rate_low: shares.iter().copied().reduce(f64::min),
        error_rate_high: shares.iter().copied().reduce(f64::max),
        source: "recent_minutes",
    })
}

/// The whole stream: as kept, or the sum over all services where only its anomalies are kept.
fn whole_stream<'a>(kept: Option<Service>, services: impl Iterator<Item = &'a Service>) -> Service {
    let mut total = kept.unwrap_or_else(|| entry(&mut BTreeMap::new(), STREAM.to_owned()).clone());
    if total.last_seen.is_some() {
        return total;
    }
    for service in services {
        total.log_count += service.log_count;
        total.error_count += service.error_count;
        total.last_seen = total.last_seen.max(service.last_seen);
        for (sum, minute) in total.minutes.iter_mut().zip(&service.minutes) {
            *sum = Minute { logs: sum.logs + minute.logs, errors: sum.errors + minute.errors };
        }
    }
    finish(&mut total, 0);
    total
}

fn sort(services: &mut [Service], order: &str) {
    // The map gave them by name, and the sorts are stable.
    match order {
        "-severity" => services.sort_by_key(|service| std::cmp::Reverse(worst(service))),
        "-log_rate" => services.sort_by(|a, b| b.log_rate.total_cmp(&a.log_rate)),
        "-error_rate" => {
            let rate = |service: &Service| service.error_rate.unwrap_or(-1.0);
            services.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        }
        _ => {}
    }
}

fn worst(service: &Service) -> Option<Severity> {
    service.open_anomalies.iter().filter_map(|open| open.severity.as_deref().and_then(Severity::parse)).max()
}

fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| parts_per_million(part as f64 / whole as f64))
}

fn parts_per_million(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn example() -> serde_json::Value {
    let minutes: Vec<_> = (0..MINUTES).map(|i| serde_json::json!({"logs": 800 + i, "errors": 10})).collect();
    serde_json::json!({
        "services": [{"service": "payment-service", "state": "anomalous", "log_rate": 812.4, "error_rate": 0.15,
                      "log_count": 4062, "error_count": 609, "avg_message_length": 43.1,
                      "baseline": {"log_rate": 790.1, "log_rate_low": 602.0, "log_rate_high": 960.5, "error_rate": 0.012,
                                   "error_rate_low": 0.004, "error_rate_high": 0.031, "source": "hours"},
                      "warming_up": {"minutes": 12, "needed": 30},
                      "last_seen": "2026-01-15T10:30:05Z",
                      "open_anomalies": [{"id": 1, "type": "error_rate_spike", "severity": "high", "status": "open"}],
                      "minutes": minutes}],
        "stream": {"service": "", "state": "ok", "log_rate": 8012.0, "error_rate": 0.02, "log_count": 40060,
                   "error_count": 801, "avg_message_length": 40.2, "baseline": null, "warming_up": null,
                   "last_seen": "2026-01-15T10:30:05Z", "open_anomalies": [], "minutes": []},
        "window_start": "2026-01-15T10:25:06Z", "window_end": "2026-01-15T10:30:06Z",
        "total": 1, "page": 1, "per_page": 50,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_baseline_leaves_the_first_minute_out() {
        let minute = |logs, errors| Minute { logs, errors };
        assert!(recent(&[]).is_none());
        assert!(recent(&[minute(0, 0), minute(7, 0), minute(60, 6)]).is_none());
        let baseline = recent(&[minute(0, 0), minute(7, 7), minute(60, 6), minute(40, 4)]).unwrap();
        assert_eq!((baseline.log_rate, baseline.error_rate), (50.0, Some(0.1)));
        assert_eq!((baseline.log_rate_low, baseline.log_rate_high), (40.0, 60.0));
    }
}
