//! A place in the line of this process, from joining to leaving.

use std::sync::Arc;
use std::time::Duration;

use super::queue::{Heard, Queue, queues};
use super::store_key::StoreKey;
use super::subscription::Subscription;
use super::turn::Turn;
use super::waiter::{Granted, Hint, Waiter};
use crate::backend::AcquireRequest;
use crate::engine::clock::Moment;
use crate::engine::observer::Observed;
use crate::engine::shared::{Left, Shared};
use crate::lock::Error;

/// What a new head finds.
#[derive(Debug)]
pub(in crate::engine) struct Lead {
    pub free_at: Option<Moment>,
    pub subscription: Option<Arc<Subscription>>,
}

/// A place in the line; leaving it is dropping it.
#[derive(Debug)]
pub(in crate::engine) struct Ticket {
    pub place: StoreKey,
    pub waiter: Arc<Waiter>,
}

impl Ticket {
    /// Joins at the end.
    pub fn join(place: StoreKey, request: AcquireRequest, shared: Arc<Shared>, observed: Observed) -> Ticket {
        let waiter = Arc::new(Waiter::new(request, shared, observed));
        let head = {
            let mut queues = queues();
            let waiters = &mut queues.entry(place.clone()).or_default().waiters;
            waiters.push_back(Arc::clone(&waiter));
            waiters.front().cloned()
        };
        // Whatever blocks the event loop of another thread must not keep this one from its turn.
        if let Some(head) = head.filter(|head| head.is_asking() && !head.is_of_environment_of(&waiter)) {
            head.shared.environment.pass_on();
        }
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

    /// The head start of other processes at this wake-up.
    pub fn head_start_of_others(&self) -> Duration {
        queues().get_mut(&self.place).map_or(Duration::ZERO, |queue| {
            // Whoever is the head when the others have had it asks.
            queue.free_at = None;
            queue.head_start.take()
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
            shared.undo(self.waiter.leftover(Left::Granted(granted.lease)));
        } else if left.uncertain {
            shared.undo(self.waiter.leftover(Left::Uncertain(request)));
        }
    }
}
