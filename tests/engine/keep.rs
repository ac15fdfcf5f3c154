//! Renewal: in time, in batches, and honest about its end.

use std::sync::Arc;

use syncguard::backend::Acquired;
use syncguard::engine::{AcquireOptions, KeepPolicy};
use syncguard::lock::Lease;
use syncguard::stores::memory::{Fault, MemoryStore, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::world::*;

async fn keep(store: &MemoryStore, ttl_ms: u64, policy: KeepPolicy) -> (Process, Lease) {
    let process = Process::on(store);
    let lease = process.client.lock(kept(ttl_ms, policy), &steady(), None).await.expect("free");
    (process, lease)
}

fn default() -> KeepPolicy {
    KeepPolicy::default()
}

#[tokio::test(start_paused = true)]
async fn it_renews_at_a_third_of_the_ttl_and_keeps_the_lease() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    for third in 1..=30 {
        sleep(ms(1000)).await;
        assert_eq!(process.calls(Operation::ExtendMany), third);
        assert!(process.client.remaining(&lease.lock_id) > ms(2900));
    }
    assert_eq!(held(&store).await.expect("held").fence, lease.fence);
    assert!(process.environment.lost().is_empty());
    // Released, it stops.
    process.free(&lease).await;
    sleep(ms(10_000)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 30);
}

#[tokio::test(start_paused = true)]
async fn a_single_attempt_keeps_as_well_and_an_interval_can_be_named() {
    let store = store();
    let process = Process::on(&store);
    let policy = KeepPolicy { interval: Some(ms(500)), ..default() };
    let Acquired::Granted(lease) = process.client.acquire(kept(3000, policy), None).await.expect("free")
    else {
        panic!("free");
    };
    // Each renewal comes at the interval, or up to a sixteenth ahead, where others are due.
    sleep(ms(10_250)).await;
    assert!((20..=21).contains(&process.calls(Operation::ExtendMany)));
    assert!(process.client.remaining(&lease.lock_id) > ms(2400));
}

#[tokio::test(start_paused = true)]
async fn renewals_of_many_leases_go_together() {
    let store = store();
    let process = Process::on(&store);
    for number in 0..1000 {
        let options = AcquireOptions { key: key(&format!("k{number}")), ..kept(LONG, default()) };
        process.client.lock(options, &steady(), None).await.expect("free");
        sleep(ms(1)).await;
    }
    sleep(ms(100_000)).await;
    assert!(process.environment.lost().is_empty());
    let requests = process.calls(Operation::ExtendMany);
    assert!(requests <= 100, "{requests} requests for 10 rounds of 1000 leases taken within a second");
}

#[tokio::test(start_paused = true)]
async fn errors_are_retried_until_the_deadline_and_then_it_is_lost_once() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    let start = Instant::now();
    process.backend.script(Operation::ExtendMany, (0..1000).map(|_| Fault::Fail(unavailable())));
    sleep(ms(2899)).await;
    assert!(process.environment.lost().is_empty());
    assert!(process.calls(Operation::ExtendMany) > 10);
    sleep(ms(10_000)).await;
    let lost = process.environment.lost();
    assert_eq!((lost.len(), lost[0].0), (1, lease.lock_id));
    assert!(about(start, lost[0].1, ms(2900)), "before the store's expiry");
    let calls = process.calls(Operation::ExtendMany);
    sleep(ms(10_000)).await;
    assert_eq!(process.calls(Operation::ExtendMany), calls, "it never comes back");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_or_a_hang_leaves_time_for_another_try() {
    for fault in [Fault::LoseReply, Fault::ApplyThenHang, Fault::Hang] {
        let store = store();
        let (process, lease) = keep(&store, 3000, default()).await;
        process.backend.script(Operation::ExtendMany, [fault]);
        sleep(ms(2700)).await;
        assert!(process.client.remaining(&lease.lock_id) > ms(1900));
        sleep(ms(10_000)).await;
        assert!(process.environment.lost().is_empty());
    }
}

/// What the store is asked may come late, but never the local deadline.
#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_before_the_renewal_was_sent() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::ExtendMany, [Fault::HoldReply(go.clone())]);
    sleep(ms(1500)).await;
    go.notify_one();
    settle().await;
    let store_says = held(&store).await.expect("held").expires_at.since(store.clock().now());
    assert!(process.client.remaining(&lease.lock_id) <= store_says);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_store_no_longer_has_is_lost_at_once() {
    let store = store();
    let (process, _) = keep(&store, 3000, default()).await;
    let start = Instant::now();
    store.lose_everything();
    sleep(ms(5000)).await;
    let lost = process.environment.lost();
    assert!(lost.len() == 1 && lost[0].1 - start <= ms(1001));
    assert_eq!(process.calls(Operation::ExtendMany), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_environment_loses_its_lease_for_good() {
    let store = store();
    let (process, lease) = keep(&store, 3000, KeepPolicy { stall: ms(6000), ..default() }).await;
    let start = Instant::now();
    sleep(ms(5500)).await;
    assert_eq!(process.environment.pings(), 2);
    process.environment.be_silent_for(ms(5999));
    sleep(ms(2000)).await;
    let renewed = process.calls(Operation::ExtendMany);
    assert_eq!(renewed, 7);
    process.environment.be_silent_for(ms(6000));
    sleep(ms(1100)).await;
    // It comes back, but the lease was given up.
    process.environment.be_silent_for(ms(0));
    sleep(ms(10_000)).await;
    assert!(process.calls(Operation::ExtendMany) <= renewed + 1);
    let lost = process.environment.lost();
    assert_eq!((lost.len(), lost[0].0), (1, lease.lock_id));
    assert!(lost[0].1 - start <= ms(11_000));
}

#[tokio::test(start_paused = true)]
async fn the_longest_hold_bounds_it_all() {
    let store = store();
    let (process, lease) = keep(&store, 3000, KeepPolicy { max_hold: Some(ms(7500)), ..default() }).await;
    let start = Instant::now();
    sleep(ms(7000)).await;
    assert!(process.client.remaining(&lease.lock_id) <= ms(500));
    // Nor does an extend by hand help.
    process.client.extend(lease.lock_id, ttl(LONG), true, None).await.expect("answers");
    assert!(process.client.remaining(&lease.lock_id) <= ms(500));
    sleep(ms(5000)).await;
    let lost = process.environment.lost();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].1 - start <= ms(7500));
}

#[tokio::test(start_paused = true)]
async fn the_last_renewal_before_the_longest_hold_is_cut() {
    let store = store();
    let (process, _) = keep(&store, 3000, KeepPolicy { max_hold: Some(ms(3500)), ..default() }).await;
    sleep(ms(3200)).await;
    let expires_in = held(&store).await.expect("held").expires_at.since(store.clock().now());
    assert!(expires_in <= ms(301), "{expires_in:?}");
    assert!(process.environment.lost().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_extend_by_hand_sets_the_pace() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    process.client.extend(lease.lock_id, ttl(30_000), true, None).await.expect("answers");
    sleep(ms(9000)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 0);
    sleep(ms(1500)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 1);
    process.client.extend(lease.lock_id, ttl(300), true, None).await.expect("answers");
    sleep(ms(10_000)).await;
    assert!(process.environment.lost().is_empty());
    assert!(process.client.remaining(&lease.lock_id) <= ms(300));
    assert!(process.calls(Operation::ExtendMany) >= 99);
}

#[tokio::test(start_paused = true)]
async fn a_short_extend_by_hand_is_kept_by_a_long_interval() {
    let store = store();
    let (process, lease) = keep(&store, LONG, KeepPolicy { interval: Some(ms(10_000)), ..default() }).await;
    process.client.extend(lease.lock_id, ttl(900), true, None).await.expect("answers");
    sleep(ms(20_000)).await;
    assert!(process.environment.lost().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_release_abandons_the_renewal_on_its_way() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::ExtendMany, [Fault::HoldRequest(go.clone())]);
    sleep(ms(1100)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 1);
    let start = Instant::now();
    process.free(&lease).await;
    assert_eq!(Instant::now(), start);
    go.notify_one();
    sleep(ms(10_000)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 1);
    assert!(process.environment.lost().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_stops_it_as_well() {
    let store = store();
    let (process, lease) = keep(&store, 3000, default()).await;
    process.backend.script(Operation::Release, [Fault::Fail(unavailable())]);
    process.release(&lease).await.expect_err("scripted");
    sleep(ms(10_000)).await;
    assert_eq!(process.calls(Operation::ExtendMany), 0);
    assert_eq!(held(&store).await, None);
    assert!(process.environment.lost().is_empty());
}

/// Short leases beside long ones: each at its own pace.
#[tokio::test(start_paused = true)]
async fn a_hung_store_costs_each_lease_only_its_own_time() {
    let store = store();
    let process = Process::on(&store);
    for (name, millis) in [("short", 900), ("long", 60_000)] {
        let options = AcquireOptions { key: key(name), ..kept(millis, default()) };
        process.client.lock(options, &steady(), None).await.expect("free");
    }
    process.backend.script(Operation::ExtendMany, [Fault::Hang]);
    sleep(ms(120_000)).await;
    assert!(process.environment.lost().is_empty());
}
