//! What the rules need of a store beyond the trait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Backend;
use crate::lock::{Fence, Key, TIME_TOLERANCE, Timestamp};

/// One store for one rule: how to open it, and how to bring it into states that no operation leads to.
///
/// Make a fresh one for each rule, with a prefix, tables or a directory of its own: rules run at the same
/// time, and some use keys as they stand in the contract.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A new backend on this store, as another process would open it: no connection, memory or
    /// subscription in common with those opened before.
    async fn backend(&self) -> Arc<dyn Backend>;

    /// The same with `cleanupInIsLocked` switched on.
    async fn backend_with_clean_up(&self) -> Arc<dyn Backend>;

    /// Writes the key's fence counter behind the backends' back, as earlier grants would have left it;
    /// `None` deletes it, as a store does that lost its data. Only called while nobody holds the key.
    async fn set_fence(&self, key: &Key, fence: Option<Fence>);

    /// Puts a lock record in the key's place that no backend can have written. Only called while nobody
    /// holds the key.
    async fn spoil(&self, key: &Key);

    /// How long past its expiry a record of this store still counts as live: [`TIME_TOLERANCE`], or zero
    /// where the store itself deletes a record at its expiry.
    fn tolerance(&self) -> Duration {
        TIME_TOLERANCE
    }

    /// Whether this store tells a backend how many others watch a key. One that can't tell gives up its turn
    /// whenever it is asked to.
    fn counts_watchers(&self) -> bool {
        true
    }

    /// The time on the store's clock. A store on this machine shares its clock.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Lets `time` pass on the store's clock, by waiting unless it can be turned.
    async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
