//! Instants and durations in milliseconds, and when a lease is live.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Error, Result};

/// How long past its expiry a record still counts as live, because clocks differ.
pub const TIME_TOLERANCE: Duration = Duration::from_millis(1000);

/// The longest time that an argument may name: 100 years of 365 days, in milliseconds.
pub const MAX_TIME_MS: u64 = 3_153_600_000_000;

/// A time of day on some authority's clock, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis)
    }

    /// This machine's wall clock.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// In milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// When a lease that is granted now ends.
    #[must_use]
    pub const fn plus(self, ttl: Ttl) -> Timestamp {
        Timestamp(self.0.saturating_add(ttl.0))
    }

    /// Zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How long a lease lasts: 1 ms to 100 years, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u64);

impl Ttl {
    /// # Errors
    /// `InvalidArgument` below 1 and above [`MAX_TIME_MS`].
    pub fn from_millis(millis: u64) -> Result<Ttl> {
        match millis {
            1..=MAX_TIME_MS => Ok(Ttl(millis)),
            _ => Err(Error::invalid(format!(
                "ttlMs must be a positive integer of at most {MAX_TIME_MS}; {millis} was given"
            ))),
        }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// As the standard library has it.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// The one predicate of liveness: a record is live while it expires later than `now - tolerance`.
pub fn is_live(expires_at: Timestamp, now: Timestamp) -> bool {
    let tolerance = u64::try_from(TIME_TOLERANCE.as_millis()).unwrap_or(u64::MAX);
    expires_at.0.saturating_add(tolerance) > now.0
}
