//! Taking back what nobody wants any more: grants that arrive after their caller has gone, and requests
//! of which nobody knows whether they were applied.
//!
//! The release goes out after the acquire's reply, or behind the acquire on the same connection; where
//! that broke, once more after the operation timeout, by when the acquire can no longer arrive.

use std::pin::Pin;
use std::sync::Arc;

use super::Shared;
use super::release;
use crate::backend::{Acquired, Mutation, Owner};
use crate::lock::{Lease, LockId, Result};

/// An acquire that its caller no longer waits for.
pub(super) type InFlight = Pin<Box<dyn Future<Output = Result<Acquired>> + Send>>;

/// Releases a lease that was granted to somebody who has gone.
pub(super) fn granted(shared: &Arc<Shared>, lease: Lease) {
    let task = Arc::clone(shared);
    shared.spawn(async move { take_back(&task, Owner::from(lease)).await });
}

/// Releases what a request of unknown outcome may have taken.
pub(super) fn uncertain(shared: &Arc<Shared>, lock_id: LockId) {
    let task = Arc::clone(shared);
    shared.spawn(async move { take_back(&task, Owner::from(lock_id)).await });
}

/// Waits for the reply of an acquire, then releases what it granted or may have granted.
/// `uncertain`: an earlier request with this lock id had no reply either.
pub(super) fn in_flight(shared: &Arc<Shared>, lock_id: LockId, call: InFlight, uncertain: bool) {
    let task = Arc::clone(shared);
    shared.spawn(async move {
        let limit = task.options.operation_timeout;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Acquired::Granted(lease))) => take_back(&task, Owner::from(lease)).await,
            Ok(Ok(Acquired::Held { .. })) if !uncertain => {}
            Ok(Err(error)) if !error.is_unknown() && !uncertain => {}
            _ => take_back(&task, Owner::from(lock_id)).await,
        }
    });
}

async fn take_back(shared: &Arc<Shared>, owner: Owner) {
    // Only an answer about a lease that was there settles it: one that was not may be on its way.
    let known = owner.lease.is_some();
    match release::at_store(shared, &owner).await {
        Ok(Mutation::Done(())) => return,
        Ok(_) if known => return,
        _ => {}
    }
    tokio::time::sleep(shared.options.operation_timeout).await;
    let _ = release::at_store(shared, &owner).await;
}
