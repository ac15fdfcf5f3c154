//! Bugs of `find`: lookup, is_locked, pages.

use syncguard::backend::{Backend, BackendExt, Find, LookupBy, Page, Span};
use syncguard::lock::{Code, Error, Key, Lease, Result};

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

    /// What `is_locked` asks.
    pub async fn broken_look(&self, key: &Key) -> Result<Option<Lease>> {
        let key = &self.filed(key);
        let found = match self.inner.find(Find::Key { key, clean_up: true }).await {
            Err(error) if self.is(Bug::StartsAfreshOnInternal) && error.code() == Code::Internal => None,
            found => found?.leases.pop(),
        };
        match self.bug {
            Bug::IsLockedIsAlwaysFalse => return Ok(None),
            Bug::NoTolerance => {
                return Ok(self.holder(key).await.filter(|lease| !overdue(lease, self.now())));
            }
            Bug::LivesTooLong => return Ok(found.or_else(|| self.lingering(key))),
            Bug::IsLockedCleansUp if found.is_none() => self.sweep(key).await,
            Bug::CleanUpTakesTheFence if self.clean_up && found.is_none() => {
                self.store().set_fence(key, None);
            }
            _ => {}
        }
        Ok(found)
    }

    pub async fn broken_page(&self, span: Span<'_>) -> Result<Page> {
        let asked = match self.bug {
            Bug::PageHasNoLimit => Span { limit: usize::MAX, ..span },
            Bug::PageKnowsNoPrefix => Span { prefix: "", ..span },
            Bug::PageBeginsAgain => Span { cursor: None, ..span },
            _ => span,
        };
        let mut page = self.inner.find(Find::Prefix(asked)).await?;
        match self.bug {
            Bug::PageIsTheOnlyOne => page.cursor = None,
            Bug::PageFindsTwice => page.leases.extend(page.leases.first().cloned()),
            Bug::PageShowsWhatWas if page.leases.is_empty() && span.cursor.is_none() => {
                page.leases.extend(lock(&self.shared.leases).values().next().cloned());
            }
            Bug::PageMindsTheUnreadable => {
                for lease in lock(&self.shared.leases).values() {
                    let spoiled = Key::new(&lease.key.as_str().replace("good", "bad")).ok();
                    if spoiled.is_some_and(|key| key != lease.key) {
                        return Err(Error::internal("a record can't be read"));
                    }
                }
            }
            Bug::PageShowsFences => {
                let fences = page.leases.iter().filter_map(|lease| {
                    let key = Key::new(&format!("fence:{}", lease.key.as_str())).ok()?;
                    Some(Lease { key, ..lease.clone() })
                });
                let fences: Vec<Lease> = fences.collect();
                page.leases.extend(fences);
            }
            _ => {}
        }
        Ok(page)
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
