//! Turns: within the process at once, between processes in fair shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use syncguard::backend::Backend;
use syncguard::engine::{Jitter, Policy, Wait};
use syncguard::lock::Lease;
use syncguard::stores::memory::Operation;
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
    // But for a pause of 10 ms now and then, in case somebody polls.
    let (mut last, mut pauses) = (Instant::now(), 0);
    for waiting in waiting {
        sleep(ms(20)).await;
        let start = Instant::now();
        ours.free(&lease).await;
        lease = waiting.await.unwrap().expect("handed over");
        if Instant::now() != start {
            assert!(start.elapsed() >= ms(10) && start.elapsed() <= ms(12), "{:?}", start.elapsed());
            assert!(start - last >= ms(120), "too soon: {:?}", start - last);
            (last, pauses) = (Instant::now(), pauses + 1);
        }
        assert!(start - last <= ms(270), "too late: {:?}", start - last);
    }
    assert!((2..=5).contains(&pauses), "{pauses} pauses in 600 ms");
    assert_eq!((ours.calls(Operation::HandOver), ours.requests()), (30, 30 + pauses));
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

/// A process that polls, and holds the lock for `hold` each time; counts its turns.
fn polls(process: &Process, policy: Policy, hold: std::time::Duration) -> Arc<AtomicUsize> {
    let turns = Arc::new(AtomicUsize::new(0));
    let (process, counting) = (process.clone(), turns.clone());
    tokio::spawn(async move {
        loop {
            if let Ok(lease) = process.lock(&policy).await {
                counting.fetch_add(1, Ordering::SeqCst);
                sleep(hold).await;
                process.release(&lease).await.expect("answers");
                sleep(policy.retry_delay).await;
            }
        }
    });
    turns
}

/// It leaves no mark at the store, but whoever looks every 5 ms finds the key free at the latest after 250 ms of
/// ours and the hold that they end in.
#[tokio::test(start_paused = true)]
async fn whoever_polls_in_time_gets_a_turn_every_quarter_of_a_second() {
    let store = store();
    let (crowd, poller) = (Process::elsewhere(&store, "crowd"), Process::elsewhere(&store, "poller"));
    let ours = busy(&crowd, 5, ms(2));
    settle().await;
    let policy = Policy { retry_delay: ms(5), max_retries: 10_000, ..polling() };
    let theirs = polls(&poller, policy, ms(2));
    sleep(ms(10_000)).await;
    let (ours, theirs) = (ours.load(Ordering::SeqCst), theirs.load(Ordering::SeqCst));
    assert!(theirs >= 10_000 / (250 + 2 + 10), "{theirs} turns of theirs beside {ours}");
    assert!(ours >= 3000, "{ours} turns of ours beside {theirs}");
}

/// Whoever looks less often meets one in twenty of the pauses, and more once it has been seen.
#[tokio::test(start_paused = true)]
async fn whoever_polls_rarely_is_not_starved() {
    for policy in [
        Policy { jitter: Jitter::None, ..polling() },
        polling(),
        Policy { wait: Wait::Poll, ..Policy::default() },
    ] {
        let store = store();
        let (crowd, poller) = (Process::elsewhere(&store, "crowd"), Process::elsewhere(&store, "poller"));
        let _ours = busy(&crowd, 5, ms(20));
        settle().await;
        let theirs = polls(&poller, policy.clone(), ms(2));
        sleep(ms(240_000)).await;
        let theirs = theirs.load(Ordering::SeqCst);
        assert!(theirs >= 3, "{theirs} turns in four minutes by {policy:?}");
    }
}

/// Once somebody came who had left no mark, they have the turns of those that do.
#[tokio::test(start_paused = true)]
async fn a_stranger_that_was_seen_is_expected_again() {
    let store = store();
    let (ours, poller) = (Process::on(&store), Process::elsewhere(&store, "poller"));
    let pause = async |lease: Lease| {
        let waiting = ours.waiting(&patient());
        let mut passed = ms(0);
        let mut lease = lease;
        let mut next = waiting;
        loop {
            sleep(ms(10)).await;
            passed += ms(10);
            let start = Instant::now();
            ours.free(&lease).await;
            settle().await;
            if !next.is_finished() {
                return (passed, start, next);
            }
            lease = next.await.unwrap().expect("handed over");
            next = ours.waiting(&patient());
            settle().await;
        }
    };
    let (first, _, waiting) = pause(ours.hold().await).await;
    assert!(first >= ms(120) && first <= ms(260), "{first:?}");
    let theirs = poller.hold().await;
    sleep(ms(20)).await;
    poller.free(&theirs).await;
    let mut lease = waiting.await.unwrap().expect("woken");
    for turn in 0..8 {
        let (passed, start, waiting) = pause(lease).await;
        assert!(passed <= ms(60), "{passed:?} in turn {turn}");
        lease = waiting.await.unwrap().expect("granted");
        assert!(start.elapsed() >= ms(10), "{:?}", start.elapsed());
    }
    let (passed, _, waiting) = pause(lease).await;
    assert!(passed >= ms(120), "{passed:?}: they have gone");
    waiting.await.unwrap().expect("granted");
}
