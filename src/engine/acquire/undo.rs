//! Taking back what nobody wants any more: grants that arrive after their caller has gone, and requests
//! of which nobody knows whether they were applied.
//!
//! The release goes out after the acquire's reply, or behind the acquire on the same connection; where
//! that broke, once more after the operation timeout, by when the acquire can no longer arrive.

use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::backend::{AcquireRequest, Acquired, Mutation, Owner};
use crate::engine::hold::release;
use crate::engine::observer::Observed;
use crate::engine::shared::{Left, Leftover, Shared};
use crate::lock::{Key, Lease, Result};

/// An acquire that its caller no longer waits for.
pub(in crate::engine) type InFlight = Pin<Box<dyn Future<Output = Result<Acquired>> + Send>>;

/// Sees to what the line or a release finds left behind.
pub(in crate::engine) fn leftover(shared: &Arc<Shared>, leftover: Leftover<'_>) {
    match leftover.what {
        Left::Granted(lease) => granted(shared, lease, leftover.observed),
        Left::Uncertain(request) => uncertain(shared, request, leftover.observed),
    }
}

/// Releases a lease that was granted to somebody who has gone.
pub(in crate::engine) fn granted(shared: &Arc<Shared>, lease: Lease, observed: Observed) {
    let task = Arc::clone(shared);
    shared.spawn(async move {
        let key = lease.key.clone();
        take_back(&task, Owner::from(lease), &key, &observed).await;
    });
}

/// Releases what a request of unknown outcome may have taken.
pub(in crate::engine) fn uncertain(shared: &Arc<Shared>, request: &AcquireRequest, observed: Observed) {
    let (task, key, lock_id) = (Arc::clone(shared), request.key.clone(), request.lock_id);
    shared.spawn(async move { take_back(&task, Owner::from(lock_id), &key, &observed).await });
}

/// Waits for the reply of an acquire, then releases what it granted or may have granted.
/// `uncertain`: an earlier request with this lock id had no reply either.
pub(in crate::engine) fn in_flight(
    shared: &Arc<Shared>,
    request: &AcquireRequest,
    call: InFlight,
    uncertain: bool,
    observed: Observed,
) {
    let (task, key, lock_id) = (Arc::clone(shared), request.key.clone(), request.lock_id);
    shared.spawn(async move {
        let limit = task.options.operation_timeout;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Acquired::Granted(lease))) => take_back(&task, Owner::from(lease), &key, &observed).await,
            Ok(Ok(Acquired::Held { .. })) if !uncertain => {}
            Ok(Err(error)) if !error.is_unknown() && !uncertain => {}
            _ => take_back(&task, Owner::from(lock_id), &key, &observed).await,
        }
    });
}

/// A request that may be applied without anybody hearing of it: undone when this is dropped, as it is with
/// the future of a caller who goes away without a word.
pub(in crate::engine) struct Unheard<'a> {
    shared: &'a Arc<Shared>,
    request: &'a AcquireRequest,
    pub undo: bool,
}

impl<'a> Unheard<'a> {
    pub fn new(shared: &'a Arc<Shared>, request: &'a AcquireRequest) -> Unheard<'a> {
        Unheard { shared, request, undo: true }
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if self.undo {
            uncertain(self.shared, self.request, None);
        }
    }
}

async fn take_back(shared: &Arc<Shared>, owner: Owner, key: &Key, observed: &Observed) {
    // Only an answer about a lease that was there settles it: one that was not may be on its way.
    let known = owner.lease.is_some();
    match give_back(shared, &owner, key, observed).await {
        Ok(Mutation::Done(())) => return,
        Ok(_) if known => return,
        _ => {}
    }
    tokio::time::sleep(shared.options.operation_timeout).await;
    let _ = give_back(shared, &owner, key, observed).await;
}

async fn give_back(
    shared: &Arc<Shared>,
    owner: &Owner,
    key: &Key,
    observed: &Observed,
) -> Result<Mutation<()>> {
    let began = Instant::now();
    let result = release::at_store(shared, owner, Some(key), None).await;
    if let Some(observer) = observed {
        observer.undone(&owner.lock_id, &result, began.elapsed());
    }
    result
}
