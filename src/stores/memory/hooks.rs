//! What tests see and do behind the back of those who use the store.

use std::sync::atomic::Ordering;

use super::clock::MemoryClock;
use super::scripted::ScriptedBackend;
use super::state::State;
use super::store::MemoryStore;
use crate::backend::Capabilities;
use crate::lock::{Fence, Key};

impl MemoryStore {
    /// A store whose records vanish at their expiry, without the tolerance, as in Redis.
    pub fn vanishing(clock: MemoryClock) -> MemoryStore {
        MemoryStore::with(clock, State::new(true))
    }

    /// A new backend on this store, as another process would open it.
    pub fn backend(&self) -> ScriptedBackend {
        ScriptedBackend::new(self.view_that(false, |_| {}))
    }

    /// The same with `cleanupInIsLocked` switched on.
    pub fn backend_with_clean_up(&self) -> ScriptedBackend {
        ScriptedBackend::new(self.view_that(true, |_| {}))
    }

    /// A backend that claims other capabilities: one without wake-ups, say.
    pub fn backend_claiming(&self, change: impl FnOnce(&mut Capabilities)) -> ScriptedBackend {
        ScriptedBackend::new(self.view_that(false, change))
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &MemoryClock {
        &self.0.clock
    }

    /// Whether hints get lost from now on.
    pub fn lose_hints(&self, lose: bool) {
        self.0.losing_hints.store(lose, Ordering::SeqCst);
    }

    /// Leaves `fence` as the key's counter, as earlier grants would have; `None` loses it.
    pub fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        self.state().set_fence(key, fence);
    }

    /// Puts a record in the key's place that can't be read.
    pub fn spoil(&self, key: &Key) {
        self.state().spoil(key);
    }

    /// Forgets every lease and fence, as a store without persistence does in a crash.
    pub fn lose_everything(&self) {
        self.state().lose_everything();
    }
}
