//! The clock that a memory store goes by: real, or moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::Timestamp;

/// Where clocks turned by hand start: late in 2025, so that fences look as they do in life.
const START: u64 = 1_763_683_200_000;

/// The clock of a [`super::MemoryStore`]. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct MemoryClock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    ByHand(Arc<AtomicU64>),
    Tokio(Instant),
    /// The wall clock as it was once, and the time that has passed since, which no step of the clock changes.
    Real(Timestamp, std::time::Instant),
}

impl MemoryClock {
    /// Stands still until [`MemoryClock::advance`].
    pub fn by_hand() -> MemoryClock {
        MemoryClock(Kind::ByHand(Arc::new(AtomicU64::new(START))))
    }

    /// Runs with tokio's clock, so that a test with paused time moves the store and its timers together.
    /// Must be made and read inside a tokio runtime.
    pub fn of_tokio() -> MemoryClock {
        MemoryClock(Kind::Tokio(Instant::now()))
    }

    /// Real time, from this machine's wall clock now.
    pub fn real() -> MemoryClock {
        MemoryClock(Kind::Real(Timestamp::now(), std::time::Instant::now()))
    }

    /// The time by this clock.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::ByHand(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
            Kind::Tokio(start) => Timestamp::from_millis(START + millis_of(start.elapsed())),
            Kind::Real(start, since) => {
                Timestamp::from_millis(start.as_millis() + millis_of(since.elapsed()))
            }
        }
    }

    /// Turns the clock on by `time`, in whole milliseconds.
    ///
    /// # Panics
    /// Where the clock is not one that is turned by hand.
    pub fn advance(&self, time: Duration) {
        let Kind::ByHand(millis) = &self.0 else { panic!("only a clock by hand can be turned") };
        millis.fetch_add(millis_of(time), Ordering::SeqCst);
    }

    pub(super) fn is_by_hand(&self) -> bool {
        matches!(self.0, Kind::ByHand(_))
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
