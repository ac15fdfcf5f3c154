//! What a rule works with: a store, keys of its own, time, and short words for what it expects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Fixture;
use crate::backend::{AcquireRequest, Acquired, Backend, BackendExt, LookupBy, Mutation, Owner};
use crate::lock::{Fence, Key, Lease, LockId, Timestamp, Ttl};

/// A TTL that no rule outlives.
pub const LONG: u64 = 60_000;
/// A TTL that a rule can wait for.
pub const SHORT: u64 = 100;
/// How far two readings of clocks on one machine may differ, rounding included.
pub const CLOCK_SLACK: Duration = Duration::from_millis(50);

/// One run of one rule.
pub struct Trial {
    fixture: Box<dyn Fixture>,
    tag: String,
    keys: AtomicU64,
}

impl Trial {
    pub fn new(fixture: Box<dyn Fixture>) -> Trial {
        // Not the lock id of anything: only a source of letters that no other run uses.
        let tag = LockId::mint().as_str()[..8].to_owned();
        Trial { fixture, tag, keys: AtomicU64::new(0) }
    }

    /// A new process on the store.
    pub async fn backend(&self) -> Arc<dyn Backend> {
        self.fixture.backend().await
    }

    pub async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        self.fixture.backend_with_clean_up().await
    }

    /// Two processes on the store.
    pub async fn two_backends(&self) -> (Arc<dyn Backend>, Arc<dyn Backend>) {
        (self.backend().await, self.backend().await)
    }

    /// A key that nobody has used.
    pub fn key(&self) -> Key {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        key(&format!("conformance:{}:{number}", self.tag))
    }

    /// A request for a key that nobody has used.
    pub fn request(&self, ttl: u64) -> AcquireRequest {
        request(&self.key(), ttl)
    }

    pub async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        self.fixture.set_fence(key, fence).await;
    }

    /// Sets the key's counter to where only grants, and not the clock, can have brought it.
    pub async fn set_fence_ahead(&self, key: &Key) -> Fence {
        let ahead = fence(Fence::clock(self.now()) + 1_000_000_000);
        self.set_fence(key, Some(ahead)).await;
        ahead
    }

    pub async fn spoil(&self, key: &Key) {
        self.fixture.spoil(key).await;
    }

    /// Whether the store keeps records past their expiry.
    pub fn keeps_expired(&self) -> bool {
        !self.fixture.tolerance().is_zero()
    }

    pub fn counts_watchers(&self) -> bool {
        self.fixture.counts_watchers()
    }

    pub fn tolerance(&self) -> Duration {
        self.fixture.tolerance()
    }

    pub fn now(&self) -> Timestamp {
        self.fixture.now()
    }

    pub async fn advance(&self, time: Duration) {
        self.fixture.advance(time).await;
    }

    /// Does not return before `time`, by the store's clock.
    pub async fn advance_to(&self, time: Timestamp) {
        loop {
            let left = time.since(self.now());
            if left.is_zero() {
                return;
            }
            self.advance(left).await;
        }
    }

    /// From when on this lease, as it stands, no longer counts as live.
    pub fn end(&self, lease: &Lease) -> Timestamp {
        later(lease.expires_at, self.tolerance())
    }

    /// Waits until the lease is no longer live.
    pub async fn outlive(&self, lease: &Lease) {
        self.advance_to(later(self.end(lease), CLOCK_SLACK)).await;
    }

    /// A lease taken through `backend` that is no longer live.
    pub async fn expired(&self, backend: &Arc<dyn Backend>) -> Lease {
        let lease = grant(backend, &self.request(SHORT)).await;
        self.outlive(&lease).await;
        lease
    }

    /// What `attempt` answers for a lease that is about to end: past its expiry where the store's
    /// tolerance still keeps it alive. Tried again where the machine was too slow to be in time.
    pub async fn in_last_moments<T>(
        &self,
        backend: &Arc<dyn Backend>,
        attempt: impl AsyncFn(Lease) -> T,
    ) -> T {
        for _ in 0..8 {
            let lease = grant(backend, &self.request(500)).await;
            let end = self.end(&lease);
            self.advance_to(Timestamp::from_millis(end.as_millis() - 350)).await;
            let answer = attempt(lease).await;
            if later(self.now(), CLOCK_SLACK) < end {
                return answer;
            }
        }
        panic!("this machine is too busy to judge: eight attempts in a row took over 300 ms")
    }
}

pub fn key(text: &str) -> Key {
    Key::new(text).expect("a valid key")
}

pub fn fence(value: u64) -> Fence {
    Fence::new(value).expect("a valid fence")
}

pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a valid TTL")
}

/// A request under a fresh lock id.
pub fn request(key: &Key, millis: u64) -> AcquireRequest {
    AcquireRequest { key: key.clone(), lock_id: LockId::mint(), ttl: ttl(millis) }
}

pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(time.as_millis() + u64::try_from(by.as_millis()).expect("a short time"))
}

/// Acquires, and fails the rule unless it is granted.
pub async fn grant(backend: &Arc<dyn Backend>, request: &AcquireRequest) -> Lease {
    match backend.acquire(request).await {
        Ok(Acquired::Granted(lease)) => {
            assert!(lease.lock_id == request.lock_id, "a grant carries the request's lock id");
            assert!(lease.key == request.key, "a grant carries the request's key, got {:?}", lease.key);
            lease
        }
        other => panic!("acquire must be granted, got {other:?}"),
    }
}

/// Acquires, and fails the rule unless somebody else holds the key.
pub async fn refuse(backend: &Arc<dyn Backend>, request: &AcquireRequest) -> Option<Duration> {
    match backend.acquire(request).await {
        Ok(Acquired::Held { free_in }) => free_in,
        other => panic!("acquire must be refused, got {other:?}"),
    }
}

pub async fn release(backend: &Arc<dyn Backend>, owner: impl Into<Owner>) -> Mutation<()> {
    backend.release(&owner.into()).await.expect("release answers")
}

pub async fn extend(backend: &Arc<dyn Backend>, owner: impl Into<Owner>, millis: u64) -> Mutation<Timestamp> {
    backend.extend(&owner.into(), ttl(millis)).await.expect("extend answers")
}

pub async fn by_key(backend: &Arc<dyn Backend>, key: &Key) -> Option<Lease> {
    backend.lookup(LookupBy::Key(key)).await.expect("lookup by key answers")
}

pub async fn by_id(backend: &Arc<dyn Backend>, id: &LockId) -> Option<Lease> {
    backend.lookup(LookupBy::LockId(id)).await.expect("lookup by lock id answers")
}

pub async fn is_locked(backend: &Arc<dyn Backend>, key: &Key) -> bool {
    backend.is_locked(key).await.expect("is_locked answers")
}

/// Fails the rule unless the key's record is this lease, unchanged, by key and by lock id.
pub async fn still(backend: &Arc<dyn Backend>, lease: &Lease) {
    let found = by_key(backend, &lease.key).await.expect("the lease is found by its key");
    same(&found, lease);
    let found = by_id(backend, &lease.lock_id).await.expect("the lease is found by its lock id");
    same(&found, lease);
}

/// Fails the rule unless both are the same lease. Times may be off by a rounding where a store keeps
/// them on another clock.
pub fn same(found: &Lease, lease: &Lease) {
    assert_eq!(found.key, lease.key, "the lease names its key");
    assert!(found.lock_id == lease.lock_id, "the lease carries its lock id");
    assert_eq!(found.fence, lease.fence, "the lease keeps its fence");
    near(found.acquired_at, lease.acquired_at, "the lease keeps the time it was acquired");
    near(found.expires_at, lease.expires_at, "the lease keeps its expiry");
}

pub fn near(found: Timestamp, expected: Timestamp, what: &str) {
    const ROUNDING: u64 = 2;
    let difference = found.as_millis().abs_diff(expected.as_millis());
    assert!(difference <= ROUNDING, "{what}: expected {expected:?}, got {found:?}");
}

/// Fails the rule unless `found` lies between the clock's readings around a call, each plus `ttl`.
pub fn expires_after(found: Timestamp, before: Timestamp, after: Timestamp, millis: u64) {
    let least = before.plus(ttl(millis)).as_millis();
    let most = later(after.plus(ttl(millis)), CLOCK_SLACK).as_millis();
    let found_with_slack = later(found, CLOCK_SLACK).as_millis();
    assert!(
        found_with_slack >= least && found.as_millis() <= most,
        "the expiry must be now + {millis} ms, between {least} and {most}: got {found:?}"
    );
}
