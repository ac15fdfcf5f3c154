//! For how long a process passes a lease on to its own waiters before others get their turn. It goes with the
//! lease from hand to hand, since the line may be empty in between. Pure: moments go in, a decision comes out.

use std::time::Duration;

use crate::backend::Yield;
use crate::engine::clock::Moment;

/// After so many hand-overs, or so long, other processes get their turn if they wait.
const MOST_HAND_OVERS: u32 = 8;
const LONGEST_TURN: Duration = Duration::from_millis(50);

/// After so long, or half of it, those get theirs who leave no mark at the store, as whoever polls. It is drawn
/// anew each time, so that nobody who polls in step with it misses every turn.
const LONGEST_ALONE: Duration = Duration::from_millis(250);

/// Where one of them has come, so many turns are theirs as if they were known to wait.
const TURNS_FOR_STRANGERS: u32 = 8;

/// How long this process has had the key, from hand to hand.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Turn {
    hand_overs: u32,
    began: Moment,
    alone_until: Moment,
    /// How many turns are still theirs who leave no mark.
    strangers: u32,
}

impl Turn {
    /// Of a lease that the store granted: it is as old as that, also where nobody waited here at first.
    pub fn new(granted: Moment, strangers: &Strangers) -> Turn {
        let alone = LONGEST_ALONE - LONGEST_ALONE.mul_f64(fastrand::f64() / 2.0);
        Turn { hand_overs: 0, began: granted, alone_until: granted.plus(alone), strangers: strangers.turns }
    }

    /// Whose turn is next, where `own` watch the key here.
    pub fn yields(&self, own: u32, now: Moment) -> Yield {
        let over = self.hand_overs >= MOST_HAND_OVERS || now.since(self.began) >= LONGEST_TURN;
        match () {
            () if now >= self.alone_until || (over && self.strangers > 0) => Yield::Always { own },
            () if over => Yield::IfWatched { own },
            () => Yield::Never,
        }
    }

    /// The lease was passed on here, and others were or were not asked first.
    #[must_use]
    pub fn passed_on(self, asked: bool, now: Moment) -> Turn {
        match asked {
            true => Turn { hand_overs: 0, began: now, ..self },
            false => Turn { hand_overs: self.hand_overs + 1, ..self },
        }
    }
}

/// Who waits elsewhere and leaves no mark at the store: only seen when they take a turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct Strangers {
    /// Nobody is known to wait, so whoever takes the key now is one of them.
    invited: bool,
    turns: u32,
}

impl Strangers {
    /// The key is left to so many others who are known to wait; `None` where the store can't tell.
    pub fn after(turn: &Turn, known: Option<u32>) -> Strangers {
        let invited = known == Some(0);
        Strangers { invited, turns: turn.strangers.saturating_sub(u32::from(invited)) }
    }

    /// Somebody elsewhere has the key.
    pub fn came(&mut self) {
        if std::mem::take(&mut self.invited) {
            self.turns = TURNS_FOR_STRANGERS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(100_000 + ms))
    }

    fn turn() -> Turn {
        Turn::new(at(0), &Strangers::default())
    }

    #[test]
    fn after_eight_hand_overs_or_fifty_milliseconds_those_come_who_are_known_to_wait() {
        let mut turn = turn();
        for _ in 0..8 {
            assert_eq!(turn.yields(1, at(49)), Yield::Never);
            turn = turn.passed_on(false, at(49));
        }
        assert_eq!(turn.yields(1, at(49)), Yield::IfWatched { own: 1 });
        let turn = turn.passed_on(true, at(49));
        assert_eq!(turn.yields(1, at(98)), Yield::Never);
        assert_eq!(turn.yields(0, at(99)), Yield::IfWatched { own: 0 });
    }

    #[test]
    fn after_a_quarter_of_a_second_whoever_wants_comes_however_often_the_others_were_asked() {
        let mut drawn = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut turn = turn();
            let alone = (0..=250)
                .find(|ms| {
                    let yields = turn.yields(1, at(*ms));
                    turn = turn.passed_on(matches!(yields, Yield::IfWatched { .. }), at(*ms));
                    matches!(yields, Yield::Always { .. })
                })
                .expect("at the latest then");
            assert!(alone >= 125, "{alone}");
            drawn.insert(alone);
        }
        assert!(drawn.len() > 100, "{drawn:?}");
    }

    #[test]
    fn a_stranger_that_came_is_expected_for_eight_turns() {
        let mut strangers = Strangers::after(&turn(), Some(0));
        strangers.came();
        for _ in 0..8 {
            let turn = Turn::new(at(0), &strangers);
            assert_eq!(turn.yields(1, at(50)), Yield::Always { own: 1 });
            strangers = Strangers::after(&turn, Some(0));
        }
        assert_eq!(Turn::new(at(0), &strangers).yields(1, at(50)), Yield::IfWatched { own: 1 });
        // Nor is one of those whose mark was seen.
        let mut known = Strangers::after(&turn(), Some(2));
        known.came();
        assert_eq!(Turn::new(at(0), &known).yields(1, at(50)), Yield::IfWatched { own: 1 });
    }
}
