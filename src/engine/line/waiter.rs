//! One acquisition that waits in this process: where it stands, and what it has been told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::turn::Turn;
use crate::backend::AcquireRequest;
use crate::engine::clock::Moment;
use crate::engine::observer::Observed;
use crate::engine::shared::{Left, Leftover, Shared};
use crate::lock::Lease;

#[derive(Debug)]
pub(in crate::engine) struct Waiter {
    pub request: AcquireRequest,
    pub shared: Arc<Shared>,
    observed: Observed,
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
pub(in crate::engine) enum Phase {
    Queued,
    /// It is the head, and waits: the lease can be handed to it.
    Waiting,
    /// It is the head, and asks the store.
    Asking,
    /// Somebody is handing the lease to it.
    Receiving,
    /// It has its lease, or has given up: nothing may be handed to it any more.
    Gone,
}

/// Why the head should ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Hint {
    Free,
    /// Other processes got their turn: wait for a wake-up, but not for long. With an echo, the first one is our
    /// own.
    Yielded {
        echo: bool,
    },
}

#[derive(Debug)]
pub(in crate::engine) struct Granted {
    pub lease: Lease,
    /// Before the first request was sent that may have granted it.
    pub sent: Moment,
    /// For how long this process has had the key.
    pub turn: Turn,
}

/// Where a head stands before it waits.
#[derive(Debug)]
pub(in crate::engine) enum Standing {
    Granted(Granted),
    Hinted(Hint),
    /// A lease is on its way.
    Receiving,
    Waiting,
}

/// What a waiter leaves behind.
#[derive(Debug)]
pub(in crate::engine) struct Departure {
    /// Handed over and never taken.
    pub granted: Option<Granted>,
    /// A hand-over may have granted its request.
    pub uncertain: bool,
    /// It was told that the key may be free, and did not find out.
    pub unanswered: bool,
}

impl Waiter {
    pub fn new(request: AcquireRequest, shared: Arc<Shared>, observed: Observed) -> Waiter {
        let state = State { phase: Phase::Queued, hint: None, granted: None, uncertain_since: None };
        Waiter { request, shared, observed, news: Notify::new(), state: Mutex::new(state) }
    }

    /// Whether it has asked the store and not been answered.
    pub fn is_asking(&self) -> bool {
        self.state().phase == Phase::Asking
    }

    /// Whether both wait in the same environment.
    pub fn is_of_environment_of(&self, other: &Waiter) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.shared.environment), Arc::as_ptr(&other.shared.environment))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed: the lease was handed over, the key may be free, this is the head now.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub fn tell(&self) {
        self.news.notify_one();
    }

    /// What was handed over; with it the waiter is gone from the line's point of view.
    pub fn take_granted(&self) -> Option<Granted> {
        self.state().take_granted()
    }

    /// The store granted the request itself.
    pub fn received(&self) {
        self.state().gone();
    }

    /// Since when a hand-over may have granted the request; the caller sees to it from now on.
    pub fn take_uncertain(&self) -> Option<Moment> {
        self.state().uncertain_since.take()
    }

    /// Before asking the store, which answers all hints so far: false when a lease is on its way instead.
    pub fn begin_asking(&self) -> bool {
        let mut state = self.state();
        let free = state.phase != Phase::Receiving && state.granted.is_none();
        if free {
            state.phase = Phase::Asking;
            state.hint = None;
        }
        free
    }

    /// From now on a lease can be handed over, unless there is something to do first.
    pub fn begin_waiting(&self) -> Standing {
        let mut state = self.state();
        if let Some(granted) = state.take_granted() {
            return Standing::Granted(granted);
        }
        if state.phase == Phase::Receiving {
            return Standing::Receiving;
        }
        state.phase = Phase::Waiting;
        state.hint.take().map_or(Standing::Waiting, Standing::Hinted)
    }

    /// Somebody is about to hand the lease over: false when it can't be taken.
    pub fn begin_receiving(&self) -> bool {
        let mut state = self.state();
        let can = state.granted.is_none() && matches!(state.phase, Phase::Waiting | Phase::Queued);
        if can {
            state.phase = Phase::Receiving;
        }
        can
    }

    /// Hands the lease over, or answers it when the waiter has gone.
    pub fn give(&self, granted: Granted) -> Option<Lease> {
        let mut state = self.state();
        if state.phase == Phase::Gone {
            return Some(granted.lease);
        }
        state.phase = Phase::Waiting;
        state.granted = Some(granted);
        drop(state);
        self.tell();
        None
    }

    /// Nothing was handed over. Answers the phase that it was in.
    pub fn put_back(&self, hint: Hint, uncertain_since: Option<Moment>) -> Phase {
        let mut state = self.state();
        let phase = state.phase;
        if phase != Phase::Gone {
            state.phase = Phase::Waiting;
            state.hint = Some(hint);
            state.uncertain_since = state.uncertain_since.or(uncertain_since);
            drop(state);
            self.tell();
        }
        phase
    }

    pub fn hint(&self, hint: Hint) {
        self.state().hint = Some(hint);
        self.tell();
    }

    /// Something of this waiter's that is left at the store.
    pub fn leftover<'a>(&self, what: Left<'a>) -> Leftover<'a> {
        Leftover { what, observed: self.observed.clone() }
    }

    pub fn leave(&self) -> Departure {
        let mut state = self.state();
        let left = Departure {
            granted: state.granted.take(),
            uncertain: state.uncertain_since.is_some(),
            unanswered: state.phase == Phase::Asking || state.hint.is_some(),
        };
        state.gone();
        left
    }
}

impl State {
    fn take_granted(&mut self) -> Option<Granted> {
        let granted = self.granted.take()?;
        let since = self.uncertain_since.map_or(granted.sent, |since| since.min(granted.sent));
        self.gone();
        Some(Granted { sent: since, ..granted })
    }

    fn gone(&mut self) {
        self.phase = Phase::Gone;
        self.hint = None;
        self.uncertain_since = None;
    }
}
