//! Why the episodes were raised, as people read it: a few sentences below the table.

use super::table::{Look, bold};
use console::truncate_str;
use jiff::Timestamp;
use smartlog_schema::anomaly::Episode;
use smartlog_schema::explanation::Explanation;

/// Episodes that are told of, the worst first; of more, `--format json` tells.
const MOST: usize = 12;

/// The sentences; nothing where there are none.
pub fn sentences(episodes: &[&Episode], look: &Look) -> String {
    let of =
        |episode: &Episode| serde_json::from_str::<Explanation>(&episode.explanation).unwrap_or_default();
    let mut told: Vec<(&Episode, Explanation)> = episodes
        .iter()
        .map(|episode| (*episode, of(episode)))
        .filter(|(_, e)| !e.summary.is_empty())
        .collect();
    let rest = told.len().saturating_sub(MOST);
    if rest > 0 {
        told.sort_by_key(|(episode, _)| std::cmp::Reverse(episode.severity));
        told.truncate(MOST);
        told.sort_by_key(|(episode, _)| episode.started_at);
    }
    let mut text = String::new();
    for (episode, explanation) in told {
        let at = Timestamp::from_second(episode.started_at);
        let at = at.map_or_else(|_| String::new(), |at| at.strftime("%m-%d %H:%M:%S").to_string());
        let service = episode.key.service.as_deref().unwrap_or("(whole stream)");
        let head = format!("{at}  {service}  {}", episode.key.anomaly_type.as_str());
        text += &bold(look, &truncate_str(&head, look.width, "…"));
        text.push('\n');
        for sentence in &explanation.summary {
            text += &truncate_str(&format!("  {sentence}"), look.width, "…");
            text.push('\n');
        }
    }
    if rest > 0 {
        text += &format!("and {rest} more: --format json tells why\n");
    }
    if text.is_empty() { text } else { text + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::anomaly::{AnomalyType, EpisodeKey, Severity, Status};

    fn episode(first_raised_at: i64, severity: Severity, sentence: &str) -> Episode {
        let explanation = Explanation { summary: vec![sentence.to_owned()], ..Explanation::default() };
        Episode {
            key: EpisodeKey {
                service: Some("payment".into()),
                anomaly_type: AnomalyType::ErrorRateSpike,
                first_raised_at,
            },
            status: Status::Open,
            severity,
            revision: 1,
            detected_at_us: 0,
            started_at: first_raised_at,
            last_seen: first_raised_at,
            ended_at: None,
            metric_value: 0.5,
            threshold: 0.1,
            baseline: 0.01,
            peak_value: 0.5,
            score: None,
            model_version: None,
            description: String::new(),
            explanation: serde_json::to_string(&explanation).expect("it is JSON"),
            provenance: "{}".into(),
            expected: None,
        }
    }

    #[test]
    fn each_episode_has_its_sentences_and_the_worst_come_first_where_there_are_many() {
        let look = Look { width: 60, colours: false };
        let one = episode(1_768_473_000, Severity::Low, "host web-1: 90 % of the errors, 10 % before");
        let told = sentences(&[&one], &look);
        let wanted =
            "01-15 10:30:00  payment  error_rate_spike\n  host web-1: 90 % of the errors, 10 % before\n\n";
        assert_eq!(told, wanted);
        let many: Vec<Episode> = (0..30)
            .map(|i| {
                let severity = if i == 29 { Severity::Critical } else { Severity::Low };
                episode(1_768_473_000 + i, severity, &format!("sentence {i} {}", "x".repeat(100)))
            })
            .collect();
        let told = sentences(&many.iter().collect::<Vec<_>>(), &look);
        assert!(told.contains("sentence 29 ") && told.contains("and 18 more"), "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 60), "{told}");
        let mut dumb = one.clone();
        dumb.explanation = "no JSON".into();
        assert_eq!(sentences(&[&dumb], &look), "");
    }
}
