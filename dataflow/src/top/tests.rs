//! The screen as a user sees it, made of answers as the API gives them.

use super::exposition::Samples;
use super::frame::{Counters, Episode, Frame, Service, Source, Status};
use super::screen::{Panel, Screen, Wish};
use super::{drawn, frame};
use jiff::Timestamp;
use serde_json::json;
use std::time::{Duration, Instant};
use termion::event::Key;

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("as the API has it")
}

fn service(name: &str, rate: f64, severity: Option<&str>) -> Service {
    let open: Vec<_> = severity.iter().map(|severity| json!({"severity": severity})).collect();
    from(json!({
        "service": name, "state": "ok", "log_rate": rate, "error_rate": 0.153, "open_anomalies": open,
        "baseline": {"log_rate": 790.1, "error_rate": 0.012}, "warming_up": null
    }))
}

fn episode(id: i64, service: Option<&str>) -> Episode {
    from(json!({
        "id": id, "type": "error_rate_spike", "service": service, "severity": "high", "status": "open",
        "started_at": "2026-01-15T10:18:00Z", "description": "Error rate increased 300% in the last 5 minutes"
    }))
}

/// A pipeline with `services` services, of which the first has trouble.
fn look(services: usize) -> Frame {
    let page = |records: u64| {
        format!(
            "smartlog_records_total {records}\nsmartlog_record_bytes_total {}\nsmartlog_dead_letters_total{{reason=\"x\"}} 0\n\
             smartlog_lag_records 12\nsmartlog_waiting_bytes 10\nsmartlog_waiting_limit_bytes 40\n\
             smartlog_lane_bytes{{sink=\"logs 0\"}} 95\nsmartlog_lane_limit_bytes{{sink=\"logs 0\"}} 100\n\
             smartlog_partition_lag_records{{topic=\"logs\",partition=\"0\"}} 31\n",
            records * 180
        )
    };
    let (earlier, samples) = (Samples::parse(&page(1000)), Samples::parse(&page(2040)));
    let began = Instant::now();
    let then = Counters::read(&earlier, began);
    let flow = Counters::read(&samples, began + Duration::from_secs(1)).since(&then);
    let status: Status = from(json!({
        "pipeline": "running", "clock": "2026-01-15T10:30:05Z", "behind_ms": 120, "logs_per_second": 1040.5,
        "dead_letters": 3, "partitions": [{"topic": "logs", "partition": 0, "behind_ms": 120}]
    }));
    let others = (1..services).map(|n| service(&format!("service-{n:03}"), 8.0 * n as f64, None));
    let mut all: Vec<Service> =
        std::iter::once(service("payment-service", 812.4, Some("high"))).chain(others).collect();
    if let Some(young) = all.get_mut(1) {
        young.warming_up = from(json!({"minutes": 12, "needed": 60}));
    }
    Frame {
        at: "2026-01-15T10:30:05Z".parse::<Timestamp>().expect("a time"),
        api: Source { url: "http://127.0.0.1:8000".into(), trouble: None },
        metrics: Source { url: "http://127.0.0.1:9464/metrics".into(), trouble: None },
        flow: frame::Flow { lag_records: samples.sum("smartlog_lag_records"), ..flow },
        queues: frame::queues(&samples),
        partitions: frame::partitions(&samples, &status.partitions),
        failing_sinks: frame::failing(&samples),
        services_total: all.len() as u64,
        services: all,
        episodes: vec![episode(7, Some("payment-service")), episode(8, None)],
        episodes_total: 2,
        status: Some(status),
    }
}

fn screen(services: usize) -> Screen {
    let mut screen = Screen { no_colours: false, ..Screen::default() };
    screen.observe(look(services));
    screen
}

#[test]
fn all_of_it_fits_on_eighty_by_twenty_four() {
    insta::assert_snapshot!(drawn(&mut screen(60), (80, 24)).expect("a screen"));
}

#[test]
fn a_wide_terminal_says_what_happened() {
    insta::assert_snapshot!(drawn(&mut screen(3), (140, 30)).expect("a screen"));
}

#[test]
fn it_says_that_it_is_disconnected_and_keeps_what_it_knew() {
    let away = || Source { url: "http://127.0.0.1:8000".into(), trouble: Some("no connection".into()) };
    let mut fresh = Screen::default();
    fresh.observe(Frame { api: away(), metrics: away(), ..Frame::default() });
    let text = drawn(&mut fresh, (80, 24)).expect("a screen");
    assert!(text.contains("DISCONNECTED http://127.0.0.1:8000: no connection; trying again"), "{text}");
    let mut screen = screen(3);
    screen.observe(Frame { api: away(), metrics: away(), at: Timestamp::now(), ..Frame::default() });
    let text = drawn(&mut screen, (120, 24)).expect("a screen");
    assert!(text.contains("trying again; shown: 10:30:05Z") && text.contains("payment-service"), "{text}");
    screen.observe(look(3));
    assert!(!drawn(&mut screen, (80, 24)).expect("a screen").contains("DISCONNECTED"));
}

#[test]
fn a_missing_dataflow_and_a_failing_sink_are_said() {
    let mut screen = Screen::default();
    let mut frame = look(1);
    frame.metrics.trouble = Some("there are no figures of `smartlog run`".into());
    frame.flow = frame::Flow::default();
    frame.failing_sinks = vec!["logs 0".into()];
    screen.observe(frame);
    let text = drawn(&mut screen, (80, 24)).expect("a screen");
    assert!(
        text.contains("9464/metrics: there are no figures") && text.contains("FAILING sinks: logs 0"),
        "{text}"
    );
    assert!(text.contains("1,041 logs/s"), "what was stored tells, for want of figures: {text}");
}

#[test]
fn keys_sort_scroll_pause_and_quit() {
    let mut screen = screen(60);
    assert_eq!(screen.key(Key::Char('s')), Wish::Look);
    let text = drawn(&mut screen, (80, 24)).expect("a screen");
    assert!(text.contains("60 of 60, by volume"), "{text}");
    assert_eq!(screen.frame.services[0].service, "payment-service");
    assert_eq!(screen.frame.services[1].service, "service-059");
    // Beyond the end there is nothing, however often one asks.
    (0..100).for_each(|_| assert_eq!(screen.key(Key::PageDown), Wish::Nothing));
    let text = drawn(&mut screen, (80, 24)).expect("a screen");
    assert!(text.contains("service-001") && !text.contains("payment-service   "), "{text}");
    // A list that shrinks takes the mark with it.
    screen.observe(look(2));
    assert_eq!(screen.tables[0].selected(), Some(1));
    screen.observe(look(0));
    screen.key(Key::Char('\t'));
    assert_eq!(screen.focus, Panel::Episodes);
    screen.key(Key::BackTab);
    assert_eq!(screen.focus, Panel::Services);
    screen.key(Key::Char('p'));
    screen.observe(look(9));
    assert_eq!(screen.frame.services.len(), 1, "paused");
    assert!(drawn(&mut screen, (80, 24)).expect("a screen").contains("PAUSED"));
    screen.key(Key::Char('?'));
    assert!(drawn(&mut screen, (80, 24)).expect("a screen").contains("warming up: minutes known"));
    assert_eq!(screen.key(Key::Esc), Wish::Nothing, "it ends the help");
    for key in [Key::Esc, Key::Char('q'), Key::Ctrl('c')] {
        assert_eq!(screen.key(key), Wish::Quit, "{key:?}");
    }
}

#[test]
fn no_size_is_too_small_and_no_name_reaches_the_terminal_as_a_command() {
    let mut screen = screen(5);
    screen.frame.services[1].service = "\x1b[2Jevil\u{7}\n名前 \u{202e}x".into();
    screen.help = true;
    for size in [(1, 1), (3, 2), (10, 5), (20, 40), (79, 23), (400, 120)] {
        let text = drawn(&mut screen, size).expect("a screen");
        assert_eq!(text.lines().count(), usize::from(size.1), "{size:?}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut screen = screen(3);
    let colours = |screen: &mut Screen| {
        let backend = ratatui_core::backend::TestBackend::new(80, 24);
        let mut terminal = ratatui_core::terminal::Terminal::new(backend).expect("a terminal");
        terminal.draw(|frame| super::view::draw(frame, screen)).expect("a screen");
        let cells = &terminal.backend().buffer().content;
        cells.iter().filter(|cell| cell.fg != ratatui_core::style::Color::Reset).count()
    };
    assert!(colours(&mut screen) > 0);
    screen.no_colours = true;
    assert_eq!(colours(&mut screen), 0);
}
