//! What a grant takes beyond one script: others on the same trip, replicas, and the pointer to it in a cluster.

use redis::Value;

use super::RedisBackend;
use super::joined::Part;
use super::names::Place;
use super::replicas::Confirmed;
use super::scripts::{ACQUIRE, Call, json, millis};
use crate::backend::{AcquireRequest, Acquired, HandedOver};
use crate::lock::{Error, Result};

impl RedisBackend {
    /// In one trip, and with others where many are under way.
    pub(super) async fn acquire_in_one_trip(
        &self,
        place: Place,
        request: &AcquireRequest,
    ) -> Result<Acquired> {
        let keys = [place.lock, place.fence, self.names.index(&request.lock_id)?];
        let args = [request.lock_id.as_str().to_owned(), millis(request.ttl), json(&request.key)];
        let reply = self.batches().acquires.submit(Part { keys, args }).await?;
        self.acquired_with_others(&reply, request)
    }

    /// By itself: where replicas have to have it, or a cluster's pointer to it lies elsewhere.
    pub(super) async fn acquire_confirmed(&self, place: Place, request: &AcquireRequest) -> Result<Acquired> {
        let beside = self.names.index_is_beside_lock();
        let index = if beside { self.names.index(&request.lock_id)? } else { String::new() };
        let keys = [place.lock.as_str(), &place.fence, &index];
        let keys = if beside { &keys[..] } else { &keys[..2] };
        let (ttl, key) = (millis(request.ttl), json(&request.key));
        let args = [&*self.retention, request.lock_id.as_str(), &ttl, &key];
        if !beside {
            self.pending.add(request.lock_id, &place.lock);
        }
        let call = Call { script: &ACQUIRE, keys, args: &args };
        let Confirmed { reply, short } = self.eval_grant(call).await?;
        let acquired = self.acquired(&reply, &request.key, request.lock_id)?;
        let acquired = self.confirm(acquired, short).await?;
        if !beside {
            self.settle_pointer(&acquired, &place.lock, request).await?;
        }
        Ok(acquired)
    }

    /// The second trip of a grant in a cluster.
    pub(super) async fn settle_pointer(
        &self,
        acquired: &Acquired,
        lock: &str,
        request: &AcquireRequest,
    ) -> Result<()> {
        if matches!(acquired, Acquired::Granted(_)) {
            // The lease is there in any case; a repeat under the same lock id tries again.
            self.point(&request.lock_id, lock, request.ttl).await.map_err(Error::unknown)?;
        }
        self.pending.remove(&request.lock_id);
        Ok(())
    }

    /// What the script for a hand-over answers: the release, and the next one's acquire or how many others it told.
    pub(super) async fn handed_over(
        &self,
        reply: &Value,
        next: &AcquireRequest,
        short: Option<Error>,
    ) -> Result<HandedOver> {
        let Value::Array(answers) = reply else { return Err(self.strange(reply)) };
        match answers.as_slice() {
            [released] => Ok(HandedOver {
                released: self.released(released)?,
                next: None,
                others: Some(0),
                echo: false,
            }),
            [released, Value::Int(others)] => Ok(HandedOver {
                released: self.released(released)?,
                next: None,
                others: Some(u32::try_from(*others).unwrap_or(0)),
                echo: false,
            }),
            [released, acquired] => {
                let released = self.released(released)?;
                let acquired = self.acquired(acquired, &next.key, next.lock_id)?;
                let acquired = match self.confirm(acquired, short).await {
                    // Nobody has it now; the next one finds out for itself what is wrong.
                    Err(error) if !error.is_unknown() => Acquired::Held { free_in: None },
                    confirmed => confirmed?,
                };
                Ok(HandedOver { released, next: Some(acquired), others: Some(0), echo: false })
            }
            _ => Err(self.strange(reply)),
        }
    }
}
