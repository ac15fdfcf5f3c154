//! The trait's bodies: names and arguments in, a script's answer out.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use super::config::RedisConfig;
use super::joined::{Joined, Part, Shared};
use super::names::Names;
use super::owning::Aim;
use super::pointer::Pending;
use super::replicas::{Confirmed, Replicas};
use super::scripts::{
    ACQUIRE, ACQUIRE_MANY, Call, EXTEND, HAND_OVER, KEEP, KNOWN, LEAVE, RELEASE, RELEASE_MANY, YIELD, json,
    millis,
};
use super::transport::server::Server;
use super::wake;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page,
    TimeAuthority, Watch, Yield,
};
use crate::lock::{FenceRetention, Key, Result, Timestamp, Ttl};
use crate::stores::batch::Batch;

/// How many leases one script extends: few enough that the server is soon free for others.
const BATCH: usize = 64;

/// Locks in Redis. The server's clock decides ([`TimeAuthority::Server`]).
#[derive(Debug)]
pub struct RedisBackend {
    pub(super) capabilities: Capabilities,
    pub(super) names: Names,
    /// What every lock's name starts with, for scripts that follow a reverse mapping.
    pub(super) all_locks: String,
    /// For how long scripts let a fence counter stay, in milliseconds; "0": for ever.
    pub(super) retention: String,
    pub(super) signature: String,
    pub(super) cleanup_in_is_locked: bool,
    pub(super) pending: Pending,
    pub(super) server: Arc<Server>,
    pub(super) replicas: Option<Replicas>,
    engine: Batches,
    /// Of the event loop that has a connection of its own.
    lane: Batches,
}

/// Requests that go together where many are under way, on one connection.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) acquires: Batch<Joined<3, 3>>,
    releases: Batch<Joined<2, 1>>,
}

impl Batches {
    fn new(retention: &str, server: &Arc<Server>) -> Batches {
        Batches {
            acquires: Batch::new(Joined::new(
                Shared::new(&ACQUIRE, [retention.to_owned()]),
                Shared::new(&ACQUIRE_MANY, [retention.to_owned()]),
                server.clone(),
            )),
            releases: Batch::new(Joined::new(
                Shared::new(&RELEASE, [KNOWN.to_owned()]),
                Shared::new(&RELEASE_MANY, []),
                server.clone(),
            )),
        }
    }
}

impl RedisBackend {
    /// Does no I/O and needs no runtime: it connects on first use.
    pub fn new(mut config: RedisConfig) -> RedisBackend {
        // Random, as a lock id is, and as good for telling backends apart.
        config.signature = crate::lock::LockId::mint().as_str().to_owned();
        let capabilities = Capabilities {
            name: "redis",
            store: config.store_id(),
            time_authority: TimeAuthority::Server,
            wakes: true,
            hands_over: true,
            event_loop: true,
            repeatable: true,
        };
        let names = config.names.clone();
        let signature = config.signature.clone();
        let cleanup_in_is_locked = config.cleanup_in_is_locked;
        let retention = config.fence_retention.map_or(0, FenceRetention::as_millis).to_string();
        let config = Arc::new(config);
        let replicas = Replicas::new(&config);
        let server = Arc::new(Server::new(config));
        RedisBackend {
            capabilities,
            all_locks: names.all_locks(),
            signature,
            names,
            cleanup_in_is_locked,
            pending: Pending::default(),
            engine: Batches::new(&retention, &server),
            lane: Batches::new(&retention, &server),
            retention,
            replicas,
            server,
        }
    }

    /// Those of whoever polls.
    pub(super) fn batches(&self) -> &Batches {
        if self.server.has_lane() { &self.lane } else { &self.engine }
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let place = self.names.place(&request.key)?;
        if self.names.index_is_beside_lock() && self.replicas.is_none() {
            return self.acquire_in_one_trip(place, request).await;
        }
        // Boxed, so that the way of most calls is not as large.
        Box::pin(self.acquire_confirmed(place, request)).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
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
        let handed = self.handed_over(&reply, next, short).await?;
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

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
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

    /// Leases that this process granted go together, the others one by one, all at the same time.
    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let batches = owners.chunks(BATCH).map(|batch| self.extend_batch(batch));
        futures_util::future::join_all(batches).await.into_iter().flatten().collect()
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let Some(aim) = self.aim(owner).await? else { return Ok(Mutation::NotFound) };
        if let Aim { lock: Some(lock), index: Some(index) } = aim {
            let args = [owner.lock_id.as_str().to_owned()];
            let reply = self.batches().releases.submit(Part { keys: [lock, index], args }).await?;
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

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        match what {
            Find::Key { key, clean_up } => self.find_key(key, clean_up).await.map(Page::from),
            Find::LockId(id) => self.find_id(id).await.map(Page::from),
            Find::Prefix(span) => self.page(span).await,
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        let place = self.names.place(key)?;
        wake::watch(&self.server.link(&place.lock).await?, Names::channel(&place.lock)).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close();
        if let Some(replicas) = &self.replicas {
            replicas.close();
        }
        Ok(())
    }
}
