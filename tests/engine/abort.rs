//! An abort ends an acquisition at once, wherever it is, and nothing is left behind.

use std::sync::Arc;

use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn before_anything_is_sent() {
    let process = Process::on(&store());
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(code(process.client.lock(options(LONG), &steady(), Some(&cancel)).await), Code::Aborted);
    assert_eq!(code(process.client.acquire(options(LONG), Some(&cancel)).await), Code::Aborted);
    assert_eq!(process.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_line_and_as_the_head_and_while_polling() {
    let store = store();
    let process = Process::on(&store);
    process.hold().await;
    let mut aborted = Vec::new();
    for policy in [patient(), patient(), polling()] {
        aborted.push(process.abortable(&policy));
        settle().await;
    }
    // The second first: it is behind the head.
    for index in [1, 0, 0] {
        let (waiting, cancel) = aborted.remove(index);
        let start = Instant::now();
        cancel.cancel();
        assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
        assert_eq!(Instant::now(), start);
    }
    no_queue_left(&process);
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_call_whose_grant_is_undone() {
    for policy in [patient(), polling()] {
        let store = store();
        let process = Process::on(&store);
        let go = Arc::new(Notify::new());
        process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
        let (waiting, cancel) = process.abortable(&policy);
        sleep(ms(10)).await;
        let start = Instant::now();
        cancel.cancel();
        let error = waiting.await.unwrap().expect_err("aborted");
        assert!(error.code() == Code::Aborted && error.is_unknown());
        assert_eq!(Instant::now(), start);
        go.notify_one();
        settle().await;
        assert_eq!((held(&store).await, process.calls(Operation::Release)), (None, 1));
        no_queue_left(&process);
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_call_that_is_refused() {
    let store = store();
    let (holder, process) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
    let (waiting, cancel) = process.abortable(&patient());
    settle().await;
    cancel.cancel();
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    go.notify_one();
    sleep(OPERATION_TIMEOUT * 3).await;
    assert_eq!(process.calls(Operation::Release), 0, "there is nothing to undo");
}

/// An earlier attempt had no reply: that the last one is refused does not settle it.
#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_repeat_with_an_earlier_attempt_unknown() {
    let store = store();
    let (rival, process) = (Process::elsewhere(&store, "b"), Process::on(&store));
    let (late, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let faults = [Fault::ApplyLate(late.clone()), Fault::HoldReply(go.clone())];
    process.backend.script(Operation::Acquire, faults);
    let lease = rival.hold().await;
    let policy = syncguard::engine::Policy { timeout: ms(60_000), ..polling() };
    let (waiting, cancel) = process.abortable(&policy);
    sleep(OPERATION_TIMEOUT + ms(200)).await;
    assert_eq!(process.calls(Operation::Acquire), 2);
    cancel.cancel();
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    go.notify_one();
    settle().await;
    // Now the first one arrives.
    rival.free(&lease).await;
    late.notify_one();
    settle().await;
    assert!(held(&store).await.is_some());
    sleep(OPERATION_TIMEOUT).await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn while_the_subscription_hangs() {
    let store = store();
    let (holder, process) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    process.backend.script(Operation::Watch, [Fault::Hang]);
    let (waiting, cancel) = process.abortable(&patient());
    settle().await;
    let start = Instant::now();
    cancel.cancel();
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    assert_eq!(Instant::now(), start);
}

/// The lease is on its way to the waiter that goes: the next in line gets it.
#[tokio::test(start_paused = true)]
async fn while_a_lease_is_being_handed_over() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let (waiting, cancel) = process.abortable(&patient());
    let next = process.waiting(&patient());
    settle().await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::HandOver, [Fault::HoldReply(go.clone())]);
    let releasing = {
        let (p, l) = (process.clone(), lease.clone());
        tokio::spawn(async move { p.free(&l).await })
    };
    settle().await;
    let start = Instant::now();
    cancel.cancel();
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    assert_eq!(Instant::now(), start);
    go.notify_one();
    releasing.await.unwrap();
    let next = next.await.unwrap().expect("granted");
    assert!(start.elapsed() <= ms(2));
    assert_eq!(held(&store).await.expect("held").lock_id, next.lock_id);
    no_queue_left(&process);
}

/// The lease has arrived, but its waiter is aborted before it could look.
#[tokio::test(start_paused = true)]
async fn with_a_lease_just_handed_over() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let (waiting, cancel) = process.abortable(&patient());
    settle().await;
    process.free(&lease).await;
    cancel.cancel();
    assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
    settle().await;
    assert_eq!(held(&store).await, None);
    no_queue_left(&process);
}
