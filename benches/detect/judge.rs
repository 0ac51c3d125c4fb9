//! Alarms against labels, with no code of the detectors.
//!
//! ```text
//!   ─────────┬───────────────┬──────┬───────────┬──────────
//!    false   │ start ··· end │ grace│   tail    │  false
//!            │   finds it    │finds │ no matter │
//!   ─────────┴───────────────┴──────┴───────────┴──────────
//! ```
//!
//! An incident is found by the first alarm of its service; further ones are fragments: shown, not false. What is left is
//! false, and runs of it with gaps of at most five minutes are one false episode. These are the shared replay's own
//! evaluator's rules; that it counts alike is checked wherever it is there.

use crate::corpus::{Labels, Second};
use crate::program::Alarm;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Greatest gap between false alarms of one episode.
const GAP: Second = 300;

/// What became of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    pub kind: String,
    pub service: String,
    pub start: Second,
    pub how: String,
    /// The anomaly types that name it rightly.
    pub accepts: Vec<String>,
    /// From its start to the first alarm, seconds; `None`: missed.
    pub delay: Option<Second>,
    /// Whether an alarm that found it named it rightly.
    pub is_named: bool,
    /// Alarms beyond the first, tail included.
    pub fragments: usize,
}

/// An alarm about nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct False {
    pub service: String,
    pub anomaly_type: String,
    pub at: Second,
    pub description: String,
}

/// How a case went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub fates: Vec<Fate>,
    /// The first alarm of each false episode.
    pub false_episodes: Vec<False>,
    /// Services times days that were judged.
    pub service_days: f64,
    pub services: usize,
}

/// Judges `alarms`, which are in order of time.
pub fn judge(labels: &Labels, alarms: &[Alarm]) -> Judgement {
    let mut fates: Vec<Fate> = labels.incidents.iter().map(Fate::missed).collect();
    let mut newest: BTreeMap<&str, Second> = BTreeMap::new();
    let mut false_episodes = Vec::new();
    for alarm in alarms.iter().filter(|alarm| alarm.at >= labels.from) {
        let about = labels.incidents.iter().zip(&mut fates).filter(|(incident, _)| {
            incident.service == alarm.service
                && (incident.start..=incident.end + labels.tail).contains(&alarm.at)
        });
        let mut explained = false;
        for (incident, fate) in about {
            explained = true;
            fate.take(alarm, alarm.at <= incident.end + labels.grace);
        }
        let excused = labels.excused.iter().any(|excused| {
            excused.service == alarm.service
                && (excused.start..=excused.end + labels.tail).contains(&alarm.at)
        });
        if explained || excused {
            continue;
        }
        let before = newest.insert(&alarm.service, alarm.at);
        if before.is_none_or(|before| alarm.at - before > GAP) {
            false_episodes.push(False {
                service: alarm.service.clone(),
                anomaly_type: alarm.anomaly_type.clone(),
                at: alarm.at,
                description: alarm.description.clone(),
            });
        }
    }
    let days = (labels.to - labels.from) as f64 / 86_400.0;
    Judgement {
        fates,
        false_episodes,
        service_days: days * labels.services as f64,
        services: labels.services,
    }
}

impl Fate {
    fn missed(incident: &crate::corpus::Incident) -> Self {
        Fate {
            kind: incident.kind.clone(),
            service: incident.service.clone(),
            start: incident.start,
            how: incident.how.clone(),
            accepts: incident.accepts.clone(),
            delay: None,
            is_named: false,
            fragments: 0,
        }
    }

    fn take(&mut self, alarm: &Alarm, in_time: bool) {
        if self.delay.is_some() {
            self.fragments += 1;
        } else if in_time {
            self.delay = Some(alarm.at - self.start);
        }
        self.is_named |= in_time && self.accepts.contains(&alarm.anomaly_type);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Excused, Incident};

    fn labels() -> Labels {
        let incident = |service: &str, start, end| Incident {
            service: service.into(),
            kind: "silence".into(),
            accepts: vec!["log_volume_drop".into()],
            start,
            end,
            how: String::new(),
        };
        Labels {
            from: 1000,
            to: 1000 + 43_200,
            grace: 60,
            tail: 360,
            services: 2,
            incidents: vec![incident("a", 2000, 2600), incident("b", 5000, 5600)],
            excused: vec![Excused { service: "b".into(), start: 9000, end: 9100 }],
        }
    }

    fn judged(alarms: &[(&str, &str, Second)]) -> Judgement {
        let alarm = |&(service, anomaly_type, at): &(&str, &str, Second)| Alarm {
            service: service.into(),
            anomaly_type: anomaly_type.into(),
            at,
            ended: None,
            description: String::new(),
        };
        judge(&labels(), &alarms.iter().map(alarm).collect::<Vec<_>>())
    }

    fn false_at(judgement: &Judgement) -> Vec<Second> {
        judgement.false_episodes.iter().map(|f| f.at).collect()
    }

    #[test]
    fn an_alarm_finds_from_the_first_second_to_the_end_of_grace() {
        for (at, delay) in [(1999, None), (2000, Some(0)), (2660, Some(660)), (2661, None)] {
            assert_eq!(judged(&[("a", "log_volume_drop", at)]).fates[0].delay, delay, "{at}");
        }
        assert_eq!(judged(&[("b", "log_volume_drop", 2100)]).fates[0].delay, None, "another service");
    }

    #[test]
    fn one_incident_counts_once_and_what_follows_are_fragments() {
        let judgement = judged(&[
            ("a", "error_rate_spike", 2100),
            ("a", "log_volume_drop", 2200),
            ("a", "log_volume_drop", 2900),
        ]);
        assert_eq!((judgement.fates[0].delay, judgement.fates[0].fragments), (Some(100), 2));
        assert!(judgement.fates[0].is_named);
        assert_eq!(judgement.false_episodes, []);
    }

    #[test]
    fn what_belongs_to_nothing_is_false_once_in_a_run() {
        let alarms = [900, 1999, 2961, 3261, 3562].map(|at| ("a", "log_volume_spike", at));
        assert_eq!(false_at(&judged(&alarms)), [1999, 2961, 3562]);
        assert_eq!(
            false_at(&judged(&[("b", "log_volume_spike", 9460), ("b", "log_volume_spike", 9461)])),
            [9461]
        );
        assert_eq!(false_at(&judged(&[("unheard_of", "log_volume_spike", 90_000)])), [90_000]);
    }

    #[test]
    fn time_is_counted_per_service() {
        assert!((judged(&[]).service_days - 1.0).abs() < 1e-9);
    }
}
