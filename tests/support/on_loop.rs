//! A backend whose callers live on an event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use syncguard::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Watch,
};
use syncguard::event_loop::Poller;
use syncguard::lock::{Key, LockId, Result, Timestamp, Ttl};
use tokio::runtime::Handle;

/// Every change is asked for on the loop's thread.
#[derive(Debug)]
pub struct OnLoop {
    pub inner: Arc<dyn Backend>,
    pub poller: Arc<Poller>,
    /// Calls that have ended there.
    here: AtomicU64,
    elsewhere: AtomicU64,
}

impl OnLoop {
    pub fn new(inner: Arc<dyn Backend>) -> OnLoop {
        let poller = Arc::new(Poller::start(Handle::current()));
        OnLoop { inner, poller, here: AtomicU64::new(0), elsewhere: AtomicU64::new(0) }
    }

    /// One whose loop has a connection of its own.
    pub async fn warm(inner: Arc<dyn Backend>) -> OnLoop {
        let own = OnLoop::new(inner);
        own.warm_up().await;
        own
    }

    /// Until calls end on the loop. One that does may only have been overtaken by the engine's answer.
    pub async fn warm_up(&self) {
        const SURE: u64 = 5;
        for _ in 0..1000 {
            let before = self.ended_here();
            for _ in 0..SURE {
                // Of a lease that was never there.
                let _ = self.release(&Owner::from(LockId::mint())).await;
            }
            if self.ended_here() == before + SURE {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the event loop got no connection of its own");
    }

    pub fn ended_here(&self) -> u64 {
        self.here.load(Ordering::SeqCst)
    }

    pub fn ended_elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::SeqCst)
    }

    pub async fn call<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        let (outcome, here) = self.poller.call(call).await.expect("a call ends");
        let ended = if here { &self.here } else { &self.elsewhere };
        ended.fetch_add(1, Ordering::SeqCst);
        outcome
    }
}

#[async_trait]
impl Backend for OnLoop {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        self.call(async move { inner.acquire(&request).await }).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let (inner, yields) = (Arc::clone(&self.inner), request.yields);
        let (owner, next) = (request.owner.clone(), request.next.clone());
        let call = async move { inner.hand_over(&HandOver { owner: &owner, next: &next, yields }).await };
        self.call(call).await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let (inner, owner) = (Arc::clone(&self.inner), owner.clone());
        self.call(async move { inner.extend(&owner, ttl).await }).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let (inner, owners) = (Arc::clone(&self.inner), owners.to_vec());
        self.call(async move { inner.extend_many(&owners).await }).await
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let (inner, owner) = (Arc::clone(&self.inner), owner.clone());
        self.call(async move { inner.release(&owner).await }).await
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        self.inner.find(what).await
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        self.inner.watch(key).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
