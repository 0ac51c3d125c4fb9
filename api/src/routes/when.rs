//! For which episodes something is expected, as users write it.

use crate::problem::Problem;
use jiff::{SignedDuration, Timestamp};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use smartlog_schema::feedback::{Hours, Weekday};
use utoipa::ToSchema;

/// How long something is expected when nobody says until when: forgotten, it would hide trouble for ever.
pub const USUAL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Reads an object, and nothing else: derived readers take lists for objects, too.
pub fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let members = Map::deserialize(from)?;
    serde_json::from_value(Value::Object(members)).map_err(D::Error::custom)
}

/// Reads a body that is an object, and nothing else.
pub fn body<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = object(&mut reader)?;
    reader.end()?;
    Ok(read)
}

/// Days that are named at most.
const MOST_DAYS: usize = 7;

/// Which episodes: by when they started. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// At or after this …
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-15T22:00:00Z")]
    pub since: Option<Timestamp>,
    /// … and before this. Absent: a week after `since`
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-16T06:00:00Z")]
    pub until: Option<Timestamp>,
    /// In these hours of the day (UTC): from the first to before the second; `22-6` goes past midnight
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^([0-9]|1[0-9]|2[0-3])-([0-9]|1[0-9]|2[0-4])$", example = "22-6")]
    pub hours: Option<Hours>,
    /// On one of these days (UTC); empty: on any
    #[serde(default, deserialize_with = "week")]
    #[schema(value_type = Vec<Day>, max_items = 7, example = json!(["sat", "sun"]))]
    pub weekdays: Vec<Weekday>,
}

fn week<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Weekday>, D::Error> {
    let days = Vec::<Weekday>::deserialize(from)?;
    if days.len() > MOST_DAYS {
        return Err(D::Error::custom(format!("expected at most {MOST_DAYS} weekdays, found {}", days.len())));
    }
    Ok(days)
}

/// A day of the week, for the documentation.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `Weekday` of a crate that knows nothing of documentation")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl When {
    /// Begin and end, epoch seconds: from `first` on where no begin is given.
    ///
    /// # Errors
    /// An end that does not lie after the begin.
    pub fn interval(&self, first: Timestamp) -> Result<(i64, i64), Problem> {
        let since = self.since.unwrap_or(first);
        let until = self.until.unwrap_or_else(|| since.saturating_add(USUAL).unwrap_or(Timestamp::MAX));
        if until <= since {
            let detail = format!("until must be later than since, found {until}, which is not after {since}");
            return Err(Problem::conflict("when", detail));
        }
        Ok((since.as_second(), until.as_second()))
    }
}
