//! Memory stores for the conformance suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{MemoryClock, MemoryStore};
use crate::backend::Backend;
use crate::conformance::Fixture;
use crate::lock::{Fence, Key, TIME_TOLERANCE, Timestamp};

/// Runs the conformance suite on a memory store of its own.
#[derive(Debug)]
pub struct MemoryFixture {
    store: MemoryStore,
    tolerance: Duration,
}

impl MemoryFixture {
    /// With a clock that the rules turn, so that none of them waits.
    pub fn by_hand() -> MemoryFixture {
        MemoryFixture { store: MemoryStore::new(MemoryClock::by_hand()), tolerance: TIME_TOLERANCE }
    }

    /// With the wall clock, as a store on the network has.
    pub fn real() -> MemoryFixture {
        MemoryFixture { store: MemoryStore::new(MemoryClock::real()), tolerance: TIME_TOLERANCE }
    }

    /// With records that vanish at their expiry, as in Redis.
    pub fn vanishing() -> MemoryFixture {
        MemoryFixture { store: MemoryStore::vanishing(MemoryClock::by_hand()), tolerance: Duration::ZERO }
    }

    /// The store that its backends share.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.store.backend())
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        Arc::new(self.store.backend_with_clean_up())
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        self.store.set_fence(key, fence);
    }

    async fn spoil(&self, key: &Key) {
        self.store.spoil(key);
    }

    fn tolerance(&self) -> Duration {
        self.tolerance
    }

    fn now(&self) -> Timestamp {
        self.store.clock().now()
    }

    async fn advance(&self, time: Duration) {
        if self.store.clock().is_by_hand() {
            self.store.clock().advance(time);
        } else {
            tokio::time::sleep(time).await;
        }
    }
}
