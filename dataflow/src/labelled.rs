//! Labels of made-up traffic against what was raised.

use smartlog_generator::Label;
use smartlog_schema::window::WINDOW_SECONDS;

/// Whether an episode of `service` that lasted from `started_at` to `ended_at` (`None`: it goes on), epoch seconds, is of
/// the label's service and time. What is bent stays in the windows for as long as they are.
pub fn overlaps(label: &Label, service: Option<&str>, started_at: i64, ended_at: Option<i64>) -> bool {
    service == Some(label.service.as_str())
        && started_at <= label.end.as_second() + WINDOW_SECONDS
        && ended_at.unwrap_or(i64::MAX) >= label.start.as_second()
}
