//! The server's clock, as far as this process can tell it: its own clock, corrected by what replies say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost_types::Timestamp as ServerTime;

use crate::clock;
use crate::lock::Timestamp;

/// A reading of the clock that no change of the wall clock moves and that runs while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn now() -> Moment {
        Moment(micros(clock::steady()))
    }

    pub(super) fn plus(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(micros(time)))
    }

    /// Zero when `earlier` is later.
    pub(super) fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Starts as this machine's wall clock. A reply bounds it from both sides: the server read the time it
/// names after the request was sent and before the reply arrived (Cristian 1989, *Probabilistic clock
/// synchronization*), so a clock within these bounds is left alone, and any other is moved to the nearer one.
/// However far off the client's clock is, the error is then below one round trip.
#[derive(Debug)]
pub(super) struct ServerClock {
    /// Server time minus [`Moment`], in microseconds.
    offset: Mutex<i64>,
}

impl ServerClock {
    pub(super) fn new() -> ServerClock {
        let wall = i64::try_from(Timestamp::now().as_millis()).unwrap_or(i64::MAX).saturating_mul(1000);
        ServerClock { offset: Mutex::new(wall.saturating_sub(Moment::now().0)) }
    }

    pub(super) fn now(&self) -> Timestamp {
        let micros = self.offset().saturating_add(Moment::now().0);
        Timestamp::from_millis(u64::try_from(micros / 1000).unwrap_or(0))
    }

    /// The server said that it was `time` while it handled a request that was sent at `sent`.
    pub(super) fn saw(&self, time: &ServerTime, sent: Moment) {
        self.bound(time, sent, Moment::now());
    }

    fn bound(&self, time: &ServerTime, sent: Moment, received: Moment) {
        let server = time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1000);
        let (least, most) = (server.saturating_sub(received.0), server.saturating_sub(sent.0));
        let mut offset = self.offset();
        *offset = (*offset).max(least).min(most);
    }

    fn offset(&self) -> MutexGuard<'_, i64> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn clock(offset: i64) -> ServerClock {
        ServerClock { offset: Mutex::new(offset) }
    }

    fn at(seconds: i64) -> ServerTime {
        ServerTime { seconds, nanos: 0 }
    }

    #[test]
    fn a_clock_within_the_bounds_of_a_reply_is_left_alone() {
        let clock = clock(1000 * SECOND);
        clock.bound(&at(1010), Moment(9 * SECOND), Moment(11 * SECOND));
        assert_eq!(*clock.offset(), 1000 * SECOND);
    }

    #[test]
    fn a_clock_an_hour_off_is_moved_to_the_nearer_bound() {
        for wrong in [-3600, 3600] {
            let clock = clock((1000 + wrong) * SECOND);
            clock.bound(&at(1010), Moment(9 * SECOND), Moment(11 * SECOND));
            let expected = if wrong < 0 { 999 } else { 1001 };
            assert_eq!(*clock.offset(), expected * SECOND, "an hour off: {wrong}");
            // A quicker reply narrows it.
            clock.bound(&at(1020), Moment(20 * SECOND), Moment(20 * SECOND));
            assert_eq!(*clock.offset(), 1000 * SECOND);
        }
    }

    #[test]
    fn it_starts_as_the_wall_clock() {
        let apart = ServerClock::new().now().as_millis().abs_diff(Timestamp::now().as_millis());
        assert!(apart < 1000, "{apart} ms apart");
    }
}
