use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the disk has been lately. One that hangs holds up this thread once, and then threads of its own.
#[derive(Debug, Default)]
pub(super) struct Pace {
    was_slow: AtomicBool,
    last_slow: Mutex<Option<Instant>>,
}

impl Pace {
    /// A change that takes as long as this has waited for the disk.
    const SLOW: Duration = Duration::from_millis(50);
    const REMEMBERED: Duration = Duration::from_secs(5);

    pub(super) fn note(&self, started: Instant) {
        if started.elapsed() >= Self::SLOW {
            *self.last_slow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.was_slow.store(true, Ordering::Release);
        }
    }

    pub(super) fn is_slow(&self) -> bool {
        if !self.was_slow.load(Ordering::Acquire) {
            return false;
        }
        let last = *self.last_slow.lock().unwrap_or_else(PoisonError::into_inner);
        let is_slow = last.is_some_and(|last| last.elapsed() < Self::REMEMBERED);
        self.was_slow.store(is_slow, Ordering::Release);
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_change_is_remembered_for_a_while() {
        let pace = Pace::default();
        let now = Instant::now();
        pace.note(now);
        assert!(!pace.is_slow());
        pace.note(now.checked_sub(Pace::SLOW).expect("the machine runs for longer"));
        assert!(pace.is_slow() && pace.is_slow());
        *pace.last_slow.lock().unwrap() = now.checked_sub(Pace::REMEMBERED);
        assert!(!pace.is_slow() && !pace.is_slow());
    }
}
