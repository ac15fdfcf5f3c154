//! Bugs of extend, extend_many and release.

use syncguard::backend::{AcquireRequest, Acquired, Backend, BackendExt, Mutation, Owner};
use syncguard::lock::{Lease, Result, TIME_TOLERANCE, Timestamp, Ttl, is_live};

use crate::Bug;
use crate::broken::{Broken, lock, overdue};

impl Broken {
    pub async fn broken_extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let ttl = self.cut(ttl);
        if let Some(refused) = self.refuses(owner) {
            return Ok(refused);
        }
        let stored = self.stored(owner).await;
        match (self.bug, &stored, &owner.lease) {
            (Bug::NoTolerance, Some(lease), _) if overdue(lease, self.now()) => Ok(Mutation::Expired),
            (Bug::ExtendAdds, Some(lease), _) => {
                let left = lease.expires_at.since(self.now()).as_millis();
                let sum = u64::try_from(left).expect("few millis") + ttl.as_millis();
                self.inner.extend(owner, Ttl::from_millis(sum)?).await
            }
            (Bug::ExtendMintsAgain, Some(lease), _) => {
                self.drop_lease(lease).await;
                self.take(lease, ttl).await
            }
            (Bug::ExtendRevives | Bug::LivesTooLong, None, Some(lease)) => self.take(lease, ttl).await,
            (Bug::ExtendAlwaysSaysDone, None, _) => Ok(Mutation::Done(self.now().plus(ttl))),
            (Bug::ExtendSaysDoneOnly, Some(_), _) => Ok(Mutation::Done(self.now().plus(ttl))),
            (Bug::ExtendTrustsItsMemory, _, Some(remembered)) => match self.holder(&remembered.key).await {
                Some(holder) => self.inner.extend(&Owner::from(holder), ttl).await,
                None => self.inner.extend(owner, ttl).await,
            },
            _ => self.inner.extend(owner, ttl).await,
        }
    }

    pub async fn broken_extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let mut results = Vec::new();
        match self.bug {
            Bug::ExtendSaysDoneOnly | Bug::ExtendTrustsItsMemory => {
                for (owner, ttl) in owners {
                    results.push(self.broken_extend(owner, *ttl).await);
                }
            }
            Bug::ExtendManyStopsAt64 => {
                results = self.inner.extend_many(&owners[..owners.len().min(64)]).await;
                results.resize_with(owners.len(), || Ok(Mutation::NotFound));
            }
            _ => results = self.inner.extend_many(owners).await,
        }
        match self.bug {
            Bug::ExtendManyAnswersBackwards => results.reverse(),
            Bug::ExtendManyDropsTheMissing => {
                results.retain(|result| !matches!(result, Ok(Mutation::NotFound)));
            }
            Bug::ExtendManyAnswersOneForNone if owners.is_empty() => results.push(Ok(Mutation::NotFound)),
            _ => {}
        }
        results
    }

    pub async fn broken_release(&self, owner: &Owner) -> Result<Mutation<()>> {
        if let Some(refused) = self.refuses(owner) {
            return Ok(refused);
        }
        let stored = self.stored(owner).await;
        match (self.bug, &stored, &owner.lease) {
            (Bug::NoTolerance, Some(lease), _) if overdue(lease, self.now()) => Ok(Mutation::Expired),
            (Bug::ReleaseSaysDoneOnly, ..) => Ok(Mutation::Done(())),
            (Bug::ReleaseAlwaysSaysDone, None, _) | (Bug::LivesTooLong, None, Some(_)) => {
                Ok(Mutation::Done(()))
            }
            (Bug::ReleaseTrustsItsMemory, _, Some(remembered)) => match self.holder(&remembered.key).await {
                Some(holder) => self.silently_or_not(&Owner::from(holder)).await,
                None => self.silently_or_not(owner).await,
            },
            (Bug::ReleaseTakesTheFence, Some(lease), _) => {
                let key = lease.key.clone();
                let released = self.inner.release(owner).await;
                self.store().set_fence(&key, None);
                released
            }
            _ => self.silently_or_not(owner).await,
        }
    }

    /// What this backend has stored for the owner, if it is live.
    async fn stored(&self, owner: &Owner) -> Option<Lease> {
        let by = syncguard::backend::LookupBy::LockId(&owner.lock_id);
        self.inner.lookup(by).await.ok().flatten()
    }

    /// The answer of a bug that doesn't ask the store.
    fn refuses<T>(&self, owner: &Owner) -> Option<Mutation<T>> {
        match (self.bug, &owner.lease) {
            (Bug::OwnersNeedAMemory, None) => Some(Mutation::NotFound),
            (Bug::OwnersTrustAStaleExpiry, Some(lease)) if !is_live(lease.expires_at, self.now()) => {
                Some(Mutation::Expired)
            }
            _ => None,
        }
    }

    /// Acquires the lease's key under the lease's lock id.
    async fn take(&self, lease: &Lease, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let request = AcquireRequest { key: lease.key.clone(), lock_id: lease.lock_id, ttl };
        Ok(match self.inner.acquire(&request).await? {
            Acquired::Granted(lease) => Mutation::Done(lease.expires_at),
            Acquired::Held { .. } => Mutation::NotFound,
        })
    }

    /// The lease that lives too long: past its end, and not followed by another.
    pub fn lingering(&self, key: &syncguard::lock::Key) -> Option<Lease> {
        let now = self.now();
        let leases = lock(&self.shared.leases);
        let past = |lease: &&Lease| lease.key == *key && now.since(lease.expires_at) >= TIME_TOLERANCE;
        leases.values().filter(past).max_by_key(|lease| lease.fence).cloned()
    }
}
