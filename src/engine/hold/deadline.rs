//! The local deadline of one lease while extends come and go. Pure: moments go in and come out.
//!
//! What the store holds is only known for certain when no extend is in flight; until then the lease
//! counts as ending at the earliest moment that any order of the requests at the store allows.

use std::time::Duration;

use crate::engine::clock::Moment;
use crate::lock::Ttl;

/// How far ahead of the local deadline a lease counts as lost, so that its holder hears of it in time.
pub(in crate::engine) fn loss_lead(ttl: Duration) -> Duration {
    (ttl / 10).min(Duration::from_millis(100))
}

/// When a lease ends, and when its holder is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct End {
    pub deadline: Moment,
    pub lost_at: Moment,
}

impl End {
    /// The end of a lease of `ttl` that was asked for at `sent`.
    pub fn of(sent: Moment, ttl: Ttl) -> End {
        let ttl = ttl.as_duration();
        let deadline = sent.plus(ttl);
        End { deadline, lost_at: deadline.minus(loss_lead(ttl)) }
    }

    #[must_use]
    pub fn earlier(self, other: End) -> End {
        End { deadline: self.deadline.min(other.deadline), lost_at: self.lost_at.min(other.lost_at) }
    }
}

/// Names an extend in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct ExtendId(pub u64);

/// What became of an extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Applied {
    Yes,
    No,
    Perhaps,
}

#[derive(Debug)]
pub(in crate::engine) struct Deadline {
    /// Where it stands if no extend in flight is applied.
    settled: End,
    in_flight: Vec<Extend>,
}

#[derive(Debug)]
struct Extend {
    id: ExtendId,
    /// When it can have been applied at the earliest, if it is the last one that was.
    since: Moment,
    ttl: Ttl,
    /// The shortest among it and those that finished meanwhile: at the store they may have come later.
    shortest: Ttl,
}

impl Extend {
    fn end(&self) -> End {
        End::of(self.since, self.ttl)
    }
}

impl Deadline {
    pub fn new(end: End) -> Deadline {
        Deadline { settled: end, in_flight: Vec::new() }
    }

    /// Whether the answer to an extend is due.
    pub fn is_extending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The earliest end that the store may hold.
    pub fn end(&self) -> End {
        self.in_flight.iter().fold(self.settled, |end, extend| end.earlier(extend.end()))
    }

    /// An extend is about to be sent. From now on it may be applied, so one that shortens counts at once.
    pub fn begin(&mut self, id: ExtendId, sent: Moment, ttl: Ttl) {
        self.in_flight.push(Extend { id, since: sent, ttl, shortest: ttl });
    }

    /// An extend has come back, or never will.
    pub fn finish(&mut self, id: ExtendId, outcome: Applied) {
        let Some(index) = self.in_flight.iter().position(|extend| extend.id == id) else { return };
        let done = self.in_flight.swap_remove(index);
        match outcome {
            Applied::No => return,
            Applied::Perhaps => self.settled = self.settled.earlier(done.end()),
            Applied::Yes => self.settled = End::of(done.since, done.shortest),
        }
        for extend in &mut self.in_flight {
            extend.shortest = extend.shortest.min(done.ttl);
            if outcome == Applied::Yes {
                // One that was applied before this one no longer matters.
                extend.since = extend.since.max(done.since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(ms))
    }

    fn end(sent: u64, ttl: u64) -> End {
        End::of(at(sent), Ttl::from_millis(ttl).unwrap())
    }

    fn begin(deadline: &mut Deadline, id: u64, sent: u64, ttl: u64) {
        deadline.begin(ExtendId(id), at(sent), Ttl::from_millis(ttl).unwrap());
    }

    fn deadline_after(extends: &[(u64, u64, Applied)]) -> Deadline {
        let mut deadline = Deadline::new(end(0, 1000));
        for (n, &(sent, ttl, outcome)) in extends.iter().enumerate() {
            begin(&mut deadline, n as u64, sent, ttl);
            deadline.finish(ExtendId(n as u64), outcome);
        }
        deadline
    }

    #[test]
    fn one_extend_after_the_other_moves_it_both_ways() {
        assert_eq!(deadline_after(&[(500, 1000, Applied::Yes)]).end(), end(500, 1000));
        let shortened = deadline_after(&[(500, 1000, Applied::Yes), (600, 100, Applied::Yes)]);
        assert_eq!(shortened.end().deadline, at(700));
    }

    #[test]
    fn an_unknown_outcome_keeps_the_earlier_and_a_certain_failure_changes_nothing() {
        assert_eq!(deadline_after(&[(500, 1000, Applied::Perhaps)]).end().deadline, at(1000));
        assert_eq!(deadline_after(&[(500, 100, Applied::Perhaps)]).end().deadline, at(600));
        assert_eq!(deadline_after(&[(500, 100, Applied::No)]).end(), end(0, 1000));
        let renewed = deadline_after(&[(500, 1000, Applied::Perhaps), (700, 1000, Applied::Yes)]);
        assert_eq!(renewed.end().deadline, at(1700));
    }

    #[test]
    fn one_that_shortens_counts_from_when_it_is_sent() {
        let mut deadline = Deadline::new(end(0, 1000));
        begin(&mut deadline, 1, 100, 50);
        assert_eq!(deadline.end(), end(100, 50));
        deadline.finish(ExtendId(1), Applied::No);
        assert_eq!(deadline.end(), end(0, 1000));
    }

    #[test]
    fn two_at_once_leave_the_lower_of_both_and_not_the_old_one() {
        for order in [[1, 2], [2, 1]] {
            let mut deadline = Deadline::new(end(0, 1000));
            begin(&mut deadline, 1, 900, 5000);
            begin(&mut deadline, 2, 901, 2000);
            for id in order {
                deadline.finish(ExtendId(id), Applied::Yes);
            }
            assert_eq!(deadline.end().deadline, at(2901));
        }
    }

    #[test]
    fn one_that_hangs_does_not_hold_back_those_that_follow_it() {
        let mut deadline = Deadline::new(end(0, 1000));
        begin(&mut deadline, 1, 300, 1000);
        begin(&mut deadline, 2, 600, 1000);
        deadline.finish(ExtendId(2), Applied::Yes);
        assert_eq!(deadline.end(), end(600, 1000));
        deadline.finish(ExtendId(1), Applied::Perhaps);
        assert_eq!(deadline.end(), end(600, 1000));
    }

    /// One extend: when it is sent, applied (if at all) and answered (if at all).
    #[derive(Clone, Debug)]
    struct Story {
        sent: u64,
        ttl: u64,
        applied_after: Option<u64>,
        answered_after: u64,
        reply_lost: bool,
    }

    prop_compose! {
        fn story()(
            sent in 0u64..500,
            ttl in 1u64..2000,
            applied_after in prop::option::of(0u64..200),
            answer in 0u64..100,
            reply_lost: bool,
        ) -> Story {
            let answered_after = applied_after.unwrap_or(0) + answer;
            Story { sent, ttl, applied_after, answered_after, reply_lost }
        }
    }

    proptest! {
        /// Whatever the order of sending, applying and answering, it never lies behind the store's expiry.
        #[test]
        fn is_never_later_than_the_store(stories in prop::collection::vec(story(), 0..6)) {
            let mut deadline = Deadline::new(end(0, 3000));
            let mut stored = at(3000);
            for now in 0..1000u64 {
                for (n, story) in stories.iter().enumerate() {
                    if now == story.sent {
                        begin(&mut deadline, n as u64, now, story.ttl);
                    }
                    if story.applied_after.is_some_and(|after| now == story.sent + after) {
                        stored = at(now + story.ttl);
                    }
                    if now == story.sent + story.answered_after {
                        let outcome = match story {
                            Story { reply_lost: true, .. } => Applied::Perhaps,
                            Story { applied_after: Some(_), .. } => Applied::Yes,
                            _ => Applied::No,
                        };
                        deadline.finish(ExtendId(n as u64), outcome);
                    }
                }
                prop_assert!(deadline.end().deadline <= stored, "at {now}");
            }
        }

        /// Extends that all succeed move the deadline as the last to be sent would alone, in whatever order they
        /// were applied and answered.
        #[test]
        fn follows_when_all_succeed(ttl in 1u64..1000, sent in prop::collection::vec(1u64..500, 1..5)) {
            let mut deadline = Deadline::new(end(0, 1));
            for (n, &sent) in sent.iter().enumerate() {
                begin(&mut deadline, n as u64, sent, ttl);
            }
            for n in 0..sent.len() {
                deadline.finish(ExtendId(n as u64), Applied::Yes);
            }
            let last = sent.iter().max().unwrap();
            prop_assert_eq!(deadline.end(), end(*last, ttl));
        }
    }
}
