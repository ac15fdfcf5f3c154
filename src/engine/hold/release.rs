//! Giving a lease up: to the next waiter of this process where there is one, else to the store.

use std::sync::Arc;

use tokio::time::Instant;

use crate::backend::{Acquired, HandOver, Mutation, Owner};
use crate::engine::line::hand_over::{self, HandingOver, Release};
use crate::engine::line::queue;
use crate::engine::line::turn::Turn;
use crate::engine::shared::{Left, Shared, bounded, bounded_until};
use crate::event_loop::leave;
use crate::lock::{Key, LockId, Result};

/// Releases by lock id. What this client knows about the lease moves with it.
pub(in crate::engine) async fn release(shared: Arc<Shared>, lock_id: LockId) -> Result<Mutation<()>> {
    let _busy = shared.tasks.token();
    let Some(held) = shared.leases.begin_release(&lock_id) else {
        return bounded(&shared, shared.backend.release(&Owner::from(lock_id))).await;
    };
    let unfinished = Unfinished { shared: &shared, lock_id, ended: false };
    let key = held.lease.key.clone();
    let result = at_store(&shared, &Owner::from(held.lease), Some(&key), Some(held.turn)).await;
    unfinished.end();
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

/// A release whose caller may go: then its outcome is unknown.
struct Unfinished<'a> {
    shared: &'a Shared,
    lock_id: LockId,
    ended: bool,
}

impl Unfinished<'_> {
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.leases.release_failed(&self.lock_id, true);
        }
    }
}

/// Releases at the store, handing the lease over where somebody in this process waits for it. `key` is told
/// to whoever waits; `turn` is how long this process has had it.
pub(in crate::engine) async fn at_store(
    shared: &Arc<Shared>,
    owner: &Owner,
    key: Option<&Key>,
    turn: Option<Turn>,
) -> Result<Mutation<()>> {
    let place = key.map(|key| shared.place(key));
    // A lease that may not be there can't be handed over: the waiter would be refused.
    if let (Some(place), Some(_), true) = (&place, &owner.lease, shared.backend.capabilities().hands_over)
        && let Release::HandOver(handing) = hand_over::plan_release(place, turn)
    {
        return to_next(shared, owner, handing).await;
    }
    let result = bounded(shared, shared.backend.release(owner)).await;
    if let Some(place) = &place {
        queue::hint_head(place);
    }
    result
}

async fn to_next(shared: &Arc<Shared>, owner: &Owner, handing: HandingOver) -> Result<Mutation<()>> {
    let until = Instant::now() + shared.options.operation_timeout;
    let waiter = Arc::clone(&handing.waiter);
    let request = HandOver { owner, next: &waiter.request, yields: handing.yields };
    // The next one may be anybody's: whatever blocks the event loop of this one must not keep him waiting.
    leave().await;
    match bounded_until(shared, until, shared.backend.hand_over(&request)).await {
        Ok(handed) => {
            match handed.next {
                Some(Acquired::Granted(lease)) => {
                    if let Some(unwanted) = handing.granted(lease) {
                        shared.undo(waiter.leftover(Left::Granted(unwanted)));
                    }
                }
                Some(Acquired::Held { .. }) => handing.refused(),
                None => {
                    let echo = handed.echo || !handing.is_heard_by(shared);
                    handing.yielded(handed.others, echo);
                }
            }
            Ok(handed.released)
        }
        Err(error) if error.is_unknown() => {
            handing.uncertain();
            Err(error)
        }
        // Whatever keeps the next one from the lease must not keep this one from giving it up.
        Err(_) => {
            let result = bounded_until(shared, until, shared.backend.release(owner)).await;
            handing.refused();
            result
        }
    }
}
