//! Giving up a lease, also twice, also while the store does not answer.

use syncguard::backend::Mutation;
use syncguard::lock::{Code, LockId};
use syncguard::stores::memory::{Fault, Operation};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_second_one_frees_nobody_elses_lease() {
    let store = store();
    let (process, other) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = process.hold().await;
    process.free(&lease).await;
    assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
    let next = other.hold().await;
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound);
    assert_eq!(held(&store).await, Some(next));
}

#[tokio::test(start_paused = true)]
async fn two_at_once_are_one_release() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    process.backend.script(Operation::Release, [Fault::HoldReply(go.clone())]);
    let first = {
        let (p, l) = (process.clone(), lease.clone());
        tokio::spawn(async move { p.release(&l).await })
    };
    settle().await;
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound);
    go.notify_one();
    assert_eq!(first.await.unwrap().expect("answers"), Mutation::Done(()));
}

#[tokio::test(start_paused = true)]
async fn one_of_unknown_outcome_may_be_repeated_and_then_counts() {
    for fault in [Fault::LoseReply, Fault::ApplyThenHang] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        process.backend.script(Operation::Release, [fault, Fault::Fail(unavailable())]);
        assert!(process.release(&lease).await.expect_err("no reply").is_unknown());
        assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
        assert!(!process.release(&lease).await.expect_err("scripted").is_unknown());
        assert_eq!(process.release(&lease).await.expect("answers"), Mutation::Done(()));
        assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_after_the_deadline_was_not_released() {
    let process = Process::on(&store());
    let lease = process.client.lock(options(1000), &steady(), None).await.expect("free");
    process.backend.script(Operation::Release, [Fault::LoseReply]);
    process.release(&lease).await.expect_err("no reply");
    sleep(ms(1001)).await;
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_applied_counts_only_when_it_is() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    process.backend.script(Operation::Release, [Fault::Fail(unavailable())]);
    assert_eq!(code(process.release(&lease).await), Code::ServiceUnavailable);
    assert!(held(&store).await.is_some());
    store.lose_everything();
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::NotFound, "never released by us");
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_is_a_network_timeout() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.backend.script(Operation::Release, [Fault::Hang]);
    let start = Instant::now();
    assert_eq!(code(process.release(&lease).await), Code::NetworkTimeout);
    assert!(about(start, Instant::now(), OPERATION_TIMEOUT));
    process.free(&lease).await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_one_goes_on_behind() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    process.backend.script(Operation::Release, [Fault::HoldRequest(go.clone())]);
    let cancel = CancellationToken::new();
    let (client, token) = (process.client.clone(), cancel.clone());
    let call = tokio::spawn(async move { client.release(lease.lock_id, Some(&token)).await });
    settle().await;
    cancel.cancel();
    let error = call.await.unwrap().expect_err("aborted");
    assert!(error.code() == Code::Aborted && error.is_unknown());
    go.notify_one();
    settle().await;
    assert_eq!(held(&store).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_one_has_an_unknown_outcome() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.backend.script(Operation::Release, [Fault::ApplyThenHang]);
    let _ = timeout(ms(10), process.release(&lease)).await;
    assert_eq!(process.release(&lease).await.expect("answers"), Mutation::Done(()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_another_client_is_released_by_its_lock_id() {
    let store = store();
    let (one, two) = (Process::on(&store), Process::on(&store));
    let lease = one.hold().await;
    let waiting = one.waiting(&patient());
    settle().await;
    assert_eq!(two.release(&lease).await.expect("answers"), Mutation::Done(()));
    waiting.await.unwrap().expect("woken by the store");
    let stranger = two.client.release(LockId::mint(), None).await;
    assert_eq!(stranger.expect("answers"), Mutation::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_extend_afterwards_does_not_reach_the_lease() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.backend.script(Operation::Release, [Fault::Fail(unavailable())]);
    process.release(&lease).await.expect_err("scripted");
    process.backend.reset_calls();
    let answer = process.client.extend(lease.lock_id, ttl(LONG), true, None).await.expect("answers");
    assert_eq!((answer, process.requests()), (Mutation::NotFound, 0));
}
