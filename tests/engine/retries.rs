//! How often the store is asked, and when.

use syncguard::engine::{Backoff, Policy};
use syncguard::lock::Code;
use syncguard::stores::memory::{MemoryClock, MemoryStore, Operation};
use tokio::time::{Instant, sleep};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn polling_makes_one_attempt_and_the_retries() {
    let store = store();
    let (holder, poller) = (Process::on(&store), Process::on(&store));
    holder.hold().await;
    for retries in 0..4 {
        poller.backend.reset_calls();
        let start = Instant::now();
        let policy = Policy { max_retries: retries, ..polling() };
        assert_eq!(code(poller.lock(&policy).await), Code::AcquisitionTimeout);
        assert_eq!(poller.calls(Operation::Acquire), 1 + retries as usize);
        assert!(about(start, Instant::now(), ms(100 * u64::from(retries))));
    }
    assert_eq!(poller.calls(Operation::Watch), 0);
}

#[tokio::test(start_paused = true)]
async fn polling_doubles_its_delay() {
    let store = store();
    let (holder, poller) = (Process::on(&store), Process::on(&store));
    holder.hold().await;
    let start = Instant::now();
    let policy = Policy { max_retries: 4, backoff: Backoff::Exponential, ..polling() };
    assert_eq!(code(poller.lock(&policy).await), Code::AcquisitionTimeout);
    assert!(about(start, Instant::now(), ms(100 + 200 + 400 + 800)));
}

#[tokio::test(start_paused = true)]
async fn polling_knows_no_expiry() {
    let store = MemoryStore::vanishing(MemoryClock::of_tokio());
    let (holder, poller) = (Process::on(&store), Process::on(&store));
    holder.client.lock(options(250), &steady(), None).await.expect("free");
    let start = Instant::now();
    let policy = Policy { retry_delay: ms(1000), ..polling() };
    poller.lock(&policy).await.expect("it has expired");
    assert!(about(start, Instant::now(), ms(1000)));
}

#[tokio::test(start_paused = true)]
async fn no_retries_means_one_attempt_that_never_queues() {
    let store = store();
    let process = Process::on(&store);
    process.hold().await;
    let _waiting = process.waiting(&patient());
    settle().await;
    process.backend.reset_calls();
    let start = Instant::now();
    let policy = Policy { max_retries: 0, ..steady() };
    assert_eq!(code(process.lock(&policy).await), Code::AcquisitionTimeout);
    assert_eq!((process.requests(), process.calls(Operation::Watch)), (1, 0));
    assert_eq!(Instant::now(), start);
}

#[tokio::test(start_paused = true)]
async fn waiting_asks_before_and_after_the_subscription_and_then_by_timer() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let start = Instant::now();
    let policy = Policy { max_retries: 3, ..steady() };
    assert_eq!(code(waiter.lock(&policy).await), Code::AcquisitionTimeout);
    assert_eq!(waiter.calls(Operation::Watch), 1);
    assert_eq!(waiter.calls(Operation::Acquire), 2 + 3);
    assert!(about(start, Instant::now(), ms(300)));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_a_wake_up_causes_are_free() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = holder.hold().await;
    let waiting = waiter.waiting(&Policy { max_retries: 1, ..patient() });
    settle().await;
    waiter.backend.reset_calls();
    for n in 1..=20 {
        store.hint(&key("k"));
        sleep(ms(10)).await;
        assert_eq!(waiter.calls(Operation::Acquire), n);
    }
    holder.free(&lease).await;
    waiting.await.unwrap().expect("granted");
    assert_eq!(waiter.calls(Operation::Acquire), 21);
}

#[tokio::test(start_paused = true)]
async fn the_holders_expiry_causes_an_attempt() {
    for (store, free_after) in [(store(), 1300), (MemoryStore::vanishing(MemoryClock::of_tokio()), 300)] {
        let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
        store.lose_hints(true);
        holder.client.acquire(options(300), None).await.expect("free");
        let start = Instant::now();
        waiter.lock(&Policy { max_retries: 1, ..patient() }).await.expect("granted");
        assert!(about(start, Instant::now(), ms(free_after)));
        assert_eq!(waiter.calls(Operation::Acquire), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_without_wake_ups_get_through_by_timer() {
    let store = store();
    let holder = Process::on(&store);
    let waiter = Process::new(store.backend_claiming(|can| {
        can.wakes = false;
        can.store = elsewhere(&can.store, "b");
    }));
    let lease = holder.hold().await;
    let waiting = waiter.waiting(&steady());
    sleep(ms(250)).await;
    holder.free(&lease).await;
    let start = Instant::now();
    waiting.await.unwrap().expect("granted");
    assert!(start.elapsed() <= ms(51));
    assert_eq!((waiter.calls(Operation::Watch), waiter.calls(Operation::Acquire)), (0, 4));
}
