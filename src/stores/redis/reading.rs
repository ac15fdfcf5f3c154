//! The operations that only look.

use std::time::Duration;

use redis::{Cmd, Value};

use super::RedisBackend;
use super::record;
use super::reply::whole;
use super::scripts::{CLEAN_UP, Call, LOOKUP};
use crate::lock::{Key, Lease, LockId, Result, Timestamp, is_live};

/// A record that expired this long ago may be cleaned up.
const CLEAN_UP_AFTER: Duration = Duration::from_secs(2);

impl RedisBackend {
    pub(super) async fn find_key(&self, key: &Key, clean_up: bool) -> Result<Option<Lease>> {
        let lock = self.names.place(key)?.lock;
        let Some(found) = self.read(&lock).await? else { return Ok(None) };
        if found.is_live() {
            return Ok(Some(found.lease));
        }
        let clean_up = clean_up && self.cleanup_in_is_locked;
        if clean_up && found.now.since(found.lease.expires_at) > CLEAN_UP_AFTER {
            let index = self.names.index(&found.lease.lock_id)?;
            let keys = [lock.as_str(), &index];
            let keys = if self.names.index_is_beside_lock() { &keys[..] } else { &keys[..1] };
            if let Ok(stored) = std::str::from_utf8(&found.stored) {
                self.server.eval_reading(Call { script: &CLEAN_UP, keys, args: &[stored] }).await?;
            }
        }
        Ok(None)
    }

    pub(super) async fn find_id(&self, id: &LockId) -> Result<Option<Lease>> {
        if !self.names.index_is_beside_lock() {
            let Some(lock) = self.locate(id).await? else { return Ok(None) };
            return Ok(self.read(&lock).await?.and_then(|found| found.live_under(id)));
        }
        let index = self.names.index(id)?;
        let reply = self
            .server
            .eval_reading(Call { script: &LOOKUP, keys: &[&index], args: &[&self.all_locks] })
            .await?;
        let found = match self.parts(&reply)? {
            (0, []) => return Ok(None),
            (1, [Value::BulkString(lock), stored @ Value::BulkString(_), seconds, micros]) => {
                self.found(&String::from_utf8_lossy(lock), stored, seconds, micros)?
            }
            _ => return Err(self.strange(&reply)),
        };
        Ok(found.live_under(id))
    }

    /// The record at a lock and the server's time, in one trip.
    async fn read(&self, lock: &str) -> Result<Option<Found>> {
        let (mut get, mut time) = (Cmd::with_capacity(2, 8 + lock.len()), Cmd::with_capacity(1, 4));
        get.arg("GET").arg(lock);
        time.arg("TIME");
        let (stored, time) = self.server.request_both(lock, &get, &time).await?;
        if matches!(&stored, Value::ServerError(error) if error.code() == "WRONGTYPE") {
            return Err(self.bad_record(lock));
        }
        let (stored, time) = (self.server.accept(stored)?, self.server.accept(time)?);
        match (&stored, &time) {
            (Value::Nil, _) => Ok(None),
            (Value::BulkString(_), Value::Array(parts)) if parts.len() == 2 => {
                self.found(lock, &stored, &parts[0], &parts[1]).map(Some)
            }
            _ => Err(self.strange(&time)),
        }
    }

    pub(super) fn found(&self, lock: &str, stored: &Value, seconds: &Value, micros: &Value) -> Result<Found> {
        let Value::BulkString(stored) = stored else { return Err(self.bad_record(lock)) };
        let lease = record::parse(stored).ok_or_else(|| self.bad_record(lock))?;
        let (Some(seconds), Some(micros)) = (whole(seconds), whole(micros)) else {
            return Err(self.strange(seconds));
        };
        let now = Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(micros / 1000));
        Ok(Found { lease, now, stored: stored.clone() })
    }
}

/// A record, and the server's time when it was read.
pub(super) struct Found {
    pub(super) lease: Lease,
    now: Timestamp,
    stored: Vec<u8>,
}

impl Found {
    pub(super) fn is_live(&self) -> bool {
        is_live(self.lease.expires_at, self.now)
    }

    /// The lease, if it is this lock id's and still live.
    fn live_under(self, id: &LockId) -> Option<Lease> {
        (self.lease.lock_id == *id && self.is_live()).then_some(self.lease)
    }
}
