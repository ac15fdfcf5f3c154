//! Processes on one store: a backend, its client, and what its environment hears.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Part, StoreId};
use syncguard::engine::{
    AcquireOptions, Backoff, Client, ClientOptions, Environment, Jitter, KeepPolicy, Policy, Wait, queues_of,
};
use syncguard::lock::{Code, Error, Key, Lease, LockId, Result, Ttl};
use syncguard::stores::memory::{MemoryClock, MemoryStore, Operation, ScriptedBackend};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Long enough that nothing expires in a test that is not about it.
pub const LONG: u64 = 30_000;
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a valid TTL")
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("a valid key")
}

pub fn options(ttl_ms: u64) -> AcquireOptions {
    AcquireOptions { key: key("k"), ttl: ttl(ttl_ms), keep: None, observer: None }
}

pub fn kept(ttl_ms: u64, policy: KeepPolicy) -> AcquireOptions {
    AcquireOptions { keep: Some(policy), ..options(ttl_ms) }
}

/// 5 s, ten retries every 100 ms exactly.
pub fn steady() -> Policy {
    Policy { backoff: Backoff::Fixed, jitter: Jitter::None, ..Policy::default() }
}

/// Only wake-ups and the holder's expiry cause attempts.
pub fn patient() -> Policy {
    Policy { timeout: ms(60_000), retry_delay: ms(50_000), ..steady() }
}

pub fn polling() -> Policy {
    Policy { wait: Wait::Poll, ..steady() }
}

pub fn unavailable() -> Error {
    Error::unavailable("the store is down")
}

/// Another name for a store: that of another process.
pub fn elsewhere(store: &StoreId, name: &str) -> StoreId {
    StoreId::new("elsewhere", [Part::from(store.parts().to_vec()), name.into()])
}

pub fn store() -> MemoryStore {
    MemoryStore::new(MemoryClock::of_tokio())
}

/// Hears of losses, and answers pings when it is told to.
#[derive(Debug, Default)]
pub struct Recorder {
    lost: Mutex<Vec<(LockId, Code, Instant)>>,
    pings: AtomicUsize,
    silent_ms: AtomicU64,
}

impl Recorder {
    /// When each lease was told lost.
    pub fn lost(&self) -> Vec<(LockId, Instant)> {
        let lost = self.lost.lock().expect("not poisoned");
        assert!(lost.iter().all(|(_, code, _)| *code == Code::LeaseLost));
        lost.iter().map(|(id, _, at)| (*id, *at)).collect()
    }

    pub fn pings(&self) -> usize {
        self.pings.load(Ordering::SeqCst)
    }

    pub fn be_silent_for(&self, time: Duration) {
        self.silent_ms.store(u64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Environment for Recorder {
    fn lost(&self, lock_id: &LockId, error: Error) {
        self.lost.lock().expect("not poisoned").push((*lock_id, error.code(), Instant::now()));
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn pass_on(&self) {}

    fn ping(&self) {
        self.pings.fetch_add(1, Ordering::SeqCst);
    }

    fn silent_for(&self) -> Duration {
        ms(self.silent_ms.load(Ordering::SeqCst))
    }
}

/// One process, or one client of it.
#[derive(Clone)]
pub struct Process {
    pub backend: Arc<ScriptedBackend>,
    pub client: Client,
    pub environment: Arc<Recorder>,
}

impl Process {
    pub fn new(backend: ScriptedBackend) -> Process {
        Process::with_timeout(backend, OPERATION_TIMEOUT)
    }

    pub fn with_timeout(backend: ScriptedBackend, operation_timeout: Duration) -> Process {
        let (backend, environment) = (Arc::new(backend), Arc::new(Recorder::default()));
        let options = ClientOptions { operation_timeout };
        let client = Client::new(backend.clone(), options, environment.clone(), Handle::current());
        Process { backend, client, environment }
    }

    /// A client of the process that the test is.
    pub fn on(store: &MemoryStore) -> Process {
        Process::new(store.backend())
    }

    /// A process of its own: another name for the store keeps its waiters out of our queue.
    pub fn elsewhere(store: &MemoryStore, name: &str) -> Process {
        Process::new(store.backend_claiming(|can| can.store = elsewhere(&can.store, name)))
    }

    pub async fn lock(&self, policy: &Policy) -> Result<Lease> {
        self.client.lock(options(LONG), policy, None).await
    }

    /// The lease of a key that is free.
    pub async fn hold(&self) -> Lease {
        self.lock(&steady()).await.expect("the key is free")
    }

    pub fn waiting(&self, policy: &Policy) -> JoinHandle<Result<Lease>> {
        let (process, policy) = (self.clone(), policy.clone());
        tokio::spawn(async move { process.lock(&policy).await })
    }

    /// One that waits and can be aborted.
    pub fn abortable(&self, policy: &Policy) -> (JoinHandle<Result<Lease>>, CancellationToken) {
        let (process, policy, cancel) = (self.clone(), policy.clone(), CancellationToken::new());
        let token = cancel.clone();
        let waiting =
            tokio::spawn(async move { process.client.lock(options(LONG), &policy, Some(&token)).await });
        (waiting, cancel)
    }

    pub async fn release(&self, lease: &Lease) -> Result<Mutation<()>> {
        self.client.release(lease.lock_id, None).await
    }

    pub async fn free(&self, lease: &Lease) {
        assert_eq!(self.release(lease).await.expect("release answers"), Mutation::Done(()));
    }

    pub fn calls(&self, operation: Operation) -> usize {
        self.backend.calls(operation)
    }

    /// Acquires, hand-overs and releases together.
    pub fn requests(&self) -> usize {
        self.backend.requests()
    }
}

/// The lease that the store holds.
pub async fn held(store: &MemoryStore) -> Option<Lease> {
    store.backend().lookup(LookupBy::Key(&key("k"))).await.expect("lookup answers")
}

/// Lets everything happen that can happen now.
pub async fn settle() {
    sleep(ms(1)).await;
}

pub fn no_queue_left(process: &Process) {
    assert_eq!(queues_of(&process.backend.capabilities().store), 0, "a queue outlived its waiters");
}

/// Whether `at` lies within a few milliseconds of `expected`, both after `start`.
pub fn about(start: Instant, at: Instant, expected: Duration) -> bool {
    let took = at.duration_since(start);
    took >= expected && took <= expected + ms(5)
}

pub fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
    result.expect_err("an error").code()
}
