//! Reads a page of `/metrics`: lines such as `smartlog_lane_bytes{sink="logs 0"} 4096`.
//!
//! Our own, for no crate reads such pages under a permissive licence: `prometheus-parse` ends the labels at a `}` inside of a
//! service's name, and `nom-openmetrics` refuses the whole page for a time, an exemplar, or a line that it does not know.

use std::collections::BTreeMap;

/// What the labels of a sample say.
pub type Labels = BTreeMap<String, String>;

/// The samples of one page, by name.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<(Labels, f64)>>);

impl Samples {
    /// Comments, and lines that are no samples, are passed over.
    pub fn parse(text: &str) -> Self {
        let mut samples = Samples::default();
        for (name, labels, value) in text.lines().filter_map(sample) {
            samples.0.entry(name.to_owned()).or_default().push((labels, value));
        }
        samples
    }

    /// Every sample of this name; none where the page does not know it.
    pub fn all(&self, name: &str) -> &[(Labels, f64)] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// All samples of this name together; `None` where the page does not know it.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|samples| samples.iter().map(|(_, value)| value).sum())
    }

    /// The value of the sample with these labels.
    pub fn with(&self, name: &str, labels: &Labels) -> Option<f64> {
        self.all(name).iter().find(|(found, _)| found == labels).map(|(_, value)| *value)
    }
}

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    // A time or an exemplar may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// The text up to the closing quote, its escapes undone, and what follows the quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (true, 'n') => value.push('\n'),
            (true, c) => value.push(c),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => return Some((value, &text[at + 1..])),
            (false, c) => value.push(c),
        }
        escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Registry;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_read() {
        let page = "# HELP a_total A.\n# TYPE a counter\na_total{x=\"1\"} 3\na_total{x=\"2\",y=\"}, \\\"\"} 4.5 # {id=\"7\"} 1\n\
                    b 1e3\nb_bucket{le=\"+Inf\"} 2\nnonsense\n{} 1\nc{x=\"1} 2\n# EOF\n";
        let samples = Samples::parse(page);
        assert_eq!(samples.sum("a_total"), Some(7.5));
        assert_eq!(samples.all("a_total")[1].0["y"], "}, \"");
        assert_eq!(samples.with("a_total", &[("x".into(), "1".into())].into()), Some(3.0));
        assert_eq!((samples.sum("b"), samples.sum("c"), samples.sum("nonsense")), (Some(1e3), None, None));
    }

    proptest! {
        /// What the library that writes `/metrics` writes is what is read, whatever the names of services are.
        #[test]
        fn labels_come_back_as_they_were(values in proptest::collection::btree_map(".*", -1e9..1e9f64, 1..8)) {
            let mut registry = Registry::default();
            let family = Family::<Vec<(String, String)>, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
            registry.register("g", "G", family.clone());
            for (label, value) in &values {
                family.get_or_create(&vec![("l".to_owned(), label.clone())]).set(*value);
            }
            let mut page = String::new();
            encode(&mut page, &registry).expect("text");
            let samples = Samples::parse(&page);
            let read: BTreeMap<String, f64> =
                samples.all("g").iter().map(|(labels, value)| (labels["l"].clone(), *value)).collect();
            prop_assert_eq!(read, values);
        }
    }
}
