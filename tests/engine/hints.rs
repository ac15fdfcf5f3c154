//! Wake-ups: none is missed, and losing one costs only delay.

use std::sync::Arc;

use syncguard::engine::Policy;
use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_release_elsewhere_wakes_the_waiter_at_once() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    let lease = holder.hold().await;
    let waiting = waiter.waiting(&patient());
    sleep(ms(500)).await;
    let start = Instant::now();
    holder.free(&lease).await;
    waiting.await.unwrap().expect("granted");
    assert_eq!(Instant::now(), start);
}

/// Between the first attempt and the subscription nobody would hear of a release.
#[tokio::test(start_paused = true)]
async fn a_release_before_the_subscription_is_not_missed() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    let lease = holder.hold().await;
    let go = Arc::new(Notify::new());
    waiter.backend.script(Operation::Watch, [Fault::HoldRequest(go.clone())]);
    let waiting = waiter.waiting(&patient());
    settle().await;
    holder.free(&lease).await;
    settle().await;
    assert!(!waiting.is_finished());
    let start = Instant::now();
    go.notify_one();
    waiting.await.unwrap().expect("granted");
    assert_eq!(Instant::now(), start);
}

/// The attempt was refused before the release, but its reply comes behind the hint.
#[tokio::test(start_paused = true)]
async fn a_wake_up_during_an_attempt_causes_another() {
    for retries in [1, 5] {
        let store = store();
        let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
        let lease = holder.hold().await;
        let waiting = waiter.waiting(&Policy { max_retries: retries, retry_delay: ms(500), ..patient() });
        settle().await;
        let go = Arc::new(Notify::new());
        waiter.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
        // It is the last retry in the first round, and another one after it would be late.
        sleep(ms(510)).await;
        holder.free(&lease).await;
        settle().await;
        let start = Instant::now();
        go.notify_one();
        waiting.await.unwrap().expect("granted");
        assert_eq!(Instant::now(), start);
    }
}

/// The same for a release in this process, which tells the head directly.
#[tokio::test(start_paused = true)]
async fn a_local_release_during_an_attempt_causes_another() {
    let store = store();
    let process = Process::new(store.backend_claiming(|can| (can.wakes, can.hands_over) = (false, false)));
    let lease = process.hold().await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
    let waiting = process.waiting(&Policy { max_retries: 1, ..patient() });
    settle().await;
    process.free(&lease).await;
    let start = Instant::now();
    go.notify_one();
    waiting.await.unwrap().expect("granted");
    assert_eq!(Instant::now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_costs_only_delay() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    let lease = holder.hold().await;
    let waiting = waiter.waiting(&steady());
    sleep(ms(250)).await;
    store.lose_hints(true);
    holder.free(&lease).await;
    let start = Instant::now();
    waiting.await.unwrap().expect("granted");
    assert!(start.elapsed() >= ms(40) && start.elapsed() <= ms(100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn hints_without_cause_and_before_an_attempt_do_not_add_up() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    holder.hold().await;
    let _waiting = waiter.waiting(&patient());
    settle().await;
    let before = waiter.calls(Operation::Acquire);
    for _ in 0..5 {
        store.hint(&key("k"));
    }
    settle().await;
    assert_eq!(waiter.calls(Operation::Acquire), before + 1);
}

/// The head is told that the key is free and leaves before it can ask.
#[tokio::test(start_paused = true)]
async fn a_hint_for_a_head_that_leaves_is_the_next_ones() {
    for wakes in [true, false] {
        let store = store();
        let make =
            || Process::new(store.backend_claiming(|can| (can.wakes, can.hands_over) = (wakes, false)));
        let process = make();
        let lease = process.hold().await;
        let (first, cancel) = process.abortable(&patient());
        settle().await;
        let second = process.waiting(&patient());
        settle().await;
        process.free(&lease).await;
        cancel.cancel();
        assert_eq!(code(first.await.unwrap()), Code::Aborted);
        let start = Instant::now();
        second.await.unwrap().expect("granted");
        assert!(start.elapsed() <= ms(1), "{:?}", start.elapsed());
    }
}

/// The head was told during its call, was refused all the same, and leaves while it asks again.
#[tokio::test(start_paused = true)]
async fn a_hint_whose_answer_the_head_does_not_wait_for_is_the_next_ones() {
    let store = store();
    let process = Process::new(store.backend_claiming(|can| (can.wakes, can.hands_over) = (false, false)));
    let lease = process.hold().await;
    let go = Arc::new(Notify::new());
    let never = Arc::new(Notify::new());
    let faults = [Fault::HoldReply(go.clone()), Fault::HoldRequest(never)];
    process.backend.script(Operation::Acquire, faults);
    let (first, cancel) = process.abortable(&patient());
    settle().await;
    let second = process.waiting(&patient());
    settle().await;
    process.free(&lease).await;
    go.notify_one();
    settle().await;
    assert_eq!(process.calls(Operation::Acquire), 3);
    let start = Instant::now();
    cancel.cancel();
    assert_eq!(code(first.await.unwrap()), Code::Aborted);
    second.await.unwrap().expect("granted");
    assert!(start.elapsed() <= ms(1), "{:?}", start.elapsed());
}

/// Who holds it in this process loses it: those who wait here need not sleep until the timer.
#[tokio::test(start_paused = true)]
async fn a_lease_lost_in_this_process_makes_the_head_look() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let second = process.waiting(&patient());
    settle().await;
    // Removed by somebody who only has the lock id, and whose hint gets lost.
    store.lose_hints(true);
    Process::elsewhere(&store, "b").free(&lease).await;
    settle().await;
    let start = Instant::now();
    process.client.extend(lease.lock_id, ttl(LONG), true, None).await.expect("answers");
    second.await.unwrap().expect("granted");
    assert_eq!(Instant::now(), start);
}
