//! When to renew a lease, when to give it up: a pure state machine over held, renewed, lost, unknown
//! (the model of madelson/DistributedLock's lease monitor). Times go in, a step comes out.

use std::time::Duration;

use super::clock::Moment;
use super::policy::KeepPolicy;
use crate::lock::Ttl;

/// The renewal of one lease.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    policy: KeepPolicy,
    stop_at: Option<Moment>,
    next_renewal: Moment,
    next_ping: Moment,
    renewing: bool,
    given_up: bool,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub lost: bool,
    pub renew: bool,
    pub ping: bool,
    pub look_again: Moment,
}

/// The step for a lease that nobody renews.
pub(super) fn watch_only(now: Moment, lost_at: Moment) -> Step {
    Step { lost: now >= lost_at, renew: false, ping: false, look_again: lost_at }
}

impl Keeping {
    pub fn new(policy: KeepPolicy, granted: Moment, ttl: Ttl) -> Keeping {
        let stop_at = policy.max_hold.map(|max_hold| granted.plus(max_hold));
        let next_ping = granted.plus(policy.stall / 3);
        let mut keeping =
            Keeping { policy, stop_at, next_renewal: granted, next_ping, renewing: false, given_up: false };
        keeping.schedule(granted, ttl);
        keeping
    }

    /// When to look first.
    pub fn first_look(&self, lost_at: Moment) -> Moment {
        let lost_at = self.stop_at.map_or(lost_at, |stop_at| stop_at.min(lost_at));
        self.next_renewal.min(self.next_ping).min(lost_at)
    }

    /// When the lease ends whatever the store says.
    pub fn stop_at(&self) -> Option<Moment> {
        self.stop_at
    }

    /// Between renewals. An interval that is no shorter than the TTL, to which the user has extended by
    /// hand, could not keep the lease.
    pub fn interval(&self, ttl: Ttl) -> Duration {
        let ttl = ttl.as_duration();
        self.policy.interval.filter(|interval| *interval < ttl).unwrap_or(ttl / 3)
    }

    /// Renewals of many leases fall on common moments, so that a store can take them in one request.
    fn schedule(&mut self, from: Moment, ttl: Ttl) {
        let interval = self.interval(ttl);
        self.next_renewal = from.plus(interval).rounded_down(interval / 16);
    }

    pub fn step(&mut self, now: Moment, lost_at: Moment, silent_for: Duration) -> Step {
        let lost_at = self.stop_at.map_or(lost_at, |stop_at| stop_at.min(lost_at));
        if now >= lost_at {
            return watch_only(now, lost_at);
        }
        self.given_up |= silent_for >= self.policy.stall;
        if self.given_up {
            return watch_only(now, lost_at);
        }
        let ping = now >= self.next_ping;
        if ping {
            self.next_ping = now.plus(self.policy.stall / 3);
        }
        let renew = !self.renewing && now >= self.next_renewal;
        self.renewing |= renew;
        let mut look_again = lost_at.min(self.next_ping);
        if !self.renewing {
            look_again = look_again.min(self.next_renewal);
        }
        Step { lost: false, renew, ping, look_again }
    }

    /// What to ask the store for: the TTL, cut so that the lease ends when it must.
    pub fn ttl(&self, now: Moment, ttl: Ttl) -> Ttl {
        let Some(stop_at) = self.stop_at else { return ttl };
        let left = u64::try_from(stop_at.since(now).as_millis()).unwrap_or(u64::MAX).max(1);
        Ttl::from_millis(left.min(ttl.as_millis())).unwrap_or(ttl)
    }

    pub fn renewed(&mut self, sent: Moment, ttl: Ttl) {
        self.renewing = false;
        self.schedule(sent, ttl);
    }

    /// The renewal failed with an error, so its outcome may be unknown: try again soon.
    pub fn failed(&mut self, now: Moment, ttl: Ttl) {
        self.renewing = false;
        let pause = (self.interval(ttl) / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        self.next_renewal = now.plus(pause);
    }

    /// The user extended the lease by hand, to another TTL perhaps.
    pub fn extended(&mut self, sent: Moment, ttl: Ttl) {
        self.schedule(sent, ttl);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 3000;

    fn end_at(sent: u64) -> Moment {
        super::super::deadline::End::of(at(sent), ttl()).lost_at
    }

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(100_000 + ms))
    }

    fn ttl() -> Ttl {
        Ttl::from_millis(TTL).unwrap()
    }

    fn keeping(policy: KeepPolicy) -> Keeping {
        Keeping::new(policy, at(0), ttl())
    }

    fn lost_at() -> Moment {
        end_at(0)
    }

    #[test]
    fn renews_at_a_third_of_the_ttl_and_only_once_at_a_time() {
        let mut keep = keeping(KeepPolicy::default());
        let first = keep.first_look(lost_at());
        assert!(first > at(900) && first <= at(1000), "{first:?}");
        assert!(!keep.step(at(900), lost_at(), Duration::ZERO).renew);
        assert!(keep.step(at(1000), lost_at(), Duration::ZERO).renew);
        assert!(!keep.step(at(1001), lost_at(), Duration::ZERO).renew, "one is in flight");
        keep.renewed(at(1000), ttl());
        assert!(!keep.step(at(1800), at(3900), Duration::ZERO).renew);
        assert!(keep.step(at(2000), at(3900), Duration::ZERO).renew);
    }

    #[test]
    fn retries_after_an_error_until_the_deadline_and_then_is_lost() {
        let mut keep = keeping(KeepPolicy::default());
        assert!(keep.step(at(1000), lost_at(), Duration::ZERO).renew);
        keep.failed(at(1500), ttl());
        let step = keep.step(at(1500), lost_at(), Duration::ZERO);
        assert!(!step.renew && step.look_again <= at(1700), "{step:?}");
        assert!(keep.step(step.look_again, lost_at(), Duration::ZERO).renew);
        assert!(keep.step(lost_at(), lost_at(), Duration::ZERO).lost);
    }

    #[test]
    fn gives_up_for_good_when_the_environment_is_silent() {
        let policy = KeepPolicy { stall: Duration::from_millis(300), ..KeepPolicy::default() };
        let mut keep = keeping(policy);
        assert!(keep.step(at(100), lost_at(), Duration::ZERO).ping);
        assert!(!keep.step(at(150), lost_at(), Duration::from_millis(50)).ping);
        assert!(!keep.step(at(400), lost_at(), Duration::from_millis(300)).ping);
        let later = keep.step(at(1100), lost_at(), Duration::ZERO);
        assert_eq!(later, Step { lost: false, renew: false, ping: false, look_again: lost_at() });
    }

    #[test]
    fn max_hold_cuts_the_last_renewal_and_ends_the_lease() {
        let policy = KeepPolicy { max_hold: Some(Duration::from_millis(1500)), ..KeepPolicy::default() };
        let mut keep = keeping(policy);
        assert_eq!(keep.ttl(at(1000), ttl()), Ttl::from_millis(500).unwrap());
        assert!(!keep.step(at(1499), at(9000), Duration::ZERO).lost);
        assert!(keep.step(at(1500), at(9000), Duration::ZERO).lost);
    }

    #[test]
    fn an_interval_longer_than_the_ttl_cannot_lose_the_lease() {
        let policy = KeepPolicy { interval: Some(Duration::from_millis(900)), ..KeepPolicy::default() };
        let keep = keeping(policy);
        assert_eq!(keep.interval(ttl()), Duration::from_millis(900));
        assert_eq!(keep.interval(Ttl::from_millis(900).unwrap()), Duration::from_millis(300));
    }

    #[test]
    fn pings_every_third_of_the_stall() {
        let policy = KeepPolicy { stall: Duration::from_millis(300), ..KeepPolicy::default() };
        let mut keep = keeping(policy);
        let mut now = keep.first_look(lost_at());
        for ping in 1..5 {
            assert_eq!(now, at(ping * 100));
            let step = keep.step(now, lost_at(), Duration::ZERO);
            assert!(step.ping && !step.lost, "{step:?}");
            now = step.look_again;
        }
    }
}
