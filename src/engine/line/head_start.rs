//! How much later than those who have waited longer a process asks that has had its turn lately. Without it the
//! processes that are awake, or hear of a release first, win every race against the others. Pure.

use std::time::Duration;

/// What makes sure that whoever has waited longer asks first.
const STEP: Duration = Duration::from_millis(2);

/// Where the store can't tell how many others wait, the last so many turns are kept in order.
const IN_ORDER: u32 = 3;

/// Of those of one process who wait for one key.
#[derive(Debug, Default)]
pub(super) struct HeadStart {
    /// Wake-ups at which others go first: each of them has one of those turns.
    left: u32,
    /// Whether it is a guess. Then nobody is known to be the one whose turn it is, and whoever had his longer ago
    /// must be ahead of the next one, not only of the last.
    guessed: bool,
}

impl HeadStart {
    /// The turn went to so many others; `None` where the store can't tell.
    pub fn after_own_turn(others: Option<u32>) -> HeadStart {
        let (others, guessed) = others.map_or((IN_ORDER + 1, true), |others| (others, false));
        // The one that gets it now needs none.
        HeadStart { left: others.saturating_sub(1), guessed }
    }

    /// What the others get at this wake-up.
    pub fn take(&mut self) -> Duration {
        let left = self.left;
        self.left = left.saturating_sub(1);
        STEP * if self.guessed { left } else { left.min(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_starts(others: Option<u32>) -> Vec<u128> {
        let mut head_start = HeadStart::after_own_turn(others);
        (0..5).map(|_| head_start.take().as_millis()).collect()
    }

    #[test]
    fn each_of_the_known_others_goes_first_once() {
        assert_eq!(head_starts(Some(4)), [2, 2, 2, 0, 0]);
        assert_eq!(head_starts(Some(1)), [0; 5]);
        assert_eq!(head_starts(Some(0)), [0; 5]);
    }

    #[test]
    fn where_nobody_knows_how_many_wait_the_latest_turns_are_kept_in_order() {
        assert_eq!(head_starts(None), [6, 4, 2, 0, 0]);
    }

    #[test]
    fn who_had_no_turn_yet_asks_at_once() {
        assert_eq!(HeadStart::default().take(), Duration::ZERO);
    }
}
