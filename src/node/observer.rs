//! A listener of telemetry in JavaScript, as an observer of the engine.

use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::Mutation;
use syncguard::engine::{Answer, Observer};
use syncguard::lock::{LockId, Result};

use crate::completion::{Completions, Event};

/// Passes on what the engine tells, by the number under which TypeScript keeps the listener.
#[derive(Debug)]
pub struct ForeignObserver {
    pub queue: Arc<Completions>,
    pub slot: u32,
}

impl Observer for ForeignObserver {
    fn asked(&self, answer: Answer<'_>, took: Duration) {
        let slot = self.slot;
        let (lock_id, result) = match answer {
            Answer::Granted(lock_id) => (Some(*lock_id), "ok"),
            Answer::Held => (None, "locked"),
            Answer::Failed(error) => (None, error.code().as_str()),
        };
        self.queue.event(Event::Asked { slot, lock_id, result, took });
    }

    fn undone(&self, lock_id: &LockId, result: &Result<Mutation<()>>, took: Duration) {
        let (slot, lock_id) = (self.slot, *lock_id);
        let result = match result {
            Ok(Mutation::Done(())) => "ok",
            Ok(Mutation::Expired) => "expired",
            Ok(Mutation::NotFound) => "not-found",
            Err(error) => error.code().as_str(),
        };
        self.queue.event(Event::Undone { slot, lock_id, result, took });
    }
}

impl Drop for ForeignObserver {
    fn drop(&mut self) {
        self.queue.event(Event::Unobserved { slot: self.slot });
    }
}
