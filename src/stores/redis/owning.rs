//! How an owner's lock is reached, and many leases at once.

use redis::Value;

use super::RedisBackend;
use super::scripts::{Call, EXTEND, FOREIGN, KNOWN, millis};
use crate::backend::{Backend, Mutation, Owner};
use crate::lock::{Result, Timestamp, Ttl};

impl RedisBackend {
    /// What to name to a script that acts for an owner; `None` where a cluster has no pointer to its lock.
    pub(super) async fn aim(&self, owner: &Owner) -> Result<Option<Aim>> {
        let beside = self.names.index_is_beside_lock();
        let index = if beside { Some(self.names.index(&owner.lock_id)?) } else { None };
        let lock = match &owner.lease {
            Some(lease) => Some(self.names.place(&lease.key)?.lock),
            None if beside => None,
            None => self.locate(&owner.lock_id).await?,
        };
        Ok((lock.is_some() || beside).then_some(Aim { lock, index }))
    }

    pub(super) async fn extend_batch(&self, batch: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        // Neither can a script follow reverse mappings for several, nor a cluster's node reach several keys.
        let together = self.names.index_is_beside_lock();
        if !together || batch.iter().any(|(owner, _)| owner.lease.is_none()) {
            let each = batch.iter().map(|(owner, ttl)| self.extend(owner, *ttl));
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
pub(super) struct Aim {
    pub(super) lock: Option<String>,
    pub(super) index: Option<String>,
}

impl Aim {
    pub(super) fn keys(&self) -> Vec<&str> {
        self.lock.iter().chain(&self.index).map(String::as_str).collect()
    }

    pub(super) fn mode(&self) -> &'static str {
        if self.lock.is_some() { KNOWN } else { FOREIGN }
    }
}
