//! The one subscription to a key's wake-ups that the heads of a queue share.

use std::sync::Arc;

use futures_util::FutureExt;

use crate::backend::Watch;
use crate::engine::shared::Shared;
use crate::lock::Key;

/// Whoever subscribed may be gone before the others in line, so the subscription holds on to its client.
#[derive(Debug)]
pub(in crate::engine) struct Subscription {
    watch: Watch,
    owner: Arc<Shared>,
}

impl Subscription {
    /// Subscribes within the operation timeout; `None` where that fails, which costs only delay.
    pub async fn open(owner: Arc<Shared>, key: Key) -> Option<Arc<Subscription>> {
        let limit = owner.options.operation_timeout;
        let watch = tokio::time::timeout(limit, owner.backend.watch(&key)).await.ok()?.ok()?;
        Some(Arc::new(Subscription { watch, owner }))
    }

    pub fn belongs_to(&self, client: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.owner, client)
    }

    /// Whether hints still come: a closed client gets none.
    pub fn is_live(&self) -> bool {
        !self.owner.closed.is_cancelled()
    }

    /// Waits for the next hint, or for the end of the subscription, which is a reason to look as well.
    pub async fn hint(&self) {
        tokio::select! {
            () = self.watch.hint() => {}
            () = self.owner.closed.cancelled() => {}
        }
    }

    /// Whether there was a hint since the last; takes it.
    pub fn take_hint(&self) -> bool {
        self.watch.hint().now_or_never().is_some()
    }
}
