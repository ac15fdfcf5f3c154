//! When to renew a lease, when to give it up: a pure state machine over held, renewed, lost, unknown
//! (the model of madelson/DistributedLock's lease monitor). Times go in, a step comes out.

use std::time::Duration;

use crate::engine::clock::Moment;
use crate::engine::options::KeepPolicy;
use crate::lock::Ttl;

/// The renewal of one lease.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Renewal {
    policy: KeepPolicy,
    stop_at: Option<Moment>,
    /// When the last renewal was sent, by whomever.
    last_sent: Moment,
    next_renewal: Moment,
    next_ping: Moment,
    given_up: bool,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Step {
    pub lost: bool,
    pub renew: bool,
    pub ping: bool,
    pub look_again: Moment,
}

/// Between renewals that fail, or that nobody answers while time runs out, at least.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// The step for a lease that nobody renews.
pub(in crate::engine) fn watch_only(now: Moment, lost_at: Moment) -> Step {
    Step { lost: now >= lost_at, renew: false, ping: false, look_again: lost_at }
}

impl Renewal {
    pub fn new(policy: KeepPolicy, granted: Moment, ttl: Ttl) -> Renewal {
        let stop_at = policy.max_hold.map(|max_hold| granted.plus(max_hold));
        let next_ping = granted.plus(policy.stall / 3);
        let mut renewal = Renewal {
            policy,
            stop_at,
            last_sent: granted,
            next_renewal: granted,
            next_ping,
            given_up: false,
        };
        renewal.schedule(ttl);
        renewal
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
    fn schedule(&mut self, ttl: Ttl) {
        let interval = self.interval(ttl);
        self.next_renewal = self.last_sent.plus(interval).rounded_down(interval / 16);
    }

    /// A renewal on its way is never given up for another. But it may be lost, so another follows while there is
    /// time for both: after an interval or half of the time that is left, whichever is longer.
    fn follow_up(&self, now: Moment, lost_at: Moment, ttl: Ttl) -> Moment {
        now.plus(self.interval(ttl).max(lost_at.since(now) / 2).max(LEAST_PAUSE))
    }

    pub fn step(&mut self, now: Moment, lost_at: Moment, silent_for: Duration, ttl: Ttl) -> Step {
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
        let renew = now >= self.next_renewal;
        if renew {
            self.last_sent = now;
            self.next_renewal = self.follow_up(now, lost_at, ttl);
        }
        let look_again = lost_at.min(self.next_ping).min(self.next_renewal);
        Step { lost: false, renew, ping, look_again }
    }

    /// What to ask the store for: the TTL, cut so that the lease ends when it must.
    pub fn ttl(&self, now: Moment, ttl: Ttl) -> Ttl {
        let Some(stop_at) = self.stop_at else { return ttl };
        let left = u64::try_from(stop_at.since(now).as_millis()).unwrap_or(u64::MAX).max(1);
        Ttl::from_millis(left.min(ttl.as_millis())).unwrap_or(ttl)
    }

    /// A renewal succeeded, the keeper's own or the user's by hand, to another TTL perhaps.
    pub fn renewed(&mut self, sent: Moment, ttl: Ttl) {
        self.last_sent = self.last_sent.max(sent);
        self.schedule(ttl);
    }

    /// The renewal failed with an error, so its outcome may be unknown: try again soon, unless another has been
    /// sent since.
    pub fn failed(&mut self, sent: Moment, now: Moment, ttl: Ttl) {
        if sent < self.last_sent {
            return;
        }
        let pause = (self.interval(ttl) / 8).clamp(LEAST_PAUSE, Duration::from_secs(1));
        self.next_renewal = now.plus(pause);
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

    fn renewal(policy: KeepPolicy) -> Renewal {
        Renewal::new(policy, at(0), ttl())
    }

    fn lost_at() -> Moment {
        end_at(0)
    }

    #[test]
    fn renews_at_a_third_of_the_ttl_and_only_once_at_a_time() {
        let mut keep = renewal(KeepPolicy::default());
        let first = keep.first_look(lost_at());
        assert!(first > at(900) && first <= at(1000), "{first:?}");
        assert!(!keep.step(at(900), lost_at(), Duration::ZERO, ttl()).renew);
        assert!(keep.step(at(1000), lost_at(), Duration::ZERO, ttl()).renew);
        assert!(!keep.step(at(1900), lost_at(), Duration::ZERO, ttl()).renew, "one is on its way");
        keep.renewed(at(1000), ttl());
        assert!(!keep.step(at(1800), at(3900), Duration::ZERO, ttl()).renew);
        assert!(keep.step(at(2000), at(3900), Duration::ZERO, ttl()).renew);
    }

    #[test]
    fn retries_after_an_error_until_the_deadline_and_then_is_lost() {
        let mut keep = renewal(KeepPolicy::default());
        assert!(keep.step(at(1000), lost_at(), Duration::ZERO, ttl()).renew);
        keep.failed(at(1000), at(1500), ttl());
        let step = keep.step(at(1500), lost_at(), Duration::ZERO, ttl());
        assert!(!step.renew && step.look_again <= at(1700), "{step:?}");
        assert!(keep.step(step.look_again, lost_at(), Duration::ZERO, ttl()).renew);
        assert!(keep.step(lost_at(), lost_at(), Duration::ZERO, ttl()).lost);
    }

    #[test]
    fn a_round_trip_longer_than_the_interval_loses_nothing() {
        let policy = KeepPolicy { interval: Some(Duration::from_millis(50)), ..KeepPolicy::default() };
        let mut keep = renewal(policy);
        let (mut now, mut lost, mut sent) = (0, lost_at(), None);
        let mut renewals = 0;
        while now < 30_000 {
            assert!(at(now) < lost, "lost after {renewals} renewals");
            // Answered 60 ms later, and nothing else is sent meanwhile.
            if sent == Some(now - now.min(60)) {
                keep.renewed(at(now - 60), ttl());
                (lost, sent) = (end_at(now - 60), None);
            }
            if keep.step(at(now), lost, Duration::ZERO, ttl()).renew {
                assert_eq!(sent.replace(now), None, "at {now}");
                renewals += 1;
            }
            now += 1;
        }
        assert!((490..=600).contains(&renewals), "{renewals}");
    }

    #[test]
    fn another_follows_one_that_nobody_answers_while_there_is_time() {
        let mut keep = renewal(KeepPolicy::default());
        let sent: Vec<u64> =
            (0..2900).filter(|now| keep.step(at(*now), lost_at(), Duration::ZERO, ttl()).renew).collect();
        assert!(sent[0] <= 1000 && sent[1] <= 2000, "{sent:?}");
        let mut keep =
            renewal(KeepPolicy { interval: Some(Duration::from_millis(1)), ..KeepPolicy::default() });
        let sent = (0..2900).filter(|now| keep.step(at(*now), lost_at(), Duration::ZERO, ttl()).renew);
        assert!((5..20).contains(&sent.count()), "few, however short the interval");
    }

    #[test]
    fn the_failure_of_one_that_another_has_followed_changes_nothing() {
        let mut keep = renewal(KeepPolicy::default());
        assert!(keep.step(at(1000), lost_at(), Duration::ZERO, ttl()).renew);
        assert!(keep.step(at(2000), lost_at(), Duration::ZERO, ttl()).renew);
        keep.renewed(at(2000), ttl());
        keep.failed(at(1000), at(2100), ttl());
        assert!(!keep.step(at(2800), end_at(2000), Duration::ZERO, ttl()).renew);
    }

    #[test]
    fn gives_up_for_good_when_the_environment_is_silent() {
        let policy = KeepPolicy { stall: Duration::from_millis(300), ..KeepPolicy::default() };
        let mut keep = renewal(policy);
        assert!(keep.step(at(100), lost_at(), Duration::ZERO, ttl()).ping);
        assert!(!keep.step(at(150), lost_at(), Duration::from_millis(50), ttl()).ping);
        assert!(!keep.step(at(400), lost_at(), Duration::from_millis(300), ttl()).ping);
        let later = keep.step(at(1100), lost_at(), Duration::ZERO, ttl());
        assert_eq!(later, Step { lost: false, renew: false, ping: false, look_again: lost_at() });
    }

    #[test]
    fn max_hold_cuts_the_last_renewal_and_ends_the_lease() {
        let policy = KeepPolicy { max_hold: Some(Duration::from_millis(1500)), ..KeepPolicy::default() };
        let mut keep = renewal(policy);
        assert_eq!(keep.ttl(at(1000), ttl()), Ttl::from_millis(500).unwrap());
        assert!(!keep.step(at(1499), at(9000), Duration::ZERO, ttl()).lost);
        assert!(keep.step(at(1500), at(9000), Duration::ZERO, ttl()).lost);
    }

    #[test]
    fn an_interval_longer_than_the_ttl_cannot_lose_the_lease() {
        let policy = KeepPolicy { interval: Some(Duration::from_millis(900)), ..KeepPolicy::default() };
        let keep = renewal(policy);
        assert_eq!(keep.interval(ttl()), Duration::from_millis(900));
        assert_eq!(keep.interval(Ttl::from_millis(900).unwrap()), Duration::from_millis(300));
    }

    #[test]
    fn pings_every_third_of_the_stall() {
        let policy = KeepPolicy { stall: Duration::from_millis(300), ..KeepPolicy::default() };
        let mut keep = renewal(policy);
        let mut now = keep.first_look(lost_at());
        for ping in 1..5 {
            assert_eq!(now, at(ping * 100));
            let step = keep.step(now, lost_at(), Duration::ZERO, ttl());
            assert!(step.ping && !step.lost, "{step:?}");
            now = step.look_again;
        }
    }
}
