//! Times on their way into TIMESTAMPTZ and back, without a detour over a calendar.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// 2000-01-01T00:00:00Z, where PostgreSQL's time begins, in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// The earliest that TIMESTAMPTZ can hold: 4713 BC. It ends in 294276 AD, beyond what 64 bits of microseconds reach.
const MIN_US: i64 = -210_866_803_200_000_000;

/// Microseconds since 1970, UTC. What is earlier than TIMESTAMPTZ holds is stored as the earliest it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Micros(pub i64);

impl Micros {
    /// As PostgreSQL counts.
    pub fn to_postgres(self) -> i64 {
        self.0.max(MIN_US) - POSTGRES_EPOCH_US
    }
}

impl ToSql for Micros {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_i64(self.to_postgres());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Micros(since_2000.saturating_add(POSTGRES_EPOCH_US)))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        for us in [0, -1, 1_768_471_200_123_456, POSTGRES_EPOCH_US, MIN_US, i64::MAX] {
            let mut out = BytesMut::new();
            Micros(us).to_sql(&Type::TIMESTAMPTZ, &mut out).expect("fits");
            assert_eq!(Micros::from_sql(&Type::TIMESTAMPTZ, &out).expect("reads"), Micros(us));
        }
    }

    #[test]
    fn times_before_the_type_begins_are_held_at_its_beginning() {
        assert_eq!(Micros(i64::MIN).to_postgres(), Micros(MIN_US).to_postgres());
    }
}
