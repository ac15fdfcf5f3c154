//! Acquires whose callers name the lock id and repeat them by themselves: since when one of them, not
//! answered, may have taken the lease. The local deadline counts from there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::AcquireRequest;
use crate::engine::clock::Moment;
use crate::engine::hold::by_lock_id::ByLockId;
use crate::lock::{LockId, TIME_TOLERANCE};

#[derive(Debug, Default)]
pub(in crate::engine) struct Asked(Mutex<ByLockId<Since>>);

#[derive(Debug)]
struct Since {
    first: Moment,
    /// By then a lease that the first request took has ended.
    over: Moment,
}

impl Asked {
    fn table(&self) -> MutexGuard<'_, ByLockId<Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent, now. Answers when the first one was that may have been applied.
    pub fn since(&self, request: &AcquireRequest, now: Moment) -> Moment {
        let mut table = self.table();
        if table.len() == table.capacity() {
            table.retain(|_, since| since.over > now);
        }
        let over = now.plus(request.ttl.as_duration()).plus(TIME_TOLERANCE);
        let since = table.entry(request.lock_id).or_insert(Since { first: now, over });
        if since.over <= now {
            *since = Since { first: now, over };
        }
        since.first
    }

    /// It is known what became of all requests: the next one is the first that may be applied.
    pub fn forget(&self, lock_id: &LockId) {
        self.table().remove(lock_id);
    }
}
