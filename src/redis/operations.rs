//! The operations: names and arguments in, a script's answer out.

use std::time::Duration;

use redis::Value;

use super::RedisBackend;
use super::error::refused;
use super::record;
use super::reply::whole;
use super::script::{ACQUIRE, CLEAN_UP, Call, EXTEND, HAND_OVER, LOOKUP, RELEASE};
use crate::backend::{AcquireRequest, Acquired, HandOver, HandedOver, Mutation, Owner};
use crate::lock::{Error, Key, Lease, LockId, Result, Timestamp, Ttl, is_live};

/// A record that expired this long ago may be cleaned up.
const CLEAN_UP_AFTER: Duration = Duration::from_secs(2);
/// How many leases one script extends: few enough that the server is soon free for others.
const BATCH: usize = 64;

impl RedisBackend {
    pub(super) async fn try_acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let place = self.names.place(&request.key)?;
        let index = self.names.index(&request.lock_id)?;
        let reply = self
            .server
            .eval(Call {
                script: &ACQUIRE,
                keys: &[&place.lock, &place.fence, &index],
                args: &[request.lock_id.as_str(), &millis(request.ttl), &json(&request.key)],
            })
            .await?;
        self.acquired(&reply, &request.key, request.lock_id)
    }

    pub(super) async fn release_and_acquire(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let HandOver { owner, next, yield_beyond } = request;
        let place = self.names.place(&next.key)?;
        let (old, new) = (self.names.index(&owner.lock_id)?, self.names.index(&next.lock_id)?);
        let yield_beyond = yield_beyond.map(|others| others.to_string()).unwrap_or_default();
        let reply = self
            .server
            .eval(Call {
                script: &HAND_OVER,
                keys: &[&place.lock, &place.fence, &old, &new],
                args: &[
                    owner.lock_id.as_str(),
                    next.lock_id.as_str(),
                    &millis(next.ttl),
                    &json(&next.key),
                    &yield_beyond,
                ],
            })
            .await?;
        let Value::Array(answers) = &reply else { return Err(self.strange(&reply)) };
        match answers.as_slice() {
            [released] => Ok(HandedOver { released: self.released(released)?, next: None }),
            [released, acquired] => Ok(HandedOver {
                released: self.released(released)?,
                next: Some(self.acquired(acquired, &next.key, next.lock_id)?),
            }),
            _ => Err(self.strange(&reply)),
        }
    }

    pub(super) async fn release_one(&self, owner: &Owner) -> Result<Mutation<()>> {
        let index = self.names.index(&owner.lock_id)?;
        let args = [owner.lock_id.as_str(), &self.all_locks];
        let reply = match &owner.lease {
            Some(lease) => {
                let lock = self.names.place(&lease.key)?.lock;
                self.server.eval(Call { script: &RELEASE, keys: &[&index, &lock], args: &args }).await?
            }
            None => self.server.eval(Call { script: &RELEASE, keys: &[&index], args: &args }).await?,
        };
        self.released(&reply)
    }

    pub(super) async fn extend_one(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let lock = owner.lease.as_ref().map(|lease| self.names.place(&lease.key)).transpose()?;
        let index = self.names.index(&owner.lock_id)?;
        let keys: &[&str] = match &lock {
            Some(place) => &[&index, &place.lock],
            None => &[&index],
        };
        let args = [&self.all_locks, owner.lock_id.as_str(), &millis(ttl)];
        let reply = self.server.eval(Call { script: &EXTEND, keys, args: &args }).await?;
        match &reply {
            Value::Array(answers) if answers.len() == 1 => self.extended(&answers[0]),
            _ => Err(self.strange(&reply)),
        }
    }

    /// Leases that this process granted go together, the others one by one, all at the same time.
    pub(super) async fn extend_batched(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let batches = owners.chunks(BATCH).map(|batch| self.extend_batch(batch));
        futures_util::future::join_all(batches).await.into_iter().flatten().collect()
    }

    async fn extend_batch(&self, batch: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        if batch.iter().any(|(owner, _)| owner.lease.is_none()) {
            let each = batch.iter().map(|(owner, ttl)| self.extend_one(owner, *ttl));
            return futures_util::future::join_all(each).await;
        }
        match self.extend_known(batch).await {
            Ok(results) => results,
            // What went wrong with the request went wrong with each of its parts.
            Err(error) => batch.iter().map(|_| Err(same(&error))).collect(),
        }
    }

    async fn extend_known(&self, batch: &[(Owner, Ttl)]) -> Result<Vec<Result<Mutation<Timestamp>>>> {
        let mut keys = Vec::with_capacity(batch.len() * 2);
        let mut ttls = Vec::with_capacity(batch.len());
        for (owner, ttl) in batch {
            keys.push(self.names.index(&owner.lock_id)?);
            if let Some(lease) = &owner.lease {
                keys.push(self.names.place(&lease.key)?.lock);
            }
            ttls.push(millis(*ttl));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut args = vec![self.all_locks.as_str()];
        for ((owner, _), ttl) in batch.iter().zip(&ttls) {
            args.extend([owner.lock_id.as_str(), ttl]);
        }
        let reply = self.server.eval(Call { script: &EXTEND, keys: &keys, args: &args }).await?;
        match &reply {
            Value::Array(answers) if answers.len() == batch.len() => {
                Ok(answers.iter().map(|answer| self.extended(answer)).collect())
            }
            _ => Err(self.strange(&reply)),
        }
    }

    pub(super) async fn lookup_key(&self, key: &Key) -> Result<Option<Lease>> {
        let lock = self.names.place(key)?.lock;
        Ok(self.read(&lock).await?.and_then(|found| found.is_live().then_some(found.lease)))
    }

    pub(super) async fn lookup_id(&self, id: &LockId) -> Result<Option<Lease>> {
        let index = self.names.index(id)?;
        let reply =
            self.server.eval(Call { script: &LOOKUP, keys: &[&index], args: &[&self.all_locks] }).await?;
        let found = match self.parts(&reply)? {
            (0, []) => return Ok(None),
            (1, [Value::BulkString(lock), stored @ Value::BulkString(_), seconds, micros]) => {
                self.found(&String::from_utf8_lossy(lock), stored, seconds, micros)?
            }
            _ => return Err(self.strange(&reply)),
        };
        Ok((found.lease.lock_id == *id && found.is_live()).then_some(found.lease))
    }

    pub(super) async fn is_key_locked(&self, key: &Key) -> Result<bool> {
        let lock = self.names.place(key)?.lock;
        let Some(found) = self.read(&lock).await? else { return Ok(false) };
        let live = found.is_live();
        if !live && self.cleanup_in_is_locked && found.now.since(found.lease.expires_at) > CLEAN_UP_AFTER {
            let index = self.names.index(&found.lease.lock_id)?;
            if let Ok(stored) = std::str::from_utf8(&found.stored) {
                self.server.eval(Call { script: &CLEAN_UP, keys: &[&lock, &index], args: &[stored] }).await?;
            }
        }
        Ok(live)
    }

    /// The record at a lock and the server's time, in one trip.
    async fn read(&self, lock: &str) -> Result<Option<Found>> {
        let mut commands = redis::Pipeline::with_capacity(2);
        commands.cmd("GET").arg(lock).cmd("TIME");
        let replies = self.server.pipeline(lock, &commands).await?;
        let mut replies = replies.into_iter();
        let (stored, time) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
        for reply in [&stored, &time] {
            match reply {
                Value::ServerError(error) if error.code() == "WRONGTYPE" => return Err(self.bad_record(lock)),
                Value::ServerError(error) => {
                    return Err(refused(&self.server.place(), error.code(), error.details()));
                }
                _ => {}
            }
        }
        match (&stored, &time) {
            (Value::Nil, _) => Ok(None),
            (Value::BulkString(_), Value::Array(parts)) if parts.len() == 2 => {
                self.found(lock, &stored, &parts[0], &parts[1]).map(Some)
            }
            _ => Err(self.strange(&time)),
        }
    }

    fn found(&self, lock: &str, stored: &Value, seconds: &Value, micros: &Value) -> Result<Found> {
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
struct Found {
    lease: Lease,
    now: Timestamp,
    stored: Vec<u8>,
}

impl Found {
    fn is_live(&self) -> bool {
        is_live(self.lease.expires_at, self.now)
    }
}

fn millis(ttl: Ttl) -> String {
    ttl.as_millis().to_string()
}

fn json(key: &Key) -> String {
    serde_json::Value::from(key.as_str()).to_string()
}

/// The same error for another part of a request.
fn same(error: &Error) -> Error {
    let copy = Error::new(error.code(), error.message());
    let copy = if error.is_retryable() { copy.retryable() } else { copy };
    let copy = if error.is_unknown() { copy.unknown() } else { copy };
    match error.cause() {
        Some(cause) => copy.because(cause.to_string()),
        None => copy,
    }
}
