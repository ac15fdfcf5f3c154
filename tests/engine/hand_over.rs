//! A lease passed inside the process: one request, nobody in between, and nothing lost when it fails.

use std::sync::Arc;

use syncguard::backend::Mutation;
use syncguard::engine::Policy;
use syncguard::lock::{Code, Error, Lease};
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::world::*;

fn releasing(process: &Process, lease: &Lease) -> JoinHandle<syncguard::lock::Result<Mutation<()>>> {
    let (process, lease) = (process.clone(), lease.clone());
    tokio::spawn(async move { process.release(&lease).await })
}

#[tokio::test(start_paused = true)]
async fn it_is_one_request_with_a_new_lock_id_and_a_higher_fence() {
    let store = store();
    let process = Process::on(&store);
    let first = process.hold().await;
    let waiting = process.waiting(&patient());
    sleep(ms(10)).await;
    process.backend.reset_calls();
    let start = Instant::now();
    process.free(&first).await;
    let second = waiting.await.unwrap().expect("handed over");
    assert_eq!((process.requests(), process.calls(Operation::HandOver)), (1, 1));
    assert_eq!(Instant::now(), start);
    assert!(second.lock_id != first.lock_id && second.fence > first.fence);
    assert_eq!(held(&store).await, Some(second.clone()));
    assert_eq!(process.client.remaining(&second.lock_id), ms(LONG));
    assert_eq!(process.client.remaining(&first.lock_id), ms(0));
}

#[tokio::test(start_paused = true)]
async fn without_it_the_head_is_told_behind_the_release() {
    let store = store();
    let process = Process::new(store.backend_claiming(|can| (can.hands_over, can.wakes) = (false, false)));
    let lease = process.hold().await;
    let waiting = process.waiting(&patient());
    settle().await;
    let start = Instant::now();
    process.free(&lease).await;
    waiting.await.unwrap().expect("granted");
    assert_eq!((Instant::now(), process.calls(Operation::HandOver)), (start, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_applied_is_followed_by_a_plain_release() {
    let full = || Error::new(Code::RateLimited, "out of memory").retryable();
    for why in
        [full(), unavailable(), Error::internal("no fence is left"), Error::new(Code::AuthFailed, "denied")]
    {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        let waiting = process.waiting(&patient());
        settle().await;
        // What keeps the next one from the lease keeps it for a while.
        process.backend.script(Operation::Acquire, [Fault::Fail(full()), Fault::Fail(full())]);
        process.backend.script(Operation::HandOver, [Fault::Fail(why)]);
        process.backend.reset_calls();
        process.free(&lease).await;
        assert_eq!((process.calls(Operation::HandOver), process.calls(Operation::Release)), (1, 1));
        assert_eq!(held(&store).await, None);
        let next = waiting.await.unwrap().expect("it asks for itself");
        assert_eq!(held(&store).await, Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn where_neither_is_possible_the_holder_and_the_waiter_stay_where_they_are() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let waiting = process.waiting(&patient());
    settle().await;
    process.backend.script(Operation::HandOver, [Fault::Fail(unavailable())]);
    process.backend.script(Operation::Release, [Fault::Fail(unavailable())]);
    assert_eq!(code(process.release(&lease).await), Code::ServiceUnavailable);
    settle().await;
    assert!(!waiting.is_finished());
    assert_eq!(held(&store).await.expect("still held").lock_id, lease.lock_id);
    process.free(&lease).await;
    waiting.await.unwrap().expect("granted");
}

#[tokio::test(start_paused = true)]
async fn one_of_unknown_outcome_is_reclaimed_by_its_waiter() {
    for fault in [Fault::LoseReply, Fault::ApplyThenHang] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        let waiting = process.waiting(&patient());
        settle().await;
        process.backend.script(Operation::HandOver, [fault]);
        let start = Instant::now();
        let releasing = releasing(&process, &lease);
        settle().await;
        let taken = held(&store).await.expect("it was applied");
        assert!(releasing.await.unwrap().expect_err("no reply").is_unknown());
        let next = waiting.await.unwrap().expect("reclaimed");
        assert_eq!(next, taken);
        assert_eq!(process.client.remaining(&next.lock_id) + start.elapsed(), ms(LONG));
        // The holder's repeat finds that it worked, and does not disturb the next one.
        process.free(&lease).await;
        sleep(OPERATION_TIMEOUT * 3).await;
        assert_eq!(held(&store).await, Some(next));
    }
}

/// The holder repeats its release before the waiter could ask: the lease is that of the first hand-over.
#[tokio::test(start_paused = true)]
async fn one_that_is_repeated_counts_from_the_first() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let waiting = process.waiting(&patient());
    settle().await;
    process.backend.script(Operation::HandOver, [Fault::ApplyThenHang]);
    let start = Instant::now();
    // Both calls of the holder happen before the waiter's task runs.
    let client = process.client.clone();
    assert!(client.release(lease.lock_id, None).await.expect_err("no reply").is_unknown());
    client.release(lease.lock_id, None).await.expect("answers");
    let next = waiting.await.unwrap().expect("granted");
    assert_eq!(process.client.remaining(&next.lock_id) + start.elapsed(), ms(LONG));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_arrived_is_not_believed() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let waiting = process.waiting(&Policy { timeout: ms(60_000), ..steady() });
    settle().await;
    process.backend.script(Operation::HandOver, [Fault::Hang]);
    assert!(process.release(&lease).await.expect_err("no reply").is_unknown());
    settle().await;
    assert!(!waiting.is_finished(), "the holder's lease is still there");
    process.free(&lease).await;
    let next = waiting.await.unwrap().expect("granted");
    assert_eq!(held(&store).await, Some(next));
}

/// The waiter's time is up while the lease is on its way: whatever arrives goes to the next, or back.
#[tokio::test(start_paused = true)]
async fn one_whose_waiter_has_gone_is_given_back() {
    for fault in ["granted", "unknown", "late", "refused"] {
        for others in [0, 1] {
            let store = store();
            let process = Process::on(&store);
            let lease = process.hold().await;
            let waiting = process.waiting(&Policy { timeout: ms(100), ..patient() });
            settle().await;
            let next: Vec<_> = (0..others).map(|_| process.waiting(&patient())).collect();
            settle().await;
            let go = Arc::new(Notify::new());
            let scripted = match fault {
                "granted" => Fault::HoldReply(go.clone()),
                "unknown" => Fault::ApplyThenHang,
                "late" => Fault::ApplyLate(go.clone()),
                _ => Fault::Hang,
            };
            process.backend.script(Operation::HandOver, [scripted]);
            let releasing = releasing(&process, &lease);
            assert_eq!(code(waiting.await.unwrap()), Code::AcquisitionTimeout);
            go.notify_one();
            let released = releasing.await.unwrap();
            if fault == "refused" {
                released.expect_err("no reply");
                process.free(&lease).await;
            }
            for next in next {
                let lease = timeout(OPERATION_TIMEOUT, next).await.expect("woken").unwrap().expect("granted");
                assert_eq!(held(&store).await, Some(lease.clone()), "{fault}");
                process.free(&lease).await;
            }
            sleep(OPERATION_TIMEOUT * 3).await;
            assert_eq!(held(&store).await, None, "{fault} with {others} others");
            no_queue_left(&process);
        }
    }
}

/// A head whose retries have run out while the lease is on its way still gets it.
#[tokio::test(start_paused = true)]
async fn a_lease_on_its_way_is_waited_for() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let waiting = process.waiting(&Policy { max_retries: 1, ..steady() });
    sleep(ms(50)).await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::HandOver, [Fault::HoldReply(go.clone())]);
    let releasing = releasing(&process, &lease);
    sleep(ms(500)).await;
    go.notify_one();
    releasing.await.unwrap().expect("released");
    let next = waiting.await.unwrap().expect("handed over");
    // Its time has run since before the request.
    assert_eq!(process.client.remaining(&next.lock_id), ms(LONG - 500));
}

/// The releasing task dies in the middle.
#[tokio::test(start_paused = true)]
async fn a_dropped_release_loses_nothing() {
    for fault in [Fault::ApplyThenHang, Fault::Hang] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        let waiting = process.waiting(&patient());
        settle().await;
        process.backend.script(Operation::HandOver, [fault]);
        let start = Instant::now();
        let _ = timeout(ms(300), process.release(&lease)).await;
        settle().await;
        process.free(&lease).await;
        let next = timeout(ms(100), waiting).await.expect("woken").unwrap().expect("granted");
        let latest = ms(LONG) - if next.acquired_at == lease.acquired_at { start.elapsed() } else { ms(0) };
        assert!(process.client.remaining(&next.lock_id) <= latest);
        let store_says = next.expires_at.since(store.clock().now());
        assert!(process.client.remaining(&next.lock_id) <= store_says, "the deadline is late");
    }
}

/// A release of a lease that is long gone must not touch the one that follows.
#[tokio::test(start_paused = true)]
async fn a_release_that_comes_too_late_hands_nothing_over() {
    let store = store();
    let (process, rival) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = process.client.lock(options(200), &steady(), None).await.expect("free");
    store.lose_everything();
    let other = rival.hold().await;
    let waiting = process.waiting(&patient());
    settle().await;
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound);
    settle().await;
    assert!(!waiting.is_finished());
    assert_eq!(held(&store).await, Some(other.clone()));
    rival.free(&other).await;
    waiting.await.unwrap().expect("granted");
}
