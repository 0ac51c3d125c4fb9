//! Whether Kafka answers, its topics are there, and how far behind the stored positions are.

use super::Check;
use crate::commands::job::kafka_settings;
use crate::config::Config;
use crate::sources::kafka_client::{Client, Refusal, client, refused};
use jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use smartlog_sinks::{AGGREGATES, StoredPosition};
use std::time::Duration;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Partitions of a topic that are asked one by one; beyond, lag is not counted.
const MOST_PARTITIONS: usize = 1000;

/// First and next offset of a partition, as its broker says.
#[derive(Debug, Clone, Copy)]
struct Ends {
    partition: i32,
    begin: i64,
    end: i64,
}

pub(super) fn checks(config: &Config, positions: Option<&[StoredPosition]>) -> Vec<Check> {
    let name = "kafka";
    let brokers = &config.kafka.brokers;
    let client = match client(&kafka_settings(config)) {
        Ok(client) => client,
        Err(fault) => {
            return vec![Check::failed(name, format!("{fault:#}"), "mend [kafka] and kafka.properties")];
        }
    };
    let metadata = match client.fetch_metadata(None, PATIENCE) {
        Ok(metadata) => metadata,
        Err(fault) => return vec![unreachable(brokers, refused(&client), &fault)],
    };
    let mut checks =
        vec![Check::ok(name, format!("{brokers} answers, {} brokers", metadata.brokers().len()))];
    let known = |topic: &str| metadata.topics().iter().find(|found| found.name() == topic);
    for topic in &config.kafka.topics {
        let partitions = known(topic).map_or(0, |found| found.partitions().len());
        checks.push(match partitions {
            0 => absent(topic, metadata.topics().iter().map(|found| found.name())),
            count => topic_check(&client, topic, count, positions),
        });
    }
    let present = config
        .kafka
        .topics
        .iter()
        .filter_map(|topic| Some((topic.as_str(), known(topic)?.partitions().len())));
    checks.extend(from_the_future(&client, present, config.time.max_future_skew));
    checks
}

fn unreachable(brokers: &str, refusal: Option<Refusal>, fault: &KafkaError) -> Check {
    if let Some(Refusal { found, advice }) = refusal {
        return Check::failed("kafka", format!("{brokers} {found}"), advice);
    }
    let advice = "check kafka.brokers (the names that the brokers advertise must be reachable from here too), \
                  security.protocol and the credentials, and that a broker runs";
    Check::failed("kafka", format!("{brokers} does not answer within {PATIENCE:?}: {fault}"), advice)
}

fn absent<'a>(topic: &str, known: impl Iterator<Item = &'a str>) -> Check {
    let near = known
        .map(|known| (strsim::normalized_damerau_levenshtein(topic, known), known))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = match near {
        Some((_, near)) => format!("did you mean {near}? Else create it: smartlog run waits for it"),
        None => "create it, or name another with --topic; smartlog run waits for it".to_string(),
    };
    Check::failed(format!("topic {topic}"), "is not there, or must not be read", advice)
}

fn topic_check(
    client: &Client,
    topic: &str,
    partitions: usize,
    positions: Option<&[StoredPosition]>,
) -> Check {
    let name = format!("topic {topic}");
    let Some(positions) = positions else {
        return Check::ok(name, format!("{partitions} partitions; lag not known without the store"));
    };
    if partitions > MOST_PARTITIONS {
        return Check::ok(name, format!("{partitions} partitions; too many to count the lag here"));
    }
    let ask = |partition: i32| {
        let (begin, end) = client.fetch_watermarks(topic, partition, PATIENCE)?;
        Ok(Ends { partition, begin, end })
    };
    let ends: Result<Vec<Ends>, KafkaError> = (0..).take(partitions).map(ask).collect();
    match ends {
        Ok(ends) => judge(topic, &ends, positions),
        Err(fault) => Check::failed(
            name,
            format!("a partition's leader does not answer: {fault}"),
            "check that all brokers run, and that their advertised names are reachable from here",
        ),
    }
}

/// What the stored positions mean against what Kafka holds.
fn judge(topic: &str, ends: &[Ends], positions: &[StoredPosition]) -> Check {
    let name = format!("topic {topic}");
    let next = |partition: i32| {
        let of_partition = |stored: &&StoredPosition| {
            stored.sink == AGGREGATES
                && stored.partition.topic == topic
                && stored.partition.partition == partition
        };
        positions.iter().find(of_partition).and_then(|stored| stored.next_offset)
    };
    let (mut lag, mut lost, mut unread, mut beyond) = (0, 0, 0, Vec::new());
    for Ends { partition, begin, end } in ends.iter().copied() {
        match next(partition) {
            Some(next) if next > end => beyond.push(partition),
            Some(next) => {
                lost += (begin - next).max(0);
                lag += end - next.max(begin);
            }
            None => unread += end - begin,
        }
    }
    let partitions = ends.len();
    if !beyond.is_empty() {
        let found = format!("positions lie beyond the end of partitions {beyond:?}: the topic was made anew");
        let advice = format!("if that is meant, `smartlog sinks accept-topic {topic}` begins at its start");
        return Check::failed(name, found, advice);
    }
    if lost > 0 {
        let found = format!("{partitions} partitions; Kafka deleted {lost} records before they were read");
        return Check::warning(
            name,
            found,
            "lengthen the topic's retention.ms, or give smartlog more workers",
        );
    }
    match (lag, unread) {
        (lag, 0) => Check::ok(name, format!("{partitions} partitions, {lag} records behind")),
        (0, unread) => Check::ok(name, format!("{partitions} partitions, {unread} records, none read yet")),
        (lag, unread) => {
            Check::ok(name, format!("{partitions} partitions, {lag} records behind, {unread} in new ones"))
        }
    }
}

/// Records that are younger than this host's clock allows: it is behind, or a producer's is ahead.
fn from_the_future<'a>(
    client: &Client,
    topics: impl Iterator<Item = (&'a str, usize)>,
    skew: Duration,
) -> Option<Check> {
    let limit = Timestamp::now().as_millisecond().saturating_add(i64::try_from(skew.as_millis()).ok()?);
    let mut asked = TopicPartitionList::new();
    for (topic, partitions) in topics.filter(|(_, partitions)| *partitions <= MOST_PARTITIONS) {
        for partition in (0..).take(partitions) {
            asked.add_partition_offset(topic, partition, Offset::Offset(limit)).ok()?;
        }
    }
    if asked.count() == 0 {
        return None;
    }
    let answered = client.offsets_for_times(asked, PATIENCE).ok()?;
    let ahead =
        answered.elements().iter().filter(|found| matches!(found.offset(), Offset::Offset(_))).count();
    Some(match ahead {
        0 => Check::ok("record times", format!("none is more than {skew:?} ahead of this host's clock")),
        ahead => Check::warning(
            "record times",
            format!("{ahead} partitions hold records more than {skew:?} ahead of this host's clock"),
            "set this host's clock by NTP; if it is right, the brokers' or the producers' is wrong",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use smartlog_schema::position::TopicPartition;

    fn ends(ends: &[(i64, i64)]) -> Vec<Ends> {
        (0..)
            .zip(ends)
            .map(|(partition, (begin, end))| Ends { partition, begin: *begin, end: *end })
            .collect()
    }

    fn stored(next: &[i64]) -> Vec<StoredPosition> {
        let position = |(partition, next): (i32, &i64)| StoredPosition {
            sink: AGGREGATES.into(),
            partition: TopicPartition::new("logs", partition),
            next_offset: Some(*next),
            fingerprint: None,
            watermark_us: None,
            lane: None,
            updated_at_us: 0,
        };
        (0..).zip(next).map(position).collect()
    }

    #[test]
    fn lag_loss_and_a_topic_made_anew_are_told_apart() {
        let found = |held: &[(i64, i64)], next: &[i64]| {
            let check = judge("logs", &ends(held), &stored(next));
            (check.outcome, check.found)
        };
        assert_eq!(
            found(&[(0, 10), (5, 25)], &[10, 20]),
            (Outcome::Ok, "2 partitions, 5 records behind".into())
        );
        assert_eq!(
            found(&[(0, 10), (5, 25)], &[]),
            (Outcome::Ok, "2 partitions, 30 records, none read yet".into())
        );
        assert_eq!(
            found(&[(0, 10), (5, 25)], &[4]),
            (Outcome::Ok, "2 partitions, 6 records behind, 20 in new ones".into())
        );
        assert_eq!(
            found(&[(7, 10)], &[4]),
            (Outcome::Warning, "1 partitions; Kafka deleted 3 records before they were read".into())
        );
        assert_eq!(
            found(&[(0, 10), (0, 3)], &[11, 3]),
            (
                Outcome::Failed,
                "positions lie beyond the end of partitions [0]: the topic was made anew".into()
            )
        );
    }

    #[test]
    fn positions_of_other_sinks_and_topics_do_not_count() {
        let mut positions = stored(&[10]);
        positions[0].sink = "parquet".into();
        assert_eq!(
            judge("logs", &ends(&[(0, 10)]), &positions).found,
            "1 partitions, 10 records, none read yet"
        );
        assert_eq!(
            judge("audit", &ends(&[(0, 10)]), &stored(&[10])).found,
            "1 partitions, 10 records, none read yet"
        );
    }

    #[test]
    fn a_topic_that_is_not_there_is_answered_with_its_neighbour() {
        let advice = |topic: &str| absent(topic, ["logs", "audit"].into_iter()).advice.unwrap_or_default();
        assert!(advice("log").starts_with("did you mean logs?"), "{}", advice("log"));
        assert!(advice("metrics").starts_with("create it, or name another"), "{}", advice("metrics"));
    }
    /// librdkafka's own mock of a cluster: enough to see that the questions are put rightly.
    #[test]
    fn a_cluster_that_answers_is_asked_for_its_topics_and_their_ends() {
        let cluster = rdkafka::mocking::MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("logs", 3, 1).expect("a topic");
        let mut config = Config::default();
        config.kafka.brokers = cluster.bootstrap_servers();
        config.kafka.topics = vec!["logs".into(), "lags".into()];
        let told = |positions: Option<&[StoredPosition]>| {
            let checks = checks(&config, positions);
            checks.into_iter().map(|check| (check.name, check.outcome, check.found)).collect::<Vec<_>>()
        };
        let found = told(Some(&[]));
        assert_eq!((found[0].0.as_str(), found[0].1), ("kafka", Outcome::Ok), "{found:?}");
        let logs = ("topic logs".to_string(), Outcome::Ok, "3 partitions, 0 records behind".to_string());
        assert_eq!(found[1], logs);
        assert_eq!((found[2].0.as_str(), found[2].1), ("topic lags", Outcome::Failed), "{found:?}");
        assert!(told(None)[1].2.contains("lag not known without the store"));
        assert_eq!(told(Some(&stored(&[5])))[1].1, Outcome::Failed, "a position beyond the end");
    }
}
