//! `timeoutMs` is a hard limit, whatever the store does.

use std::sync::Arc;

use syncguard::engine::Policy;
use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::world::*;

fn short() -> Policy {
    Policy { timeout: ms(400), retry_delay: ms(10_000), ..steady() }
}

#[tokio::test(start_paused = true)]
async fn it_holds_for_waiting() {
    for policy in [short(), Policy { wait: syncguard::engine::Wait::Poll, ..short() }] {
        let store = store();
        let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
        holder.hold().await;
        let start = Instant::now();
        assert_eq!(code(waiter.lock(&policy).await), Code::AcquisitionTimeout);
        assert!(start.elapsed() >= ms(380) && start.elapsed() <= ms(450), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_starts_early_enough_to_finish() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let waiting = waiter.waiting(&short());
    sleep(ms(379)).await;
    let before = waiter.calls(Operation::Acquire);
    sleep(ms(2)).await;
    assert_eq!(waiter.calls(Operation::Acquire), before + 1, "at the deadline less 20 ms");
    assert_eq!(code(waiting.await.unwrap()), Code::AcquisitionTimeout);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_allows_for_a_slow_store() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let gos = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    waiter.backend.script(Operation::Acquire, gos.iter().map(|go| Fault::HoldReply(go.clone())));
    let waiting = waiter.waiting(&short());
    for go in &gos {
        sleep(ms(50)).await;
        go.notify_one();
        settle().await;
    }
    let asked = waiter.calls(Operation::Acquire);
    // The round trip took some 50 ms: the last attempt comes twice that before the deadline.
    sleep(ms(400 - 102 - 105)).await;
    assert_eq!(waiter.calls(Operation::Acquire), asked);
    sleep(ms(10)).await;
    assert_eq!(waiter.calls(Operation::Acquire), asked + 1);
    waiting.await.unwrap().expect_err("held all the time");
}

#[tokio::test(start_paused = true)]
async fn it_holds_while_a_call_hangs_and_a_late_grant_is_undone() {
    for policy in [short(), Policy { wait: syncguard::engine::Wait::Poll, ..short() }] {
        for (answers, operation) in [(true, Operation::Acquire), (false, Operation::Acquire)] {
            let store = store();
            let process = Process::on(&store);
            let go = Arc::new(Notify::new());
            let fault = if answers { Fault::HoldReply(go.clone()) } else { Fault::ApplyLate(go.clone()) };
            process.backend.script(operation, [fault]);
            let start = Instant::now();
            let error = process.lock(&policy).await.expect_err("no answer");
            assert!(start.elapsed() >= ms(400) && start.elapsed() <= ms(450));
            assert!(error.code() == Code::NetworkTimeout && error.is_unknown(), "{error:?}");
            sleep(ms(100)).await;
            go.notify_one();
            settle().await;
            // After the reply, or where there is none behind the request; if need be once more.
            sleep(OPERATION_TIMEOUT * 3).await;
            assert_eq!(held(&store).await, None);
            no_queue_left(&process);
        }
    }
}

/// The undo's first release may overtake the acquire; the one after the operation timeout does not.
#[tokio::test(start_paused = true)]
async fn an_undo_that_finds_nothing_is_repeated() {
    let store = store();
    let process = Process::on(&store);
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::ApplyLate(go.clone())]);
    process.lock(&short()).await.expect_err("no answer");
    sleep(OPERATION_TIMEOUT + ms(10)).await;
    assert_eq!(process.calls(Operation::Release), 1);
    go.notify_one();
    settle().await;
    assert!(held(&store).await.is_some());
    sleep(OPERATION_TIMEOUT).await;
    assert_eq!((process.calls(Operation::Release), held(&store).await), (2, None));
}

#[tokio::test(start_paused = true)]
async fn it_holds_while_the_subscription_hangs_and_so_do_the_retries() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = holder.hold().await;
    waiter.backend.script(Operation::Watch, (0..100).map(|_| Fault::Hang));
    let start = Instant::now();
    let waiting = waiter.waiting(&steady());
    sleep(ms(350)).await;
    assert_eq!(waiter.calls(Operation::Acquire), 4);
    holder.free(&lease).await;
    waiting.await.unwrap().expect("granted by timer");
    assert!(about(start, Instant::now(), ms(400)));
}

#[tokio::test(start_paused = true)]
async fn a_failed_subscription_costs_only_delay_and_is_tried_again() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = holder.hold().await;
    waiter.backend.script(Operation::Watch, [Fault::Fail(unavailable()), Fault::Fail(unavailable())]);
    let waiting = waiter.waiting(&steady());
    sleep(ms(250)).await;
    assert_eq!(waiter.calls(Operation::Watch), 3);
    let start = Instant::now();
    holder.free(&lease).await;
    waiting.await.unwrap().expect("woken");
    assert_eq!(Instant::now(), start);
}

#[tokio::test(start_paused = true)]
async fn waiters_whose_time_is_up_together_do_not_ask() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let waiting: Vec<_> = (0..100).map(|_| waiter.waiting(&short())).collect();
    sleep(ms(399)).await;
    let before = waiter.requests();
    for waiting in waiting {
        assert_eq!(code(waiting.await.unwrap()), Code::AcquisitionTimeout);
    }
    assert_eq!(waiter.requests(), before);
    no_queue_left(&waiter);
}
