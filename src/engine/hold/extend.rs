//! Extending by lock id, by hand or for a kept lease: both move the same local deadline.

use std::sync::Arc;

use super::leases::Extended;
use super::table::Extending;
use crate::backend::{Mutation, Owner};
use crate::engine::line::queue;
use crate::engine::shared::{Shared, bounded};
use crate::lock::{Code, Error, Lease, LockId, Result, Timestamp, Ttl};

pub(in crate::engine) async fn extend(
    shared: Arc<Shared>,
    lock_id: LockId,
    ttl: Ttl,
    only_if_held: bool,
) -> Result<Mutation<Timestamp>> {
    let _busy = shared.tasks.token();
    let extending = match shared.leases.begin_extend(&lock_id, ttl) {
        Some(extending) => InFlight { shared: &shared, extending, ended: false },
        None if only_if_held => return Ok(Mutation::NotFound),
        None => return bounded(&shared, shared.backend.extend(&Owner::from(lock_id), ttl)).await,
    };
    let owner = Owner::from(extending.extending.lease.clone());
    let result = bounded(&shared, shared.backend.extend(&owner, ttl)).await;
    if extending.end(&result) { result } else { result.map(|_| Mutation::Expired) }
}

/// Ends an extend, and tells where it showed that the lease is lost. Answers whether it came in time.
pub(in crate::engine) fn end(
    shared: &Shared,
    extending: &Extending,
    result: &Result<Mutation<Timestamp>>,
    by_keeper: bool,
) -> bool {
    match shared.leases.end_extend(extending, result, by_keeper) {
        Extended::Kept => true,
        Extended::Gone(lease) => {
            lost(shared, &lease, STORE_LOST_IT);
            true
        }
        Extended::TooLate(lease) => {
            lost(shared, &lease, DEADLINE_PASSED);
            false
        }
    }
}

/// An extend whose caller may go: then its outcome is unknown.
struct InFlight<'a> {
    shared: &'a Shared,
    extending: Extending,
    ended: bool,
}

impl InFlight<'_> {
    fn end(mut self, result: &Result<Mutation<Timestamp>>) -> bool {
        self.ended = true;
        end(self.shared, &self.extending, result, false)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            end(self.shared, &self.extending, &Err(Error::aborted().unknown()), false);
        }
    }
}

const STORE_LOST_IT: &str = "the lease was lost: the store no longer has it (it expired, was released elsewhere, or the store lost its data)";
pub(in crate::engine) const DEADLINE_PASSED: &str =
    "the lease was lost: its time is up and no extend succeeded before; stop using the resource";
const CLOSED: &str = "the lease is no longer watched over: its backend was closed";

/// Tells of a lost lease. Whoever waits for its key in this process has reason to look.
pub(in crate::engine) fn lost(shared: &Shared, lease: &Lease, why: &str) {
    tell(shared, lease, why);
    queue::hint_head(&shared.place(&lease.key));
}

/// Tells that the client is closed, while the lease lives on at the store.
pub(in crate::engine) fn unwatched(shared: &Shared, lease: &Lease) {
    tell(shared, lease, CLOSED);
}

fn tell(shared: &Shared, lease: &Lease, why: &str) {
    shared.environment.lost(&lease.lock_id, Error::new(Code::LeaseLost, why));
}
