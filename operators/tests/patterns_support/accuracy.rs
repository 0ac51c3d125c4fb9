//! Grouping accuracy (Zhu et al., ICSE-SEIP 2019) on the logs of loghub (He et al., ISSRE 2023), which people grouped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A message and the event that people saw in it.
pub struct Row {
    pub content: String,
    pub event: String,
}

/// The sets by name; `None`, loudly, where they are not at hand.
#[expect(clippy::print_stderr, reason = "a test that is left out must say so")]
pub fn sets() -> Option<Vec<(String, Vec<Row>)>> {
    let shared = std::env::var_os("SMARTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("data/loghub");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!(
            "SKIPPED: the labelled logs are not at {} (SMARTLOG_SHARED names their folder)",
            folder.display()
        );
        return None;
    };
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".truth.csv"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut reader = csv::Reader::from_path(path).expect("a set can be read");
        let headers = reader.headers().expect("it has headers").clone();
        let column =
            |name: &str| headers.iter().position(|header| header == name).expect("the column is there");
        let (content, event) = (column("Content"), column("EventId"));
        let row = |record: Result<csv::StringRecord, csv::Error>| {
            let record = record.expect("a row");
            Row { content: record[content].to_owned(), event: record[event].to_owned() }
        };
        (name.trim_end_matches("_2k.truth.csv").to_owned(), reader.records().map(row).collect())
    };
    Some(paths.iter().map(read).collect())
}

/// Share of the messages whose group is, as a set of messages, exactly a group of the truth.
pub fn grouping_accuracy<G: Ord>(rows: &[Row], groups: &[G]) -> f64 {
    let mut found: BTreeMap<&G, BTreeSet<usize>> = BTreeMap::new();
    let mut truth: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (place, (row, group)) in rows.iter().zip(groups).enumerate() {
        found.entry(group).or_default().insert(place);
        truth.entry(&row.event).or_default().insert(place);
    }
    let truth: BTreeSet<BTreeSet<usize>> = truth.into_values().collect();
    let right: usize = found.values().filter(|group| truth.contains(*group)).map(BTreeSet::len).sum();
    right as f64 / rows.len() as f64
}
