//! The memory backend with one bug: what the bugs share, and the way from the trait to them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use syncguard::backend::{
    AcquireRequest, Acquired, Backend, BackendExt, Capabilities, Find, HandOver, HandedOver, LookupBy,
    Mutation, Owner, Page, Watch,
};
use syncguard::lock::{Fence, Key, Lease, LockId, Result, Timestamp, Ttl};
use syncguard::stores::memory::{MemoryStore, ScriptedBackend};

use crate::Bug;

#[derive(Debug)]
pub struct Broken {
    pub inner: ScriptedBackend,
    pub bug: Bug,
    pub clean_up: bool,
    /// What all backends on the store know.
    pub shared: Arc<Shared>,
    /// What this backend knows.
    pub granted: Mutex<HashMap<LockId, Lease>>,
    pub replies: Mutex<VecDeque<Result<Acquired>>>,
    pub closed: AtomicBool,
}

/// Memories that a sound backend would not have, or would not trust.
#[derive(Debug, Default)]
pub struct Shared {
    pub leases: Mutex<HashMap<LockId, Lease>>,
    pub counters: Mutex<HashMap<Key, u64>>,
    pub fences: Mutex<HashMap<LockId, Fence>>,
    pub alive: Mutex<HashMap<Key, Arc<AtomicBool>>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Shared {
    pub fn set_counter(&self, key: &Key, fence: Option<Fence>) {
        lock(&self.counters).insert(key.clone(), fence.map_or(0, Fence::value));
    }
}

impl Broken {
    pub fn new(inner: ScriptedBackend, bug: Bug, clean_up: bool, shared: Arc<Shared>) -> Broken {
        Broken {
            inner,
            bug,
            clean_up,
            shared,
            granted: Mutex::default(),
            replies: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    pub fn store(&self) -> &MemoryStore {
        self.inner.store()
    }

    pub fn now(&self) -> Timestamp {
        self.store().clock().now()
    }

    /// The live lease of the key, by the store.
    pub async fn holder(&self, key: &Key) -> Option<Lease> {
        self.inner.lookup(LookupBy::Key(key)).await.ok().flatten()
    }

    /// Deletes the key's record if it is no longer live.
    pub async fn sweep(&self, key: &Key) {
        let sweeper = AcquireRequest {
            key: key.clone(),
            lock_id: LockId::mint(),
            ttl: Ttl::from_millis(1).expect("a valid TTL"),
        };
        if let Ok(Acquired::Granted(lease)) = self.inner.acquire(&sweeper).await {
            self.inner.release(&Owner::from(lease)).await.expect("release answers");
        }
    }

    /// The key as a careless store would file it.
    pub fn filed(&self, key: &Key) -> Key {
        let text = key.as_str();
        let filed = match self.bug {
            Bug::FoldsCase => text.to_lowercase(),
            Bug::CutsLongKeys => text.chars().take(100).collect(),
            Bug::StripsPrefixes => text.trim_start_matches("fence:").to_owned(),
            _ => return key.clone(),
        };
        Key::new(&filed).unwrap_or_else(|_| key.clone())
    }
}

/// Past its expiry, whatever the tolerance says.
pub fn overdue(lease: &Lease, now: Timestamp) -> bool {
    lease.expires_at <= now
}

#[async_trait]
impl Backend for Broken {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        self.broken_acquire(request).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        self.broken_hand_over(request).await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        self.broken_extend(owner, ttl).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        self.broken_extend_many(owners).await
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        self.broken_release(owner).await
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        match what {
            Find::Key { key, clean_up: true } => self.broken_look(key).await.map(Page::from),
            Find::Key { key, .. } => self.broken_lookup(LookupBy::Key(key)).await.map(Page::from),
            Find::LockId(id) => self.broken_lookup(LookupBy::LockId(id)).await.map(Page::from),
            Find::Prefix(span) => self.broken_page(span).await,
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        self.broken_watch(key).await
    }

    async fn close(&self) -> Result<()> {
        self.broken_close().await
    }
}
