//! What every log sink must do, run against both.

mod common;

use common::Bench;
use smartlog_schema::dead_letter::{DeadLetter, Reason};
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_sinks::{CancellationToken, Health, LOGS, SinkError};

smartlog_test_services::on_both_stores!(
    every_field_comes_back,
    a_new_sink_has_no_position,
    what_is_stored_is_left_out_when_it_comes_again,
    positions_only_grow,
    a_gap_is_the_callers_business,
    the_stale_one_of_two_writers_is_fenced,
    two_workers_share_a_sink,
    a_refused_row_is_dead_lettered_and_the_others_kept,
    dead_letters_are_kept_whole,
    a_dead_letter_of_a_re_created_topic_takes_the_place_of_the_old,
    logs_of_any_day_find_their_place,
    what_is_past_the_retention_goes,
    the_watermark_is_noted_for_idle_partitions_too,
    an_unclaimed_partition_is_refused,
    positions_are_listed_set_and_forgotten,
    a_re_created_topic_is_accepted,
    aggregates_cannot_be_forgotten,
    counts_count,
);

const T0: i64 = 1_768_471_200_000_000; // 2026-01-15T10:00:00Z
const DAY: i64 = 86_400_000_000;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("logs", partition)
}

fn log(offset: i64) -> LogRef<'static> {
    LogRef {
        offset,
        timestamp_us: T0 + offset,
        level: Level::Error,
        service: "payment-service",
        host: Some("server-01"),
        message: "Database connection timeout",
        metadata: Some(r#"{"request_id": "abc-123", "duration_ms": 5000}"#),
        shape: 7,
    }
}

/// Offsets `first..next` of a partition, all of them logs.
fn batch(partition: i32, first: i64, next: i64) -> LogBatch {
    let mut batch = LogBatch::new(tp(partition), first);
    (first..next).for_each(|offset| batch.push(&log(offset)));
    batch.next_offset = next;
    batch
}

fn letter(offset: i64, payload: &[u8]) -> DeadLetter {
    let detail = "expected `,` at byte 3".into();
    DeadLetter { partition: 0, offset, reason: Reason::InvalidJson, detail, payload: payload.to_vec() }
}

/// The offsets stored of a partition, in order, doubles included.
async fn offsets(bench: &Bench, table: &str, partition: i32) -> Vec<i64> {
    let sql = format!("SELECT kafka_offset FROM {table} WHERE kafka_partition = {partition} ORDER BY 1");
    let rows = bench.query(&sql).await;
    rows.iter().map(|row| row[0].as_deref().expect("an offset").parse().expect("a number")).collect()
}

async fn every_field_comes_back(bench: Bench) {
    let odd = "na\u{ef}ve \u{1F600} 'q' \\ \"x\" \t\n\r %s \u{feff}\u{202e}";
    let full = log(0);
    let logs = [
        full,
        LogRef { offset: 1, host: None, metadata: None, shape: 0, level: Level::Trace, ..full },
        LogRef { offset: 2, message: "", host: Some(""), metadata: Some("{}"), shape: i64::MIN, ..full },
        LogRef {
            offset: 3,
            service: odd,
            host: Some(odd),
            message: odd,
            metadata: Some(r#"{"k": "\u00e9 \\ \" \u0001"}"#),
            ..full
        },
        LogRef { offset: i64::MAX - 1, timestamp_us: T0 + 999_999, ..full },
    ];
    let long = "x".repeat(3_000_000);
    let mut batch = LogBatch::new(TopicPartition::new(odd, i32::MAX), 0);
    logs.iter().for_each(|log| batch.push(log));
    batch.push(&LogRef { offset: 9, message: &long, ..full });
    batch.next_offset = i64::MAX;
    let mut sink = bench.logs();
    sink.resume(std::slice::from_ref(&batch.source)).await.expect("resumes");
    sink.write(std::slice::from_ref(&batch), T0).await.expect("writes");
    let time = bench.micros("timestamp");
    let rows = bench
        .query(&format!(
            "SELECT {time}, level, service, host, message, metadata, kafka_topic, kafka_partition, kafka_offset, shape
             FROM logs ORDER BY id"
        ))
        .await;
    assert_eq!(rows.len(), batch.len());
    for (row, log) in rows.iter().zip(batch.iter()) {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(row[5].as_deref().map(json), log.metadata.map(json));
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            text(&log.timestamp_us.to_string()),
            text(log.level.as_str()),
            text(log.service),
            log.host.map(str::to_owned),
            text(log.message),
            row[5].clone(),
            text(odd),
            text("2147483647"),
            text(&log.offset.to_string()),
            (log.shape != 0).then(|| log.shape.to_string()),
        ];
        assert_eq!(row[..], expected);
    }
    assert_eq!(bench.number("SELECT count(*) FROM logs WHERE created_at IS NOT NULL AND id > 0").await, 6);
    bench.drop_it().await;
}

async fn a_new_sink_has_no_position(bench: Bench) {
    assert_eq!(bench.logs().resume(&[tp(0), tp(1)]).await.expect("resumes"), Positions::new());
    // Claimed and never written is still none.
    assert_eq!(bench.logs().resume(&[tp(0), tp(1)]).await.expect("resumes"), Positions::new());
    bench.drop_it().await;
}

async fn what_is_stored_is_left_out_when_it_comes_again(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0)]).await.expect("resumes");
    let mut first = batch(0, 0, 10);
    first.dead_letters = vec![letter(10, b"a"), letter(11, b"b")];
    first.next_offset = 12;
    sink.write(&[first.clone()], T0).await.expect("writes");
    sink.write(&[first.clone()], T0).await.expect("leaves it out");
    // Another process takes over and replays from further back.
    let mut sink = bench.logs();
    assert_eq!(sink.resume(&[tp(0)]).await.expect("resumes"), Positions::from([(tp(0), 12)]));
    let mut replay = batch(0, 5, 15);
    replay.dead_letters = vec![letter(11, b"again"), letter(15, b"c")];
    replay.next_offset = 20;
    sink.write(&[first, replay, batch(0, 18, 22)], T0).await.expect("writes");
    assert_eq!(offsets(&bench, "logs", 0).await, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 20, 21]);
    assert_eq!(offsets(&bench, "dead_letters", 0).await, [10, 11, 15]);
    assert_eq!(bench.number("SELECT next_offset FROM sink_positions").await, 22);
    bench.drop_it().await;
}

async fn positions_only_grow(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0), tp(1)]).await.expect("resumes");
    sink.write(&[batch(0, 0, 10), batch(1, 0, 5)], T0).await.expect("writes");
    sink.write(&[batch(0, 2, 7), batch(1, 3, 8)], T0 - 5).await.expect("writes");
    let rows = bench.query("SELECT next_offset, watermark_us FROM sink_positions ORDER BY partition").await;
    let row = |next: i64| vec![Some(next.to_string()), Some(T0.to_string())];
    assert_eq!(rows, [row(10), row(8)]);
    bench.drop_it().await;
}

async fn a_gap_is_the_callers_business(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0)]).await.expect("resumes");
    sink.write(&[batch(0, 3, 5)], T0).await.expect("writes");
    sink.write(&[batch(0, 90, 92)], T0).await.expect("writes beyond a gap");
    assert_eq!(offsets(&bench, "logs", 0).await, [3, 4, 90, 91]);
    assert_eq!(bench.number("SELECT next_offset FROM sink_positions").await, 92);
    bench.drop_it().await;
}

async fn the_stale_one_of_two_writers_is_fenced(bench: Bench) {
    let mut stale = bench.logs();
    stale.resume(&[tp(0)]).await.expect("resumes");
    stale.write(&[batch(0, 0, 5)], T0).await.expect("writes");
    let mut fresh = bench.logs();
    fresh.resume(&[tp(0)]).await.expect("resumes");
    let error = stale.write(&[batch(0, 5, 10)], T0).await.expect_err("is fenced");
    let SinkError::Fenced { what, expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (what.as_str(), expected.as_str(), found.as_str()),
        ("the position of sink \"logs\" in logs[0]", "offset 5", "offset 5 held by another writer")
    );
    fresh.write(&[batch(0, 5, 10)], T0).await.expect("writes");
    assert_eq!(offsets(&bench, "logs", 0).await, (0..10).collect::<Vec<_>>());
    // And one that never wrote before.
    let mut stale = bench.logs();
    stale.resume(&[tp(7)]).await.expect("resumes");
    bench.logs().resume(&[tp(7)]).await.expect("resumes");
    assert!(matches!(stale.write(&[batch(7, 0, 1)], T0).await, Err(SinkError::Fenced { .. })));
    bench.drop_it().await;
}

async fn two_workers_share_a_sink(bench: Bench) {
    let work = |partition: i32| {
        let mut sink = bench.logs();
        async move {
            sink.resume(&[tp(partition)]).await.expect("resumes");
            for step in 0..20 {
                sink.write(&[batch(partition, step * 50, step * 50 + 50)], T0).await.expect("writes");
            }
        }
    };
    tokio::join!(work(0), work(1), work(2));
    for partition in 0..3 {
        assert_eq!(offsets(&bench, "logs", partition).await, (0..1_000).collect::<Vec<_>>());
    }
    bench.drop_it().await;
}

async fn a_refused_row_is_dead_lettered_and_the_others_kept(bench: Bench) {
    let health = Health::new();
    let mut sink = bench.logs_with(health.clone(), CancellationToken::new());
    sink.resume(&[tp(0)]).await.expect("resumes");
    // What PostgreSQL refuses by itself, SQLite is told to.
    if !bench.is_postgres() {
        bench
            .execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON logs WHEN instr(new.message, char(0)) > 0
                 BEGIN SELECT RAISE(ABORT, 'refused'); END",
            )
            .await;
    }
    let poison = |offset: i64| [0, 17, 18, 99].contains(&offset);
    let mut batch = LogBatch::new(tp(0), 0);
    for offset in 0..100 {
        let message = if poison(offset) { "secret \0" } else { "fine" };
        batch.push(&LogRef { message, ..log(offset) });
    }
    batch.next_offset = 101;
    batch.dead_letters = vec![letter(100, b"{")];
    sink.write(&[batch], T0).await.expect("writes");
    assert_eq!(offsets(&bench, "logs", 0).await, (0..100).filter(|o| !poison(*o)).collect::<Vec<_>>());
    let letters =
        bench.query("SELECT kafka_offset, reason, detail, payload FROM dead_letters ORDER BY 1").await;
    assert_eq!(letters.len(), 5);
    let (offset, reason, detail, payload) = (&letters[1][0], &letters[1][1], &letters[1][2], &letters[1][3]);
    assert_eq!((offset.as_deref(), reason.as_deref()), (Some("17"), Some("refused_by_store")));
    let detail = detail.as_deref().expect("a detail");
    assert!(detail.contains(if bench.is_postgres() { "SQLSTATE 22021" } else { "code 1811" }), "{detail}");
    assert!(!detail.contains("secret"));
    let payload: serde_json::Value =
        serde_json::from_slice(&bytes(payload.as_deref().expect("bytes"))).expect("JSON");
    assert_eq!(payload["message"], "secret \0");
    assert_eq!(payload["timestamp"], "2026-01-15T10:00:00.000017Z");
    assert_eq!(payload["metadata"]["duration_ms"], 5000);
    assert_eq!((health.rows(), health.dead_letters(), health.retries()), (96, 5, 0));
    // The sink goes on.
    sink.write(&[self::batch(0, 101, 105)], T0).await.expect("writes");
    assert_eq!(bench.number("SELECT count(*) FROM logs").await, 100);
    bench.drop_it().await;
}

/// Bytes from their `\x…` form.
fn bytes(text: &str) -> Vec<u8> {
    let hex = text.strip_prefix("\\x").expect("hexadecimal");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("a byte")).collect()
}

async fn dead_letters_are_kept_whole(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0)]).await.expect("resumes");
    let all_bytes: Vec<u8> = (0..=255).collect();
    let big = vec![0xC3; 64 * 1024];
    let mut batch = LogBatch::new(tp(0), 0);
    batch.dead_letters = vec![letter(0, &all_bytes), letter(1, b"")];
    // More than one statement takes.
    batch.dead_letters.extend((2..300).map(|offset| letter(offset, &big)));
    batch.dead_letters[1].detail = "NUL \0 here".into();
    batch.next_offset = 300;
    sink.write(&[batch], T0).await.expect("writes");
    let rows = bench
        .query("SELECT payload, reason, detail, kafka_topic, kafka_partition FROM dead_letters ORDER BY kafka_offset")
        .await;
    assert_eq!(rows.len(), 300);
    assert_eq!(bytes(rows[0][0].as_deref().expect("bytes")), all_bytes);
    assert_eq!(bytes(rows[1][0].as_deref().expect("bytes")), b"");
    assert_eq!(bytes(rows[299][0].as_deref().expect("bytes")), big);
    let text = |t: &str| Some(t.to_owned());
    let rest = [text("invalid_json"), text("expected `,` at byte 3"), text("logs"), text("0")];
    assert_eq!(rows[0][1..], rest);
    bench.drop_it().await;
}

async fn a_dead_letter_of_a_re_created_topic_takes_the_place_of_the_old(bench: Bench) {
    let mut with_letter = LogBatch::new(tp(0), 0);
    with_letter.next_offset = 1;
    for payload in [b"old", b"new"] {
        with_letter.dead_letters = vec![letter(0, payload)];
        let mut sink = bench.logs();
        sink.resume(&[tp(0)]).await.expect("resumes");
        sink.write(&[with_letter.clone()], T0).await.expect("writes");
        smartlog_sinks::accept_topic(&bench.config, "logs").await.expect("accepts");
    }
    let rows = bench.query("SELECT payload FROM dead_letters").await;
    assert_eq!(rows, [[Some("\\x6e6577".to_owned())]]);
    bench.drop_it().await;
}

async fn logs_of_any_day_find_their_place(bench: Bench) {
    let days = [0, -1, -30, 1, 30, -20_000, -25_000].map(|day| T0 + day * DAY);
    // The years of four digits at their ends; before and after them there is no partition.
    let edges = [-62_135_596_800_000_000, 253_402_214_399_999_999];
    let beyond = [-62_135_596_800_000_001, 253_402_214_400_000_000, i64::MIN, i64::MAX];
    let write = |partition: i32| {
        let mut sink = bench.logs();
        let mut batch = LogBatch::new(tp(partition), 0);
        for (offset, timestamp_us) in (0..).zip(days.into_iter().chain(edges).chain(beyond)) {
            batch.push(&LogRef { timestamp_us, ..log(offset) });
        }
        batch.next_offset = batch.len() as i64;
        async move {
            sink.resume(&[tp(partition)]).await.expect("resumes");
            sink.write(&[batch], T0).await.expect("writes");
        }
    };
    // Several workers need the same new days at once.
    tokio::join!(write(0), write(1), write(2), write(3));
    let stored = bench.number("SELECT count(*) FROM logs").await;
    let letters = bench.number("SELECT count(*) FROM dead_letters WHERE reason = 'refused_by_store'").await;
    if bench.is_postgres() {
        assert_eq!((stored, letters), (4 * 9, 4 * 4));
        assert_eq!(
            bench.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'logs'::regclass").await,
            9
        );
    } else {
        assert_eq!((stored, letters), (4 * 13, 0));
    }
    bench.drop_it().await;
}

async fn what_is_past_the_retention_goes(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0)]).await.expect("resumes");
    let midnight = T0 - T0.rem_euclid(DAY);
    let mut batch = LogBatch::new(tp(0), 0);
    for (offset, timestamp_us) in
        (0..).zip([midnight - 2 * DAY, midnight - DAY - 1, midnight - 1, midnight, T0])
    {
        batch.push(&LogRef { timestamp_us, ..log(offset) });
    }
    batch.dead_letters = vec![letter(5, b"x")];
    batch.next_offset = 6;
    sink.write(&[batch], T0).await.expect("writes");
    assert_eq!(
        smartlog_sinks::expire(&bench.config, midnight - DAY).await.expect("expires"),
        if bench.is_postgres() { 1 } else { 2 }
    );
    assert_eq!(offsets(&bench, "logs", 0).await, [2, 3, 4]);
    assert_eq!(smartlog_sinks::expire(&bench.config, midnight).await.expect("expires"), 1);
    assert_eq!(offsets(&bench, "logs", 0).await, [3, 4]);
    assert_eq!(bench.number("SELECT count(*) FROM dead_letters").await, 1);
    // A log of a day that is gone, from a sink that has seen the day there.
    let mut late = LogBatch::new(tp(0), 6);
    late.push(&LogRef { timestamp_us: midnight - 1, ..log(6) });
    late.next_offset = 7;
    sink.write(&[late], T0).await.expect("writes");
    assert_eq!(offsets(&bench, "logs", 0).await, [3, 4, 6]);
    assert_eq!(bench.number("SELECT count(*) FROM dead_letters").await, 1);
    bench.drop_it().await;
}

async fn the_watermark_is_noted_for_idle_partitions_too(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0), tp(1)]).await.expect("resumes");
    let mut other = bench.logs();
    other.resume(&[tp(2)]).await.expect("resumes");
    sink.write(&[batch(0, 0, 1)], T0).await.expect("writes");
    sink.write(&[], T0 + 5).await.expect("notes the watermark");
    let rows = bench.query("SELECT watermark_us FROM sink_positions ORDER BY partition").await;
    let noted = Some((T0 + 5).to_string());
    assert_eq!(rows, [[noted.clone()], [noted], [None]]);
    bench.drop_it().await;
}

async fn an_unclaimed_partition_is_refused(bench: Bench) {
    let mut sink = bench.logs();
    assert!(matches!(sink.write(&[batch(0, 0, 1)], T0).await, Err(SinkError::Fatal(_))));
    sink.resume(&[tp(0)]).await.expect("resumes");
    let error = sink.write(&[batch(0, 0, 1), batch(1, 0, 1)], T0).await.expect_err("is refused");
    assert!(error.to_string().contains("logs[1]"), "{error}");
    assert_eq!(bench.number("SELECT count(*) FROM logs").await, 0);
    bench.drop_it().await;
}

async fn positions_are_listed_set_and_forgotten(bench: Bench) {
    let mut sink = bench.logs();
    sink.resume(&[tp(0), tp(1)]).await.expect("resumes");
    sink.write(&[batch(0, 0, 9)], T0).await.expect("writes");
    let listed = smartlog_sinks::positions(&bench.config).await.expect("lists");
    let short: Vec<_> = listed.iter().map(|p| (p.sink.as_str(), p.next_offset, p.watermark_us)).collect();
    assert_eq!(short, [(LOGS, Some(9), Some(T0)), (LOGS, None, Some(T0))]);
    let start = Positions::from([(tp(0), 3), (tp(5), 70)]);
    smartlog_sinks::set_start(&bench.config, LOGS, &start).await.expect("sets");
    assert!(matches!(sink.write(&[batch(0, 9, 10)], T0).await, Err(SinkError::Fenced { .. })));
    assert_eq!(bench.logs().resume(&[tp(0), tp(1), tp(5)]).await.expect("resumes"), start);
    smartlog_sinks::set_start(&bench.config, "parquet", &start).await.expect("sets");
    assert_eq!(smartlog_sinks::forget(&bench.config, LOGS).await.expect("forgets"), 3);
    let listed = smartlog_sinks::positions(&bench.config).await.expect("lists");
    let short: Vec<_> =
        listed.iter().map(|p| (p.sink.as_str(), p.partition.clone(), p.next_offset)).collect();
    assert_eq!(short, [("parquet", tp(0), Some(3)), ("parquet", tp(5), Some(70))]);
    bench.drop_it().await;
}

async fn a_re_created_topic_is_accepted(bench: Bench) {
    use smartlog_schema::commit::{ClockState, EpochCommit};
    let other = TopicPartition::new("other", 0);
    let mut store = bench.state();
    store.open().await.expect("opens");
    let commit = EpochCommit {
        positions: Positions::from([(tp(0), 5), (other.clone(), 6)]),
        clock: ClockState { partitions: [(tp(0), 1), (other.clone(), 2)].into(), ..ClockState::default() },
        ..EpochCommit::default()
    };
    store.commit(&commit).await.expect("commits");
    let mut sink = bench.logs();
    sink.resume(&[tp(0), other.clone()]).await.expect("resumes");
    sink.write(&[batch(0, 0, 5)], T0).await.expect("writes");
    assert_eq!(smartlog_sinks::accept_topic(&bench.config, "logs").await.expect("accepts"), 2);
    // Whoever runs is stopped, and begins anew.
    assert!(matches!(store.commit(&commit).await, Err(SinkError::Fenced { .. })));
    assert!(matches!(sink.write(&[batch(0, 5, 6)], T0).await, Err(SinkError::Fenced { .. })));
    drop(store);
    let snapshot = bench.state().open().await.expect("opens");
    assert_eq!(snapshot.positions, Positions::from([(other.clone(), 6)]));
    assert_eq!(snapshot.clock.map(|c| c.partitions), Some([(other, 2)].into()));
    bench.drop_it().await;
}

async fn aggregates_cannot_be_forgotten(bench: Bench) {
    let name = smartlog_sinks::AGGREGATES;
    let error = smartlog_sinks::forget(&bench.config, name).await.expect_err("is refused");
    assert!(error.to_string().contains("begin with a new store"), "{error}");
    smartlog_sinks::set_start(&bench.config, name, &Positions::new()).await.expect_err("is refused");
    bench.drop_it().await;
}

async fn counts_count(bench: Bench) {
    smartlog_sinks::migrate(&bench.config).await.expect("migrates");
    assert_eq!(
        smartlog_sinks::counts(&bench.config).await.expect("counts"),
        smartlog_sinks::Counts::default()
    );
    let mut sink = bench.logs();
    sink.resume(&[tp(0)]).await.expect("resumes");
    let mut batch = batch(0, 0, 3);
    batch.dead_letters = vec![letter(3, b"x")];
    batch.next_offset = 4;
    sink.write(&[batch], T0).await.expect("writes");
    let counts = smartlog_sinks::counts(&bench.config).await.expect("counts");
    assert_eq!((counts.logs, counts.dead_letters, counts.logs_watermark_us), (3, 1, Some(T0)));
    bench.drop_it().await;
}
