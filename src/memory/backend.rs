use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::fault::{Fault, Operation};
use super::store::MemoryStore;
use crate::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, HandOver, HandedOver, LookupBy, Mutation, Owner, Watch,
};
use crate::lock::{Error, Key, Lease, Result, Timestamp, Ttl};

/// One process's view of a [`MemoryStore`], with the hooks that tests of the engine need.
#[derive(Debug)]
pub struct MemoryBackend {
    store: MemoryStore,
    view: u64,
    capabilities: Capabilities,
    clean_up: bool,
    closed: AtomicBool,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    faults: HashMap<Operation, VecDeque<Fault>>,
    calls: HashMap<Operation, usize>,
}

impl MemoryBackend {
    pub(super) fn new(store: MemoryStore, view: u64, capabilities: Capabilities, clean_up: bool) -> Self {
        let (closed, script) = (AtomicBool::new(false), Mutex::default());
        MemoryBackend { store, view, capabilities, clean_up, closed, script }
    }

    pub fn store(&self) -> &MemoryStore {
        &self.store
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
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let fault = {
            let mut script = self.lock();
            *script.calls.entry(operation).or_default() += 1;
            script.faults.get_mut(&operation).and_then(VecDeque::pop_front).unwrap_or(Fault::Pass)
        };
        match fault {
            Fault::Pass => apply(&self.store),
            Fault::Fail(error) => Err(error),
            Fault::LoseReply => {
                let _lost = apply(&self.store);
                Err(Fault::lost_reply())
            }
            Fault::Hang => pending().await,
            Fault::ApplyThenHang => {
                let _lost = apply(&self.store);
                pending().await
            }
            Fault::HoldRequest(go) => {
                go.notified().await;
                apply(&self.store)
            }
            Fault::HoldReply(go) => {
                let answer = apply(&self.store);
                go.notified().await;
                answer
            }
            Fault::ApplyLate(go) => {
                let store = self.store.clone();
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
impl Backend for MemoryBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let request = request.clone();
        self.call(Operation::Acquire, move |store| store.acquire(&request)).await
    }

    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        if !self.capabilities.hands_over {
            return Err(Error::internal("hand_over was called on a backend that says it has none"));
        }
        let (owner, next, yield_beyond) = (request.owner.clone(), request.next.clone(), request.yield_beyond);
        self.call(Operation::HandOver, move |store| {
            store.hand_over(&HandOver { owner: &owner, next: &next, yield_beyond })
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
        extended.unwrap_or_else(|error| (0..count).map(|_| Err(copy_of(&error))).collect())
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let owner = owner.clone();
        self.call(Operation::Release, move |store| store.release(&owner)).await
    }

    async fn lookup(&self, by: LookupBy<'_>) -> Result<Option<Lease>> {
        match by {
            LookupBy::Key(key) => {
                let key = key.clone();
                self.call(Operation::Lookup, move |store| store.lookup(LookupBy::Key(&key))).await
            }
            LookupBy::LockId(id) => {
                let id = *id;
                self.call(Operation::Lookup, move |store| store.lookup(LookupBy::LockId(&id))).await
            }
        }
    }

    async fn is_locked(&self, key: &Key) -> Result<bool> {
        let (key, clean_up) = (key.clone(), self.clean_up);
        self.call(Operation::IsLocked, move |store| store.is_locked(&key, clean_up)).await
    }

    async fn watch(&self, key: &Key) -> Result<Watch> {
        if !self.capabilities.wakes {
            return Err(Error::internal("watch was called on a backend that says it has no wake-ups"));
        }
        let (view, key) = (self.view, key.clone());
        self.call(Operation::Watch, move |store| {
            let (hints, subscription) = store.subscribe(view, &key);
            Ok(Watch::new(hints, subscription))
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn closed() -> Error {
    Error::invalid("this backend is closed; create a new one")
}

/// One failure of a request for many leases is the failure of each.
fn copy_of(error: &Error) -> Error {
    let mut copy = Error::new(error.code(), error.message());
    if error.is_retryable() {
        copy = copy.retryable();
    }
    if error.is_unknown() {
        copy = copy.unknown();
    }
    copy
}
