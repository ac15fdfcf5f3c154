//! The backend trait over a memory store.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::config::MemoryConfig;
use super::store::MemoryStore;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Watch,
};
use crate::lock::{Error, FenceRetention, Key, Result, Timestamp, Ttl};

/// One view of a [`MemoryStore`], as a process has one of a server.
#[derive(Debug)]
pub struct MemoryBackend {
    store: MemoryStore,
    view: u64,
    capabilities: Capabilities,
    clean_up: bool,
    fence_retention: Option<FenceRetention>,
    closed: AtomicBool,
}

impl MemoryBackend {
    /// Another view of the store of this process that the configuration names.
    pub fn new(config: MemoryConfig) -> MemoryBackend {
        let view = MemoryStore::of_process(&config.name).view_that(config.cleanup_in_is_locked, |_| {});
        MemoryBackend { fence_retention: config.fence_retention, ..view }
    }

    pub(super) fn of(store: MemoryStore, view: u64, capabilities: Capabilities, clean_up: bool) -> Self {
        MemoryBackend {
            store,
            view,
            capabilities,
            clean_up,
            fence_retention: None,
            closed: AtomicBool::new(false),
        }
    }

    /// The store, unless this view of it was closed.
    pub(super) fn store_if_open(&self) -> Result<&MemoryStore> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::invalid("this backend is closed; create a new one"));
        }
        Ok(&self.store)
    }
}

/// What the scripted backend around it needs to know.
#[cfg(any(test, feature = "testing"))]
impl MemoryBackend {
    pub(super) fn store(&self) -> &MemoryStore {
        &self.store
    }

    pub(super) fn view(&self) -> u64 {
        self.view
    }

    pub(super) fn cleans_up(&self) -> bool {
        self.clean_up
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let store = self.store_if_open()?;
        if let Some(retention) = self.fence_retention {
            store.shed_fences(retention);
        }
        store.acquire(request)
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        self.store_if_open()?.hand_over(request)
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        self.store_if_open()?.extend(owner, ttl)
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        owners.iter().map(|(owner, ttl)| self.store_if_open()?.extend(owner, *ttl)).collect()
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        self.store_if_open()?.release(owner)
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        self.store_if_open()?.find(what, self.clean_up)
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        self.store_if_open()?.watch(self.view, key)
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}
