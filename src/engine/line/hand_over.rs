//! A lease on its way from its holder here to the next waiter here.

use std::sync::Arc;

use super::head_start::HeadStart;
use super::queue::{hint_head, queues};
use super::store_key::StoreKey;
use super::subscription::Subscription;
use super::turn::{Strangers, Turn};
use super::waiter::{Granted, Hint, Phase, Waiter};
use crate::backend::Yield;
use crate::engine::clock::Moment;
use crate::engine::shared::{Left, Shared};
use crate::lock::Lease;

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
    place: StoreKey,
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
pub(in crate::engine) fn plan_release(place: &StoreKey, turn: Option<Turn>) -> Release {
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

    /// The key went to other processes, of whom so many wait; `None` where the store can't tell. With an echo, the next hint is of this release.
    pub fn yielded(mut self, others: Option<u32>, echo: bool) {
        if let Some(queue) = queues().get_mut(&self.place) {
            queue.head_start = HeadStart::after_own_turn(others);
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
                self.waiter.shared.undo(self.waiter.leftover(Left::Uncertain(&self.waiter.request)));
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
