//! What this process remembers of the leases that it was granted, so that giving them up or extending
//! them takes one trip. Forgetting costs a trip, never correctness: every write has a precondition.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::documents::Stored;
use crate::lock::{LockId, Timestamp, is_live};

/// So many leases are remembered at most.
const MOST: usize = 65_536;
/// Below so many, those that have ended are not looked for.
const FEW: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    by_lock_id: HashMap<LockId, Stored>,
    sweep_at: usize,
}

impl Grants {
    /// Remembers the newest state of a lease, or nothing when there are too many.
    pub(super) fn remember(&self, stored: Stored, now: Timestamp) {
        let mut book = self.book();
        if book.by_lock_id.len() >= book.sweep_at.max(FEW) {
            book.by_lock_id.retain(|_, stored| is_live(stored.lease.expires_at, now));
            book.sweep_at = (book.by_lock_id.len() * 2).min(MOST);
        }
        if book.by_lock_id.len() < MOST {
            book.by_lock_id.insert(stored.lease.lock_id, stored);
        }
    }

    /// The lease, if it is remembered as live; what is remembered as ended may have been extended since.
    pub(super) fn live(&self, lock_id: &LockId, now: Timestamp) -> Option<Stored> {
        self.book().by_lock_id.get(lock_id).filter(|stored| is_live(stored.lease.expires_at, now)).cloned()
    }

    /// The document, whatever became of the lease.
    pub(super) fn document(&self, lock_id: &LockId) -> Option<String> {
        self.book().by_lock_id.get(lock_id).map(|stored| stored.name.clone())
    }

    pub(super) fn forget(&self, lock_id: &LockId) {
        self.book().by_lock_id.remove(lock_id);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents::Version;
    use super::*;
    use crate::lock::{Fence, Key, Lease};

    fn stored(expires_at: u64) -> Stored {
        let lease = Lease {
            key: Key::new("a").unwrap(),
            lock_id: LockId::mint(),
            fence: Fence::new(1).unwrap(),
            acquired_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(expires_at),
        };
        Stored { name: "a".into(), lease, version: Version::Absent }
    }

    #[test]
    fn it_stays_bounded_and_drops_what_has_ended_first() {
        let (grants, now) = (Grants::default(), Timestamp::from_millis(1_000_000));
        let held = stored(2_000_000);
        grants.remember(held.clone(), now);
        for _ in 0..3 * FEW {
            grants.remember(stored(1), now);
        }
        assert!(grants.book().by_lock_id.len() <= FEW + 1);
        assert!(grants.live(&held.lease.lock_id, now).is_some());
        for _ in 0..MOST {
            grants.remember(stored(2_000_000), now);
        }
        assert!(grants.book().by_lock_id.len() <= MOST);
    }

    #[test]
    fn what_has_ended_is_not_live_but_its_document_is_known() {
        let (grants, now) = (Grants::default(), Timestamp::from_millis(1_000_000));
        let ended = stored(1);
        grants.remember(ended.clone(), now);
        assert!(grants.live(&ended.lease.lock_id, now).is_none());
        assert_eq!(grants.document(&ended.lease.lock_id).as_deref(), Some("a"));
        grants.forget(&ended.lease.lock_id);
        assert_eq!(grants.document(&ended.lease.lock_id), None);
    }
}
