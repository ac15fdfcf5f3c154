//! Extending by lock id, by hand or for a kept lease: both move the same local deadline.

use std::sync::Arc;

use super::clock::Moment;
use super::{Shared, bounded};
use crate::backend::{Mutation, Owner};
use crate::lock::{Code, Error, Lease, LockId, Result, Timestamp, Ttl};

pub(super) async fn extend(
    shared: Arc<Shared>,
    lock_id: LockId,
    ttl: Ttl,
    only_if_held: bool,
) -> Result<Mutation<Timestamp>> {
    let owner = match shared.leases.begin_extend(&lock_id) {
        Some(lease) => Owner::from(lease),
        None if only_if_held => return Ok(Mutation::NotFound),
        None => return bounded(&shared, shared.backend.extend(&Owner::from(lock_id), ttl)).await,
    };
    let sent = Moment::now();
    let result = bounded(&shared, shared.backend.extend(&owner, ttl)).await;
    if let Some(lease) = shared.leases.end_extend(&lock_id, sent, ttl, &result, false) {
        tell_lost(&shared, &lease, STORE_LOST_IT);
    }
    result
}

pub(super) const STORE_LOST_IT: &str = "the lease was lost: the store no longer has it (it expired, was released elsewhere, or the store lost its data)";
pub(super) const DEADLINE_PASSED: &str =
    "the lease was lost: its time is up and no extend succeeded before; stop using the resource";
pub(super) const CLOSED: &str = "the lease is no longer watched over: its backend was closed";

pub(super) fn tell_lost(shared: &Shared, lease: &Lease, why: &str) {
    shared.environment.lost(&lease.lock_id, Error::new(Code::LeaseLost, why));
}
