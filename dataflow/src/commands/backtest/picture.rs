//! A line per service over time: where the runs agree and where they do not.

use super::compare::{Change, Raised};
use super::time;
use std::collections::BTreeMap;

/// Services shown, those with the most differences first.
const MOST_SERVICES: usize = 20;
/// The narrowest line, and the widest name.
const LEAST: usize = 20;
const NAME: usize = 30;
/// What is drawn over what, the last over all others.
const MARKS: [(&str, char); 4] = [("unchanged", '='), ("changed", '~'), ("removed", '-'), ("added", '+')];

/// Draws services with episodes, as wide as `width` characters; nothing where there are none.
pub fn draw(changes: &[Change], width: usize) -> String {
    let starts = changes.iter().map(|change| change.newest().started_at);
    let ends = changes.iter().map(|change| end(change.newest()));
    let (Some(from), Some(to)) = (starts.min(), ends.max()) else { return String::new() };
    let mut services: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        let name = change.newest().service.as_deref().unwrap_or("(whole stream)");
        services.entry(name).or_default().push(change);
    }
    let mut services: Vec<(&str, Vec<&Change>)> = services.into_iter().collect();
    let differences = |changes: &[&Change]| changes.iter().filter(|c| c.kind() != "unchanged").count();
    services.sort_by_key(|(_, changes)| std::cmp::Reverse(differences(changes)));
    let left_out = services.len().saturating_sub(MOST_SERVICES);
    services.truncate(MOST_SERVICES);
    let name = services.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(NAME);
    let cells = width.saturating_sub(name + 2).max(LEAST);
    let span = (to - from).max(1);
    let cell = |second: i64| (((second - from) * cells as i64 / span) as usize).min(cells - 1);
    let mut text = format!("{:name$}  {}  to  {}\n", "", time(from), time(to));
    for (service, changes) in services {
        let mut line = vec!['·'; cells];
        for (kind, mark) in MARKS {
            for change in changes.iter().filter(|change| change.kind() == kind) {
                let raised = change.newest();
                line[cell(raised.started_at)..=cell(end(raised))].fill(mark);
            }
        }
        let service: String = service.chars().take(name).collect();
        text += &format!("{service:name$}  {}\n", line.into_iter().collect::<String>());
    }
    if left_out > 0 {
        text += &format!("{:name$}  and {left_out} more services\n", "");
    }
    text + "= unchanged  ~ changed  - removed  + added\n\n"
}

fn end(raised: &Raised) -> i64 {
    raised.ended_at.unwrap_or(raised.started_at).max(raised.started_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::anomaly::{AnomalyType, Severity};

    fn raised(service: &str, started_at: i64, ended_at: i64) -> Raised {
        Raised {
            service: Some(service.to_owned()),
            anomaly_type: AnomalyType::LogVolumeSpike,
            severity: Severity::High,
            started_at,
            ended_at: Some(ended_at),
            value: 1.0,
            threshold: 0.5,
        }
    }

    #[test]
    fn episodes_stand_where_they_were() {
        let changes = [
            Change::Unchanged(raised("shop", 0, 100), raised("shop", 0, 100)),
            Change::Added(raised("shop", 200, 400)),
            Change::Removed(raised("mail", 300, 350)),
        ];
        let text = draw(&changes, 26);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].trim(), "1970-01-01T00:00:00Z  to  1970-01-01T00:06:40Z");
        assert_eq!(lines[1], "mail  ···············---··");
        assert_eq!(lines[2], "shop  ======····++++++++++");
        assert_eq!(draw(&[], 80), "");
    }

    #[test]
    fn every_width_holds_and_many_services_are_cut_off() {
        let name = |n: i64| format!("service-{n}");
        let changes: Vec<Change> =
            (0..30).map(|n| Change::Added(raised(&name(n), n * 60, n * 60 + 30))).collect();
        for width in [0, 10, 40, 200] {
            let text = draw(&changes, width);
            assert_eq!(text.lines().filter(|line| line.starts_with("service-")).count(), MOST_SERVICES);
            assert!(text.contains("and 10 more services"));
        }
    }
}
