//! Firestore: two documents for each key, changed by commits with preconditions. No transactions, so nobody
//! queues behind anybody's.
//!
//! `config` says what a target may hold, `auth` brings tokens, `connection` and `requests` talk to the
//! server, `acquiring`, `owning` and `reading` are the operations, `wake` turns a listen stream into hints,
//! and `clock` tells the server's time.

mod acquiring;
mod auth;
mod clock;
mod config;
mod connection;
mod documents;
mod error;
mod grants;
mod link;
mod listener;
mod names;
mod owning;
mod proto;
mod reading;
mod requests;
mod target;
mod wake;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;

pub use config::FirestoreConfig;
pub use names::{LIMIT, storage_keys};

use self::connection::Server;
use self::grants::Grants;
use self::wake::Wakes;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page,
    TimeAuthority, Watch,
};
use crate::lock::{Key, Result, Timestamp, Ttl};

/// Locks in Firestore. Expiries are written by the client's clock, corrected by every reply of the server
/// ([`TimeAuthority::Client`]).
#[derive(Debug)]
pub struct FirestoreBackend {
    capabilities: Capabilities,
    server: Arc<Server>,
    grants: Grants,
    wakes: Wakes,
}

impl FirestoreBackend {
    /// Does no I/O and needs no runtime: it connects on first use.
    pub fn new(config: FirestoreConfig) -> FirestoreBackend {
        let capabilities = Capabilities {
            name: "firestore",
            store: config.store_id(),
            time_authority: TimeAuthority::Client,
            wakes: true,
            hands_over: true,
            repeatable: true,
        };
        let server = Arc::new(Server::new(config));
        FirestoreBackend {
            capabilities,
            wakes: Wakes::new(Arc::clone(&server)),
            server,
            grants: Grants::default(),
        }
    }
}

impl Drop for FirestoreBackend {
    /// Ends the background task.
    fn drop(&mut self) {
        self.server.close();
    }
}

#[async_trait]
impl Backend for FirestoreBackend {
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
            Find::LockId(lock_id) => self.find_id(lock_id).await.map(Page::from),
            Find::Prefix(span) => self.page(span).await,
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        let place = self.server.names().await?.place(key)?;
        self.wakes.watch(place.lock).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close();
        Ok(())
    }
}
