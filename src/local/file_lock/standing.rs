//! How a lease stands: known at any moment, and ended by whoever knows it ended, without waiting for a disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lock::Error;

/// What is called once when the lease is lost: on a thread that serves other leases too, so it must not wait.
/// The error's code is `LeaseLost`.
pub type OnLost = Box<dyn FnOnce(Error) + Send>;

const HELD: u8 = 0;
const LOST: u8 = 1;
const RELEASED: u8 = 2;

pub struct Standing {
    phase: AtomicU8,
    made: Instant,
    /// Nanoseconds between `made` and the last heartbeat that was written.
    heartbeat: AtomicU64,
    telling: Mutex<Telling>,
}

struct Telling {
    on_lost: Option<OnLost>,
    /// Why the last heartbeat could not be written.
    refused: Option<io::Error>,
}

impl Standing {
    pub fn held(made: Instant, on_lost: Option<OnLost>) -> Standing {
        let telling = Mutex::new(Telling { on_lost, refused: None });
        Standing { phase: AtomicU8::new(HELD), made, heartbeat: AtomicU64::new(0), telling }
    }

    pub fn is_held(&self) -> bool {
        self.phase.load(Ordering::Acquire) == HELD
    }

    pub fn is_lost(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LOST
    }

    /// A moment not later than the last heartbeat that was written.
    pub fn heartbeat_at(&self) -> Instant {
        self.made + Duration::from_nanos(self.heartbeat.load(Ordering::Acquire))
    }

    pub fn written(&self, at: Instant) {
        let since = at.saturating_duration_since(self.made).as_nanos();
        self.heartbeat.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
        self.telling().refused = None;
    }

    pub fn refused(&self, error: io::Error) {
        self.telling().refused = Some(error);
    }

    /// Why the last heartbeat was refused, where it was.
    pub fn refusal(&self) -> Option<io::Error> {
        self.telling().refused.take()
    }

    /// `None` when it had ended before.
    pub fn lose(&self, error: Error) -> Option<Loss> {
        self.end(LOST).then(|| Loss { on_lost: self.telling().on_lost.take(), error })
    }

    /// `false` when it had ended before.
    pub fn release(&self) -> bool {
        self.end(RELEASED)
    }

    fn end(&self, phase: u8) -> bool {
        self.phase.compare_exchange(HELD, phase, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To be told, without any lock held.
pub struct Loss {
    on_lost: Option<OnLost>,
    error: Error,
}

impl Loss {
    pub fn tell(self) {
        let Loss { on_lost: Some(on_lost), error } = self else { return };
        // The other files' heartbeats must not end with somebody's callback.
        let _ = catch_unwind(AssertUnwindSafe(|| on_lost(error)));
    }
}
