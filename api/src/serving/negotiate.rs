//! Whether a client takes what a route makes: `Accept` against media types.

use crate::problem::Problem;
use hyper::{HeaderMap, header};

/// 406 unless `Accept` is absent or allows one of `produces`. Ranges, wildcards and `q=0` count; preferences between
/// several do not, for each route makes one thing.
pub fn check(headers: &HeaderMap, produces: &'static [&'static str]) -> Result<(), Problem> {
    let mut ranges = headers.get_all(header::ACCEPT).iter().peekable();
    if ranges.peek().is_none() {
        return Ok(());
    }
    let accept: Vec<&str> = ranges.filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    let is_accepted = accept.trim().is_empty() || produces.iter().any(|made| quality(&accept, made) > 0.0);
    if is_accepted { Ok(()) } else { Err(Problem::not_acceptable(&accept, produces)) }
}

/// The weight that the most specific matching range gives to `made`; 0 when none matches.
fn quality(accept: &str, made: &str) -> f32 {
    accept
        .split(',')
        .filter_map(|range| {
            let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
            specificity(media.trim(), made).map(|specific| (specific, weight(parameters)))
        })
        .max_by_key(|(specific, _)| *specific)
        .map_or(0.0, |(_, weight)| weight)
}

fn specificity(range: &str, made: &str) -> Option<u8> {
    let (kind, _) = made.split_once('/')?;
    match range.split_once('/')? {
        ("*", "*") => Some(0),
        (range_kind, "*") if range_kind.eq_ignore_ascii_case(kind) => Some(1),
        _ if range.eq_ignore_ascii_case(made) => Some(2),
        _ => None,
    }
}

fn weight(parameters: &str) -> f32 {
    parameters
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("q="))
        .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_wildcards_and_refusals() {
        const JSON: &[&str] = &["application/json"];
        for (accept, is_accepted) in [
            ("application/json", true),
            ("*/*", true),
            ("application/*;q=0.1", true),
            ("text/html,*/*;q=0.8", true),
            ("Application/JSON", true),
            ("", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("*/*;q=1, application/json;q=0", false),
            ("application", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(check(&headers, JSON).is_ok(), is_accepted, "{accept:?}");
        }
        assert!(check(&HeaderMap::new(), JSON).is_ok());
    }
}
