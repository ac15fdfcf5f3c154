//! When heartbeats are due: one thread knows it for all held files of this process, and who did not get theirs written
//! for too long. It never waits for a disk: the heartbeats of each directory are written by a thread of its own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::lease::{Asked, FileLease};
use crate::crew::Crew;
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
    lease: Weak<FileLease>,
    /// Who writes the heartbeats of its directory.
    writer: Arc<Crew>,
    /// Since when a heartbeat is asked for that has not been written.
    asked_at: Option<Instant>,
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
pub fn keep(lease: &Arc<FileLease>, interval: Duration) -> Result<()> {
    static KEEPER: OnceLock<Keeper> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| Keeper { heap: Mutex::new(Heap::default()), changed: Condvar::new() });
    let mut heap = keeper.lock();
    if !heap.runs {
        std::thread::Builder::new()
            .name("syncguard-lease".into())
            .spawn(|| keep_all(KEEPER.wait()))
            .map_err(|error| {
                Error::unavailable("the system grants no thread for the heartbeats").because(error)
            })?;
        heap.runs = true;
    }
    let path = lease.path();
    let entry = Entry {
        due: later(Instant::now(), interval),
        interval,
        lease: Arc::downgrade(lease),
        writer: Crew::of("heartbeats", path.parent().unwrap_or(path), 1),
        asked_at: None,
    };
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

fn keep_all(keeper: &'static Keeper) {
    loop {
        let mut entries = keeper.wait();
        let mut asked = AskedOf::new();
        entries.retain_mut(|entry| entry.look(&mut asked));
        for (writer, beats) in asked.into_values() {
            // Where the system grants no thread, the next look asks again.
            let _ = writer.post(move || beats.into_iter().for_each(|beat| beat.beat()));
        }
        keeper.lock().due.extend(entries.into_iter().map(Reverse));
    }
}

/// The heartbeats that are due, by who writes them.
type AskedOf = HashMap<*const Crew, (Arc<Crew>, Vec<Asked>)>;

impl Entry {
    /// Asks for the heartbeat that is due, or tells that none was written for too long. `false` when the lease has
    /// ended.
    fn look(&mut self, asked: &mut AskedOf) -> bool {
        let Some(lease) = self.lease.upgrade().filter(|lease| lease.is_held()) else { return false };
        let now = Instant::now();
        let asked_at = match self.asked_at {
            Some(at) if lease.heartbeat_at() < at => at,
            _ => now,
        };
        // A process that was stopped for long gets the time to write one, if the file is still its own.
        let lost_at = lease.stale_at().max(later(asked_at, self.interval));
        if lost_at <= now {
            if let Some(loss) = lease.lose_stale() {
                loss.tell();
            }
            return false;
        }
        if let Some(beat) = lease.ask() {
            let writer = &self.writer;
            let (_, beats) =
                asked.entry(Arc::as_ptr(writer)).or_insert_with(|| (Arc::clone(writer), Vec::new()));
            beats.push(beat);
        }
        self.asked_at = Some(asked_at);
        self.due = later(now, self.interval).min(lost_at);
        true
    }
}

/// A time that no clock can hold counts as a year.
pub fn later(at: Instant, by: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    at.checked_add(by).unwrap_or(at + YEAR)
}
