//! From a lock id to its lock.
//!
//! On one server the scripts keep a reverse mapping beside the lock. In a cluster it may lie on another
//! node: there it is a pointer that takes a trip of its own, and never the truth, since the script in the
//! lock's slot checks the lock id.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use redis::{Cmd, Value};

use super::RedisBackend;
use crate::lock::{LockId, Result, Ttl};

/// Locks that were asked for and whose pointer is not known to be written, so that they can be released
/// all the same. Old ones are forgotten: their lease ends by itself.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<LockId, String>>);

const MOST_PENDING: usize = 4096;

impl Pending {
    pub(super) fn add(&self, id: LockId, lock: &str) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= MOST_PENDING
            && let Some(some) = pending.keys().next().copied()
        {
            pending.remove(&some);
        }
        pending.insert(id, lock.to_owned());
    }

    pub(super) fn remove(&self, id: &LockId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn get(&self, id: &LockId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl RedisBackend {
    /// The lock of a lock id, for scripts that can't follow a pointer. `None` where there is none.
    pub(super) async fn locate(&self, id: &LockId) -> Result<Option<String>> {
        match self.pending.get(id) {
            Some(lock) => Ok(Some(lock)),
            None => self.follow(id).await,
        }
    }

    /// Where the pointer of a lock id leads.
    async fn follow(&self, id: &LockId) -> Result<Option<String>> {
        let index = self.names.index(id)?;
        let mut command = Cmd::with_capacity(2, 8 + index.len());
        match self.server.send(&index, command.arg("GET").arg(&index)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(lock) => match String::from_utf8(lock) {
                Ok(lock) if self.names.is_lock(&lock) => Ok(Some(lock)),
                _ => Err(self.bad_index(&index)),
            },
            Value::ServerError(error) if error.code() == "WRONGTYPE" => Err(self.bad_index(&index)),
            other => self.server.accept(other).and_then(|other| Err(self.strange(&other))),
        }
    }

    /// Points from a lock id to its lock for as long as the lease lasts.
    pub(super) async fn point(&self, id: &LockId, lock: &str, ttl: Ttl) -> Result<()> {
        let index = self.names.index(id)?;
        let mut command = Cmd::with_capacity(5, 40 + index.len() + lock.len());
        command.arg("SET").arg(&index).arg(lock).arg("PX").arg(ttl.as_millis());
        self.server.request(&index, &command).await.map(drop)
    }

    /// Removes a pointer, while the caller goes on. Where that fails it ends by itself, and until then leads
    /// to what is not its own.
    pub(super) fn unpoint(&self, id: &LockId) {
        if let Ok(index) = self.names.index(id) {
            let server = self.server.clone();
            tokio::spawn(async move {
                let mut command = Cmd::with_capacity(2, 8 + index.len());
                let _ = server.request(&index, command.arg("DEL").arg(&index)).await;
            });
        }
    }
}
