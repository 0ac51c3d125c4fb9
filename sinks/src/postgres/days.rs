//! The daily partitions of `logs`: made before the first log of a day is written, dropped when the day is too old.
//!
//! There is no default partition: it would have to be searched for rows of a day before that day can be attached.

use super::lock_key;
use jiff::civil::Date;
use smartlog_schema::window::{DAY, MICROS};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// A day, counted from 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(i64);

impl Day {
    /// The day of an event time in microseconds; `None` outside the years 1 to 9999, which have no partition.
    pub fn of(timestamp_us: i64) -> Option<Self> {
        const FIRST: i64 = -719_162; // 0001-01-01
        const LAST: i64 = 2_932_895; // 9999-12-30: the day after it must be writable too
        let day = timestamp_us.div_euclid(DAY * MICROS);
        (FIRST..=LAST).contains(&day).then_some(Day(day))
    }

    fn date(self) -> Date {
        // In range by construction.
        Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(self.0))
    }

    fn partition(self) -> String {
        format!("logs_p{}", self.date().strftime("%Y%m%d"))
    }

    /// The inverse of [`Day::partition`].
    fn of_partition(name: &str) -> Option<Self> {
        let date = Date::strptime("%Y%m%d", name.strip_prefix("logs_p")?).ok()?;
        let days = date.duration_since(Date::constant(1970, 1, 1)).as_secs() / DAY;
        Some(Day(days))
    }

    fn end_us(self) -> i64 {
        (self.0 + 1) * DAY * MICROS
    }
}

/// Makes the partition of `day` unless it is there. Attaching needs a lock that neither readers nor writers of other
/// days wait for (making it in place would need one that all wait for).
pub(crate) async fn ensure(client: &Client, day: Day) -> Result<(), Error> {
    const IS_THERE: &str = "SELECT 1 FROM pg_inherits
                            WHERE inhparent = 'logs'::regclass AND inhrelid = to_regclass($1)";
    let name = day.partition();
    if client.query_opt(IS_THERE, &[&name]).await?.is_some() {
        return Ok(());
    }
    let lock = concat!("SELECT pg_advisory_xact_lock(", lock_key!("'partitions'"), ")");
    client.batch_execute(&format!("BEGIN; {lock}")).await?;
    // Another worker may have made it while we waited.
    if client.query_opt(IS_THERE, &[&name]).await?.is_none() {
        let (from, to) = (day.date(), Day(day.0 + 1).date());
        client
            .batch_execute(&format!(
                "CREATE TABLE {name} (LIKE logs INCLUDING DEFAULTS INCLUDING INDEXES);
                 ALTER TABLE logs ATTACH PARTITION {name}
                 FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
            ))
            .await?;
    }
    client.batch_execute("COMMIT").await
}

/// Drops the partitions that end at or before `cutoff_us` (microseconds); gives how many. One that a reader holds for
/// long is left for the next time, so that writers never wait long behind us.
pub(crate) async fn drop_before(client: &Client, cutoff_us: i64) -> Result<u64, Error> {
    let rows = client
        .query(
            "SELECT c.relname::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
             WHERE inhparent = 'logs'::regclass ORDER BY 1",
            &[],
        )
        .await?;
    client.batch_execute("SET lock_timeout = '2s'").await?;
    let mut dropped = 0;
    for name in rows.iter().map(|row| row.get::<_, &str>(0)) {
        if Day::of_partition(name).is_none_or(|day| day.end_us() > cutoff_us) {
            continue;
        }
        match client.batch_execute(&format!("DROP TABLE {name}")).await {
            Ok(()) => dropped += 1,
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                tracing::info!(partition = name, "in use, dropped the next time");
            }
            Err(error) => return Err(error),
        }
    }
    client.batch_execute("RESET lock_timeout").await?;
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_cut_at_midnight_utc_before_1970_too() {
        let name = |us| Day::of(us).map(Day::partition);
        assert_eq!(name(0).as_deref(), Some("logs_p19700101"));
        assert_eq!(name(-1).as_deref(), Some("logs_p19691231"));
        assert_eq!(name(1_768_471_200_000_000).as_deref(), Some("logs_p20260115"));
        assert_eq!(name(-62_135_596_800_000_000).as_deref(), Some("logs_p00010101"));
        assert_eq!(name(-62_135_596_800_000_001), None);
        assert_eq!(name(253_402_214_399_999_999).as_deref(), Some("logs_p99991230"));
        assert_eq!(name(253_402_214_400_000_000), None);
        assert_eq!((name(i64::MIN), name(i64::MAX)), (None, None));
    }

    #[test]
    fn a_partitions_name_tells_its_day() {
        for us in [0, -1, 1_768_471_200_000_000, -62_135_596_800_000_000, 253_402_214_399_999_999] {
            let day = Day::of(us).expect("in range");
            assert_eq!(Day::of_partition(&day.partition()), Some(day));
        }
        assert_eq!(Day::of_partition("logs_old"), None);
        assert_eq!(Day::of_partition("logs_p2026"), None);
    }
}
