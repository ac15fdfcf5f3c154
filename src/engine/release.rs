//! Giving a lease up: to the next waiter of this process where there is one, else to the store.

use std::sync::Arc;

use super::clock::Moment;
use super::queue::{self, HandingOver, Place, Release};
use super::{Shared, bounded, undo};
use crate::backend::{Acquired, HandOver, Mutation, Owner};
use crate::lock::{LockId, Result};

/// Releases by lock id. What this client knows about the lease moves with it.
pub(super) async fn release(shared: Arc<Shared>, lock_id: LockId) -> Result<Mutation<()>> {
    let Some(held) = shared.leases.begin_release(&lock_id) else {
        return bounded(&shared, shared.backend.release(&Owner::from(lock_id))).await;
    };
    let result = at_store(&shared, &Owner::from(held.lease)).await;
    match result {
        // The earlier release, whose reply was lost, has removed it.
        Ok(Mutation::NotFound) if held.repeated && shared.leases.before_deadline(&lock_id) => {
            shared.leases.remove(&lock_id);
            Ok(Mutation::Done(()))
        }
        Ok(done) => {
            shared.leases.remove(&lock_id);
            Ok(done)
        }
        Err(error) => {
            shared.leases.release_failed(&lock_id, error.is_unknown());
            Err(error)
        }
    }
}

/// Releases at the store, handing the lease over where somebody in this process waits for it.
pub(super) async fn at_store(shared: &Arc<Shared>, owner: &Owner) -> Result<Mutation<()>> {
    let Some(lease) = &owner.lease else {
        return bounded(shared, shared.backend.release(owner)).await;
    };
    let capabilities = shared.backend.capabilities();
    let place = Place { store: Arc::clone(&capabilities.store), key: lease.key.clone() };
    if capabilities.hands_over
        && let Release::HandOver(handing) = queue::plan_release(&place)
    {
        return hand_over(shared, owner, handing).await;
    }
    let result = bounded(shared, shared.backend.release(owner)).await;
    queue::hint_head(&place);
    result
}

async fn hand_over(shared: &Arc<Shared>, owner: &Owner, handing: HandingOver) -> Result<Mutation<()>> {
    let sent = Moment::now();
    let waiter = Arc::clone(&handing.waiter);
    let request = HandOver { owner, next: &waiter.request, yield_beyond: handing.yield_beyond };
    match bounded(shared, shared.backend.hand_over(&request)).await {
        Ok(handed) => {
            match handed.next {
                Some(Acquired::Granted(lease)) => {
                    if let Some(unwanted) = handing.granted(lease, sent) {
                        undo::granted(shared, unwanted);
                    }
                }
                Some(Acquired::Held { .. }) => handing.failed(None),
                None => handing.yielded(handed.others),
            }
            Ok(handed.released)
        }
        Err(error) => {
            handing.failed(error.is_unknown().then_some(sent));
            Err(error)
        }
    }
}
