//! Turns: within the process at once, between processes in fair shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use syncguard::backend::Backend;
use syncguard::engine::Policy;
use syncguard::memory::Operation;
use tokio::time::{Instant, sleep};

use crate::world::*;

/// Waiters who take the lock again and again and hold it for `hold`; counts how often.
fn busy(process: &Process, waiters: usize, hold: std::time::Duration) -> Arc<AtomicUsize> {
    let turns = Arc::new(AtomicUsize::new(0));
    for _ in 0..waiters {
        let (process, turns) = (process.clone(), turns.clone());
        tokio::spawn(async move {
            while let Ok(lease) = process.lock(&Policy { timeout: ms(60_000), ..Policy::default() }).await {
                turns.fetch_add(1, Ordering::SeqCst);
                sleep(hold).await;
                process.release(&lease).await.expect("answers");
            }
        });
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn after_eight_hand_overs_it_is_the_others_turn() {
    let store = store();
    let (ours, theirs) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let mut lease = ours.hold().await;
    let waiting: Vec<_> = (0..20).map(|_| ours.waiting(&patient())).collect();
    let other = theirs.waiting(&patient());
    settle().await;
    for (turn, waiting) in waiting.into_iter().enumerate().take(8) {
        assert!(!other.is_finished(), "not before turn {turn}");
        ours.free(&lease).await;
        lease = waiting.await.unwrap().expect("handed over");
    }
    let before = ours.calls(Operation::Acquire);
    let start = Instant::now();
    ours.free(&lease).await;
    let theirs_now = other.await.unwrap().expect("woken");
    assert_eq!(Instant::now(), start);
    // Our own wake-up does not count: the head leaves them 10 ms before it asks.
    sleep(ms(9)).await;
    assert_eq!(ours.calls(Operation::Acquire), before);
    sleep(ms(2)).await;
    assert_eq!(ours.calls(Operation::Acquire), before + 1);
    theirs.free(&theirs_now).await;
}

#[tokio::test(start_paused = true)]
async fn after_fifty_milliseconds_it_is_the_others_turn() {
    for (held, expected) in [(40, false), (60, true)] {
        let store = store();
        let (ours, theirs) = (Process::on(&store), Process::elsewhere(&store, "b"));
        // Taken while nobody waited: the turn is as old as the lease.
        let lease = ours.hold().await;
        let waiting = ours.waiting(&patient());
        let other = theirs.waiting(&patient());
        sleep(ms(held)).await;
        ours.free(&lease).await;
        settle().await;
        assert_eq!((other.is_finished(), waiting.is_finished()), (expected, !expected));
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_else_waits_the_turn_goes_on() {
    let store = store();
    let ours = Process::on(&store);
    let mut lease = ours.hold().await;
    let waiting: Vec<_> = (0..30).map(|_| ours.waiting(&patient())).collect();
    settle().await;
    ours.backend.reset_calls();
    for waiting in waiting {
        sleep(ms(20)).await;
        let start = Instant::now();
        ours.free(&lease).await;
        lease = waiting.await.unwrap().expect("handed over");
        assert_eq!(Instant::now(), start);
    }
    assert_eq!((ours.calls(Operation::HandOver), ours.requests()), (30, 30));
}

/// The others have a subscription but do not come: after 10 ms the lock is ours again.
#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_comes_back() {
    let store = store();
    let ours = Process::on(&store);
    let _idle = store.backend().watch(&key("k")).await.expect("watch answers");
    let lease = ours.hold().await;
    let waiting = ours.waiting(&patient());
    sleep(ms(100)).await;
    let start = Instant::now();
    ours.free(&lease).await;
    waiting.await.unwrap().expect("granted");
    assert!(start.elapsed() >= ms(10) && start.elapsed() <= ms(12), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_process_starves() {
    let store = store();
    let processes: Vec<_> =
        ["a", "b", "c", "d"].iter().map(|name| Process::elsewhere(&store, name)).collect();
    let turns: Vec<_> = processes.iter().map(|process| busy(process, 5, ms(2))).collect();
    sleep(ms(20_000)).await;
    let shares: Vec<f64> = turns.iter().map(|turns| turns.load(Ordering::SeqCst) as f64).collect();
    let (sum, squares) = (shares.iter().sum::<f64>(), shares.iter().map(|share| share * share).sum::<f64>());
    let jain = sum * sum / (shares.len() as f64 * squares);
    assert!(jain >= 0.95, "Jain's index {jain} of {shares:?}");
    assert!(sum >= 6000.0, "{sum} turns of 2 ms in 20 s");
}

/// One process with many waiters and one with a single waiter: the single one gets in regularly.
#[tokio::test(start_paused = true)]
async fn a_lonely_waiter_gets_in_between_a_crowd() {
    let store = store();
    let (crowd, lonely) = (Process::elsewhere(&store, "crowd"), Process::elsewhere(&store, "lonely"));
    let _many = busy(&crowd, 50, ms(2));
    settle().await;
    for _ in 0..20 {
        let start = Instant::now();
        let lease = lonely.lock(&Policy::default()).await.expect("granted");
        assert!(start.elapsed() <= ms(60), "{:?}", start.elapsed());
        lonely.free(&lease).await;
    }
}

/// Others go first at a wake-up, and the head that gives them their start leaves meanwhile.
#[tokio::test(start_paused = true)]
async fn a_wake_up_at_which_others_go_first_is_not_lost_with_the_head() {
    let store = store();
    let (ours, theirs) = (Process::on(&store), Process::elsewhere(&store, "b"));
    let lease = ours.hold().await;
    let (first, cancel) = ours.abortable(&patient());
    settle().await;
    let second = ours.waiting(&patient());
    let other = theirs.waiting(&patient());
    // Somebody watches, but does not come.
    let _idle = store.backend().watch(&key("k")).await.expect("watch answers");
    sleep(ms(60)).await;
    ours.free(&lease).await;
    let lease = other.await.unwrap().expect("it is their turn");
    sleep(ms(20)).await;
    theirs.free(&lease).await;
    settle().await;
    assert!(!first.is_finished(), "others go first");
    let start = Instant::now();
    cancel.cancel();
    first.await.unwrap().expect_err("aborted");
    second.await.unwrap().expect("granted");
    assert!(start.elapsed() <= ms(2), "{:?}", start.elapsed());
}
