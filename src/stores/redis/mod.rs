//! Redis: one Lua script per operation, one multiplexed connection per backend.
//!
//! `config` says what a target may hold, `link` keeps the connection, `operations` call the scripts and
//! read their answers, `wake` turns messages into hints. Needs Redis 5 or later; wake-ups need 6.

mod cluster;
mod config;
mod connection;
mod corked;
mod dial;
mod endpoint;
mod error;
mod eviction;
mod joined;
mod link;
mod listing;
mod names;
mod operations;
mod pointer;
mod reading;
mod record;
mod replicas;
mod reply;
mod script;
mod sentinel;
mod server;
mod slots;
mod stream;
mod tls;
mod topology;
mod traffic;
mod url;
mod wake;
mod watchdog;

use std::sync::Arc;

use async_trait::async_trait;

pub use config::RedisConfig;
pub use names::{LIMIT, cluster_keys, storage_keys};

use self::joined::{Joined, Shared};
use self::names::Names;
use self::operations::KNOWN;
use self::pointer::Pending;
use self::replicas::Replicas;
use self::script::{ACQUIRE, ACQUIRE_MANY, RELEASE, RELEASE_MANY};
use self::server::Server;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page,
    TimeAuthority, Watch,
};
use crate::lock::{FenceRetention, Key, Result, Timestamp, Ttl};
use crate::stores::batch::Batch;

/// Locks in Redis. The server's clock decides ([`TimeAuthority::Server`]).
#[derive(Debug)]
pub struct RedisBackend {
    capabilities: Capabilities,
    names: Names,
    /// What every lock's name starts with, for scripts that follow a reverse mapping.
    all_locks: String,
    /// For how long scripts let a fence counter stay, in milliseconds; "0": for ever.
    retention: String,
    signature: String,
    cleanup_in_is_locked: bool,
    pending: Pending,
    server: Arc<Server>,
    replicas: Option<Replicas>,
    acquires: Batch<Joined<3, 3>>,
    releases: Batch<Joined<2, 1>>,
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
            acquires: Batch::new(Joined::new(
                Shared::new(&ACQUIRE, [retention.clone()]),
                Shared::new(&ACQUIRE_MANY, [retention.clone()]),
                server.clone(),
            )),
            releases: Batch::new(Joined::new(
                Shared::new(&RELEASE, [KNOWN.to_owned()]),
                Shared::new(&RELEASE_MANY, []),
                server.clone(),
            )),
            retention,
            replicas,
            server,
        }
    }
}

#[async_trait]
impl Backend for RedisBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        self.try_acquire(request).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        self.release_and_acquire(request).await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        self.extend_one(owner, ttl).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        self.extend_batched(owners).await
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        self.release_one(owner).await
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
