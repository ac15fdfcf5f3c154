//! The clocks that records expire and are dated by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::platform;
use crate::lock::{Timestamp, Ttl};

/// How far the wall clock may have moved against the boot clock before a stored time of day counts as
/// wrong: more than clocks are slewed by, less than anybody sets them by.
const CLOCK_WAS_SET: Duration = Duration::from_secs(1);

/// One reading of both clocks: the kernel's boot clock, on which records expire, and the wall clock, in
/// which answers and fences are given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    boot: Timestamp,
    wall: Timestamp,
    wall_100us: u64,
}

impl Now {
    pub(super) fn read() -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = platform::since_boot();
        Now {
            boot: Timestamp::from_millis(whole(boot.as_millis())),
            wall: Timestamp::from_millis(whole(wall.as_millis())),
            wall_100us: whole(wall.as_micros() / 100),
        }
    }

    /// Milliseconds since boot.
    pub(super) fn boot(self) -> Timestamp {
        self.boot
    }

    pub(super) fn wall(self) -> Timestamp {
        self.wall
    }

    /// For [`crate::lock::Fence::next`].
    pub(super) fn fence_clock(self) -> u64 {
        self.wall_100us
    }

    /// The deadline of a lease that starts now, on the boot clock, and its translation.
    pub(super) fn after(self, ttl: Ttl) -> (Timestamp, Timestamp) {
        (self.boot.plus(ttl), self.wall.plus(ttl))
    }

    /// When a deadline on the boot clock is reached by the wall clock. `stored` is the translation made
    /// when it was set: kept, so that every answer names the same millisecond, unless the clock was set.
    pub(super) fn translate(self, deadline: Timestamp, stored: Timestamp) -> Timestamp {
        let ahead = deadline.as_millis().saturating_sub(self.boot.as_millis());
        let behind = self.boot.as_millis().saturating_sub(deadline.as_millis());
        let fresh = self.wall.as_millis().saturating_add(ahead).saturating_sub(behind);
        if Duration::from_millis(fresh.abs_diff(stored.as_millis())) <= CLOCK_WAS_SET {
            stored
        } else {
            Timestamp::from_millis(fresh)
        }
    }
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(boot: u64, wall: u64) -> Now {
        let at = Timestamp::from_millis;
        Now { boot: at(boot), wall: at(wall), wall_100us: wall * 10 }
    }

    #[test]
    fn a_translation_holds_until_the_wall_clock_is_set() {
        let ttl = Ttl::from_millis(30_000).unwrap();
        let (deadline, stored) = now(1_000, 1_700_000_000_000).after(ttl);
        assert_eq!(deadline, Timestamp::from_millis(31_000));
        assert_eq!(now(6_000, 1_700_000_005_400).translate(deadline, stored), stored, "slewed");
        let forward = now(6_000, 1_700_003_605_000).translate(deadline, stored);
        assert_eq!(forward, Timestamp::from_millis(1_700_003_630_000), "set forward by an hour");
        let late = now(40_000, 1_700_003_639_000).translate(deadline, stored);
        assert_eq!(late, Timestamp::from_millis(1_700_003_630_000), "past the deadline, too");
    }
}
