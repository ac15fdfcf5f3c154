//! How long fences of idle keys are kept.

use super::{Error, Fence, MAX_TIME_MS, Result, Timestamp};

/// How long a fence counter stays after the time that its value names. Fences follow the clock, so a counter whose
/// value is older than that says nothing any more: the next fence is higher with it and without it.
///
/// Not beside processes of the original library, whose fences follow the counter alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceRetention(u64);

impl FenceRetention {
    /// The least that a user may say: one day, so that no clock error of a store reaches it.
    pub const LEAST_MS: u64 = 86_400_000;
    /// The most that a user may say.
    pub const MOST_MS: u64 = MAX_TIME_MS;

    /// # Errors
    /// `InvalidArgument` below [`FenceRetention::LEAST_MS`] and above [`FenceRetention::MOST_MS`].
    pub fn from_millis(millis: u64) -> Result<FenceRetention> {
        match millis {
            Self::LEAST_MS..=Self::MOST_MS => Ok(FenceRetention(millis)),
            _ => Err(Error::invalid(format!(
                "fenceRetentionMs must be an integer from {} to {}; {millis} was given",
                Self::LEAST_MS,
                Self::MOST_MS
            ))),
        }
    }

    /// Of any length, for tests that see a counter go.
    pub const fn unchecked_from_millis(millis: u64) -> FenceRetention {
        FenceRetention(millis)
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// When a counter of this value may go, by the store's clock. A fence ahead of the clock stays for as much longer.
    pub const fn ends_at(self, fence: Fence) -> Timestamp {
        Timestamp::from_millis(fence.value().div_ceil(10).saturating_add(self.0))
    }
}
