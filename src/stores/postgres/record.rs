//! A stored lock record, from a row to a lease.

use std::time::Duration;

use tokio_postgres::Row;

use super::error::Failure;
use crate::lock::{Error, Fence, Key, Lease, LockId, Result, TIME_TOLERANCE, Timestamp, Ttl, is_live};

/// How long past its expiry a record is still live.
#[allow(clippy::cast_possible_truncation, reason = "a second")]
const TOLERANCE_MS: u64 = TIME_TOLERANCE.as_millis() as u64;

/// The latest time that a record may hold: the last one that JavaScript's `Date` knows.
const LATEST_MS: i64 = 8_640_000_000_000_000;

/// A lease as it is stored, and the server's time when it was read.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) lease: Lease,
    now: Timestamp,
}

impl Stored {
    /// Reads the columns `key, holder, expires_at_ms, acquired_at_ms, fence, stored_key, now_ms`.
    ///
    /// # Errors
    /// `Internal` that names the storage key, for a record that no library of this layout wrote.
    pub(super) fn read(row: &Row) -> Result<Stored> {
        let key: &str = column(row, "key")?;
        let unreadable = |what: &str| {
            Error::internal(format!(
                "the lock record {key:?} can't be read: {what}; repair or delete the row by hand"
            ))
        };
        let holder: &str = column(row, "holder")?;
        let lock_id =
            LockId::parse(holder).map_err(|_| unreadable("lock_id must be 22 characters of base64url"))?;
        let fence: &str = column(row, "fence")?;
        let fence = Fence::parse(fence).ok_or_else(|| unreadable("fence must be up to 15 digits"))?;
        let own_key = Key::new(column(row, "stored_key")?)
            .ok()
            .filter(|own_key| own_key.as_str() == key)
            .ok_or_else(|| unreadable("user_key must be equal to key"))?;
        let time = |name: &str| {
            let millis: i64 = column(row, name)?;
            timestamp(millis)
                .filter(|_| millis <= LATEST_MS)
                .ok_or_else(|| unreadable(&format!("{name} must be from 0 to {LATEST_MS}")))
        };
        let lease = Lease {
            key: own_key,
            lock_id,
            fence,
            acquired_at: time("acquired_at_ms")?,
            expires_at: time("expires_at_ms")?,
        };
        Ok(Stored { lease, now: now(row)? })
    }

    pub(super) fn is_live(&self) -> bool {
        is_live(self.lease.expires_at, self.now)
    }

    /// How long until it counts as free, by the server's clock.
    pub(super) fn free_in(&self) -> Duration {
        let tolerated = self.lease.expires_at.as_millis().saturating_add(TOLERANCE_MS);
        Timestamp::from_millis(tolerated).since(self.now)
    }

    /// How long ago it expired.
    pub(super) fn expired_for(&self) -> Duration {
        self.now.since(self.lease.expires_at)
    }
}

/// # Errors
/// `Internal` when a column is missing or of another type, which only a changed table can cause.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Result<T> {
    row.try_get(name).map_err(|error| {
        Error::internal(format!("the column {name} is not of the type that setupSchema gives it"))
            .because(error)
    })
}

pub(super) fn timestamp(millis: i64) -> Option<Timestamp> {
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}

pub(super) fn now(row: &Row) -> Result<Timestamp> {
    timestamp(column(row, "now_ms")?)
        .ok_or_else(|| Error::internal("the server's clock stands before 1970; set it right"))
}

/// As PostgreSQL takes it; no TTL comes near the end of the range.
pub(super) fn ttl_ms(ttl: Ttl) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

/// The row of each request, by the number that the statement gave it.
pub(super) fn by_number(rows: Vec<Row>, requests: usize) -> Result<Vec<Option<Row>>, Failure> {
    let mut numbered: Vec<Option<Row>> = Vec::new();
    numbered.resize_with(requests, || None);
    for row in rows {
        let number: i64 = column(&row, "n")?;
        match usize::try_from(number).ok().and_then(|number| numbered.get_mut(number)) {
            Some(place) => *place = Some(row),
            None => {
                return Err(Error::internal("PostgreSQL answered a request that nobody sent")
                    .unknown()
                    .into());
            }
        }
    }
    Ok(numbered)
}
