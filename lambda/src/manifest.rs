//! Which files of a day no longer count (docs/EXPORT.md, Manifest).

use aws_sdk_s3::Client;
use serde::Deserialize;

use crate::bucket;
use crate::failure::Failure;
use crate::object::Object;

const FORMAT: &str = "smartlog-manifest/1";

#[derive(Deserialize)]
struct Manifest {
    format: String,
    date: String,
    #[serde(default)]
    voided: Vec<String>,
}

#[derive(Deserialize)]
struct Success {
    manifest: String,
}

/// Names of the files that the manifest at this key voids.
///
/// # Errors
/// Broken, when it is no manifest of its day; transient, when it is gone or cannot be read.
pub async fn voided(client: &Client, object: &Object) -> Result<Vec<String>, Failure> {
    let bytes = bucket::read(client, &object.bucket, &object.key).await?;
    let bytes = bytes.ok_or_else(|| Failure::transient(format!("the manifest {} is gone", object.id())))?;
    parse(&bytes, object).map_err(|text| Failure::broken(format!("{}: {text}", object.id())))
}

/// Whether the newest manifest of the object's day voids it.
pub async fn voids(client: &Client, object: &Object) -> Result<bool, Failure> {
    let Some(bytes) = bucket::read(client, &object.bucket, &object.beside("_SUCCESS")).await? else {
        return Ok(false);
    };
    let success: Success = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::broken(format!("{}: expected the name of a manifest: {e}", object.beside("_SUCCESS")))
    })?;
    let manifest = Object { key: object.beside(&success.manifest), ..object.clone() };
    Ok(voided(client, &manifest).await?.iter().any(|name| name == object.name()))
}

fn parse(bytes: &[u8], object: &Object) -> Result<Vec<String>, String> {
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|e| format!("expected a manifest: {e}"))?;
    if manifest.format != FORMAT {
        return Err(format!("expected the format {FORMAT}, found {}", manifest.format));
    }
    if manifest.date != object.date.to_string() {
        return Err(format!("expected the date {}, found {}", object.date, manifest.date));
    }
    if let Some(name) = manifest.voided.iter().find(|name| name.contains('/') || name.is_empty()) {
        return Err(format!("expected names of files in its own folder, found '{name}'"));
    }
    Ok(manifest.voided)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let object =
            Object::parse("b", "logs/date=2026-01-15/_manifest-v2.json", "").expect("ours").expect("counted");
        parse(text.as_bytes(), &object)
    }

    #[test]
    fn a_manifest_names_what_it_voids() {
        let good = r#"{"format": "smartlog-manifest/1", "date": "2026-01-15", "files": [], "voided": ["a.parquet"]}"#;
        assert_eq!(read(good), Ok(vec!["a.parquet".to_owned()]));
    }

    #[test]
    fn what_is_no_manifest_of_the_day_is_refused_with_what_was_expected() {
        for (text, error) in [
            ("{", "expected a manifest: EOF"),
            (
                r#"{"format": "smartlog-manifest/2", "date": "2026-01-15"}"#,
                "expected the format smartlog-manifest/1",
            ),
            (
                r#"{"format": "smartlog-manifest/1", "date": "2026-01-16"}"#,
                "expected the date 2026-01-15, found 2026-01-16",
            ),
            (
                r#"{"format": "smartlog-manifest/1", "date": "2026-01-15", "voided": ["../a"]}"#,
                "found '../a'",
            ),
        ] {
            assert!(read(text).expect_err(text).contains(error), "{text}");
        }
    }
}
