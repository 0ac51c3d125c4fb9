//! How long, and how much, Kafka keeps of a partition: what a sink that holds logs back for long must not outlive.

use super::kafka::Settings;
use super::kafka_client::{Context, config};
use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use smartlog_sinks::parquet::Kept;
use std::time::Duration;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least that any of the topics keeps.
///
/// # Errors
/// When the brokers do not answer, or do not allow to ask.
pub async fn kept(settings: &Settings) -> anyhow::Result<Kept> {
    let client: AdminClient<Context> = config(settings)
        .create_with_context(Context)
        .context("the Kafka client refuses its configuration; see [kafka] and kafka.properties")?;
    let topics: Vec<ResourceSpecifier<'_>> =
        settings.topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let told = client.describe_configs(&topics, &options).await.context("asking what Kafka keeps")?;
    let mut least = Kept::default();
    for topic in told {
        let topic = topic.map_err(|code| anyhow::anyhow!("asking what Kafka keeps: {code}"))?;
        let kept = kept_of(|name| value(&topic, name));
        least = Kept { time: least_of(least.time, kept.time), bytes: least_of(least.bytes, kept.bytes) };
    }
    Ok(least)
}

fn value(topic: &ConfigResource, name: &str) -> Option<String> {
    topic.get(name).and_then(|entry| entry.value.clone())
}

/// What a topic with these settings keeps of a partition. One that is only compacted loses no record by age.
fn kept_of(setting: impl Fn(&str) -> Option<String>) -> Kept {
    if setting("cleanup.policy").is_some_and(|policy| !policy.contains("delete")) {
        return Kept::default();
    }
    // Negative: without limit.
    let limit = |name: &str| setting(name).and_then(|text| text.parse::<u64>().ok());
    Kept { time: limit("retention.ms").map(Duration::from_millis), bytes: limit("retention.bytes") }
}

fn least_of<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Kept {
        kept_of(|name| {
            settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_kept_is_read_from_the_topics_settings() {
        let day = Some(Duration::from_secs(86_400));
        let both = [("cleanup.policy", "delete"), ("retention.ms", "86400000"), ("retention.bytes", "1000")];
        assert_eq!(of(&both), Kept { time: day, bytes: Some(1000) });
        assert_eq!(of(&[("retention.ms", "-1"), ("retention.bytes", "-1")]), Kept::default());
        assert_eq!(of(&[("cleanup.policy", "compact"), ("retention.ms", "86400000")]), Kept::default());
        let compacted = [("cleanup.policy", "compact,delete"), ("retention.ms", "86400000")];
        assert_eq!(of(&compacted), Kept { time: day, bytes: None });
    }

    #[test]
    fn the_least_of_several_topics_counts() {
        assert_eq!(least_of(Some(3), Some(2)), Some(2));
        assert_eq!((least_of(None, Some(2)), least_of(Some(3), None)), (Some(2), Some(3)));
        assert_eq!(least_of::<u64>(None, None), None);
    }
}
