//! The rules of `watch`.

use std::time::Duration;

use super::trial::{LONG, Trial, grant, release, request};
use crate::backend::{Acquired, HandOver, Mutation, Owner, Watch, Yield};

/// Far longer than a stream that breaks on an overloaded machine takes to come back: a lost hint never comes.
const NEVER: Duration = Duration::from_secs(20);

/// Waits for a hint, and fails the rule when none comes.
pub(super) async fn hinted(watch: &Watch) {
    let hint = tokio::time::timeout(NEVER, watch.hint()).await;
    assert!(hint.is_ok(), "no hint came within 20 s");
}

/// Takes the hints that came so far, such as those of a subscription's own start.
async fn drain(watch: &Watch) {
    while tokio::time::timeout(Duration::from_millis(20), watch.hint()).await.is_ok() {}
}

pub(super) async fn hints_when_its_own_backend_releases(t: &Trial) {
    let backend = t.backend().await;
    if !backend.capabilities().wakes {
        return;
    }
    let lease = grant(&backend, &t.request(LONG)).await;
    let watch = backend.watch(&lease.key).await.expect("watch answers");
    drain(&watch).await;
    assert_eq!(release(&backend, lease).await, Mutation::Done(()));
    hinted(&watch).await;
}

pub(super) async fn hints_when_another_backend_releases(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().wakes {
        return;
    }
    for by_lock_id_alone in [false, true] {
        let lease = grant(&ours, &t.request(LONG)).await;
        let watch = theirs.watch(&lease.key).await.expect("watch answers");
        drain(&watch).await;
        let owner = if by_lock_id_alone { Owner::from(lease.lock_id) } else { Owner::from(lease) };
        assert_eq!(release(&ours, owner).await, Mutation::Done(()));
        hinted(&watch).await;
    }
}

/// Hints may come without cause, but one must come when the key can be had, not just before.
pub(super) async fn hints_once_the_key_is_free(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().wakes {
        return;
    }
    for _ in 0..20 {
        let lease = grant(&ours, &t.request(LONG)).await;
        let watch = theirs.watch(&lease.key).await.expect("watch answers");
        let next = request(&lease.key, LONG);
        let holder = ours.clone();
        let releasing = tokio::spawn(async move { release(&holder, lease).await });
        loop {
            hinted(&watch).await;
            if let Acquired::Granted(_) = theirs.acquire(&next).await.expect("acquire answers") {
                break;
            }
        }
        assert_eq!(releasing.await.expect("release answers"), Mutation::Done(()));
    }
}

/// Subscribe, attempt, wait: a release during the attempt must not be missed.
pub(super) async fn keeps_a_hint_until_it_is_asked_for(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().wakes {
        return;
    }
    let lease = grant(&ours, &t.request(LONG)).await;
    let watch = theirs.watch(&lease.key).await.expect("watch answers");
    drain(&watch).await;
    assert_eq!(release(&ours, lease).await, Mutation::Done(()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    hinted(&watch).await;
}

pub(super) async fn hints_again_and_again(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().wakes {
        return;
    }
    let key = t.key();
    let watch = theirs.watch(&key).await.expect("watch answers");
    for _ in 0..10 {
        let lease = grant(&ours, &request(&key, LONG)).await;
        drain(&watch).await;
        assert_eq!(release(&ours, lease).await, Mutation::Done(()));
        hinted(&watch).await;
    }
}

pub(super) async fn hints_every_watcher(t: &Trial) {
    let backends = [t.backend().await, t.backend().await];
    if !backends[0].capabilities().wakes {
        return;
    }
    let lease = grant(&backends[0], &t.request(LONG)).await;
    let mut watches = Vec::new();
    for n in 0..6 {
        watches.push(backends[n % 2].watch(&lease.key).await.expect("watch answers"));
    }
    for watch in &watches {
        drain(watch).await;
    }
    // One that goes leaves the others their subscription.
    drop(watches.remove(0));
    assert_eq!(release(&backends[0], lease).await, Mutation::Done(()));
    for watch in &watches {
        hinted(watch).await;
    }
}

pub(super) async fn hints_when_a_hand_over_yields(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let can = ours.capabilities();
    if !can.wakes || !can.hands_over {
        return;
    }
    let lease = grant(&ours, &t.request(LONG)).await;
    let watch = theirs.watch(&lease.key).await.expect("watch answers");
    drain(&watch).await;
    let (next, owner) = (request(&lease.key, LONG), Owner::from(lease));
    let handed =
        ours.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 0 } }).await;
    assert_eq!(handed.expect("hand_over answers").next, None, "somebody else waits");
    hinted(&watch).await;
    grant(&theirs, &next).await;
}

pub(super) async fn may_be_dropped_and_taken_again(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().wakes {
        return;
    }
    let key = t.key();
    for _ in 0..20 {
        let lease = grant(&ours, &request(&key, LONG)).await;
        drop(theirs.watch(&key).await.expect("watch answers"));
        let watch = theirs.watch(&key).await.expect("watch answers");
        assert_eq!(release(&ours, lease).await, Mutation::Done(()));
        hinted(&watch).await;
    }
}
