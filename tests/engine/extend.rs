//! Extending by hand: the local deadline is never later than the store's.

use std::sync::Arc;

use syncguard::backend::Mutation;
use syncguard::lock::{Code, Lease, Result, Timestamp};
use syncguard::stores::memory::{Fault, MemoryStore, Operation};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::world::*;

fn extending(process: &Process, lease: &Lease, millis: u64) -> JoinHandle<Result<Mutation<Timestamp>>> {
    let (client, lock_id) = (process.client.clone(), lease.lock_id);
    tokio::spawn(async move { client.extend(lock_id, ttl(millis), true, None).await })
}

async fn extend(process: &Process, lease: &Lease, millis: u64) -> Result<Mutation<Timestamp>> {
    extending(process, lease, millis).await.unwrap()
}

async fn short_lease(store: &MemoryStore) -> (Process, Lease) {
    let process = Process::on(store);
    let lease = process.client.lock(options(1000), &steady(), None).await.expect("free");
    (process, lease)
}

#[tokio::test(start_paused = true)]
async fn it_moves_the_deadline_both_ways_and_loss_comes_with_it() {
    let store = store();
    let (process, lease) = short_lease(&store).await;
    sleep(ms(500)).await;
    let Mutation::Done(expires) = extend(&process, &lease, 3000).await.expect("answers") else {
        panic!("it is held");
    };
    assert_eq!(expires, held(&store).await.expect("held").expires_at);
    assert_eq!(process.client.remaining(&lease.lock_id), ms(3000));
    sleep(ms(2000)).await;
    assert!(process.environment.lost().is_empty());
    extend(&process, &lease, 50).await.expect("answers");
    assert_eq!(process.client.remaining(&lease.lock_id), ms(50));
    let start = Instant::now();
    sleep(ms(200)).await;
    let lost = process.environment.lost();
    assert_eq!(lost.len(), 1);
    assert!(about(start, lost[0].1, ms(45)), "a tenth of the TTL ahead");
}

#[tokio::test(start_paused = true)]
async fn it_is_told_lost_once_ahead_of_the_deadline_and_then_never_asks() {
    let store = store();
    let (process, lease) = short_lease(&store).await;
    let start = Instant::now();
    sleep(ms(899)).await;
    assert!(process.environment.lost().is_empty());
    assert_eq!(process.client.remaining(&lease.lock_id), ms(101));
    sleep(ms(5000)).await;
    let lost = process.environment.lost();
    assert_eq!((lost.len(), lost[0].0), (1, lease.lock_id));
    assert!(about(start, lost[0].1, ms(900)));
    process.backend.reset_calls();
    assert_eq!(extend(&process, &lease, 1000).await.expect("answers"), Mutation::NotFound);
    assert_eq!((process.requests(), process.client.remaining(&lease.lock_id)), (0, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_keeps_the_earlier_deadline() {
    for fault in [Fault::LoseReply, Fault::ApplyThenHang, Fault::Hang] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        let start = Instant::now();
        sleep(ms(100)).await;
        process.backend.script(Operation::Extend, [fault]);
        assert!(extend(&process, &lease, 60_000).await.expect_err("no reply").is_unknown());
        assert_eq!(process.client.remaining(&lease.lock_id) + start.elapsed(), ms(LONG));
        // The next one that is answered moves it.
        extend(&process, &lease, 60_000).await.expect("answers");
        assert_eq!(process.client.remaining(&lease.lock_id), ms(60_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_certain_failure_changes_nothing() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.backend.script(Operation::Extend, [Fault::Fail(unavailable())]);
    assert_eq!(code(extend(&process, &lease, 10).await), Code::ServiceUnavailable);
    assert_eq!(process.client.remaining(&lease.lock_id), ms(LONG));
}

#[tokio::test(start_paused = true)]
async fn one_that_shortens_counts_while_it_is_on_its_way() {
    for fault in [Fault::ApplyThenHang, Fault::HoldReply(Arc::new(Notify::new()))] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        process.backend.script(Operation::Extend, [fault]);
        let start = Instant::now();
        let call = extending(&process, &lease, 200);
        settle().await;
        assert_eq!(process.client.remaining(&lease.lock_id), ms(199));
        sleep(ms(300)).await;
        let lost = process.environment.lost();
        assert!(lost.len() == 1 && about(start, lost[0].1, ms(180)));
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_leave_the_earlier_of_both() {
    for (first, second) in [(60_000, 50_000), (50_000, 60_000)] {
        let store = store();
        let process = Process::on(&store);
        let lease = process.hold().await;
        let gos = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        process.backend.script(Operation::Extend, gos.iter().map(|go| Fault::HoldRequest(go.clone())));
        let calls = [extending(&process, &lease, first), extending(&process, &lease, second)];
        settle().await;
        // The store takes them the other way round.
        gos[1].notify_one();
        settle().await;
        gos[0].notify_one();
        for call in calls {
            call.await.unwrap().expect("answers");
        }
        assert_eq!(process.client.remaining(&lease.lock_id), ms(50_000 - 2));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_the_store_refuses_is_a_loss_told_once() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    store.lose_everything();
    let (one, two) = tokio::join!(extend(&process, &lease, LONG), extend(&process, &lease, LONG));
    assert_eq!((one.expect("answers"), two.expect("answers")), (Mutation::NotFound, Mutation::NotFound));
    sleep(ms(LONG)).await;
    assert_eq!(process.environment.lost().len(), 1);
    assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
}

#[tokio::test(start_paused = true)]
async fn a_release_meanwhile_decides() {
    let store = store();
    let process = Process::on(&store);
    let lease = process.hold().await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Extend, [Fault::HoldRequest(go.clone())]);
    let call = extending(&process, &lease, LONG);
    settle().await;
    process.free(&lease).await;
    go.notify_one();
    assert_eq!(call.await.unwrap().expect("answers"), Mutation::NotFound);
    sleep(ms(2 * LONG)).await;
    assert!(process.environment.lost().is_empty(), "it was released, not lost");
}

/// Once `remaining` was zero, the lease stays ended, whatever the store says.
#[tokio::test(start_paused = true)]
async fn a_reply_after_the_deadline_does_not_bring_it_back() {
    let store = store();
    let (process, lease) = short_lease(&store).await;
    sleep(ms(500)).await;
    let go = Arc::new(Notify::new());
    process.backend.script(Operation::Extend, [Fault::HoldReply(go.clone())]);
    let call = extending(&process, &lease, LONG);
    sleep(ms(600)).await;
    assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
    go.notify_one();
    let _ = call.await.unwrap();
    assert_eq!(process.client.remaining(&lease.lock_id), ms(0));
    assert_eq!(process.environment.lost().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_one_has_an_unknown_outcome() {
    let process = Process::on(&store());
    let lease = process.hold().await;
    process.backend.script(Operation::Extend, [Fault::ApplyThenHang]);
    let call = process.client.extend(lease.lock_id, ttl(10_000), true, None);
    let _ = timeout(ms(10), call).await;
    assert_eq!(process.client.remaining(&lease.lock_id), ms(9_990));
    extend(&process, &lease, LONG).await.expect("answers");
    assert_eq!(process.client.remaining(&lease.lock_id), ms(LONG));
}

#[tokio::test(start_paused = true)]
async fn by_lock_id_alone_it_asks_the_store_where_the_client_knows_nothing() {
    let store = store();
    let (one, two) = (Process::on(&store), Process::on(&store));
    let lease = one.hold().await;
    assert_eq!(extend(&two, &lease, LONG).await.expect("answers"), Mutation::NotFound);
    assert_eq!(two.requests(), 0);
    let answer = two.client.extend(lease.lock_id, ttl(LONG), false, None).await.expect("answers");
    assert!(matches!(answer, Mutation::Done(_)));
}
