//! The end of a client: by `close`, by the end of its environment, by being dropped.

use std::sync::Arc;

use syncguard::backend::LookupBy;
use syncguard::engine::KeepPolicy;
use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn everything_afterwards_is_an_invalid_argument() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.client.close().await.expect("closes");
    process.client.close().await.expect("idempotent");
    process.backend.reset_calls();
    let client = &process.client;
    let codes = [
        code(client.acquire(options(LONG), None).await),
        code(client.lock(options(LONG), &steady(), None).await),
        code(client.release(lease.lock_id, None).await),
        code(client.extend(lease.lock_id, ttl(LONG), true, None).await),
        code(client.is_locked(&key("k"), None).await),
        code(client.lookup(LookupBy::LockId(&lease.lock_id), None).await),
    ];
    assert_eq!(codes, [Code::InvalidArgument; 6]);
    assert_eq!(process.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn its_leases_are_told_lost_once_and_not_renewed() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.client.lock(kept(3000, KeepPolicy::default()), &steady(), None).await.expect("free");
    process.client.close().await.expect("closes");
    assert_eq!(process.environment.lost().len(), 1);
    assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
    sleep(ms(10_000)).await;
    assert_eq!((process.environment.lost().len(), process.calls(Operation::ExtendMany)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn waiters_settle_at_once_wherever_they_are() {
    let store = store();
    let process = Process::on(&store);
    process.hold().await;
    let waiting = [process.waiting(&patient()), process.waiting(&patient()), process.waiting(&polling())];
    settle().await;
    let start = Instant::now();
    process.client.close().await.expect("closes");
    for waiting in waiting {
        assert_eq!(code(waiting.await.unwrap()), Code::InvalidArgument);
    }
    assert_eq!(Instant::now(), start);
    no_queue_left(&process);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_settles_at_once_and_is_undone_before_the_connection_goes() {
    for policy in [patient(), polling()] {
        let store = store();
        let process = Process::on(&store);
        let go = Arc::new(Notify::new());
        process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
        let waiting = process.waiting(&policy);
        settle().await;
        let closing = {
            let client = process.client.clone();
            tokio::spawn(async move { client.close().await })
        };
        let start = Instant::now();
        assert_eq!(code(waiting.await.unwrap()), Code::InvalidArgument);
        assert_eq!(Instant::now(), start);
        sleep(ms(100)).await;
        assert!(!closing.is_finished());
        go.notify_one();
        closing.await.unwrap().expect("closes");
        assert_eq!(held(&store).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_attempt_in_flight_settles_and_is_undone() {
    let store = store();
    let process = Process::on(&store);
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
    let client = process.client.clone();
    let call = tokio::spawn(async move { client.acquire(options(LONG), None).await });
    settle().await;
    let client = process.client.clone();
    let closing = tokio::spawn(async move { client.close().await });
    assert_eq!(code(call.await.unwrap()), Code::InvalidArgument);
    go.notify_one();
    closing.await.unwrap().expect("closes");
    assert_eq!(held(&store).await, None);
}

/// The reply has arrived, but the client is closed, or the call aborted, before anybody could look.
#[tokio::test(start_paused = true)]
async fn a_grant_at_the_same_moment_is_given_back() {
    for policy in [patient(), polling()] {
        for close in [true, false] {
            let store = store();
            let process = Process::on(&store);
            let go = Arc::new(Notify::new());
            process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
            let (waiting, cancel) = process.abortable(&policy);
            settle().await;
            go.notify_one();
            if close {
                process.client.close().await.expect("closes");
                assert_eq!(code(waiting.await.unwrap()), Code::InvalidArgument);
            } else {
                cancel.cancel();
                assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
                settle().await;
            }
            assert_eq!(held(&store).await, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_release_in_flight() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Release, [Fault::HoldRequest(go.clone())]);
    let releasing = {
        let p = process.clone();
        tokio::spawn(async move { p.free(&lease).await })
    };
    settle().await;
    let closing = {
        let client = process.client.clone();
        tokio::spawn(async move { client.close().await })
    };
    settle().await;
    assert!(!closing.is_finished());
    go.notify_one();
    releasing.await.unwrap();
    closing.await.unwrap().expect("closes");
    assert!(process.environment.lost().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_it_for_ever() {
    let process = Process::on(&store());
    process.backend.script(Operation::Acquire, [Fault::Hang]);
    process.backend.script(Operation::Release, [Fault::Hang, Fault::Hang]);
    let _waiting = process.waiting(&patient());
    settle().await;
    let start = Instant::now();
    process.client.close().await.expect("closes");
    assert!(start.elapsed() <= OPERATION_TIMEOUT * 2 + ms(5));
}

/// A worker thread has ended: what it held and waited for goes to others.
#[tokio::test(start_paused = true)]
async fn an_abandoned_client_gives_everything_back() {
    let store = store();
    let (worker, main) = (Process::on(&store), Process::on(&store));
    worker.client.lock(kept(3000, KeepPolicy::default()), &steady(), None).await.expect("free");
    let dead = worker.waiting(&patient());
    settle().await;
    let alive = main.waiting(&patient());
    settle().await;
    worker.client.abandon();
    assert_eq!(code(dead.await.unwrap()), Code::InvalidArgument);
    let start = Instant::now();
    alive.await.unwrap().expect("the worker's lease is free");
    assert!(start.elapsed() <= ms(1));
    sleep(ms(10_000)).await;
    assert_eq!(worker.calls(Operation::ExtendMany), 0);
    assert!(worker.environment.lost().is_empty(), "nobody is there to hear of it");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_client_releases_what_a_failed_release_left() {
    let store = store();
    let worker = Process::on(&store);
    let lease = worker.hold().await;
    worker.backend.script(Operation::Release, [Fault::Fail(unavailable())]);
    worker.release(&lease).await.expect_err("scripted");
    worker.client.abandon();
    settle().await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_client_leaves_no_task_behind() {
    let store = store();
    let process = Process::on(&store);
    process.client.lock(kept(3000, KeepPolicy::default()), &steady(), None).await.expect("free");
    settle().await;
    let backend = Arc::downgrade(&process.backend);
    drop(process);
    sleep(ms(2000)).await;
    assert!(backend.upgrade().is_none(), "somebody still holds the backend");
}
