//! Bugs of lookup and is_locked.

use syncguard::backend::{Backend, LookupBy};
use syncguard::lock::{Code, Key, Lease, Result};

use crate::Bug;
use crate::broken::{Broken, lock, overdue};

impl Broken {
    pub async fn broken_lookup(&self, by: LookupBy<'_>) -> Result<Option<Lease>> {
        let filed = match by {
            LookupBy::Key(key) => Some(self.filed(key)),
            LookupBy::LockId(_) => None,
        };
        let asked = filed.as_ref().map_or(by, LookupBy::Key);
        let found = match self.inner.lookup(asked).await {
            Err(error) if self.is(Bug::StartsAfreshOnInternal) && error.code() == Code::Internal => {
                return Ok(None);
            }
            found => found?.map(|lease| self.disguised(lease)),
        };
        Ok(match (self.bug, found) {
            (Bug::NoTolerance, Some(lease)) if overdue(&lease, self.now()) => None,
            (Bug::LookupFindsItsOwnOnly, Some(lease)) => {
                lock(&self.granted).contains_key(&lease.lock_id).then_some(lease)
            }
            (Bug::LookupFindsAnything, None) => lock(&self.shared.leases).values().next().cloned(),
            (Bug::LookupShowsWhatWas, None) => self.remembered(by),
            (Bug::LivesTooLong, None) => {
                self.remembered(by).filter(|lease| self.lingering(&lease.key).as_ref() == Some(lease))
            }
            (Bug::ContentionStoresTheLockId, None) if matches!(by, LookupBy::LockId(_)) => {
                self.remembered(by)
            }
            (Bug::LookupCleansUp, None) => {
                if let Some(lease) = self.remembered(by) {
                    self.sweep(&lease.key).await;
                }
                None
            }
            (_, found) => found,
        })
    }

    pub async fn broken_is_locked(&self, key: &Key) -> Result<bool> {
        let key = &self.filed(key);
        let locked = match self.inner.is_locked(key).await {
            Err(error) if self.is(Bug::StartsAfreshOnInternal) && error.code() == Code::Internal => false,
            locked => locked?,
        };
        match self.bug {
            Bug::IsLockedIsAlwaysFalse => return Ok(false),
            Bug::NoTolerance => {
                return Ok(self.holder(key).await.is_some_and(|lease| !overdue(&lease, self.now())));
            }
            Bug::LivesTooLong => return Ok(locked || self.lingering(key).is_some()),
            Bug::IsLockedCleansUp if !locked => self.sweep(key).await,
            Bug::CleanUpTakesTheFence if self.clean_up && !locked => self.store().set_fence(key, None),
            _ => {}
        }
        Ok(locked)
    }

    /// What was ever granted under the key or lock id.
    fn remembered(&self, by: LookupBy<'_>) -> Option<Lease> {
        let leases = lock(&self.shared.leases);
        match by {
            LookupBy::LockId(id) => leases.get(id).cloned(),
            LookupBy::Key(key) => leases.values().find(|lease| lease.key == *key).cloned(),
        }
    }
}
