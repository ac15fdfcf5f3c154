//! The line of this process' waiters.

use std::sync::{Arc, Mutex};

use syncguard::engine::Policy;
use syncguard::lock::Code;
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::world::*;

/// Waiters that take their turn one after the other and write down their number.
fn line(
    process: &Process,
    count: usize,
    policy: &Policy,
) -> (Arc<Mutex<Vec<usize>>>, Vec<tokio::task::JoinHandle<()>>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..count)
        .map(|number| {
            let (process, policy, order) = (process.clone(), policy.clone(), order.clone());
            tokio::spawn(async move {
                let lease = process.lock(&policy).await.expect("granted in turn");
                order.lock().unwrap().push(number);
                sleep(ms(1)).await;
                process.free(&lease).await;
            })
        })
        .collect();
    (order, tasks)
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served_with_some_leaving_in_the_middle() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let (order, mut tasks) = line(&process, 5, &patient());
    settle().await;
    let (aborted, cancel) = process.abortable(&patient());
    let timed_out = process.waiting(&Policy { timeout: ms(20), ..patient() });
    settle().await;
    let (later, more) = line(&process, 5, &patient());
    tasks.extend(more);
    settle().await;
    cancel.cancel();
    assert_eq!(code(aborted.await.unwrap()), Code::Aborted);
    assert_eq!(code(timed_out.await.unwrap()), Code::AcquisitionTimeout);
    process.free(&lease).await;
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(*later.lock().unwrap(), [0, 1, 2, 3, 4]);
    no_queue_left(&process);
}

#[tokio::test(start_paused = true)]
async fn one_line_for_all_clients_of_a_store_and_none_between_keys_or_stores() {
    let store = store();
    let (one, two) = (Process::on(&store), Process::on(&store));
    let lease = one.hold().await;
    let first = two.waiting(&patient());
    settle().await;
    let second = one.waiting(&patient());
    settle().await;
    assert_eq!((one.requests(), two.requests()), (1, 2), "only the head asks");
    let mut other_key = options(LONG);
    other_key.key = key("other");
    one.client.lock(other_key, &steady(), None).await.expect("another key has no line");
    Process::on(&crate::world::store()).hold().await;
    one.free(&lease).await;
    let lease = first.await.unwrap().expect("granted");
    assert!(!second.is_finished());
    two.free(&lease).await;
    second.await.unwrap().expect("granted");
}

#[tokio::test(start_paused = true)]
async fn five_hundred_waiters_cost_what_one_costs() {
    let mut costs = Vec::new();
    for count in [1, 500] {
        let store = store();
        let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
        let lease = holder.hold().await;
        let waiting: Vec<_> = (0..count)
            .map(|_| {
                waiter.waiting(&Policy { timeout: ms(60_000), ..Policy { max_retries: 1000, ..steady() } })
            })
            .collect();
        sleep(ms(10_000)).await;
        costs.push((waiter.requests(), waiter.calls(Operation::Watch)));
        holder.free(&lease).await;
        waiter.backend.reset_calls();
        for waiting in waiting {
            let lease = waiting.await.unwrap().expect("granted");
            waiter.free(&lease).await;
        }
        // One to acquire, one for each hand-over, one to release.
        assert_eq!(waiter.requests(), count + 1);
        no_queue_left(&waiter);
    }
    assert_eq!(costs[0], costs[1]);
}

#[tokio::test(start_paused = true)]
async fn retries_count_from_becoming_the_head() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    holder.hold().await;
    let start = Instant::now();
    let policy = Policy { max_retries: 2, ..steady() };
    let (first, second) = (waiter.waiting(&policy), waiter.waiting(&policy));
    assert_eq!(code(first.await.unwrap()), Code::AcquisitionTimeout);
    assert!(about(start, Instant::now(), ms(200)));
    assert_eq!(code(second.await.unwrap()), Code::AcquisitionTimeout);
    assert!(about(start, Instant::now(), ms(400)));
    // The second knows what the first has heard: its first question is its first retry.
    assert_eq!(waiter.calls(Operation::Acquire), 2 + 2 + 2);
    assert_eq!(waiter.calls(Operation::Watch), 1, "the subscription passes from head to head");
}

/// The first waiter's expiry of the holder is the second's as well.
#[tokio::test(start_paused = true)]
async fn the_holders_expiry_is_inherited() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    holder.client.acquire(options(300), None).await.expect("free");
    let start = Instant::now();
    let first = waiter.waiting(&Policy { timeout: ms(50), ..patient() });
    let second = waiter.waiting(&patient());
    first.await.unwrap().expect_err("its time is up");
    second.await.unwrap().expect("the holder expired");
    assert!(about(start, Instant::now(), ms(1300)), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_behind_a_holder_of_this_process_does_not_ask() {
    let store = store();
    let process = Process::on(&store);
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::HoldReply(go.clone())]);
    let (first, second) = (process.waiting(&patient()), process.waiting(&patient()));
    settle().await;
    go.notify_one();
    let lease = first.await.unwrap().expect("free");
    sleep(ms(100)).await;
    assert_eq!(process.requests(), 1);
    process.free(&lease).await;
    second.await.unwrap().expect("handed over");
    assert_eq!((process.requests(), process.calls(Operation::Acquire)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_clients_subscription_is_replaced() {
    let store = store();
    let (holder, one, two) = (Process::elsewhere(&store, "b"), Process::on(&store), Process::on(&store));
    let lease = holder.hold().await;
    let (first, cancel) = one.abortable(&patient());
    settle().await;
    let second = two.waiting(&patient());
    settle().await;
    cancel.cancel();
    assert_eq!(code(first.await.unwrap()), Code::Aborted);
    settle().await;
    assert_eq!((one.calls(Operation::Watch), two.calls(Operation::Watch)), (1, 0));
    one.client.close().await.expect("closes");
    settle().await;
    assert_eq!(two.calls(Operation::Watch), 1);
    let start = Instant::now();
    holder.free(&lease).await;
    second.await.unwrap().expect("granted");
    assert_eq!(Instant::now(), start);
}

/// A head whose call is in flight when it leaves has found nothing out: the next one asks at once.
#[tokio::test(start_paused = true)]
async fn a_head_that_leaves_in_the_middle_of_its_call_passes_its_reason_on() {
    let store = store();
    let (holder, waiter) = (Process::elsewhere(&store, "b"), Process::on(&store));
    let lease = holder.hold().await;
    let (first, cancel) = waiter.abortable(&patient());
    settle().await;
    let second = waiter.waiting(&patient());
    settle().await;
    waiter.backend.script(Operation::Acquire, [Fault::HoldRequest(Arc::new(Notify::new()))]);
    holder.free(&lease).await;
    settle().await;
    let start = Instant::now();
    cancel.cancel();
    assert_eq!(code(first.await.unwrap()), Code::Aborted);
    second.await.unwrap().expect("granted");
    assert!(start.elapsed() <= ms(1));
}
