//! Whether what lies at the path is somebody's lease or was left behind. Pure, but for the probe.

use std::time::Duration;

use super::error::HeldBy;
use super::options::LeaseFileOptions;
use super::origin::Origin;
use super::owner::{Now, age};
use super::record::Record;

/// Tells whether a process appears to live, in place of asking the operating system.
///
/// It is asked about pids that mean the same here (same host, boot and pid namespace) and about those of
/// records that do not say where their owner lives, as Go's; never about others.
pub trait ProcessProbe: Send + Sync {
    /// Whether the process seems to run.
    fn appears_alive(&self, pid: u64) -> bool;
}

impl<F: Fn(u64) -> bool + Send + Sync> ProcessProbe for F {
    fn appears_alive(&self, pid: u64) -> bool {
        self(pid)
    }
}

#[derive(Debug)]
pub enum Verdict {
    Held(HeldBy),
    Abandoned,
}

pub struct Judge<'a> {
    pub options: &'a LeaseFileOptions,
    pub probe: Option<&'a dyn ProcessProbe>,
    pub here: &'a Origin,
    pub now: Now,
}

impl Judge<'_> {
    /// `modified` is when the file was last written, in Unix nanoseconds.
    pub fn judge(&self, content: &[u8], modified: i64) -> Verdict {
        match Record::decode(content) {
            Some(record) => self.judge_record(&record),
            None => self.judge_unreadable(modified),
        }
    }

    fn judge_record(&self, record: &Record) -> Verdict {
        let age = age(record, self.now, self.here);
        if age >= self.options.lease_stale_threshold || self.is_dead(record) {
            return Verdict::Abandoned;
        }
        let shares_pids = record.origin.shares_pids_with(self.here);
        Verdict::Held(HeldBy::owner(record, age, shares_pids))
    }

    /// Somebody may be writing it just now, so it is left alone for a while.
    fn judge_unreadable(&self, modified: i64) -> Verdict {
        let age = u64::try_from(self.now.wall.saturating_sub(modified)).unwrap_or(0);
        if Duration::from_nanos(age) >= self.options.invalid_lock_stale_threshold {
            return Verdict::Abandoned;
        }
        Verdict::Held(HeldBy::unknown())
    }

    /// A pid says something only where it means the same to the owner and to us.
    fn is_dead(&self, record: &Record) -> bool {
        let shares_pids = record.origin.shares_pids_with(self.here);
        match self.probe {
            Some(probe) if shares_pids || record.origin.is_untold() => !probe.appears_alive(record.pid),
            None if shares_pids => record.origin.is_dead(record.pid),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_683_200_000_000_000;
    const MILLI: i64 = 1_000_000;

    fn judge(record: &Record, probe: Option<&dyn ProcessProbe>) -> Verdict {
        let options = LeaseFileOptions::default();
        let now = Now { wall: NOW, monotonic: None };
        let here = Origin::current();
        Judge { options: &options, probe, here: &here, now }.judge(&record.encode().0, 0)
    }

    fn record(age_millis: i64, pid: u64, origin: Origin) -> Record {
        Record { owner_id: "x".into(), pid, heartbeat: NOW - age_millis * MILLI, origin }
    }

    fn is_held(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Held(_))
    }

    fn nobody() -> u64 {
        i32::MAX.unsigned_abs().into()
    }

    #[test]
    fn a_heartbeat_holds_until_the_threshold() {
        let here = u64::from(std::process::id());
        for origin in [Origin::default(), Origin::current()] {
            assert!(is_held(&judge(&record(0, here, origin.clone()), None)));
            assert!(is_held(&judge(&record(2999, here, origin.clone()), None)));
            assert!(!is_held(&judge(&record(3000, here, origin.clone()), None)));
            assert!(is_held(&judge(&record(-3_600_000, here, origin), None)), "from the future");
        }
    }

    #[test]
    fn a_pid_is_looked_at_only_where_everything_matches() {
        let current = Origin::current();
        assert!(!is_held(&judge(&record(0, nobody(), current.clone()), None)), "a dead owner here");
        let elsewhere = [
            Origin { host: Some("elsewhere".into()), ..current.clone() },
            Origin { boot_id: Some("another".into()), ..current.clone() },
            Origin { pid_namespace: Some(1), ..current.clone() },
            Origin { pid_namespace: None, ..current.clone() },
            Origin { start_time: None, ..current.clone() },
            Origin::default(),
        ];
        for origin in elsewhere {
            assert!(is_held(&judge(&record(0, nobody(), origin.clone()), None)), "{origin:?}");
        }
        let recycled = Origin { start_time: current.start_time.map(|ticks| ticks + 1000), ..current };
        assert!(!is_held(&judge(&record(0, std::process::id().into(), recycled), None)), "a recycled pid");
    }

    #[test]
    fn a_probe_answers_in_place_of_the_system() {
        let (alive, dead) = (|_: u64| true, |_: u64| false);
        let here = Origin::current();
        assert!(is_held(&judge(&record(0, nobody(), here.clone()), Some(&alive))));
        assert!(!is_held(&judge(&record(3000, nobody(), here.clone()), Some(&alive))), "age still counts");
        assert!(!is_held(&judge(&record(0, std::process::id().into(), here.clone()), Some(&dead))));
        assert!(!is_held(&judge(&record(0, 1, Origin::default()), Some(&dead))), "a record of Go's");
        let elsewhere = Origin { host: Some("elsewhere".into()), ..here };
        assert!(is_held(&judge(&record(0, 1, elsewhere), Some(&dead))), "a pid of another host");
    }

    #[test]
    fn unreadable_content_is_held_until_its_own_threshold() {
        let options = LeaseFileOptions::default();
        let here = Origin::default();
        let judge =
            Judge { options: &options, probe: None, here: &here, now: Now { wall: NOW, monotonic: None } };
        for (age_millis, held) in [(0, true), (1199, true), (1200, false), (-5000, true)] {
            let verdict = judge.judge(b"{", NOW - age_millis * MILLI);
            assert_eq!(is_held(&verdict), held, "{age_millis} ms");
        }
    }
}
