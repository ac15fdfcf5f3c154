//! One attempt, and the uncontended case.

use syncguard::backend::Acquired;
use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn an_uncontended_lock_is_one_request() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    assert_eq!(process.requests(), 1);
    assert_eq!(process.calls(Operation::Watch), 0);
    process.free(&lease).await;
    assert_eq!(process.requests(), 2);
    no_queue_left(&process);
}

#[tokio::test(start_paused = true)]
async fn a_single_attempt_passes_the_queue_and_never_waits() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let waiting = process.waiting(&patient());
    settle().await;
    let start = Instant::now();
    let refused = process.client.acquire(options(LONG), None).await.expect("answers");
    assert!(matches!(refused, Acquired::Held { .. }));
    assert_eq!(Instant::now(), start);
    process.free(&lease).await;
    waiting.await.unwrap().expect("granted");
}

#[tokio::test(start_paused = true)]
async fn a_hung_attempt_is_a_network_timeout_and_undone() {
    let store = store();
    let process = Process::on(&store);
    process.backend.script(Operation::Acquire, [Fault::ApplyThenHang]);
    let start = Instant::now();
    let error = process.client.acquire(options(LONG), None).await.expect_err("no answer");
    assert!(error.code() == Code::NetworkTimeout && error.is_unknown());
    assert!(about(start, Instant::now(), OPERATION_TIMEOUT));
    assert!(held(&store).await.is_some());
    sleep(OPERATION_TIMEOUT * 3).await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_reply_is_lost_is_undone() {
    let store = store();
    let process = Process::on(&store);
    process.backend.script(Operation::Acquire, [Fault::LoseReply]);
    assert!(process.client.acquire(options(LONG), None).await.expect_err("no reply").is_unknown());
    settle().await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_attempt_ends_at_once_and_is_undone_behind_its_reply() {
    let store = store();
    let process = Process::on(&store);
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
    let cancel = CancellationToken::new();
    let (client, token) = (process.client.clone(), cancel.clone());
    let call = tokio::spawn(async move { client.acquire(options(LONG), Some(&token)).await });
    settle().await;
    let start = Instant::now();
    cancel.cancel();
    let error = call.await.unwrap().expect_err("aborted");
    assert!(error.code() == Code::Aborted && error.is_unknown());
    assert_eq!(Instant::now(), start);
    settle().await;
    assert!(held(&store).await.is_some(), "the undo does not overtake the acquire");
    go.notify_one();
    settle().await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_attempt_is_undone() {
    let store = store();
    let process = Process::on(&store);
    process.backend.script(Operation::Acquire, [Fault::ApplyThenHang, Fault::ApplyThenHang]);
    let _ = tokio::time::timeout(ms(10), process.client.acquire(options(LONG), None)).await;
    settle().await;
    assert_eq!(held(&store).await, None);
    let _ = tokio::time::timeout(ms(10), process.lock(&steady())).await;
    settle().await;
    assert_eq!(held(&store).await, None);
    no_queue_left(&process);
}
