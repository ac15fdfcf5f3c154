//! Connections that end or hang: what was surely not sent is sent again, nothing else is, and what is told of the
//! outcome is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use syncguard::backend::{AcquireRequest, Acquired, Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::lock::{Code, Lease, Outcome, Result};
use tokio::time::{Instant, timeout};

use crate::gate::{Fault, Gate};
use crate::relay::{End, Relay};
use crate::{FirestoreBackend, backend_at, backend_on, emulator, key, request, take, ttl};

async fn relayed(project: &str) -> (Relay, FirestoreBackend) {
    let relay = Relay::to(emulator::shared()).await;
    let backend = backend_at(&relay.host(), project, &[]);
    (relay, backend)
}

/// An acquire begins with a read, which may be made again whatever became of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_whose_connection_ends_with_its_first_request_costs_no_error() {
    let (relay, backend) = relayed(&emulator::project()).await;
    for round in 0..30 {
        let how = if round % 2 == 0 { End::Fin } else { End::Reset };
        let lease = take(&backend, &format!("key {round}")).await;
        let next = request(&format!("next {round}"));
        let granted = if round % 3 == 0 {
            // The request has left, and gets nowhere.
            relay.freeze();
            let cut = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                relay.cut(how);
            };
            tokio::join!(backend.acquire(&next), cut).0
        } else {
            // From the moment of the end itself to when everybody knows of it.
            relay.cut(how);
            tokio::time::sleep(Duration::from_micros(fastrand::u64(0..1500))).await;
            backend.acquire(&next).await
        };
        assert!(matches!(granted, Ok(Acquired::Granted(_))), "{how:?}: {granted:?}");
        assert_eq!(backend.release(&Owner::from(lease)).await.unwrap(), Mutation::Done(()));
    }
}

/// Whoever has been told that the connection broke does not meet it again.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_after_a_lost_reply_goes_out_on_a_new_connection() {
    let gate = Gate::to(emulator::shared()).await;
    let backend = backend_at(&gate.host(), &emulator::project(), &[]);
    for round in 0..20 {
        let owner = Owner::from(take(&backend, &format!("key {round}")).await);
        gate.next("Commit", Fault::CutReply);
        let error = backend.extend(&owner, ttl(60_000)).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::Unknown));
        assert_eq!(backend.release(&owner).await.unwrap(), Mutation::Done(()), "round {round}");
    }
}

/// Connections end at any moment of eight tasks' requests.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_an_outcome_is_true_whenever_the_connection_ends() {
    let project = emulator::project();
    let (relay, backend) = relayed(&project).await;
    let (backend, direct) = (Arc::new(backend), Arc::new(backend_on(&project, &[])));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (backend, direct) = (Arc::clone(&backend), Arc::clone(&direct));
            tokio::spawn(async move {
                let mut told = [0; 3];
                for round in 0..20 {
                    told[honest(&backend, &direct, &format!("{worker}/{round}")).await] += 1;
                }
                told
            })
        })
        .collect();
    let mut cuts = 0;
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..12_000))).await;
        relay.cut(if cuts % 2 == 0 { End::Fin } else { End::Reset });
        cuts += 1;
    }
    let mut all = [0; 3];
    for worker in workers {
        let told = worker.await.expect("a worker ends");
        (0..3).for_each(|index| all[index] += told[index]);
    }
    assert!(all[0] > 0 && all[2] > 0, "granted, not applied, unknown: {all:?} in {cuts} cuts");
}

/// One acquire, and whether what it tells is so: 0 granted, 1 not applied, 2 unknown.
async fn honest(backend: &FirestoreBackend, direct: &FirestoreBackend, name: &str) -> usize {
    let request = request(name);
    let answer = backend.acquire(&request).await;
    let stored = async || direct.lookup(LookupBy::Key(&request.key)).await.expect("an answer");
    let lease = match answer {
        Ok(Acquired::Granted(lease)) => lease,
        Ok(other) => panic!("nobody else wants it: {other:?}"),
        Err(error) if error.outcome() == Outcome::NotApplied => {
            assert!(error.is_retryable(), "{error:?}");
            assert_eq!(stored().await, None, "{error:?}");
            return 1;
        }
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            // What is still on its way arrives, or never does.
            tokio::time::sleep(Duration::from_millis(50)).await;
            repeat(direct, &request).await;
            return 2;
        }
    };
    assert_eq!(stored().await, Some(lease));
    0
}

async fn repeat(backend: &FirestoreBackend, request: &AcquireRequest) -> Lease {
    match backend.acquire(request).await.expect("an answer") {
        Acquired::Granted(lease) => lease,
        other => panic!("the same lock id is granted: {other:?}"),
    }
}

/// As Google's front ends do every now and then. A reply that was on its way when the connection ended may be lost
/// with it: that is of unknown outcome, rare, and settled by asking again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_costs_no_error_but_a_reply_on_its_way() {
    const WORKERS: usize = 8;
    const ROUNDS: usize = 25;
    let gate = Arc::new(Gate::to(emulator::shared()).await);
    let backend = Arc::new(backend_at(&gate.host(), &emulator::project(), &[]));
    let lost = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (backend, lost) = (Arc::clone(&backend), Arc::clone(&lost));
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let request = request(&format!("{worker}/{round}"));
                    let acquired = settled(&lost, || backend.acquire(&request)).await;
                    let Acquired::Granted(lease) = acquired else { panic!("nobody else wants it") };
                    let owner = Owner::from(lease);
                    let before = lost.load(Ordering::Relaxed);
                    let released = settled(&lost, || backend.release(&owner)).await;
                    let asked_again = lost.load(Ordering::Relaxed) > before;
                    assert!(released == Mutation::Done(()) || asked_again, "{released:?}");
                }
            })
        })
        .collect();
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        gate.go_away();
    }
    for worker in workers {
        worker.await.expect("a worker ends");
    }
    assert!(gate.accepted() > 2, "{} connections", gate.accepted());
    let lost = lost.load(Ordering::Relaxed);
    assert!(lost <= WORKERS * ROUNDS * 2 / 50, "{lost} replies were lost");
}

/// Asks again where the outcome is unknown, and counts that.
async fn settled<'a, T>(lost: &AtomicUsize, ask: impl Fn() -> BoxFuture<'a, Result<T>>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_unknown() && error.is_retryable(), "{error:?}"),
        }
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_server_refused_is_opened_again_and_one_that_it_reset_is_not() {
    let gate = Gate::to(emulator::shared()).await;
    let backend = backend_at(&gate.host(), &emulator::project(), &[]);
    take(&backend, "warm").await;
    gate.calls();
    gate.next("Commit", Fault::Reset(h2::Reason::REFUSED_STREAM));
    let lease = take(&backend, "a").await;
    assert_eq!(gate.calls(), ["BatchGetDocuments", "Commit", "Commit"]);
    gate.next("Commit", Fault::Reset(h2::Reason::INTERNAL_ERROR));
    let error = backend.extend(&Owner::from(lease.clone()), ttl(60_000)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(gate.calls(), ["Commit"], "what may have been applied is not sent again");
    // Refused again and again: that ends, and nothing was applied.
    for _ in 0..4 {
        gate.next("Commit", Fault::Reset(h2::Reason::REFUSED_STREAM));
    }
    let error = backend.extend(&Owner::from(lease), ttl(60_000)).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::NotApplied));
    assert_eq!(gate.calls(), ["Commit"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_left_after_a_second_however_short_the_deadlines() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let (relay, backend) = relayed(&emulator::project()).await;
    let lease = take(&backend, "a").await;
    relay.freeze();
    let hung = Instant::now();
    let owner = Owner::from(lease);
    assert!(timeout(DEADLINE, backend.extend(&owner, ttl(60_000))).await.is_err(), "it hangs");
    tokio::time::sleep_until(hung + Duration::from_secs(1)).await;
    // The connection is made within the call: what this machine takes for it is measured beside.
    let beside = backend_at(&relay.host(), "beside", &[]);
    let a = key("a");
    let (answer, took) = tokio::join!(timeout(Duration::from_secs(5), backend.is_locked(&a)), async {
        let began = Instant::now();
        beside.is_locked(&a).await.expect("an answer");
        began.elapsed()
    });
    assert!(answer.expect("a new connection").unwrap());
    assert!(hung.elapsed() < Duration::from_secs(1) + DEADLINE + took, "after {:?}", hung.elapsed());
    assert_eq!(backend.release(&owner).await.unwrap(), Mutation::Done(()));
}

/// A call that was given up early is no reason to leave a connection that has brought something since.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_given_up_costs_no_connection_that_works() {
    let (relay, backend) = relayed(&emulator::project()).await;
    take(&backend, "a").await;
    for _ in 0..3 {
        let _ = timeout(Duration::from_micros(200), backend.is_locked(&key("a"))).await;
        assert!(backend.is_locked(&key("a")).await.unwrap());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(backend.is_locked(&key("a")).await.unwrap());
    }
    assert_eq!(relay.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_on_a_connection_that_hangs_is_made_anew_with_it() {
    let project = emulator::project();
    let (relay, waiter) = relayed(&project).await;
    let holder = backend_on(&project, &[]);
    let lease = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    relay.freeze();
    // As a waiter's attempts do, each with its deadline.
    let hung = Instant::now();
    let attempt = async || timeout(Duration::from_millis(300), waiter.acquire(&request("a"))).await;
    while attempt().await.is_err() {
        assert!(hung.elapsed() < Duration::from_secs(10), "a new connection");
    }
    holder.release(&Owner::from(lease)).await.unwrap();
    timeout(Duration::from_secs(10), watch.hint()).await.expect("a hint over the new stream");
}
