//! The clock that local deadlines count on: monotonic, and running while the machine sleeps.

use std::time::Duration;

#[cfg(not(any(test, feature = "testing")))]
use crate::clock::steady as since_start;

/// A moment on that clock. No wall clock moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Moment {
        Moment(since_start())
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(duration))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(duration))
    }

    /// The last multiple of `grid` at or before it.
    #[must_use]
    pub(super) fn rounded_down(self, grid: Duration) -> Moment {
        match grid.as_nanos() {
            0 => self,
            grid => self.minus(Duration::from_nanos(u64::try_from(self.0.as_nanos() % grid).unwrap_or(0))),
        }
    }

    #[cfg(test)]
    pub(super) fn from_start(duration: Duration) -> Moment {
        Moment(duration)
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.since(Moment::now())
    }
}

// In tests tokio's clock, so that a test that pauses time pauses the leases with it.
#[cfg(any(test, feature = "testing"))]
fn since_start() -> Duration {
    use std::sync::LazyLock;
    use tokio::time::Instant;

    /// Every test's runtime pauses a clock of its own, and some stand before the first one read.
    const AHEAD: Duration = Duration::from_secs(3600);
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    let (start, now) = (*START, Instant::now());
    (AHEAD + now.saturating_duration_since(start)).saturating_sub(start.saturating_duration_since(now))
}
