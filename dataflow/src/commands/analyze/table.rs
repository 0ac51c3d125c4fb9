//! The episodes as people read them: as wide as the terminal, in colours where they are wanted.

use super::duration;
use super::timeline::Timelines;
use console::{Style, Term, measure_text_width, truncate_str};
use jiff::Timestamp;
use serde::Deserialize;
use smartlog_schema::anomaly::{Episode, Severity};
use smartlog_schema::explanation::significant;
use std::io::IsTerminal as _;

/// Width where there is no terminal to ask.
const NO_TERMINAL: usize = 160;
/// Characters of a timeline, at most and at least.
const TIMELINE: (usize, usize) = (34, 12);
/// The shortest that a service's name is cut to.
const SERVICE: usize = 12;
/// Columns, in order. Those that are dropped first where it is narrow come last in [`DROPPED`].
const HEAD: [&str; COLUMNS] =
    ["STARTED (UTC)", "LASTED", "SEVERITY", "STATUS", "SERVICE", "TYPE", "TYPICAL → ACTUAL", "TIMELINE"];
const COLUMNS: usize = 8;
const SERVICE_COLUMN: usize = 4;
const TIMELINE_COLUMN: usize = 7;
/// What a narrow terminal does without, first to last.
const DROPPED: [usize; 4] = [3, 2, 1, TIMELINE_COLUMN];

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: usize,
    pub colours: bool,
}

impl Look {
    /// Colours and width of the terminal, where stdout is one; `NO_COLOR` is honoured.
    pub fn of_stdout() -> Self {
        let term = Term::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let width = term.size_checked().map_or(NO_TERMINAL, |(_, columns)| usize::from(columns));
        Look { width, colours: wanted && std::io::stdout().is_terminal() && console::colors_enabled() }
    }
}

/// What the explanation says of the metric.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metric {
    unit: String,
}

/// The table; nothing where there is no episode.
pub fn episodes(episodes: &[&Episode], timelines: &Timelines, look: &Look) -> String {
    if episodes.is_empty() {
        return String::new();
    }
    let mut rows: Vec<[String; COLUMNS]> = episodes.iter().map(|episode| cells(episode)).collect();
    let mut kept: Vec<usize> = (0..HEAD.len()).collect();
    let widths = |rows: &[[String; COLUMNS]]| -> Vec<usize> {
        let of = |column: usize| {
            let cells = rows.iter().map(|row| measure_text_width(&row[column]));
            cells.chain([measure_text_width(HEAD[column])]).max().unwrap_or(0)
        };
        (0..HEAD.len()).map(of).collect()
    };
    let mut widest = widths(&rows);
    let taken = |kept: &[usize], widest: &[usize]| -> usize {
        kept.iter().filter(|column| **column != TIMELINE_COLUMN).map(|column| widest[*column] + 2).sum()
    };
    for drop in DROPPED {
        if taken(&kept, &widest) + TIMELINE.1 <= look.width {
            break;
        }
        let over = taken(&kept, &widest) + TIMELINE.1 - look.width;
        if widest[SERVICE_COLUMN] >= SERVICE + over {
            // Names are long where there are few columns to drop for them.
            widest[SERVICE_COLUMN] -= over;
            break;
        }
        kept.retain(|column| *column != drop);
    }
    let room = look.width.saturating_sub(taken(&kept, &widest)).clamp(TIMELINE.1, TIMELINE.0);
    for (row, episode) in rows.iter_mut().zip(episodes) {
        let service = episode.key.service.as_deref().unwrap_or_default();
        let span = (episode.started_at, episode.ended_at.unwrap_or(episode.last_seen + 1));
        row[TIMELINE_COLUMN] = timelines.picture(service, episode.key.anomaly_type, span, room);
        row[SERVICE_COLUMN] = truncate_str(&row[SERVICE_COLUMN], widest[SERVICE_COLUMN], "…").into_owned();
    }
    let mut text = line(&HEAD.map(str::to_owned), &kept, &widest, &|_, cell| bold(look, cell));
    for (row, episode) in rows.iter().zip(episodes) {
        text += &line(row, &kept, &widest, &|column, cell| match column {
            2 | 5 | 6 => paint(look, &style_of(episode.severity), cell),
            TIMELINE_COLUMN => marked(look, episode.severity, cell),
            _ => cell.to_owned(),
        });
    }
    text + "\n"
}

fn cells(episode: &Episode) -> [String; COLUMNS] {
    let Metric { unit } = serde_json::from_str(&episode.explanation).unwrap_or_default();
    let scale = if unit == "%" { 100.0 } else { 1.0 };
    let (usual, peak) = (significant(episode.baseline * scale), significant(episode.peak_value * scale));
    [
        Timestamp::from_second(episode.started_at).map_or_else(|_| String::new(), started),
        episode.ended_at.map_or("–".into(), |end| duration(end - episode.started_at)),
        episode.severity.as_str().into(),
        episode.status.as_str().into(),
        episode.key.service.as_deref().unwrap_or("(whole stream)").into(),
        episode.key.anomaly_type.as_str().into(),
        format!("{usual} → {peak} {unit}").trim_end().to_owned(),
        String::new(),
    ]
}

fn started(at: Timestamp) -> String {
    at.strftime("%m-%d %H:%M:%S").to_string()
}

fn line(
    row: &[String; COLUMNS],
    kept: &[usize],
    widths: &[usize],
    paint: &dyn Fn(usize, &str) -> String,
) -> String {
    let cell = |column: &usize| {
        let blanks = widths[*column].saturating_sub(measure_text_width(&row[*column]));
        format!("{}{}", paint(*column, &row[*column]), " ".repeat(blanks))
    };
    let cells: Vec<String> = kept.iter().map(cell).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Critical => Style::new().red().bold(),
        Severity::High => Style::new().red(),
        Severity::Medium => Style::new().yellow(),
        Severity::Low => Style::new().cyan(),
    }
}

/// `text` as a head.
pub fn bold(look: &Look, text: &str) -> String {
    paint(look, &Style::new().bold(), text)
}

fn paint(look: &Look, style: &Style, text: &str) -> String {
    if look.colours { style.clone().force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
}

/// A timeline with what stands in brackets in the colour of the severity, and the rest dim.
fn marked(look: &Look, severity: Severity, picture: &str) -> String {
    let parts = picture.split_once('[').and_then(|(before, rest)| {
        let (inside, after) = rest.split_once(']')?;
        Some((before, inside, after))
    });
    let Some((before, inside, after)) = parts.filter(|_| look.colours) else { return picture.to_owned() };
    let dim = |text: &str| paint(look, &Style::new().dim(), text);
    format!("{}{}{}", dim(before), paint(look, &style_of(severity), &format!("[{inside}]")), dim(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::anomaly::{AnomalyType, EpisodeKey, Status};
    use smartlog_schema::sums::Sums;

    fn episode(service: Option<&str>) -> Episode {
        Episode {
            key: EpisodeKey {
                service: service.map(Into::into),
                anomaly_type: AnomalyType::ErrorRateSpike,
                first_raised_at: 1_768_473_000,
            },
            status: Status::Resolved,
            severity: Severity::High,
            revision: 3,
            detected_at_us: 1_768_473_000_000_000,
            started_at: 1_768_473_000,
            last_seen: 1_768_473_600,
            ended_at: Some(1_768_473_601),
            metric_value: 0.05,
            threshold: 0.03,
            baseline: 0.008,
            peak_value: 0.124,
            score: None,
            model_version: None,
            description: String::new(),
            explanation: r#"{"unit":"%"}"#.into(),
            provenance: "{}".into(),
            expected: None,
        }
    }

    fn table(width: usize, colours: bool) -> String {
        let mut timelines = Timelines::default();
        for minute in -40..40 {
            let errors = if (0..10).contains(&minute) { 12 } else { 1 };
            let sums = Sums { logs: 100, errors, message_chars: 0 };
            timelines.add(&"payment-service".into(), 1_768_473_000 + minute * 60, sums);
        }
        let (one, two) = (episode(Some("payment-service")), episode(None));
        episodes(&[&one, &two], &timelines, &Look { width, colours })
    }

    #[test]
    fn tables_read_as_they_should() {
        let wide = table(160, false);
        let mut lines = wide.lines();
        let head = "STARTED (UTC)   LASTED   SEVERITY  STATUS    SERVICE          TYPE              TYPICAL → ACTUAL  TIMELINE";
        assert_eq!(lines.next(), Some(head));
        let first = "01-15 10:30:00  10m 01s  high      resolved  payment-service  error_rate_spike  0.8 → 12.4 %      ▁▁▁";
        assert!(lines.next().is_some_and(|line| line.starts_with(first)), "{wide}");
        assert!(lines.next().is_some_and(|line| line.contains("(whole stream)")), "{wide}");
        let narrow = table(80, false);
        let first = "01-15 10:30:00  payment-servi…  error_rate_spike  0.8 → 12.4 %      ▁▁▁";
        assert!(narrow.lines().nth(1).is_some_and(|line| line.starts_with(first)), "{narrow}");
    }

    #[test]
    fn no_line_is_wider_than_a_usual_terminal() {
        for width in 80..200 {
            let table = table(width, true);
            let widest = table.lines().map(measure_text_width).max();
            assert!(widest <= Some(width), "{width}: {widest:?}\n{table}");
        }
    }

    #[test]
    fn colours_are_for_terminals_alone() {
        assert!(table(120, true).contains('\u{1b}'));
        assert!(!table(120, false).contains('\u{1b}'));
    }
}
