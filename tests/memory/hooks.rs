//! What tests of the engine rely on: the memory backend's faults, counters, hints and clocks.

use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{
    AcquireRequest, Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Watch, Yield,
};
use syncguard::lock::{Code, Error, Key, Lease, LockId, Outcome, TIME_TOLERANCE, Ttl};
use syncguard::stores::memory::{Fault, MemoryClock, MemoryStore, Operation, ScriptedBackend};
use tokio::sync::Notify;
use tokio::time::timeout;

fn key() -> Key {
    Key::new("k").expect("a valid key")
}

fn request() -> AcquireRequest {
    AcquireRequest {
        key: key(),
        lock_id: LockId::mint(),
        ttl: Ttl::from_millis(30_000).expect("a valid TTL"),
    }
}

fn store() -> MemoryStore {
    MemoryStore::new(MemoryClock::by_hand())
}

async fn grant(backend: &ScriptedBackend, request: &AcquireRequest) -> Lease {
    match backend.acquire(request).await.expect("acquire answers") {
        Acquired::Granted(lease) => lease,
        held => panic!("the key is free, got {held:?}"),
    }
}

async fn locked(store: &MemoryStore) -> bool {
    store.backend().is_locked(&key()).await.expect("is_locked answers")
}

async fn hangs<T>(call: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(60), call).await.is_err()
}

async fn is_hinted(watch: &Watch) -> bool {
    timeout(Duration::from_secs(1), watch.hint()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn faults_come_one_a_call_and_in_order() {
    let backend = store().backend();
    let failure = Error::new(Code::RateLimited, "too many requests");
    backend.script(Operation::Acquire, [Fault::Pass, Fault::Fail(failure), Fault::Hang]);
    let first = request();
    let lease = grant(&backend, &first).await;
    assert_eq!(backend.acquire(&first).await.expect_err("scripted").code(), Code::RateLimited);
    assert!(hangs(backend.acquire(&first)).await);
    assert_eq!(grant(&backend, &first).await, lease, "the script is over");
    assert_eq!(backend.release(&lease.into()).await.expect("no fault here"), Mutation::Done(()));
    assert_eq!(backend.calls(Operation::Acquire), 4);
    assert_eq!(backend.calls(Operation::Release), 1);
    assert_eq!(backend.calls(Operation::Find), 0);
    assert_eq!(backend.requests(), 5);
    backend.reset_calls();
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fault_before_the_store_applies_nothing() {
    let store = store();
    let backend = store.backend();
    backend.script(Operation::Acquire, [Fault::Fail(Error::unavailable("down")), Fault::Hang]);
    assert_eq!(backend.acquire(&request()).await.expect_err("scripted").outcome(), Outcome::NotApplied);
    assert!(hangs(backend.acquire(&request())).await);
    assert!(!locked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_fault_behind_the_store_leaves_the_change() {
    let store = store();
    let backend = store.backend();
    backend.script(Operation::Acquire, [Fault::LoseReply]);
    let first = request();
    let error = backend.acquire(&first).await.expect_err("the reply is lost");
    assert!(error.is_unknown() && error.is_retryable());
    assert!(locked(&store).await);
    let lease = grant(&backend, &first).await;

    backend.script(Operation::Release, [Fault::ApplyThenHang]);
    assert!(hangs(backend.release(&lease.into())).await);
    assert!(!locked(&store).await);

    backend.script(Operation::ExtendMany, [Fault::LoseReply]);
    let owners = [(Owner::from(LockId::mint()), first.ttl), (Owner::from(LockId::mint()), first.ttl)];
    let results = backend.extend_many(&owners).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result.as_ref().is_err_and(Error::is_unknown)));
}

#[tokio::test(start_paused = true)]
async fn requests_and_replies_can_be_held_back() {
    let store = store();
    let backend = Arc::new(store.backend());
    let go = Arc::new(Notify::new());
    for (fault, applied_at_once) in
        [(Fault::HoldRequest(go.clone()), false), (Fault::HoldReply(go.clone()), true)]
    {
        backend.script(Operation::Acquire, [fault]);
        let (caller, first) = (backend.clone(), request());
        let calling = tokio::spawn(async move { grant(&caller, &first).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(locked(&store).await, applied_at_once);
        assert!(!calling.is_finished());
        go.notify_one();
        let lease = calling.await.expect("granted");
        assert_eq!(backend.release(&lease.into()).await.expect("release answers"), Mutation::Done(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_request_is_applied_behind_its_callers_back() {
    let store = store();
    let backend = store.backend();
    let go = Arc::new(Notify::new());
    backend.script(Operation::Acquire, [Fault::ApplyLate(go.clone())]);
    let first = request();
    assert!(hangs(backend.acquire(&first)).await);
    let undone = backend.release(&Owner::from(first.lock_id)).await;
    assert_eq!(undone.expect("release answers"), Mutation::NotFound, "the undo overtook the request");
    go.notify_one();
    tokio::task::yield_now().await;
    assert!(locked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn hints_can_get_lost_and_come_without_cause() {
    let store = store();
    let backend = store.backend();
    let watch = backend.watch(&key()).await.expect("watch answers");
    store.lose_hints(true);
    let lease = grant(&backend, &request()).await;
    backend.release(&lease.into()).await.expect("release answers");
    assert!(!is_hinted(&watch).await);
    store.lose_hints(false);
    store.hint(&key());
    assert!(is_hinted(&watch).await);
    let lease = grant(&backend, &request()).await;
    backend.release(&lease.into()).await.expect("release answers");
    assert!(is_hinted(&watch).await);
}

#[tokio::test]
async fn subscribers_are_backends_and_end_with_their_last_watch() {
    let store = store();
    let (ours, theirs) = (store.backend(), store.backend());
    let watches = [ours.watch(&key()).await, ours.watch(&key()).await, theirs.watch(&key()).await];
    assert_eq!(store.subscribers(&key()), 2, "several watches of one backend are one subscriber");
    drop(watches);
    assert_eq!(store.subscribers(&key()), 0);
}

#[tokio::test(start_paused = true)]
async fn the_clock_can_run_with_tokio() {
    let store = MemoryStore::new(MemoryClock::of_tokio());
    let lease = grant(&store.backend(), &request()).await;
    tokio::time::sleep(Duration::from_millis(30_000) + TIME_TOLERANCE - Duration::from_millis(1)).await;
    assert!(locked(&store).await);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!locked(&store).await);
    assert_eq!(store.clock().now().since(lease.acquired_at), Duration::from_millis(31_000));
}

#[tokio::test]
async fn a_record_lives_to_the_millisecond_and_no_longer() {
    let end = TIME_TOLERANCE + Duration::from_millis(30_000);
    for (store, end) in
        [(store(), end), (MemoryStore::vanishing(MemoryClock::by_hand()), Duration::from_millis(30_000))]
    {
        let backend = store.backend();
        let lease = grant(&backend, &request()).await;
        store.clock().advance(end - Duration::from_millis(1));
        let rival = request();
        let held = backend.acquire(&rival).await.expect("acquire answers");
        assert_eq!(held, Acquired::Held { free_in: Some(Duration::from_millis(1)) });
        store.clock().advance(Duration::from_millis(1));
        assert!(grant(&backend, &rival).await.fence > lease.fence);
    }
}

#[tokio::test]
async fn clean_up_begins_two_seconds_after_the_expiry() {
    let store = store();
    let backend = store.backend_with_clean_up();
    let owner = Owner::from(grant(&backend, &request()).await);
    store.clock().advance(Duration::from_millis(32_000));
    assert!(!backend.is_locked(&key()).await.expect("is_locked answers"));
    assert_eq!(backend.release(&owner).await.expect("release answers"), Mutation::Expired);
    store.clock().advance(Duration::from_millis(1));
    assert!(!backend.is_locked(&key()).await.expect("is_locked answers"));
    assert_eq!(backend.release(&owner).await.expect("release answers"), Mutation::NotFound);
}

#[tokio::test]
async fn what_a_backend_says_it_cannot_do_is_an_error() {
    let store = store();
    let backend = store.backend_claiming(|can| (can.wakes, can.hands_over) = (false, false));
    assert_eq!(backend.watch(&key()).await.expect_err("no wake-ups").code(), Code::Internal);
    let (owner, next) = (Owner::from(LockId::mint()), request());
    let handed = backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await;
    assert_eq!(handed.expect_err("no hand-over").code(), Code::Internal);
    assert_eq!(backend.capabilities().store, store.backend().capabilities().store);
}

#[tokio::test]
async fn fences_rise_after_everything_was_lost() {
    let store = store();
    let backend = store.backend();
    let lost = grant(&backend, &request()).await;
    store.lose_everything();
    assert_eq!(backend.lookup(LookupBy::LockId(&lost.lock_id)).await.expect("lookup answers"), None);
    store.clock().advance(Duration::from_millis(1));
    assert!(grant(&backend, &request()).await.fence > lost.fence);
}
