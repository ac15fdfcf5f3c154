//! The one thread that writes the heartbeats of all held files of this process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::lease::{Beat, Lease};
use crate::lock::{Error, Result};

/// Heartbeats that are due within this time of the one that woke the thread are written with it, so that
/// a thousand files do not wake it a thousand times.
const TOGETHER: Duration = Duration::from_millis(20);

/// Below this many entries nobody looks for those of released files before they are due.
const FEW: usize = 256;

struct Keeper {
    heap: Mutex<Heap>,
    changed: Condvar,
}

#[derive(Default)]
struct Heap {
    due: BinaryHeap<Reverse<Entry>>,
    runs: bool,
    /// When the thread will look again by itself; `None` while it is busy or waits for an entry.
    sleeps_until: Option<Instant>,
    /// The size at which entries of released files are cleared away.
    clear_at: usize,
}

struct Entry {
    due: Instant,
    interval: Duration,
    lease: Weak<Lease>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// Has the heartbeat of `lease` written every `interval` from now on, until it is dropped or has ended.
///
/// # Errors
/// `ServiceUnavailable` when the system grants no thread.
pub fn keep(lease: &Arc<Lease>, interval: Duration) -> Result<()> {
    static KEEPER: OnceLock<Keeper> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| Keeper { heap: Mutex::new(Heap::default()), changed: Condvar::new() });
    let mut heap = keeper.lock();
    if !heap.runs {
        std::thread::Builder::new()
            .name("syncguard-lease".into())
            .spawn(|| keeper_thread(KEEPER.wait()))
            .map_err(|error| {
                Error::unavailable("the system grants no thread for the heartbeats").because(error)
            })?;
        heap.runs = true;
    }
    let entry = Entry { due: after(interval), interval, lease: Arc::downgrade(lease) };
    let is_first = heap.sleeps_until.is_none_or(|until| entry.due < until);
    heap.due.push(Reverse(entry));
    heap.clear_away_released();
    drop(heap);
    if is_first {
        keeper.changed.notify_one();
    }
    Ok(())
}

impl Heap {
    /// Released files stay in the heap until they are due, which with a long interval is long.
    fn clear_away_released(&mut self) {
        if self.due.len() > self.clear_at.max(FEW) {
            self.due.retain(|Reverse(entry)| entry.lease.upgrade().is_some_and(|lease| lease.is_held()));
            self.clear_at = self.due.len() * 2;
        }
    }
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some are due and takes them out.
    fn wait(&self) -> Vec<Entry> {
        let mut heap = self.lock();
        loop {
            let now = Instant::now();
            let next = heap.due.peek().map(|Reverse(entry)| entry.due);
            match next {
                Some(due) if due <= now => {
                    heap.sleeps_until = None;
                    return take_due(&mut heap.due, now + TOGETHER);
                }
                Some(due) => {
                    heap.sleeps_until = Some(due);
                    heap =
                        self.changed.wait_timeout(heap, due - now).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    heap.sleeps_until = None;
                    heap = self.changed.wait(heap).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

fn take_due(heap: &mut BinaryHeap<Reverse<Entry>>, until: Instant) -> Vec<Entry> {
    let mut taken = Vec::new();
    while heap.peek().is_some_and(|Reverse(entry)| entry.due <= until) {
        taken.extend(heap.pop().map(|Reverse(entry)| entry));
    }
    taken
}

fn keeper_thread(keeper: &'static Keeper) {
    loop {
        let mut entries = keeper.wait();
        entries.retain_mut(|entry| {
            let goes_on = entry.lease.upgrade().is_some_and(|lease| beat(&lease));
            entry.due = after(entry.interval);
            goes_on
        });
        keeper.lock().due.extend(entries.into_iter().map(Reverse));
    }
}

fn beat(lease: &Lease) -> bool {
    match lease.beat() {
        Beat::Goes => true,
        Beat::Ended => false,
        Beat::Lost(on_lost, error) => {
            if let Some(on_lost) = on_lost {
                // The other files' heartbeats must not end with somebody's callback.
                let _ = catch_unwind(AssertUnwindSafe(|| on_lost(error)));
            }
            false
        }
    }
}

/// An interval that no clock can hold counts as a year.
fn after(interval: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(interval).unwrap_or(now + YEAR)
}
