//! Many at once, and beside clients that use transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncguard::backend::{Acquired, Backend, Mutation, Owner};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment, Policy};
use syncguard::lock::Timestamp;

use crate::raw::{Raw, text, whole};
use crate::{backend_on, emulator, key, request, take, ttl};

fn client(project: &str) -> Client {
    Client::new(
        Arc::new(backend_on(project, &[])),
        ClientOptions::default(),
        Arc::new(NoEnvironment),
        tokio::runtime::Handle::current(),
    )
}

fn options(name: &str) -> AcquireOptions {
    AcquireOptions { key: key(name), ttl: ttl(30_000), keep: None, observer: None }
}

fn patient() -> Policy {
    Policy { timeout: Duration::from_secs(60), max_retries: 10_000, ..Policy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_clients_take_turns_on_one_key() {
    let project = emulator::project();
    let (inside, fences) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, inside, fences) = (client(&project), Arc::clone(&inside), Arc::clone(&fences));
            tokio::spawn(async move {
                for _ in 0..10 {
                    let lease = client.lock(options("a"), &patient(), None).await.expect("a turn");
                    assert!(!inside.swap(true, Ordering::SeqCst), "two holders at once");
                    fences.lock().unwrap().push(lease.fence);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    assert!(inside.swap(false, Ordering::SeqCst));
                    let released =
                        client.release(lease.lock_id, None).await.expect("no conflict comes through");
                    assert_eq!(released, Mutation::Done(()));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker ends");
    }
    let fences = fences.lock().unwrap();
    assert_eq!(fences.len(), 80);
    assert!(fences.is_sorted_by(|one, next| one < next), "fences rise with every grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_of_one_process_hand_over_and_let_others_in() {
    let project = emulator::project();
    let (ours, theirs) = (client(&project), client(&project));
    let workers: Vec<_> = (0..40)
        .map(|n| {
            let client = if n % 4 == 0 { theirs.clone() } else { ours.clone() };
            tokio::spawn(async move {
                let lease = client.lock(options("a"), &patient(), None).await.expect("a turn");
                client.release(lease.lock_id, None).await.expect("a release")
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.await.expect("a worker ends"), Mutation::Done(()));
    }
}

/// The original library reads and writes within a transaction, which holds the documents that it has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_somebody_else_delays_but_never_aborts_us() {
    let project = emulator::project();
    let raw = Arc::new(Raw::new(emulator::shared(), &project));
    let stop = Arc::new(AtomicBool::new(false));
    let rivals: Vec<_> = (0..2)
        .map(|_| {
            let (raw, stop) = (Arc::clone(&raw), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut won = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = syncguard::lock::LockId::mint();
                    let now = Timestamp::now();
                    let fields = [
                        ("lockId", text(id.as_str())),
                        ("expiresAtMs", whole(now.plus(ttl(30_000)).as_millis())),
                        ("acquiredAtMs", whole(now.as_millis())),
                        ("key", text("a")),
                        ("fence", text("000000000000001")),
                    ];
                    if raw.transact("locks/a", &fields).await {
                        won += 1;
                        raw.delete("locks/a").await;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                won
            })
        })
        .collect();
    let ours = client(&project);
    for _ in 0..5 {
        let lease = ours.lock(options("a"), &patient(), None).await.expect("no conflict comes through");
        // A rival never deletes what it has not written.
        assert_eq!(ours.release(lease.lock_id, None).await.expect("a release"), Mutation::Done(()));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for rival in rivals {
        rival.await.expect("a rival ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_do_not_disturb_each_other() {
    let project = emulator::project();
    let backend = Arc::new(backend_on(&project, &[]));
    let workers: Vec<_> = (0..64)
        .map(|n| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move {
                for _ in 0..3 {
                    let lease = take(&*backend, &format!("key {n}")).await;
                    assert_eq!(backend.release(&Owner::from(lease)).await.unwrap(), Mutation::Done(()));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker ends");
    }
}

/// Two processes that find a lock expired both want it, and one gets it.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lock_goes_to_one_of_many() {
    let project = emulator::project();
    let mut short = request("a");
    short.ttl = ttl(1);
    let first = backend_on(&project, &[]);
    assert!(matches!(first.acquire(&short).await.unwrap(), Acquired::Granted(_)));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let racers: Vec<_> = (0..12)
        .map(|_| {
            let backend = backend_on(&project, &[]);
            tokio::spawn(async move { backend.acquire(&request("a")).await.expect("an answer") })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += u32::from(matches!(racer.await.unwrap(), Acquired::Granted(_)));
    }
    assert_eq!(winners, 1);
}
