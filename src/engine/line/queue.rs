//! The waiters of this process, in order, for each key of each store: one line across clients and
//! threads. Only the head talks to the store. What a queue knows is hints; the store is the truth.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::subscription::Subscription;
use super::turn::{Strangers, Turn};
use super::waiter::{Granted, Hint, Phase, Waiter};
use crate::backend::{AcquireRequest, StoreId, Yield};
use crate::engine::Shared;
use crate::engine::acquire::undo;
use crate::engine::clock::Moment;
use crate::lock::{Error, Key, Lease, TIME_TOLERANCE};

static QUEUES: LazyLock<Mutex<HashMap<Place, Queue>>> = LazyLock::new(Mutex::default);

fn queues() -> MutexGuard<'static, HashMap<Place, Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many queues there are for a store: none may outlive its waiters.
#[cfg(any(test, feature = "testing"))]
pub fn queues_of(store: &StoreId) -> usize {
    queues().keys().filter(|place| place.store == *store).count()
}

/// A key of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Place {
    pub store: StoreId,
    pub key: Key,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Arc<Waiter>>,
    /// The head's subscription, kept from head to head.
    subscription: Option<Arc<Subscription>>,
    /// When the key is free if nothing changes, as far as this process knows.
    free_at: Option<Moment>,
    /// What the store last said to a head, for those who time out behind it.
    heard: Heard,
    strangers: Strangers,
    /// Wake-ups at which processes that have not had their turn since go first.
    others_first: u32,
}

/// What the store last said.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) enum Heard {
    #[default]
    Nothing,
    Answer,
    Failure(Error),
}

/// What a new head finds.
#[derive(Debug)]
pub(in crate::engine) struct Lead {
    pub free_at: Option<Moment>,
    pub subscription: Option<Arc<Subscription>>,
}

/// A place in the line; leaving it is dropping it.
#[derive(Debug)]
pub(in crate::engine) struct Ticket {
    pub place: Place,
    pub waiter: Arc<Waiter>,
}

impl Ticket {
    /// Joins at the end.
    pub fn join(place: Place, request: AcquireRequest, shared: Arc<Shared>) -> Ticket {
        let waiter = Arc::new(Waiter::new(request, shared));
        queues().entry(place.clone()).or_default().waiters.push_back(Arc::clone(&waiter));
        Ticket { place, waiter }
    }

    /// Becomes the head's role if this is the head.
    pub fn lead(&self) -> Option<Lead> {
        let queues = queues();
        let queue = queues.get(&self.place)?;
        if !queue.waiters.front().is_some_and(|head| Arc::ptr_eq(head, &self.waiter)) {
            return None;
        }
        let subscription = queue.subscription.clone().filter(|subscription| subscription.is_live());
        Some(Lead { free_at: queue.free_at, subscription })
    }

    /// Notes that the store said that somebody has the key, for the next head.
    pub fn note_taken(&self, free_in: Option<Duration>) {
        self.with_queue(|queue| {
            queue.free_at = free_in.map(|free_in| Moment::now().plus(free_in));
            queue.heard = Heard::Answer;
            queue.strangers.came();
        });
    }

    pub fn note_failure(&self, error: &Error) {
        self.with_queue(|queue| {
            queue.heard = Heard::Failure(error.clone());
            queue.free_at = None;
        });
    }

    /// Notes that this process has the key now, by way of the store: a turn begins.
    pub fn note_granted(&self, granted: &mut Granted, until: Moment) {
        self.waiter.received();
        self.with_queue(|queue| {
            granted.turn = Turn::new(granted.sent, &queue.strangers);
            queue.begin_turn(until);
        });
    }

    /// Keeps the head's subscription for the line. What happened before it may have been missed.
    pub fn subscribed(&self, subscription: &Arc<Subscription>) {
        self.with_queue(|queue| queue.subscription = Some(Arc::clone(subscription)));
        self.waiter.hint(Hint::Free);
    }

    /// Whether this wake-up is one at which other processes go first.
    pub fn lets_others_first(&self) -> bool {
        queues().get_mut(&self.place).is_some_and(|queue| {
            let others_first = queue.others_first > 0;
            queue.others_first = queue.others_first.saturating_sub(1);
            // Whoever is the head when the others have had their head start asks.
            queue.free_at = None;
            others_first
        })
    }

    /// What the head has heard.
    pub fn heard(&self) -> Heard {
        queues().get(&self.place).map(|queue| queue.heard.clone()).unwrap_or_default()
    }

    fn with_queue(&self, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = queues().get_mut(&self.place) {
            change(queue);
        }
    }

    /// Takes the waiter out of the line, and answers what must be dropped outside the lock.
    fn step_out(&self, unanswered: bool) -> Option<Queue> {
        let mut queues = queues();
        let queue = queues.get_mut(&self.place)?;
        if queue.waiters.front().is_some_and(|head| Arc::ptr_eq(head, &self.waiter)) {
            queue.waiters.pop_front();
            // A reason to ask that this head did not follow up is the next one's.
            if unanswered {
                queue.free_at = None;
            }
            match queue.waiters.front() {
                Some(head) => head.tell(),
                None => return queues.remove(&self.place),
            }
        } else {
            queue.waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        }
        None
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = self.waiter.leave();
        // Out of the line first: what is given back can then go to the next one directly.
        drop(self.step_out(left.unanswered));
        let (shared, request) = (&self.waiter.shared, &self.waiter.request);
        if let Some(granted) = left.granted {
            undo::granted(shared, granted.lease);
        } else if left.uncertain {
            undo::uncertain(shared, request);
        }
    }
}

impl Queue {
    /// This process has the key; the lease lasts until then.
    fn begin_turn(&mut self, until: Moment) {
        self.others_first = 0;
        self.strangers = Strangers::default();
        self.keep(until);
    }

    fn keep(&mut self, until: Moment) {
        self.free_at = Some(until.plus(TIME_TOLERANCE));
        self.heard = Heard::Answer;
    }

    /// The key is free, or may be: whoever asks next finds out.
    fn end_turn(&mut self) {
        self.free_at = None;
    }
}

/// How a release in this process should go.
#[derive(Debug)]
pub(in crate::engine) enum Release {
    /// Nobody waits here, or nobody who can take it: release, then tell the head.
    Plain,
    HandOver(HandingOver),
}

/// The right to hand the lease to one waiter, who waits for it meanwhile.
#[derive(Debug)]
pub(in crate::engine) struct HandingOver {
    place: Place,
    pub waiter: Arc<Waiter>,
    pub yields: Yield,
    turn: Turn,
    /// Whose subscription the line's is.
    listener: Option<Arc<Subscription>>,
    /// Before the request is sent: a lease that it grants counts from there.
    began: Moment,
    settled: bool,
}

/// Whether a lease of this place can go to a waiter of this process directly.
pub(in crate::engine) fn plan_release(place: &Place, turn: Option<Turn>) -> Release {
    let mut queues = queues();
    let Some(queue) = queues.get_mut(place) else { return Release::Plain };
    let Some(head) = queue.waiters.front() else { return Release::Plain };
    // A wrapper around this store's backend waits here as well, but must ask by itself.
    if !head.shared.backend.capabilities().hands_over || !head.begin_receiving() {
        return Release::Plain;
    }
    let (waiter, now) = (Arc::clone(head), Moment::now());
    let listener = queue.subscription.clone().filter(|subscription| subscription.is_live());
    let turn = turn.unwrap_or_else(|| Turn::new(now, &Strangers::default()));
    let yields = turn.yields(u32::from(listener.is_some()), now);
    Release::HandOver(HandingOver {
        place: place.clone(),
        waiter,
        yields,
        turn,
        listener,
        began: now,
        settled: false,
    })
}

/// Tells the head that the key may be free.
pub(in crate::engine) fn hint_head(place: &Place) {
    let mut queues = queues();
    if let Some(queue) = queues.get_mut(place) {
        queue.end_turn();
        if let Some(head) = queue.waiters.front() {
            head.hint(Hint::Free);
        }
    }
}

impl HandingOver {
    /// The store granted the waiter's request. Answers the lease when the waiter has gone.
    pub fn granted(mut self, lease: Lease) -> Option<Lease> {
        self.settled = true;
        if let Some(queue) = queues().get_mut(&self.place) {
            let until = self.began.plus(self.waiter.request.ttl.as_duration());
            match self.yields {
                Yield::Never => queue.keep(until),
                _ => queue.begin_turn(until),
            }
        }
        let turn = self.turn.passed_on(self.yields != Yield::Never, self.began);
        self.waiter.give(Granted { lease, sent: self.began, turn })
    }

    /// Whether the line's subscription is this client's, whose backend knows what it hears.
    pub fn is_heard_by(&self, shared: &Arc<Shared>) -> bool {
        self.listener.as_ref().is_none_or(|listener| listener.belongs_to(shared))
    }

    /// The key went to other processes, of whom so many wait. With an echo, the next hint is of this release.
    pub fn yielded(mut self, others: u32, echo: bool) {
        if let Some(queue) = queues().get_mut(&self.place) {
            // The one that gets it now needs no head start.
            queue.others_first = others.saturating_sub(1);
            queue.strangers = Strangers::after(&self.turn, others);
        }
        self.back_to_waiting(Hint::Yielded { echo }, None);
    }

    /// Nothing was handed over, for certain.
    pub fn refused(mut self) {
        self.back_to_waiting(Hint::Free, None);
    }

    /// The store may yet have granted the request.
    pub fn uncertain(mut self) {
        let began = self.began;
        self.back_to_waiting(Hint::Free, Some(began));
    }

    fn back_to_waiting(&mut self, hint: Hint, uncertain_since: Option<Moment>) {
        self.settled = true;
        if let Some(queue) = queues().get_mut(&self.place) {
            queue.end_turn();
        }
        if self.waiter.put_back(hint, uncertain_since) == Phase::Gone {
            if uncertain_since.is_some() {
                undo::uncertain(&self.waiter.shared, &self.waiter.request);
            }
            hint_head(&self.place);
        }
    }
}

impl Drop for HandingOver {
    fn drop(&mut self) {
        if !self.settled {
            let began = self.began;
            self.back_to_waiting(Hint::Free, Some(began));
        }
    }
}
