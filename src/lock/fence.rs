//! Fences: numbers that rise with each grant on a key.

use std::fmt;

use super::{Error, Result, Timestamp};

/// A number that grows with every grant of a key, so that a resource can reject a stale holder
/// ("fencing token", Kleppmann 2016, *How to do distributed locking*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// No fence above this is minted.
    pub const MAX: Fence = Fence(900_000_000_000_000);
    /// A fence above this is worth a warning.
    pub const WARN: Fence = Fence(90_000_000_000_000);
    /// Digits of the text form; with leading zeros, so that comparing strings compares fences.
    pub const DIGITS: usize = 15;
    const LARGEST: u64 = 999_999_999_999_999;

    /// `None` above 15 digits.
    pub const fn new(value: u64) -> Option<Fence> {
        if value <= Self::LARGEST { Some(Fence(value)) } else { None }
    }

    /// Reads decimal digits, padded or not.
    pub fn parse(text: &str) -> Option<Fence> {
        if text.is_empty() || text.len() > Self::DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().map(Fence)
    }

    /// The fence after `previous`: the clock in units of 100 µs, or one more than `previous` where that
    /// is higher. The clock keeps fences rising when the store has lost the counter.
    ///
    /// # Errors
    /// `Internal` when it would exceed [`Fence::MAX`].
    pub fn next(previous: Option<Fence>, clock_100us: u64) -> Result<Fence> {
        let value = previous.map_or(clock_100us, |fence| clock_100us.max(fence.0 + 1));
        if value > Self::MAX.0 {
            return Err(Error::internal(format!(
                "the next fence would exceed {}; this key's fence counter must be reset by hand",
                Self::MAX
            )));
        }
        Ok(Fence(value))
    }

    /// The clock part of [`Fence::next`] for an authority that tells milliseconds only.
    pub const fn clock(now: Timestamp) -> u64 {
        now.as_millis().saturating_mul(10)
    }

    /// The number itself.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}", self.0)
    }
}
