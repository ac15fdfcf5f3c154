//! Owner ids, and the clocks by which a heartbeat's age is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::origin::Origin;
use super::record::Record;
use crate::local::claim_file::monotonic_nanos;

/// This moment, on the clock that people set and on the one that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Unix nanoseconds.
    pub wall: i64,
    /// Nanoseconds on the boot's own clock; `None` where processes do not share one.
    pub monotonic: Option<i64>,
}

impl Now {
    pub fn read() -> Now {
        Now { wall: unix_nanos(SystemTime::now()), monotonic: monotonic_nanos() }
    }
}

/// Zero for a time before 1970.
pub fn unix_nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A new owner id, `PID-UNIXNANO-SEQ`, never given twice.
///
/// SEQ is the boot's own clock, raised where needed so that it grows with every id of this process.
/// Together with UNIXNANO it tells other processes of the boot how the two clocks stood to each other
/// when the file was made: see [`age`].
pub fn mint_owner_id(pid: u32, now: Now) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let clock = now.monotonic.unwrap_or(0);
    let next = |last: i64| clock.max(last + 1);
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    format!("{pid}-{}-{}", now.wall, next(last.unwrap_or_default()))
}

/// How old the heartbeat is; zero for one from the future.
///
/// The wall clock alone is not to be trusted, since setting it forward would make every lease look
/// abandoned. Where the owner is a process of the same boot, a second opinion comes from the boot's own
/// clock, to which the owner id translates the heartbeat unless the wall clock was set between the making
/// of the file and the heartbeat. The younger age counts. (An age below zero is that of a clock that was
/// set, and no opinion.)
pub fn age(record: &Record, now: Now, here: &Origin) -> Duration {
    let by_wall = i128::from(now.wall) - i128::from(record.heartbeat);
    let by_boot = || {
        let (made_wall, made_monotonic) = clocks_in(&record.owner_id)?;
        let elapsed = i128::from(now.monotonic?) - i128::from(made_monotonic);
        Some(elapsed - (i128::from(record.heartbeat) - i128::from(made_wall)))
    };
    let by_boot = if record.origin.shares_boot_with(here) { by_boot() } else { None };
    let opinions = [Some(by_wall), by_boot].into_iter().flatten();
    let youngest = opinions.filter(|age| *age >= 0).min().unwrap_or(0);
    Duration::from_nanos(u64::try_from(youngest).unwrap_or(u64::MAX))
}

fn clocks_in(owner_id: &str) -> Option<(i64, i64)> {
    let mut parts = owner_id.split('-').skip(1);
    let clocks = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(clocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const START: i64 = 1_763_683_200 * SECOND;

    fn here() -> Origin {
        Origin { boot_id: Some("boot".into()), ..Origin::default() }
    }

    fn at(seconds: i64, wall_ahead: i64) -> Now {
        Now { wall: START + (seconds + wall_ahead) * SECOND, monotonic: Some(seconds * SECOND) }
    }

    /// Made at second 100, with a heartbeat at that second on a wall clock that is so much ahead.
    fn record(heartbeat: i64, wall_ahead: i64) -> Record {
        Record {
            owner_id: format!("1-{}-{}", at(100, 0).wall, 100 * SECOND),
            pid: 1,
            heartbeat: at(heartbeat, wall_ahead).wall,
            origin: here(),
        }
    }

    #[test]
    fn owner_ids_differ_even_at_one_moment() {
        let now = Now { wall: START, monotonic: None };
        assert_ne!(mint_owner_id(1, now), mint_owner_id(1, now));
    }

    #[test]
    fn without_a_common_boot_the_wall_clock_decides() {
        let stranger = Origin::default();
        assert_eq!(age(&record(110, 0), at(112, 0), &stranger), Duration::from_secs(2));
        assert_eq!(age(&record(110, 0), at(112, 3600), &stranger), Duration::from_secs(3602));
        assert_eq!(age(&record(110, 0), at(112, -3600), &stranger), Duration::ZERO, "from the future");
    }

    #[test]
    fn within_a_boot_a_clock_that_was_set_does_not_age_a_heartbeat() {
        for set in [-3600, -1, 0, 1, 3600] {
            let (before, after) = (record(110, 0), record(110, set));
            assert!(age(&before, at(111, set), &here()) <= Duration::from_secs(1), "set by {set} since");
            assert!(age(&after, at(111, set), &here()) <= Duration::from_secs(1), "set by {set} before");
        }
    }

    #[test]
    fn within_a_boot_an_abandoned_heartbeat_still_ages() {
        for set in [-3600, 0, 3600] {
            assert_eq!(age(&record(110, 0), at(210, set), &here()), Duration::from_secs(100));
            assert_eq!(age(&record(110, set), at(210, set), &here()), Duration::from_secs(100));
        }
    }

    #[test]
    fn an_owner_id_of_another_form_gives_no_second_opinion() {
        for owner_id in ["x", "1-2", "1-2-x", "1-2-3-4", ""] {
            let record = Record { owner_id: owner_id.into(), ..record(110, 0) };
            assert_eq!(age(&record, at(112, 0), &here()), Duration::from_secs(2), "{owner_id}");
        }
    }
}
