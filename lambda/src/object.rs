//! What a key in the bucket stands for (docs/EXPORT.md).

use jiff::civil::Date;

/// An object that has a part in the daily numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `logs/date=D/NAME.parquet`
    Logs,
    /// `logs/date=D/_manifest-vN.json`: names files that no longer count.
    Manifest,
    /// `anomalies/date=D/episodes.parquet`
    Episodes,
}

/// A key of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub kind: Kind,
    /// The day that all of it belongs to.
    pub date: Date,
}

impl Object {
    /// Reads a key below `prefix`. `Ok(None)`: ours, and nothing to count (`_SUCCESS`).
    ///
    /// # Errors
    /// What was expected and what was found, when the key is none of ours.
    pub fn parse(bucket: &str, key: &str, prefix: &str) -> Result<Option<Self>, String> {
        let expected = format!(
            "expected {prefix}logs/date=YYYY-MM-DD/NAME.parquet, …/_manifest-vN.json or \
             {prefix}anomalies/date=YYYY-MM-DD/episodes.parquet, found '{key}'"
        );
        let parts: Vec<&str> =
            key.strip_prefix(prefix).map(|rest| rest.split('/').collect()).unwrap_or_default();
        let [area, day, name] = parts[..] else { return Err(expected) };
        let date = day.strip_prefix("date=").filter(|day| day.len() == 10);
        let Some(date) = date.and_then(|day| day.parse::<Date>().ok()) else { return Err(expected) };
        let kind = match (area, name) {
            ("logs", "_SUCCESS") => return Ok(None),
            ("logs", name) if is_manifest(name) => Kind::Manifest,
            ("logs", name) if name.ends_with(".parquet") && !name.starts_with('_') => Kind::Logs,
            ("anomalies", "episodes.parquet") => Kind::Episodes,
            _ => return Err(expected),
        };
        Ok(Some(Self { bucket: bucket.to_owned(), key: key.to_owned(), kind, date }))
    }

    /// Another object of the same folder.
    pub fn beside(&self, name: &str) -> String {
        let folder = self.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{name}")
    }

    /// The last part of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(self.key.as_str(), |(_, name)| name)
    }

    /// Its place in the table of contributions.
    pub fn id(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }
}

fn is_manifest(name: &str) -> bool {
    let version = name.strip_prefix("_manifest-v").and_then(|rest| rest.strip_suffix(".json"));
    version.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(key: &str) -> Result<Option<Kind>, String> {
        Object::parse("b", key, "lake/").map(|object| object.map(|o| o.kind))
    }

    #[test]
    fn keys_of_ours() {
        assert_eq!(kind("lake/logs/date=2026-01-15/web-0-1-2.parquet"), Ok(Some(Kind::Logs)));
        assert_eq!(kind("lake/logs/date=2026-01-15/_manifest-v12.json"), Ok(Some(Kind::Manifest)));
        assert_eq!(kind("lake/anomalies/date=2026-01-15/episodes.parquet"), Ok(Some(Kind::Episodes)));
        assert_eq!(kind("lake/logs/date=2026-01-15/_SUCCESS"), Ok(None));
    }

    #[test]
    fn keys_of_others_are_refused_with_what_was_expected() {
        for key in [
            "logs/date=2026-01-15/a.parquet",
            "lake/logs/date=2026-02-30/a.parquet",
            "lake/logs/date=20260115/a.parquet",
            "lake/logs/date=2026-01-15/deep/a.parquet",
            "lake/logs/date=2026-01-15/_manifest-v.json",
            "lake/logs/date=2026-01-15/_hidden.parquet",
            "lake/logs/date=2026-01-15/a.csv",
            "lake/anomalies/date=2026-01-15/other.parquet",
            "lake/",
            "",
        ] {
            let error = kind(key).expect_err(key);
            assert!(error.contains("expected lake/logs/date=YYYY-MM-DD/NAME.parquet"), "{error}");
            assert!(error.ends_with(&format!("found '{key}'")), "{error}");
        }
    }

    #[test]
    fn neighbours() {
        let object = Object::parse("b", "lake/logs/date=2026-01-15/a b.parquet", "lake/")
            .expect("ours")
            .expect("counted");
        assert_eq!(object.beside("_SUCCESS"), "lake/logs/date=2026-01-15/_SUCCESS");
        assert_eq!(
            (object.name(), object.id().as_str()),
            ("a b.parquet", "b/lake/logs/date=2026-01-15/a b.parquet")
        );
    }
}
