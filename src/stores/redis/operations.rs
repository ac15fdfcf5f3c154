//! The operations that change something: names and arguments in, a script's answer out.

use redis::Value;

use super::RedisBackend;
use super::joined::Part;
use super::names::Place;
use super::replicas::Confirmed;
use super::script::{ACQUIRE, Call, EXTEND, HAND_OVER, RELEASE};
use crate::backend::{AcquireRequest, Acquired, HandOver, HandedOver, Mutation, Owner, Yield};
use crate::lock::{Error, Key, Result, Timestamp, Ttl};

/// How many leases one script extends: few enough that the server is soon free for others.
const BATCH: usize = 64;

/// How a script reaches a lock: by its name, or by the reverse mapping of a lock id.
pub(super) const KNOWN: &str = "known";
const FOREIGN: &str = "foreign";
/// Whose turn it is after a hand-over.
const KEEP: &str = "keep";
const YIELD: &str = "yield";
const LEAVE: &str = "leave";

impl RedisBackend {
    pub(super) async fn try_acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let place = self.names.place(&request.key)?;
        if self.names.index_is_beside_lock() {
            return self.acquire_beside(place, request).await;
        }
        let args = [&*self.retention, request.lock_id.as_str(), &millis(request.ttl), &json(&request.key)];
        self.pending.add(request.lock_id, &place.lock);
        let keys = [place.lock.as_str(), &place.fence];
        let call = Call { script: &ACQUIRE, keys: &keys, args: &args };
        let Confirmed { reply, short } = self.eval_grant(call).await?;
        let acquired = self.acquired(&reply, &request.key, request.lock_id)?;
        let acquired = self.confirm(acquired, short).await?;
        self.settle_pointer(&acquired, &place.lock, request).await?;
        Ok(acquired)
    }

    /// In one trip, and with others where many are under way.
    async fn acquire_beside(&self, place: Place, request: &AcquireRequest) -> Result<Acquired> {
        let keys = [place.lock, place.fence, self.names.index(&request.lock_id)?];
        if self.replicas.is_some() {
            let keys = keys.each_ref().map(String::as_str);
            let (ttl, key) = (millis(request.ttl), json(&request.key));
            let args = [&*self.retention, request.lock_id.as_str(), &ttl, &key];
            let call = Call { script: &ACQUIRE, keys: &keys, args: &args };
            let Confirmed { reply, short } = self.eval_grant(call).await?;
            let acquired = self.acquired(&reply, &request.key, request.lock_id)?;
            return self.confirm(acquired, short).await;
        }
        let args = [request.lock_id.as_str().to_owned(), millis(request.ttl), json(&request.key)];
        let reply = self.acquires.submit(Part { keys, args }).await?;
        self.acquired_with_others(&reply, request)
    }

    /// The second trip of a grant in a cluster.
    async fn settle_pointer(&self, acquired: &Acquired, lock: &str, request: &AcquireRequest) -> Result<()> {
        if matches!(acquired, Acquired::Granted(_)) {
            // The lease is there in any case; a repeat under the same lock id tries again.
            self.point(&request.lock_id, lock, request.ttl).await.map_err(Error::unknown)?;
        }
        self.pending.remove(&request.lock_id);
        Ok(())
    }

    pub(super) async fn release_and_acquire(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let HandOver { owner, next, yields } = request;
        let place = self.names.place(&next.key)?;
        let (old, new) = (self.names.index(&owner.lock_id)?, self.names.index(&next.lock_id)?);
        let (turn, own) = match *yields {
            Yield::Never => (KEEP, 0),
            Yield::IfWatched { own } => (YIELD, own),
            Yield::Always { own } => (LEAVE, own),
        };
        // Without RESP3 our own watchers are no subscribers.
        let own = if own > 0 && self.server.is_without_pushes(&place.lock).await { 0 } else { own };
        let beside = self.names.index_is_beside_lock();
        let keys = [place.lock.as_str(), &place.fence, &old, &new];
        let keys = if beside { &keys[..] } else { &keys[..2] };
        let args = [
            &*self.retention,
            owner.lock_id.as_str(),
            next.lock_id.as_str(),
            &millis(next.ttl),
            &json(&next.key),
            turn,
            &own.to_string(),
            &self.signature,
        ];
        let args = if turn == KEEP { &args[..6] } else { &args[..] };
        if !beside {
            self.pending.add(next.lock_id, &place.lock);
        }
        let call = Call { script: &HAND_OVER, keys, args };
        let Confirmed { reply, short } = self.eval_grant(call).await?;
        let Value::Array(answers) = &reply else { return Err(self.strange(&reply)) };
        let handed = match answers.as_slice() {
            [released] => {
                HandedOver { released: self.released(released)?, next: None, others: Some(0), echo: false }
            }
            [released, Value::Int(others)] => HandedOver {
                released: self.released(released)?,
                next: None,
                others: Some(u32::try_from(*others).unwrap_or(0)),
                echo: false,
            },
            [released, acquired] => {
                let released = self.released(released)?;
                let acquired = self.acquired(acquired, &next.key, next.lock_id)?;
                let acquired = match self.confirm(acquired, short).await {
                    // Nobody has it now; the next one finds out for itself what is wrong.
                    Err(error) if !error.is_unknown() => Acquired::Held { free_in: None },
                    confirmed => confirmed?,
                };
                HandedOver { released, next: Some(acquired), others: Some(0), echo: false }
            }
            _ => return Err(self.strange(&reply)),
        };
        if !beside {
            match &handed.next {
                Some(acquired) => self.settle_pointer(acquired, &place.lock, next).await?,
                None => self.pending.remove(&next.lock_id),
            }
            if handed.released == Mutation::Done(()) {
                self.unpoint(&owner.lock_id);
            }
        }
        Ok(handed)
    }

    pub(super) async fn release_one(&self, owner: &Owner) -> Result<Mutation<()>> {
        let Some(aim) = self.aim(owner).await? else { return Ok(Mutation::NotFound) };
        if let Aim { lock: Some(lock), index: Some(index) } = aim {
            let args = [owner.lock_id.as_str().to_owned()];
            let reply = self.releases.submit(Part { keys: [lock, index], args }).await?;
            return self.released_with_others(&reply);
        }
        let args = [aim.mode(), owner.lock_id.as_str(), &self.all_locks];
        let args = if aim.lock.is_some() { &args[..2] } else { &args[..] };
        let reply = self.server.eval(Call { script: &RELEASE, keys: &aim.keys(), args }).await?;
        let released = self.released(&reply)?;
        if released == Mutation::Done(()) && aim.index.is_none() {
            self.unpoint(&owner.lock_id);
            self.pending.remove(&owner.lock_id);
        }
        Ok(released)
    }

    pub(super) async fn extend_one(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let Some(aim) = self.aim(owner).await? else { return Ok(Mutation::NotFound) };
        let args = [aim.mode(), owner.lock_id.as_str(), &millis(ttl), &self.all_locks];
        let args = if aim.lock.is_some() { &args[..3] } else { &args[..] };
        let reply = self.eval_extend(Call { script: &EXTEND, keys: &aim.keys(), args }).await?;
        let extended = match &reply {
            Value::Array(answers) if answers.len() == 1 => self.extended(&answers[0])?,
            _ => return Err(self.strange(&reply)),
        };
        if let (Mutation::Done(_), Aim { lock: Some(lock), index: None }) = (&extended, &aim) {
            // A pointer that could not be renewed is a look-up less, not a lease less.
            let _ = self.point(&owner.lock_id, lock, ttl).await;
        }
        Ok(extended)
    }

    /// What to name to a script that acts for an owner; `None` where a cluster has no pointer to its lock.
    async fn aim(&self, owner: &Owner) -> Result<Option<Aim>> {
        let beside = self.names.index_is_beside_lock();
        let index = if beside { Some(self.names.index(&owner.lock_id)?) } else { None };
        let lock = match &owner.lease {
            Some(lease) => Some(self.names.place(&lease.key)?.lock),
            None if beside => None,
            None => self.locate(&owner.lock_id).await?,
        };
        Ok((lock.is_some() || beside).then_some(Aim { lock, index }))
    }

    /// Leases that this process granted go together, the others one by one, all at the same time.
    pub(super) async fn extend_batched(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let batches = owners.chunks(BATCH).map(|batch| self.extend_batch(batch));
        futures_util::future::join_all(batches).await.into_iter().flatten().collect()
    }

    async fn extend_batch(&self, batch: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        // Neither can a script follow reverse mappings for several, nor a cluster's node reach several keys.
        let together = self.names.index_is_beside_lock();
        if !together || batch.iter().any(|(owner, _)| owner.lease.is_none()) {
            let each = batch.iter().map(|(owner, ttl)| self.extend_one(owner, *ttl));
            return futures_util::future::join_all(each).await;
        }
        match self.extend_known(batch).await {
            Ok(results) => results,
            // What went wrong with the request went wrong with each of its parts.
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn extend_known(&self, batch: &[(Owner, Ttl)]) -> Result<Vec<Result<Mutation<Timestamp>>>> {
        let mut keys = Vec::with_capacity(batch.len() * 2);
        let mut ttls = Vec::with_capacity(batch.len());
        for (owner, ttl) in batch {
            if let Some(lease) = &owner.lease {
                keys.push(self.names.place(&lease.key)?.lock);
            }
            keys.push(self.names.index(&owner.lock_id)?);
            ttls.push(millis(*ttl));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut args = vec![KNOWN];
        for ((owner, _), ttl) in batch.iter().zip(&ttls) {
            args.extend([owner.lock_id.as_str(), ttl]);
        }
        let reply = self.eval_extend(Call { script: &EXTEND, keys: &keys, args: &args }).await?;
        match &reply {
            Value::Array(answers) if answers.len() == batch.len() => {
                Ok(answers.iter().map(|answer| self.extended(answer)).collect())
            }
            _ => Err(self.strange(&reply)),
        }
    }
}

/// The lock where it is known, and the reverse mapping where the script reaches it. One of them is there.
struct Aim {
    lock: Option<String>,
    index: Option<String>,
}

impl Aim {
    fn keys(&self) -> Vec<&str> {
        self.lock.iter().chain(&self.index).map(String::as_str).collect()
    }

    fn mode(&self) -> &'static str {
        if self.lock.is_some() { KNOWN } else { FOREIGN }
    }
}

fn millis(ttl: Ttl) -> String {
    ttl.as_millis().to_string()
}

fn json(key: &Key) -> String {
    serde_json::Value::from(key.as_str()).to_string()
}
