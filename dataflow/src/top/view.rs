//! Draws a [`Screen`].
//!
//! ```text
//!   smartlog top  URL  state, clock
//!   what comes in, what waits
//!   its curve
//!   ┌ services ───────────────────────┐
//!   ├ open episodes ───┬ partitions ──┤
//!   keys
//! ```

use super::frame::{Episode, Partition, Service, Status};
use super::screen::{Panel, Screen};
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use ratatui_core::layout::{Alignment, Constraint, Layout, Rect};
use ratatui_core::style::{Color, Modifier, Style, Stylize as _};
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Span};
use ratatui_widgets::block::Block;
use ratatui_widgets::clear::Clear;
use ratatui_widgets::paragraph::Paragraph;
use ratatui_widgets::sparkline::Sparkline;
use ratatui_widgets::table::{Cell, Row, Table};
use smartlog_schema::anomaly::Severity;

/// From this width on episodes show what happened in words.
const WIDE: u16 = 130;
const KEYS: &str = " q quit  ↑↓ scroll  Tab panel  s sort  p pause  ? help";
const HELP: &str = "\
q, Esc       quit
↑ ↓ PgUp PgDn Home End
             scroll the panel
Tab ← →      another panel
s            sort services: severity, volume, errors, name
p, Space     pause, go on
?            this help

usual        mean of the last day, or of the minutes known
12/60        warming up: minutes known of those needed
lag          records whose effects are not stored yet";

pub fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let area = frame.area();
    let troubles = troubles(screen);
    let troubled = u16::try_from(troubles.len()).unwrap_or(0);
    let [head, trouble, numbers, curve, services, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(troubled),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Min(4),
        Constraint::Percentage(33),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(head_line(screen, head.width), head);
    frame.render_widget(Paragraph::new(troubles), trouble);
    frame.render_widget(Paragraph::new(number_lines(screen)), numbers);
    draw_curve(frame, screen, curve);
    draw_services(frame, screen, services);
    let [episodes, partitions] =
        Layout::horizontal([Constraint::Percentage(62), Constraint::Percentage(38)]).areas(below);
    draw_episodes(frame, screen, episodes);
    draw_partitions(frame, screen, partitions);
    frame.render_widget(foot_line(screen), foot);
    if screen.help {
        draw_help(frame, area);
    }
    if screen.no_colours {
        for cell in &mut frame.buffer_mut().content {
            (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
        }
    }
}

fn head_line(screen: &Screen, width: u16) -> Line<'static> {
    let api = &screen.frame.api;
    let place = api.url.split_once("://").map_or(api.url.as_str(), |(_, place)| place).to_owned();
    let mut spans = vec![" smartlog top ".bold().reversed(), format!(" {place}  ").into()];
    match &screen.frame.status {
        None => spans.push("looking …".into()),
        Some(status) => {
            let colour = if status.pipeline == "running" { Color::Green } else { Color::Red };
            spans.push(Span::styled(status.pipeline.clone(), colour));
            spans.push(reached(status, width).into());
        }
    }
    Line::from(spans)
}

fn reached(status: &Status, width: u16) -> String {
    let Some(clock) = status.clock else { return "  no log yet".into() };
    let format = if width < 100 { "%H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%SZ" };
    let behind = status.behind_ms.map_or(String::new(), |ms| format!(", {} behind", age_ms(ms)));
    format!("  clock {}{behind}", clock.strftime(format))
}

/// What cannot be asked or does not work, a line each.
fn troubles(screen: &Screen) -> Vec<Line<'static>> {
    let frame = &screen.frame;
    let red = |text: String| Line::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
    let mut lines = Vec::new();
    if let Some(trouble) = &frame.api.trouble {
        let seen = match frame.status {
            Some(_) => format!("; shown: {}", frame.at.strftime("%H:%M:%SZ")),
            None => String::new(),
        };
        lines.push(red(format!(" DISCONNECTED {}: {trouble}; trying again{seen}", frame.api.url)));
    }
    if let Some(trouble) = &frame.metrics.trouble
        && frame.api.trouble.is_none()
    {
        lines.push(Line::styled(format!(" {}: {trouble}", frame.metrics.url), Color::Yellow));
    }
    if !frame.failing_sinks.is_empty() {
        lines.push(red(format!(" FAILING sinks: {}", frame.failing_sinks.join(", "))));
    }
    lines
}

fn number_lines(screen: &Screen) -> Vec<Line<'static>> {
    let (flow, status) = (&screen.frame.flow, &screen.frame.status);
    let told = |value: Option<f64>, show: &dyn Fn(f64) -> String| value.map_or("–".to_owned(), show);
    let whole = |value: f64| HumanCount(value.round() as u64).to_string();
    let records = match (flow.records_per_s, status) {
        (Some(rate), _) => format!("{} records/s", whole(rate)),
        (None, Some(status)) => format!("{} logs/s", whole(status.logs_per_second)),
        (None, None) => "–".into(),
    };
    let bytes = told(flow.bytes_per_s, &|bytes| format!("{}/s", HumanBytes(bytes as u64)));
    let dead = told(flow.dead_letters_per_s, &|rate| format!("{rate:.1}/s"));
    let stored =
        status.as_ref().map_or(String::new(), |s| format!(" ({} so far)", HumanCount(s.dead_letters)));
    let lag = told(flow.lag_records, &whole);
    let tick = told(flow.tick_ms, &|ms| format!("{ms:.1} ms"));
    let first = vec![
        " in ".dim(),
        Span::raw(records).bold(),
        format!("  {bytes}").into(),
        "   unread ".dim(),
        Span::raw(lag).bold(),
        "   dead letters ".dim(),
        format!("{dead}{stored}").into(),
    ];
    let mut second = vec![" tick ".dim(), tick.into(), "   queues".dim()];
    // The fullest first: there may be more than there is room for.
    let mut queues: Vec<_> =
        screen.frame.queues.iter().map(|q| (&q.name, 100.0 * q.used / q.limit.max(1.0))).collect();
    queues.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, percent) in queues {
        let style = if percent > 90.0 { Style::new().fg(Color::Red) } else { Style::new() };
        second.push(Span::styled(format!("  {name} {percent:.0} %"), style));
    }
    vec![Line::from(first), Line::from(second)]
}

fn draw_curve(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let columns = usize::from(area.width);
    let hidden = screen.history.len().saturating_sub(columns);
    let shown: Vec<u64> = screen.history.iter().skip(hidden).copied().collect();
    frame.render_widget(Sparkline::default().data(shown).style(Color::Cyan), area);
}

fn draw_services(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let title = format!(
        " Services {} of {}, by {} ",
        screen.frame.services.len(),
        screen.frame.services_total,
        screen.sort.name()
    );
    let rows: Vec<Row<'_>> = screen.frame.services.iter().map(service_row).collect();
    let widths = [9, 0, 10, 10, 8, 8].map(|width| match width {
        0 => Constraint::Min(12),
        width => Constraint::Length(width),
    });
    let heads = ["state", "service", "logs/min", "usual", "errors", "usual"];
    draw_table(frame, (title, Panel::Services, area), rows, &widths, &heads, screen);
}

fn service_row(service: &Service) -> Row<'static> {
    let worst = service.worst();
    let state = match (worst, &service.warming_up) {
        (Some(severity), _) => severity.as_str().to_owned(),
        (None, Some(warming)) => format!("{}/{}", warming.minutes, warming.needed),
        (None, None) => service.state.clone(),
    };
    let style = worst.map_or(Style::new(), severity_style);
    let percent = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
    let usual = service.baseline.as_ref();
    Row::new([
        Cell::from(state).style(style),
        Cell::from(service.service.clone()),
        right(rate(service.log_rate)),
        right(usual.map_or("–".to_owned(), |usual| rate(usual.log_rate))),
        right(percent(service.error_rate)),
        right(percent(usual.and_then(|usual| usual.error_rate))),
    ])
}

fn draw_episodes(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let title = format!(" Open episodes {} ", screen.frame.episodes_total);
    let now = screen.frame.status.as_ref().and_then(|status| status.clock).unwrap_or(screen.frame.at);
    let in_words = frame.area().width >= WIDE;
    let rows: Vec<Row<'_>> =
        screen.frame.episodes.iter().map(|episode| episode_row(episode, now, in_words)).collect();
    let last = if in_words { Constraint::Fill(2) } else { Constraint::Length(0) };
    let widths =
        [Constraint::Length(8), Constraint::Max(18), Constraint::Fill(1), Constraint::Length(4), last];
    let heads = ["severity", "type", "service", "for", if in_words { "what" } else { "" }];
    draw_table(frame, (title, Panel::Episodes, area), rows, &widths, &heads, screen);
}

fn episode_row(episode: &Episode, now: Timestamp, in_words: bool) -> Row<'static> {
    let severity = episode.severity.as_deref().and_then(Severity::parse);
    let since =
        episode.started_at.map_or("–".to_owned(), |at| age_ms(now.as_millisecond() - at.as_millisecond()));
    let what = episode.description.clone().filter(|_| in_words).unwrap_or_default();
    Row::new([
        Cell::from(episode.severity.clone().unwrap_or_default())
            .style(severity.map_or(Style::new(), severity_style)),
        Cell::from(episode.anomaly_type.clone()),
        Cell::from(episode.service.clone().unwrap_or_else(|| "(all)".into())),
        right(since),
        Cell::from(what),
    ])
}

fn draw_partitions(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let title = format!(" Partitions {} ", screen.frame.partitions.len());
    let row = |partition: &Partition| {
        Row::new([
            Cell::from(format!("{} {}", partition.topic, partition.partition)),
            right(
                partition
                    .lag_records
                    .map_or("–".to_owned(), |lag| HumanCount(lag.max(0.0) as u64).to_string()),
            ),
            right(partition.behind_ms.map_or("–".to_owned(), age_ms)),
        ])
    };
    let rows: Vec<Row<'_>> = screen.frame.partitions.iter().map(row).collect();
    let widths = [Constraint::Min(6), Constraint::Length(9), Constraint::Length(6)];
    draw_table(
        frame,
        (title, Panel::Partitions, area),
        rows,
        &widths,
        &["partition", "lag", "behind"],
        screen,
    );
}

/// A list with a frame, a line of headings and its place marked where it has the focus.
fn draw_table(
    frame: &mut Frame<'_>,
    (title, panel, area): (String, Panel, Rect),
    rows: Vec<Row<'_>>,
    widths: &[Constraint],
    heads: &[&'static str],
    screen: &mut Screen,
) {
    let focused = screen.focus == panel && !screen.is_empty;
    let border =
        if focused { Style::new().fg(Color::Cyan) } else { Style::new().add_modifier(Modifier::DIM) };
    let mark = if focused { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    // What is numbers is on the right, and so is its heading.
    let head = |name: &&'static str| match *name {
        "logs/min" | "usual" | "errors" | "lag" | "behind" | "for" => right((*name).to_owned()),
        name => Cell::from(name),
    };
    let table = Table::new(rows, widths.iter().copied())
        .header(Row::new(heads.iter().map(head)).style(Modifier::DIM))
        .block(Block::bordered().border_style(border).title(title))
        .row_highlight_style(mark);
    frame.render_stateful_widget(table, area, &mut screen.tables[panel as usize]);
}

fn foot_line(screen: &Screen) -> Line<'static> {
    let mut line = Line::from(KEYS.dim());
    if screen.paused {
        line.push_span("   PAUSED, p goes on".bold().yellow());
    }
    line
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX).saturating_add(2);
    let area = area.centered(Constraint::Max(64), Constraint::Max(lines));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Help ")), area);
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Severity::High => Style::new().fg(Color::Red),
        Severity::Medium => Style::new().fg(Color::Yellow),
        Severity::Low => Style::new().fg(Color::Blue),
    }
}

/// Logs a minute, with a decimal where it counts.
fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { HumanCount(rate.round() as u64).to_string() }
}

/// A span of time in its largest unit.
fn age_ms(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..10 => format!("{:.1}s", ms.max(0) as f64 / 1e3),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
