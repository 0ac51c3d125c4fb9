//! Files hold exactly the traffic, whatever the compression; Kafka gets every line or the caller gets an error.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise, its helpers as well")]

mod common;

use common::plain;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use smartlog_generator::output::{KafkaTarget, Pace, Partitioning, to_file, to_kafka, to_writer};
use smartlog_generator::{Generator, GeneratorConfig, GeneratorError, Record};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn config() -> GeneratorConfig {
    GeneratorConfig { malformed_share: 0.01, odd_share: 0.01, late_share: 0.01, ..plain(31, 2, 100.0) }
}

fn records() -> Vec<Record> {
    Generator::new(config()).unwrap().collect()
}

fn as_lines(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| [&record.payload[..], b"\n"].concat()).collect()
}

#[test]
fn files_hold_one_line_each_plain_or_compressed() {
    let expected = as_lines(&records());
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"] {
        let path = folder.path().join(name);
        let mut told = 0;
        let mut traffic = Generator::new(config()).unwrap();
        let done = to_file(&mut traffic, &path, &Pace::full_speed(), &mut |p| told = p.lines).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let content = match name.rsplit('.').next() {
            Some("gz") => {
                let mut content = Vec::new();
                flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut content).unwrap();
                content
            }
            Some("zst") => zstd::decode_all(&bytes[..]).unwrap(),
            _ => bytes,
        };
        assert!(content == expected, "{name} holds something else");
        assert_eq!((done.lines, told), (records().len() as u64, done.lines));
        assert_eq!(done.bytes + done.lines, expected.len() as u64);
    }
}

#[test]
fn a_paced_output_is_the_same_and_a_cancelled_one_ends_on_a_whole_line() {
    let expected = as_lines(&records());
    let mut written = Vec::new();
    let pace = Pace { speed: 2_000.0, ..Pace::full_speed() };
    to_writer(&mut Generator::new(config()).unwrap(), &mut written, &pace, &mut |_| {}).unwrap();
    assert!(written == expected);

    let pace = Pace { speed: 1.0, ..Pace::full_speed() };
    let flag = pace.cancelled.clone();
    let mut written = Vec::new();
    let done = to_writer(&mut Generator::new(config()).unwrap(), &mut written, &pace, &mut |progress| {
        if progress.lines >= 10 {
            flag.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!(done.unwrap().lines, written.iter().filter(|&&byte| byte == b'\n').count() as u64);
    assert!(written.ends_with(b"\n") && expected.starts_with(&written));
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let path = std::path::Path::new("/nowhere/at/all.ndjson");
    let mut traffic = Generator::new(config()).unwrap();
    let error = to_file(&mut traffic, path, &Pace::full_speed(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("cannot write /nowhere/at/all.ndjson: "), "{error}");
}

fn target(cluster: &MockCluster<'_, impl rdkafka::ClientContext>, partitioning: Partitioning) -> KafkaTarget {
    let brokers = cluster.bootstrap_servers();
    KafkaTarget { brokers, topic: "logs".into(), partitioning, properties: BTreeMap::new() }
}

/// A message as it lies in the topic.
struct Stored {
    partition: i32,
    key: Vec<u8>,
    payload: Vec<u8>,
    time_ms: i64,
}

/// Everything in the topic.
#[expect(clippy::disallowed_methods, reason = "a consumer of this test's own")]
fn consume(brokers: &str, count: usize) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut assignment = rdkafka::TopicPartitionList::new();
    (0..4).for_each(|partition| {
        assignment.add_partition_offset("logs", partition, rdkafka::Offset::Beginning).unwrap();
    });
    consumer.assign(&assignment).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let message = consumer.poll(Duration::from_secs(20)).expect("all messages come").unwrap();
        let text = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        found.push(Stored {
            partition: message.partition(),
            key: text(message.key()),
            payload: text(message.payload()),
            time_ms: message.timestamp().to_millis().unwrap_or_default(),
        });
    }
    assert!(consumer.poll(Duration::from_millis(300)).is_none(), "no message too many");
    found
}

#[test]
fn kafka_gets_every_line_once_with_key_and_time() {
    let records = records();
    for partitioning in [Partitioning::Key, Partitioning::RoundRobin] {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("logs", 4, 1).unwrap();
        let mut told = 0;
        let done = to_kafka(
            &mut Generator::new(config()).unwrap(),
            &target(&cluster, partitioning),
            &Pace::full_speed(),
            &mut |progress| told = progress.lines,
        )
        .unwrap();
        assert_eq!((done.delivered, told), (records.len() as u64, records.len() as u64));
        let found = consume(&cluster.bootstrap_servers(), records.len());
        let mut expected: Vec<_> = records
            .iter()
            .map(|r| (r.payload.clone(), r.key.as_bytes().to_vec(), r.arrival_us / 1000))
            .collect();
        let mut got: Vec<_> = found.iter().map(|m| (m.payload.clone(), m.key.clone(), m.time_ms)).collect();
        expected.sort();
        got.sort();
        assert!(got == expected, "{partitioning:?}: something else arrived");
        let mut by_partition = [0usize; 4];
        let mut partition_of: BTreeMap<&[u8], i32> = BTreeMap::new();
        for message in &found {
            by_partition[message.partition as usize] += 1;
            let first = *partition_of.entry(&message.key).or_insert(message.partition);
            let kept = first == message.partition;
            assert!(partitioning == Partitioning::RoundRobin || kept, "a key keeps to a partition");
        }
        if partitioning == Partitioning::RoundRobin {
            let (least, most) = (by_partition.iter().min().unwrap(), by_partition.iter().max().unwrap());
            assert!(most - least <= 1, "{by_partition:?}");
        }
    }
}

#[test]
fn a_lost_message_is_an_error_that_counts_it() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("logs", 4, 1).unwrap();
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 100];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let mut traffic = Generator::new(config()).unwrap();
    let done = to_kafka(&mut traffic, &target(&cluster, Partitioning::Key), &Pace::full_speed(), &mut |_| {});
    let error = done.unwrap_err();
    match &error {
        GeneratorError::Undelivered { sent, delivered, failed, .. } => {
            assert!(*failed > 0 && sent == &(delivered + failed), "{error}");
        }
        GeneratorError::Kafka { doing, .. } => assert_eq!(doing, "cannot send", "{error}"),
        other => panic!("{other}"),
    }
}

#[test]
fn cancelled_sending_delivers_what_was_sent() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("logs", 4, 1).unwrap();
    let pace = Pace { speed: 20.0, ..Pace::full_speed() };
    let flag = pace.cancelled.clone();
    let mut traffic = Generator::new(config()).unwrap();
    let done = to_kafka(&mut traffic, &target(&cluster, Partitioning::Key), &pace, &mut |progress| {
        if progress.lines >= 50 {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let done = done.unwrap();
    assert!(done.delivered >= 50 && done.delivered < records().len() as u64);
    assert_eq!(done.delivered, done.sent.lines);
    assert_eq!(consume(&cluster.bootstrap_servers(), done.delivered as usize).len() as u64, done.delivered);
}

#[test]
fn brokers_that_are_not_there_are_named() {
    let target =
        KafkaTarget { brokers: "127.0.0.1:1".into(), topic: "logs".into(), ..KafkaTarget::default() };
    let pace = Pace::full_speed();
    // Already cancelled: one try is made, and its failure told.
    pace.cancelled.store(true, Ordering::Relaxed);
    let mut traffic = Generator::new(config()).unwrap();
    let error = to_kafka(&mut traffic, &target, &pace, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("Kafka at 127.0.0.1:1: topic \"logs\" is not to be had"), "{error}");
    let nothing = to_kafka(&mut traffic, &KafkaTarget::default(), &Pace::full_speed(), &mut |_| {});
    assert!(nothing.unwrap_err().to_string().contains("give both brokers and a topic"));
}
