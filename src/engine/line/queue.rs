//! The waiters of this process, in order, for each key of each store: one line across clients and
//! threads. Only the head talks to the store. What a queue knows is hints; the store is the truth.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::head_start::HeadStart;
use super::store_key::StoreKey;
use super::subscription::Subscription;
use super::turn::Strangers;
use super::waiter::{Hint, Waiter};
#[cfg(any(test, feature = "testing"))]
use crate::backend::StoreId;
use crate::engine::clock::Moment;
use crate::lock::{Error, TIME_TOLERANCE};

static QUEUES: LazyLock<Mutex<HashMap<StoreKey, Queue>>> = LazyLock::new(Mutex::default);

pub(super) fn queues() -> MutexGuard<'static, HashMap<StoreKey, Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many queues there are for a store: none may outlive its waiters.
#[cfg(any(test, feature = "testing"))]
pub fn queues_of(store: &StoreId) -> usize {
    queues().keys().filter(|place| place.store == *store).count()
}

/// Who waits for one key, and what they know about it together.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub waiters: VecDeque<Arc<Waiter>>,
    /// The head's subscription, kept from head to head.
    pub subscription: Option<Arc<Subscription>>,
    /// When the key is free if nothing changes, as far as this process knows.
    pub free_at: Option<Moment>,
    /// What the store last said to a head, for those who time out behind it.
    pub heard: Heard,
    pub strangers: Strangers,
    /// Of processes that have not had their turn since.
    pub head_start: HeadStart,
}

/// What the store last said.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) enum Heard {
    #[default]
    Nothing,
    Answer,
    Failure(Error),
}

impl Queue {
    /// This process has the key; the lease lasts until then.
    pub fn begin_turn(&mut self, until: Moment) {
        self.head_start = HeadStart::default();
        self.strangers = Strangers::default();
        self.keep(until);
    }

    pub fn keep(&mut self, until: Moment) {
        self.free_at = Some(until.plus(TIME_TOLERANCE));
        self.heard = Heard::Answer;
    }

    /// The key is free, or may be: whoever asks next finds out.
    pub fn end_turn(&mut self) {
        self.free_at = None;
    }
}

/// Tells the head that the key may be free.
pub(in crate::engine) fn hint_head(place: &StoreKey) {
    let mut queues = queues();
    if let Some(queue) = queues.get_mut(place) {
        queue.end_turn();
        if let Some(head) = queue.waiters.front() {
            head.hint(Hint::Free);
        }
    }
}
