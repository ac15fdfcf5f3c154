//! A crowd in one process beside somebody elsewhere: whether both get their turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use syncguard::backend::{AcquireRequest, Acquired, Backend, Owner};
use syncguard::engine::{
    AcquireOptions, Backoff, Client, ClientOptions, Jitter, NoEnvironment, Policy, Wait,
};
use syncguard::lock::{Key, LockId, Ttl};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::lag::Lag;

const HOLD: Duration = Duration::from_millis(2);
const POLL: Duration = Duration::from_millis(3);
/// What the contract allows a process to keep the key for, the hold that it ends in, and the pause.
const LONGEST_WAIT: Duration = Duration::from_millis(250 + 2 + 10);

/// Retries by timer at a steady pace.
pub fn every(retry_delay: Duration, wait: Wait) -> Policy {
    Policy {
        timeout: Duration::from_secs(30),
        max_retries: 100_000,
        retry_delay,
        backoff: Backoff::Fixed,
        jitter: Jitter::None,
        wait,
    }
}

pub fn often(wait: Wait) -> Policy {
    every(POLL, wait)
}

/// Who took the key how often: the crowd, the other.
pub struct Turns {
    counts: [Arc<AtomicUsize>; 2],
    over: Arc<AtomicBool>,
}

fn request() -> AcquireRequest {
    AcquireRequest {
        key: Key::new("k").expect("a good key"),
        lock_id: LockId::mint(),
        ttl: Ttl::from_millis(30_000).expect("a good ttl"),
    }
}

/// Takes the lock again and again, through the engine.
async fn through_engine(client: Client, policy: Policy, count: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        let AcquireRequest { key, ttl, .. } = request();
        let options = AcquireOptions { key, ttl, keep: None, observer: None };
        let lease = client.lock(options, &policy, None).await.expect("granted in time");
        count.fetch_add(1, Ordering::SeqCst);
        sleep(HOLD).await;
        client.release(lease.lock_id, None).await.expect("answers");
        sleep(Duration::from_millis(1)).await;
    }
}

/// As the original does: attempts at a steady pace.
async fn by_attempts(backend: Arc<dyn Backend>, count: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        if let Acquired::Granted(lease) = backend.acquire(&request()).await.expect("answers") {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(HOLD).await;
            backend.release(&Owner::from(lease)).await.expect("answers");
        }
        sleep(POLL).await;
    }
}

fn client(backend: Arc<dyn Backend>) -> Client {
    Client::new(backend, ClientOptions::default(), Arc::new(NoEnvironment), Handle::current())
}

impl Turns {
    /// Five waiters in line.
    pub fn of_crowd(backend: Arc<dyn Backend>) -> Turns {
        let turns = Turns { counts: Default::default(), over: Arc::default() };
        let crowd = client(backend);
        for _ in 0..5 {
            let (count, over) = (turns.counts[0].clone(), turns.over.clone());
            let policy = every(Duration::from_millis(100), Wait::Notify);
            tokio::spawn(through_engine(crowd.clone(), policy, count, over));
        }
        turns
    }

    pub fn beside(self, backend: Arc<dyn Backend>, policy: Policy) -> Turns {
        let (count, over) = (self.counts[1].clone(), self.over.clone());
        tokio::spawn(through_engine(client(backend), policy, count, over));
        self
    }

    pub fn beside_attempts(self, backend: Arc<dyn Backend>) -> Turns {
        tokio::spawn(by_attempts(backend, self.counts[1].clone(), self.over.clone()));
        self
    }

    pub async fn are_shared(self) {
        let (start, lag) = (Instant::now(), Lag::measure());
        sleep(Duration::from_secs(5)).await;
        let fair = (start.elapsed().saturating_sub(lag.total())).div_duration_f64(LONGEST_WAIT);
        let [ours, theirs] = self.counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        self.over.store(true, Ordering::SeqCst);
        assert!(theirs as f64 >= fair.floor(), "{theirs} turns of theirs in {fair}, {ours} of ours");
        assert!(ours as f64 >= fair.floor(), "{ours} turns of ours in {fair}, {theirs} of theirs");
    }
}
