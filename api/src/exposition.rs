//! Metrics as scrapers ask for them: OpenMetrics, or the older text format of Prometheus.

use std::fmt::Write;

/// As Prometheus has asked for it since 2.5.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `page`, which is OpenMetrics without its end, as whoever says `accept` reads it: content type and body.
pub fn expose(page: &str, accept: Option<&str>) -> (&'static str, String) {
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        return (OPENMETRICS, format!("{page}# EOF\n"));
    }
    (TEXT, text(page))
}

/// In the text format a counter's family is named as its samples are, and units are not told.
fn text(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    // HELP comes before TYPE, which says whether it is a counter.
    let mut help: Option<(&str, &str)> = None;
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        let (mark, kind, name) = (words.next(), words.next(), words.next());
        match (mark, kind, name, words.next()) {
            (Some("#"), Some("HELP"), Some(name), about) => help = Some((name, about.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                // Writing into a string does not fail.
                if let Some((_, about)) = help.take().filter(|(of, _)| *of == name) {
                    let _ = writeln!(text, "# HELP {name}{suffix} {about}");
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            (Some("#"), _, _, _) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_records Records.\n# TYPE a_records counter\na_records_total{x=\"# HELP\"} 7\n\
                        # HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n\
                        # HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\na_seconds_sum 1.5\n";

    #[test]
    fn scrapers_that_know_openmetrics_get_it_and_the_others_its_elder() {
        let (kind, body) = expose(PAGE, Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        assert_eq!((kind, body), (OPENMETRICS, format!("{PAGE}# EOF\n")));
        for accept in [None, Some("*/*"), Some("text/plain")] {
            let (kind, body) = expose(PAGE, accept);
            assert_eq!(kind, TEXT);
            assert_eq!(
                body,
                "# HELP a_records_total Records.\n# TYPE a_records_total counter\na_records_total{x=\"# HELP\"} 7\n\
                 # HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n\
                 # HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_sum 1.5\n"
            );
        }
    }
}
