//! The memory backend as tests of the engine need it: every fault that a real store can cause, at the call where
//! the test wants it, and counters of what was asked.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::backend::MemoryBackend;
use super::fault::{Fault, Operation};
use super::store::MemoryStore;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Span,
    Watch,
};
use crate::lock::{Error, Key, Result, Timestamp, Ttl};

/// A [`MemoryBackend`] whose calls can be made to fail, hang or get lost, and are counted.
#[derive(Debug)]
pub struct ScriptedBackend {
    inner: MemoryBackend,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    faults: HashMap<Operation, VecDeque<Fault>>,
    calls: HashMap<Operation, usize>,
}

impl ScriptedBackend {
    pub(super) fn new(inner: MemoryBackend) -> ScriptedBackend {
        ScriptedBackend { inner, script: Mutex::default() }
    }

    /// The store behind it.
    pub fn store(&self) -> &MemoryStore {
        self.inner.store()
    }

    /// Lets the next calls of `operation` meet these faults, one each, after those already scripted.
    pub fn script(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.entry(operation).or_default().extend(faults);
    }

    /// How many calls of `operation` there were, failed and hanging ones included.
    pub fn calls(&self, operation: Operation) -> usize {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How many calls there were altogether, watches left out: what the store had to do.
    pub fn requests(&self) -> usize {
        let script = self.lock();
        script.calls.iter().filter(|(operation, _)| **operation != Operation::Watch).map(|(_, n)| n).sum()
    }

    /// Starts counting anew.
    pub fn reset_calls(&self) {
        self.lock().calls.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and runs it under the fault that is scripted for it.
    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        apply: impl FnOnce(&MemoryStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.inner.store_if_open()?;
        let fault = {
            let mut script = self.lock();
            *script.calls.entry(operation).or_default() += 1;
            script.faults.get_mut(&operation).and_then(VecDeque::pop_front).unwrap_or(Fault::Pass)
        };
        match fault {
            Fault::Pass => apply(store),
            Fault::Fail(error) => Err(error),
            Fault::LoseReply => {
                let _lost = apply(store);
                Err(Fault::lost_reply())
            }
            Fault::Hang => pending().await,
            Fault::ApplyThenHang => {
                let _lost = apply(store);
                pending().await
            }
            Fault::HoldRequest(go) => {
                go.notified().await;
                apply(store)
            }
            Fault::HoldReply(go) => {
                let answer = apply(store);
                go.notified().await;
                answer
            }
            Fault::ApplyLate(go) => {
                let store = store.clone();
                tokio::spawn(async move {
                    go.notified().await;
                    let _lost = apply(&store);
                });
                pending().await
            }
        }
    }
}

#[async_trait]
impl Backend for ScriptedBackend {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let request = request.clone();
        self.call(Operation::Acquire, move |store| store.acquire(&request)).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        if !self.capabilities().hands_over {
            return Err(Error::internal("hand_over was called on a backend that says it has none"));
        }
        let (owner, next, yields) = (request.owner.clone(), request.next.clone(), request.yields);
        self.call(Operation::HandOver, move |store| {
            store.hand_over(&HandOver { owner: &owner, next: &next, yields })
        })
        .await
    }

    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let owner = owner.clone();
        self.call(Operation::Extend, move |store| store.extend(&owner, ttl)).await
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        let (count, owners) = (owners.len(), owners.to_vec());
        let extended = self
            .call(Operation::ExtendMany, move |store| {
                Ok(owners.iter().map(|(owner, ttl)| store.extend(owner, *ttl)).collect())
            })
            .await;
        extended.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let owner = owner.clone();
        self.call(Operation::Release, move |store| store.release(&owner)).await
    }

    async fn find(&self, what: Find<'_>) -> Result<Page> {
        let cleans_up = self.inner.cleans_up();
        match what {
            Find::Key { key, clean_up } => {
                let key = key.clone();
                let find =
                    move |store: &MemoryStore| store.find(Find::Key { key: &key, clean_up }, cleans_up);
                self.call(Operation::Find, find).await
            }
            Find::LockId(id) => {
                let id = *id;
                self.call(Operation::Find, move |store| store.find(Find::LockId(&id), cleans_up)).await
            }
            Find::Prefix(Span { prefix, limit, cursor }) => {
                let (prefix, cursor) = (prefix.to_owned(), cursor.map(str::to_owned));
                let find = move |store: &MemoryStore| {
                    let span = Span { prefix: &prefix, limit, cursor: cursor.as_deref() };
                    store.find(Find::Prefix(span), cleans_up)
                };
                self.call(Operation::Find, find).await
            }
        }
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        if !self.capabilities().wakes {
            return Err(Error::internal("watch was called on a backend that says it has no wake-ups"));
        }
        let (view, key) = (self.inner.view(), key.clone());
        self.call(Operation::Watch, move |store| store.watch(view, &key)).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
