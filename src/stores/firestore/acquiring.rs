//! Acquire and hand over: read both documents, then change both if they are still as they were read. No
//! transaction and so no queue of them: who was slower is told, not made to wait.

use super::FirestoreBackend;
use super::documents::{Counter, Stored, Version, put_fence, put_lease};
use super::names::Place;
use super::transport::requests::Committed;
use crate::backend::{AcquireRequest, Acquired, Mutation};
use crate::lock::{Fence, Lease, LockId, Result, TIME_TOLERANCE, Timestamp, is_live};

/// Reading and committing this often at most: once, and again when somebody interfered. Who lost each time looks once
/// more, so that a refusal says who holds the key now.
pub(super) const ROUNDS: u32 = 3;

impl FirestoreBackend {
    pub(super) async fn read_both(&self, place: &Place) -> Result<(Option<Stored>, Counter)> {
        let [lock, fence] = self.server.read([&place.lock, &place.fence]).await?;
        let stored = lock.as_ref().map(Stored::read).transpose()?;
        Ok((stored, Counter::read(fence.as_ref())?))
    }

    pub(super) fn refuse_or_repeat(
        &self,
        stored: &Stored,
        request: &AcquireRequest,
        now: Timestamp,
    ) -> Acquired {
        if stored.lease.lock_id == request.lock_id {
            self.grants.remember(stored.clone(), now);
            return Acquired::Granted(stored.lease.clone());
        }
        Acquired::Held { free_in: Some(stored.lease.expires_at.since(now) + tolerance_left(stored, now)) }
    }

    /// Writes the next lease and its fence over what was seen; `None` when that has changed.
    pub(super) async fn try_grant(
        &self,
        place: &Place,
        request: &AcquireRequest,
        seen: Option<Stored>,
        counter: Counter,
        now: Timestamp,
    ) -> Result<Option<Lease>> {
        // A counter that was lost while its lock's document stayed does not take the fence back.
        let previous = counter.fence.max(seen.as_ref().map(|seen| seen.lease.fence));
        let lease = mint(request, previous, now)?;
        let version = seen.map_or(Version::Absent, |seen| seen.version);
        let writes = || {
            vec![
                put_lease(&place.lock, &lease, version),
                put_fence(&place.fence, &lease, Some(counter.version), self.server.config.fence_retention),
            ]
        };
        let committed = self.server.commit(writes).await?;
        self.granted(place, lease, committed, now)
    }

    /// The same where this process knows the lock's document as its own: nobody mints a fence for a key
    /// without changing that document, so its precondition holds for both.
    pub(super) async fn try_pass(
        &self,
        place: &Place,
        next: &AcquireRequest,
        owned: &Stored,
        now: Timestamp,
    ) -> Result<Option<Lease>> {
        let lease = mint(next, Some(owned.lease.fence), now)?;
        let writes = || {
            vec![
                put_lease(&place.lock, &lease, owned.version),
                put_fence(&place.fence, &lease, None, self.server.config.fence_retention),
            ]
        };
        let committed = self.server.commit(writes).await?;
        let passed = self.granted(place, lease, committed, now)?;
        if passed.is_some() {
            self.grants.forget(&owned.lease.lock_id);
        }
        Ok(passed)
    }

    fn granted(
        &self,
        place: &Place,
        lease: Lease,
        committed: Committed,
        now: Timestamp,
    ) -> Result<Option<Lease>> {
        let Committed::Done(versions) = committed else { return Ok(None) };
        if let Some(version) = versions.first() {
            let stored = Stored { name: place.lock.clone(), lease: lease.clone(), version: *version };
            self.grants.remember(stored, now);
        }
        Ok(Some(lease))
    }
}

fn mint(request: &AcquireRequest, previous: Option<Fence>, now: Timestamp) -> Result<Lease> {
    Ok(Lease {
        key: request.key.clone(),
        lock_id: request.lock_id,
        fence: Fence::next(previous, Fence::clock(now))?,
        acquired_at: now,
        expires_at: now.plus(request.ttl),
    })
}

/// What releasing `lock_id` would answer.
pub(super) fn released(stored: Option<&Stored>, lock_id: &LockId, now: Timestamp) -> Mutation<()> {
    match stored.filter(|stored| stored.lease.lock_id == *lock_id) {
        None => Mutation::NotFound,
        Some(stored) if is_live(stored.lease.expires_at, now) => Mutation::Done(()),
        Some(_) => Mutation::Expired,
    }
}

/// What of the tolerance is still ahead of a live record.
fn tolerance_left(stored: &Stored, now: Timestamp) -> std::time::Duration {
    TIME_TOLERANCE.saturating_sub(now.since(stored.lease.expires_at))
}
