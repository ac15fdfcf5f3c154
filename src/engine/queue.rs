//! The waiters of this process, in order, for each key of each store: one line across clients and
//! threads. Only the head talks to the store. What a queue knows is hints; the store is the truth.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use super::clock::Moment;
use super::undo;
use crate::backend::{AcquireRequest, Watch};
use crate::lock::{Error, Key, Lease};

/// After so many hand-overs, or so long, other processes get their turn.
const MOST_HAND_OVERS: u32 = 8;
const LONGEST_TURN: Duration = Duration::from_millis(50);

static QUEUES: LazyLock<Mutex<HashMap<Place, Queue>>> = LazyLock::new(Mutex::default);

fn queues() -> MutexGuard<'static, HashMap<Place, Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub store: Arc<str>,
    pub key: Key,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Arc<Waiter>>,
    /// The head's subscription, kept from head to head.
    watch: Option<Arc<Watch>>,
    /// Until when the key is taken, as far as this process knows.
    taken_until: Option<Moment>,
    /// What the store last failed with, for those who time out behind the head.
    failure: Option<Error>,
    hand_overs: u32,
    turn_began: Option<Moment>,
    /// Wake-ups at which processes that have not had their turn since go first.
    others_first: u32,
}

/// One acquisition that waits in this process.
#[derive(Debug)]
pub(super) struct Waiter {
    pub request: AcquireRequest,
    pub shared: Arc<Shared>,
    news: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    hint: Option<Hint>,
    granted: Option<Granted>,
    /// Since when a hand-over of unknown outcome may have granted the request.
    uncertain_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    /// It is the head, and waits: the lease can be handed to it.
    Waiting,
    /// It is the head, and asks the store.
    Asking,
    /// Somebody is handing the lease to it.
    Receiving,
    Gone,
}

/// Why the head should ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    Free,
    /// Other processes got their turn: wait for a wake-up, but not for long.
    Yielded,
}

#[derive(Debug)]
pub(super) struct Granted {
    pub lease: Lease,
    pub sent: Moment,
}

/// What a new head finds.
#[derive(Debug)]
pub(super) struct Lead {
    pub taken_until: Option<Moment>,
    pub watch: Option<Arc<Watch>>,
}

/// A place in the line; leaving it is dropping it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub place: Place,
    pub waiter: Arc<Waiter>,
}

impl Ticket {
    /// Joins at the end.
    pub fn join(place: Place, request: AcquireRequest, shared: Arc<Shared>) -> Ticket {
        let waiter = Arc::new(Waiter {
            request,
            shared,
            news: Notify::new(),
            state: Mutex::new(State {
                phase: Phase::Queued,
                hint: None,
                granted: None,
                uncertain_since: None,
            }),
        });
        let mut queues = queues();
        let queue = queues.entry(place.clone()).or_default();
        queue.waiters.push_back(Arc::clone(&waiter));
        Ticket { place, waiter }
    }

    /// Becomes the head's role if this is the head.
    pub fn lead(&self) -> Option<Lead> {
        let queues = queues();
        let queue = queues.get(&self.place)?;
        if !queue.waiters.front().is_some_and(|head| Arc::ptr_eq(head, &self.waiter)) {
            return None;
        }
        Some(Lead { taken_until: queue.taken_until, watch: queue.watch.clone() })
    }

    /// Notes what the store answered, for the next head.
    pub fn note_taken(&self, free_in: Option<Duration>) {
        self.with_queue(|queue| {
            queue.taken_until = Some(free_in.map_or_else(Moment::now, |free_in| Moment::now().plus(free_in)));
            queue.failure = None;
        });
    }

    pub fn note_failure(&self, error: &Error) {
        self.with_queue(|queue| {
            queue.failure = Some(error.clone());
            queue.taken_until = None;
        });
    }

    /// Notes that this process has the key now, by way of the store: a turn begins.
    pub fn note_granted(&self, until: Moment) {
        self.with_queue(|queue| queue.begin_turn(until));
    }

    pub fn keep_watch(&self, watch: &Arc<Watch>) {
        self.with_queue(|queue| queue.watch = Some(Arc::clone(watch)));
    }

    /// Whether this wake-up is one at which other processes go first.
    pub fn lets_others_first(&self) -> bool {
        queues().get_mut(&self.place).is_some_and(|queue| {
            let others_first = queue.others_first > 0;
            queue.others_first = queue.others_first.saturating_sub(1);
            others_first
        })
    }

    pub fn failure(&self) -> Option<Error> {
        queues().get(&self.place)?.failure.clone()
    }

    fn with_queue(&self, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = queues().get_mut(&self.place) {
            change(queue);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // What was handed over and never taken is given back.
        if let Some(granted) = self.waiter.leave() {
            undo::granted(&self.waiter.shared, granted.lease);
        }
        let mut queues = queues();
        let Some(queue) = queues.get_mut(&self.place) else { return };
        let was_head = queue.waiters.front().is_some_and(|head| Arc::ptr_eq(head, &self.waiter));
        queue.waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        match queue.waiters.front() {
            None => drop(queues.remove(&self.place)),
            Some(head) if was_head => head.news.notify_one(),
            Some(_) => {}
        }
    }
}

impl Queue {
    fn begin_turn(&mut self, until: Moment) {
        self.hand_overs = 0;
        self.others_first = 0;
        self.turn_began = Some(Moment::now());
        self.taken_until = Some(until);
        self.failure = None;
    }
}

impl Waiter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed: the lease was handed over, the key may be free, this is the head now.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub fn take_granted(&self) -> Option<Granted> {
        self.state().granted.take()
    }

    pub fn take_hint(&self) -> Option<Hint> {
        self.state().hint.take()
    }

    pub fn uncertain_since(&self) -> Option<Moment> {
        self.state().uncertain_since
    }

    /// Before asking the store: false when a lease is on its way to this waiter instead.
    pub fn begin_asking(&self) -> bool {
        self.enter(Phase::Asking)
    }

    pub fn begin_waiting(&self) -> bool {
        self.enter(Phase::Waiting)
    }

    fn enter(&self, phase: Phase) -> bool {
        let mut state = self.state();
        let free = state.phase != Phase::Receiving && state.granted.is_none();
        if free {
            state.phase = phase;
        }
        free
    }

    fn leave(&self) -> Option<Granted> {
        let mut state = self.state();
        state.phase = Phase::Gone;
        state.granted.take()
    }

    fn hint(&self, hint: Hint) {
        let mut state = self.state();
        state.hint = Some(hint);
        drop(state);
        self.news.notify_one();
    }
}

/// How a release in this process should go.
#[derive(Debug)]
pub(super) enum Release {
    /// Nobody waits here, or nobody who can take it: release, then tell the head.
    Plain,
    HandOver(HandingOver),
}

/// The right to hand the lease to one waiter, who waits for it meanwhile.
#[derive(Debug)]
pub(super) struct HandingOver {
    place: Place,
    pub waiter: Arc<Waiter>,
    /// Other processes' turn, with the number of subscriptions that are this process' own.
    pub yield_beyond: Option<u32>,
    settled: bool,
}

/// Whether a lease of this place can go to a waiter of this process directly.
pub(super) fn plan_release(place: &Place) -> Release {
    let mut queues = queues();
    let Some(queue) = queues.get_mut(place) else { return Release::Plain };
    let Some(head) = queue.waiters.front() else { return Release::Plain };
    // A wrapper around this store's backend waits here as well, but must ask by itself.
    if !head.shared.backend.capabilities().hands_over {
        return Release::Plain;
    }
    let mut state = head.state();
    if state.granted.is_some() || !matches!(state.phase, Phase::Waiting | Phase::Queued) {
        return Release::Plain;
    }
    state.phase = Phase::Receiving;
    drop(state);
    let over = queue.hand_overs >= MOST_HAND_OVERS
        || queue.turn_began.is_none_or(|began| Moment::now().since(began) >= LONGEST_TURN);
    let own = u32::from(queue.watch.is_some());
    let waiter = Arc::clone(head);
    Release::HandOver(HandingOver {
        place: place.clone(),
        waiter,
        yield_beyond: over.then_some(own),
        settled: false,
    })
}

/// Tells the head that the key was released.
pub(super) fn hint_head(place: &Place) {
    let queues = queues();
    if let Some(head) = queues.get(place).and_then(|queue| queue.waiters.front()) {
        head.hint(Hint::Free);
    }
}

impl HandingOver {
    /// The store granted the waiter's request, which was sent at `sent`. Answers the lease when the
    /// waiter has gone.
    pub fn granted(mut self, lease: Lease, sent: Moment) -> Option<Lease> {
        self.settled = true;
        if let Some(queue) = queues().get_mut(&self.place) {
            let until = sent.plus(self.waiter.request.ttl.as_duration());
            if self.yield_beyond.is_some() {
                queue.begin_turn(until);
            } else {
                queue.hand_overs += 1;
                queue.taken_until = Some(until);
            }
        }
        let mut state = self.waiter.state();
        if state.phase == Phase::Gone {
            return Some(lease);
        }
        state.phase = Phase::Waiting;
        state.granted = Some(Granted { lease, sent });
        drop(state);
        self.waiter.news.notify_one();
        None
    }

    /// The key went to other processes, of whom so many wait.
    pub fn yielded(mut self, others: u32) {
        if let Some(queue) = queues().get_mut(&self.place) {
            // The one that gets it now needs no head start.
            queue.others_first = others.saturating_sub(1);
        }
        self.back_to_waiting(Hint::Yielded, None);
    }

    /// Nothing was handed over; with `uncertain_since` the store may yet have granted the request.
    pub fn failed(mut self, uncertain_since: Option<Moment>) {
        self.back_to_waiting(Hint::Free, uncertain_since);
    }

    fn back_to_waiting(&mut self, hint: Hint, uncertain_since: Option<Moment>) {
        self.settled = true;
        if let Some(queue) = queues().get_mut(&self.place) {
            queue.taken_until = None;
        }
        let mut state = self.waiter.state();
        state.uncertain_since = state.uncertain_since.or(uncertain_since);
        let gone = state.phase == Phase::Gone;
        if !gone {
            state.phase = Phase::Waiting;
        }
        drop(state);
        if gone {
            if uncertain_since.is_some() {
                undo::uncertain(&self.waiter.shared, self.waiter.request.lock_id);
            }
            hint_head(&self.place);
        } else {
            self.waiter.hint(hint);
        }
    }
}

impl Drop for HandingOver {
    fn drop(&mut self) {
        if !self.settled {
            self.back_to_waiting(Hint::Free, Some(Moment::now()));
        }
    }
}
