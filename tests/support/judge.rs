//! Compares what a store holds with what the oracle makes of the topic, record by record and column by column.

use crate::oracle::{self, Hours, Log};
use crate::store::{Cell, Kind, Store};
use crate::topic::{Record, Topic};
use std::collections::BTreeMap;

/// Records compared at a time.
const PIECE: usize = 50_000;

/// What the topic amounts to.
#[derive(Debug, Default)]
pub struct Totals {
    pub logs: u64,
    pub dead_letters: u64,
    pub hours: Hours,
}

/// Every record of the topic once: as a row of `logs` with all its columns, or as a dead letter with its reason; the
/// hourly numbers; the positions at the ends; what must hold among the episodes. `each` sees every log.
///
/// # Panics
/// At the first difference.
pub fn judge(store: &mut Store, topic: &Topic, each: impl FnMut(&Log)) -> Totals {
    judge_all(store, &[topic], each)
}

/// As [`judge`], for all the topics that were read.
///
/// # Panics
/// At the first difference.
pub fn judge_all(store: &mut Store, topics: &[&Topic], mut each: impl FnMut(&Log)) -> Totals {
    let mut totals = Totals::default();
    for topic in topics {
        let of_topic = judge_records(store, topic, &mut each);
        totals.logs += of_topic.logs;
        totals.dead_letters += of_topic.dead_letters;
        for (hour, (logs, errors)) in of_topic.hours {
            let sums = totals.hours.entry(hour).or_default();
            *sums = (sums.0 + logs, sums.1 + errors);
        }
        judge_positions(store, topic);
    }
    assert_eq!(stored_hours(store), totals.hours, "hourly_metrics are not the recount");
    judge_patterns(store);
    judge_episodes(store);
    totals
}

/// The records alone.
pub fn judge_records(store: &mut Store, topic: &Topic, mut each: impl FnMut(&Log)) -> Totals {
    for table in ["logs", "dead_letters"] {
        // The test's own: the program never looks a row up by these.
        let index = format!("judge_{table}");
        let columns = "kafka_topic, kafka_partition, kafka_offset";
        store.rows(&format!("create index if not exists {index} on {table} ({columns})"));
    }
    let mut totals = Totals::default();
    let ends = topic.ends();
    for (&partition, &range) in &ends {
        topic.read(partition, range, PIECE, |records| {
            judge_piece(store, topic, partition, &records, &mut totals, &mut each);
        });
    }
    let from: BTreeMap<i32, i64> = ends.iter().map(|(&partition, &(low, _))| (partition, low)).collect();
    let (logs, letters) =
        (stored_from(store, topic, &from, "logs"), stored_from(store, topic, &from, "dead_letters"));
    assert_eq!(logs, totals.logs, "rows of logs");
    assert_eq!(letters, totals.dead_letters, "rows of dead_letters");
    totals
}

/// Rows at or after the first offsets that the topic still has.
fn stored_from(store: &mut Store, topic: &Topic, from: &BTreeMap<i32, i64>, table: &str) -> u64 {
    let count = |(partition, low): (&i32, &i64)| {
        let sql = format!(
            "select count(*) from {table} where kafka_topic = '{}' and kafka_partition = {partition} and kafka_offset >= {low}",
            topic.name
        );
        store.number(&sql).unsigned_abs()
    };
    from.iter().map(count).sum()
}

fn judge_piece(
    store: &mut Store,
    topic: &Topic,
    partition: i32,
    records: &[Record],
    totals: &mut Totals,
    each: &mut impl FnMut(&Log),
) {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
    let place = Place { topic: &topic.name, partition, from: first.offset, to: last.offset + 1 };
    let logs = stored_logs(store, &place);
    let letters = stored_letters(store, &place);
    for record in records {
        let at = format!("{}[{partition}] at {}", topic.name, record.offset);
        let (log, letter) = (logs.get(&record.offset), letters.get(&record.offset));
        match oracle::judge(record) {
            Ok(expected) => {
                assert_eq!(letter, None, "{at} became a dead letter, expected {expected:?}");
                let log = log.unwrap_or_else(|| panic!("{at} is missing in logs: {expected:?}"));
                assert_eq!(*log, expected, "{at} was changed");
                totals.logs += 1;
                oracle::count_hour(&mut totals.hours, &expected);
                each(&expected);
            }
            Err(reason) => {
                assert_eq!(log, None, "{at} became a log, expected a dead letter: {reason}");
                let letter = letter.unwrap_or_else(|| panic!("{at} is missing in dead_letters: {reason}"));
                let payload = crate::store::hex(record.payload.as_deref().unwrap_or_default());
                assert_eq!(*letter, (reason.to_owned(), payload), "{at}");
                totals.dead_letters += 1;
            }
        }
    }
}

struct Place<'a> {
    topic: &'a str,
    partition: i32,
    from: i64,
    to: i64,
}

impl Place<'_> {
    fn sql(&self) -> String {
        let Place { topic, partition, from, to } = self;
        format!(
            "kafka_topic = '{topic}' and kafka_partition = {partition} and kafka_offset >= {from} and kafka_offset < {to}"
        )
    }
}

fn integer(cell: &Cell) -> i64 {
    cell.as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("expected an integer, found {cell:?}"))
}

fn string(cell: &Cell) -> String {
    cell.clone().expect("a column that is never NULL")
}

fn stored_logs(store: &mut Store, place: &Place<'_>) -> BTreeMap<i64, Log> {
    let sql = format!(
        "select kafka_offset, {}, level, service, host, message, metadata from logs where {}",
        store.micros("timestamp"),
        place.sql()
    );
    let mut logs = BTreeMap::new();
    for row in store.rows(&sql) {
        let metadata = row[6].as_deref().map(|text| serde_json::from_str(text).expect("metadata is JSON"));
        let log = Log {
            timestamp_us: integer(&row[1]),
            level: string(&row[2]),
            service: string(&row[3]),
            host: row[4].clone(),
            message: string(&row[5]),
            metadata,
        };
        let offset = integer(&row[0]);
        let before = logs.insert(offset, log);
        assert_eq!(before, None, "{}[{}] at {offset} is in logs twice", place.topic, place.partition);
    }
    logs
}

fn stored_letters(store: &mut Store, place: &Place<'_>) -> BTreeMap<i64, (String, String)> {
    let payload = match store.kind {
        Kind::Postgres => "encode(payload, 'hex')",
        Kind::Sqlite => "payload",
    };
    let sql = format!("select kafka_offset, reason, {payload} from dead_letters where {}", place.sql());
    let rows = store.rows(&sql);
    rows.iter().map(|row| (integer(&row[0]), (string(&row[1]), string(&row[2])))).collect()
}

fn stored_hours(store: &mut Store) -> Hours {
    let sql = format!("select {}, service, log_count, error_count from hourly_metrics", store.micros("hour"));
    let rows = store.rows(&sql);
    let hour = |row: &Vec<Cell>| {
        let counts = (integer(&row[2]), integer(&row[3]));
        // Hours that hold an anomaly and no log are there for `anomaly_count`.
        (counts != (0, 0)).then(|| ((integer(&row[0]) / 1_000_000, string(&row[1])), counts))
    };
    rows.iter().filter_map(hour).collect()
}

fn judge_positions(store: &mut Store, topic: &Topic) {
    let ends: BTreeMap<i32, i64> =
        topic.ends().into_iter().map(|(p, (_, end))| (p, end)).filter(|(_, end)| *end > 0).collect();
    for sink in ["aggregates", "logs"] {
        let sql = format!(
            "select partition, next_offset from sink_positions where sink = '{sink}' and topic = '{}' and next_offset > 0",
            topic.name
        );
        let rows = store.rows(&sql);
        let stored: BTreeMap<i32, i64> = rows
            .iter()
            .map(|row| (i32::try_from(integer(&row[0])).expect("a partition"), integer(&row[1])))
            .collect();
        assert_eq!(stored, ends, "positions of {sink} are not the ends of {}", topic.name);
    }
}

/// The counts of all patterns are all logs, by shape and service; every log leads to a template.
fn judge_patterns(store: &mut Store) {
    let sums = "select sum(log_count), sum(error_count) from";
    let (patterns, hours) =
        (store.rows(&format!("{sums} pattern_counts")), store.rows(&format!("{sums} hourly_metrics")));
    assert_eq!(patterns, hours, "the logs of all patterns are not all logs");
    let logs = "select shape, service, count(*) as n, sum(case when level in ('ERROR', 'FATAL') then 1 else 0 end), \
                min(timestamp), max(timestamp) from logs group by shape, service";
    let counts = "select shape, service, log_count, error_count, first_seen, last_seen from pattern_counts";
    for (these, those) in [(logs, counts), (counts, logs)] {
        let differ = store.rows(&format!("select * from ({these} except {those}) t"));
        assert!(differ.is_empty(), "logs by shape and service are not those of the patterns: {differ:?}");
    }
    let lost = "select count(*) from logs where not exists (select 1 from patterns where patterns.shape = logs.shape)";
    assert_eq!(store.number(lost), 0, "logs without a template");
}

/// Each shape with its template.
pub fn templates(store: &mut Store) -> Vec<Vec<Cell>> {
    store.rows("select shape, template_id, template from patterns order by shape")
}

/// No episode twice, every change told once and in order, and the hours count the episodes that began in them.
pub fn judge_episodes(store: &mut Store) {
    let doubled = "select count(*) from (select 1 from anomalies group by coalesce(service, ''), anomaly_type, \
                   first_raised_at having count(*) > 1) t";
    assert_eq!(store.number(doubled), 0, "an episode is there twice");
    let overlapping = "select coalesce(a.service, '*'), a.anomaly_type, a.id, a.status, a.first_raised_at, a.started_at, a.last_seen, a.ended_at, a.revision, \
         b.id, b.status, b.first_raised_at, b.started_at, b.last_seen, b.ended_at, b.revision from anomalies a join anomalies b on a.id <> b.id \
         and a.anomaly_type = b.anomaly_type and coalesce(a.service, '') = coalesce(b.service, '') \
         where a.status <> 'retracted' and b.status <> 'retracted' and (b.started_at, b.id) < (a.started_at, a.id) \
         and a.started_at < coalesce(b.ended_at, b.last_seen)";
    let found = store.rows(overlapping);
    assert!(found.is_empty(), "an episode began before the one before it had ended: {found:?}");
    let (events, last) = (
        store.number("select count(*) from anomaly_events"),
        store.number("select max(seq) from anomaly_events"),
    );
    assert_eq!(events, last, "anomaly_events has gaps");
    let untold = "select a.id, coalesce(a.service, '*'), a.anomaly_type, a.status, a.revision, e.seq, e.kind, e.status, e.revision \
                  from anomalies a join anomaly_events e on e.anomaly_id = a.id \
                  where e.seq = (select max(seq) from anomaly_events l where l.anomaly_id = a.id) \
                  and (e.revision <> a.revision or e.status <> a.status)";
    let found = store.rows(untold);
    assert!(found.is_empty(), "episodes differ from their last events: {found:?}");
    let hour = match store.kind {
        Kind::Postgres => "date_trunc('hour', started_at, 'UTC')",
        Kind::Sqlite => "started_at / 3600000000 * 3600000000",
    };
    let counted = format!(
        "select count(*) from (select hour, service, anomaly_count from hourly_metrics where anomaly_count <> 0 except \
         select {hour}, service, count(*) from anomalies where status <> 'retracted' and service is not null group by 1, 2) t"
    );
    assert_eq!(store.number(&counted), 0, "anomaly_count is not the recount");
    let missing = format!(
        "select count(*) from (select {hour}, service, count(*) from anomalies where status <> 'retracted' and service is not \
         null group by 1, 2 except select hour, service, anomaly_count from hourly_metrics) t"
    );
    assert_eq!(store.number(&missing), 0, "anomaly_count misses episodes");
}

/// Episodes that stand, as (service, type, second of the start).
pub fn episodes(store: &mut Store) -> Vec<(String, String, i64)> {
    let sql = format!(
        "select coalesce(service, '*'), anomaly_type, {} from anomalies where status <> 'retracted' order by 1, 2, 3",
        store.micros("started_at")
    );
    store
        .rows(&sql)
        .iter()
        .map(|row| (string(&row[0]), string(&row[1]), integer(&row[2]) / 1_000_000))
        .collect()
}

/// The windows file, by end and service.
pub fn windows_file(path: &std::path::Path) -> oracle::Windows {
    let text = std::fs::read_to_string(path).expect("the windows file is there");
    let mut lines = text.lines();
    let head = "window_end,service,log_count,error_count,avg_message_length,unique_services";
    assert_eq!(lines.next(), Some(head));
    let mut windows = oracle::Windows::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [end, service, logs, errors, average, services] = fields[..] else {
            panic!("six fields, not {line}")
        };
        let end = oracle::parse_rfc3339(end).expect("window_end is an instant") / 1_000_000;
        let count = |text: &str| text.parse::<i64>().expect("a count");
        let window = oracle::Window {
            logs: count(logs),
            errors: count(errors),
            avg_message_length: average.parse().expect("a number"),
            unique_services: count(services),
        };
        let before = windows.insert((end, service.to_owned()), window);
        assert_eq!(before, None, "two rows for {line}");
    }
    windows
}
