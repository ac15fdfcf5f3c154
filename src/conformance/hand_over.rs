//! The rules of `hand_over`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::trial::{LONG, Trial, by_id, expires_after, grant, is_locked, refuse, request, same, still};
use super::watch::hinted;
use crate::backend::{AcquireRequest, Acquired, Backend, HandOver, HandedOver, Mutation, Owner, Yield};
use crate::lock::{Lease, LockId};

/// Hands over without yielding.
async fn hand_over(backend: &Arc<dyn Backend>, owner: &Owner, next: &AcquireRequest) -> HandedOver {
    hand_over_or_yield(backend, owner, next, Yield::Never).await
}

async fn hand_over_or_yield(
    backend: &Arc<dyn Backend>,
    owner: &Owner,
    next: &AcquireRequest,
    yields: Yield,
) -> HandedOver {
    backend.hand_over(&HandOver { owner, next, yields }).await.expect("hand_over answers")
}

fn granted(handed: HandedOver) -> Lease {
    match handed.next {
        Some(Acquired::Granted(lease)) => lease,
        other => panic!("the next must be granted the key, got {other:?}"),
    }
}

pub(super) async fn passes_the_lease_on(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    let key = t.key();
    let ahead = t.set_fence_ahead(&key).await.value();
    let lease = grant(&ours, &request(&key, 5 * LONG)).await;
    let next = request(&key, LONG);
    let before = t.now();
    let handed = hand_over(&ours, &Owner::from(lease.clone()), &next).await;
    assert_eq!(handed.released, Mutation::Done(()));
    let successor = granted(handed);
    assert!(successor.lock_id == next.lock_id && successor.key == key);
    assert_eq!(successor.fence.value(), ahead + 2, "the next one gets a fence of its own");
    expires_after(successor.expires_at, before, t.now(), LONG);
    still(&theirs, &successor).await;
    assert_eq!(by_id(&theirs, &lease.lock_id).await, None, "the owner's lock id leads nowhere");
    refuse(&theirs, &request(&key, LONG)).await;
}

pub(super) async fn works_by_lock_id_alone(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    let lease = grant(&ours, &t.request(LONG)).await;
    let next = request(&lease.key, LONG);
    let handed = hand_over(&theirs, &Owner::from(lease.lock_id), &next).await;
    assert_eq!(handed.released, Mutation::Done(()));
    still(&ours, &granted(handed)).await;
}

pub(super) async fn acquires_though_the_owner_is_unknown(t: &Trial) {
    let backend = t.backend().await;
    if !backend.capabilities().hands_over {
        return;
    }
    let next = t.request(LONG);
    let handed = hand_over(&backend, &Owner::from(LockId::mint()), &next).await;
    assert_eq!(handed.released, Mutation::NotFound);
    still(&backend, &granted(handed)).await;
}

pub(super) async fn leaves_another_holder_alone(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    let holder = grant(&theirs, &t.request(LONG)).await;
    let next = request(&holder.key, LONG);
    let handed = hand_over(&ours, &Owner::from(LockId::mint()), &next).await;
    assert_eq!(handed.released, Mutation::NotFound);
    assert!(matches!(handed.next, Some(Acquired::Held { .. })), "got {:?}", handed.next);
    still(&theirs, &holder).await;
    assert_eq!(by_id(&theirs, &next.lock_id).await, None);
}

pub(super) async fn tells_an_expired_owner(t: &Trial) {
    let backend = t.backend().await;
    if !backend.capabilities().hands_over {
        return;
    }
    let lost = t.expired(&backend).await;
    let next = request(&lost.key, LONG);
    let handed = hand_over(&backend, &Owner::from(lost.clone()), &next).await;
    let expected = if t.keeps_expired() { Mutation::Expired } else { Mutation::NotFound };
    assert_eq!(handed.released, expected);
    let successor = granted(handed);
    assert!(successor.fence > lost.fence);
    still(&backend, &successor).await;
}

pub(super) async fn answers_a_repeat_alike(t: &Trial) {
    let backend = t.backend().await;
    if !backend.capabilities().hands_over {
        return;
    }
    let owner = Owner::from(grant(&backend, &t.request(LONG)).await);
    let next = request(&owner.lease.as_ref().expect("just granted").key, LONG);
    let first = granted(hand_over(&backend, &owner, &next).await);
    let again = hand_over(&backend, &owner, &next).await;
    assert_eq!(again.released, Mutation::NotFound, "the first time it was released");
    same(&granted(again), &first);
}

pub(super) async fn trusts_no_remembered_lease_of_somebody_else(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    let holder = grant(&theirs, &t.request(LONG)).await;
    let stranger = Owner { lock_id: LockId::mint(), lease: Some(holder.clone()) };
    let handed = hand_over(&ours, &stranger, &request(&holder.key, LONG)).await;
    assert_eq!(handed.released, Mutation::NotFound);
    assert!(matches!(handed.next, Some(Acquired::Held { .. })), "got {:?}", handed.next);
    still(&theirs, &holder).await;
}

/// Release and acquire are one step: whoever tries all the time never gets in.
pub(super) async fn lets_nobody_in_between(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    let mut lease = grant(&ours, &t.request(LONG)).await;
    let over = Arc::new(AtomicBool::new(false));
    let (rivals, key) = (Arc::clone(&over), lease.key.clone());
    let trying = tokio::spawn(async move {
        while !rivals.load(Ordering::Relaxed) {
            refuse(&theirs, &request(&key, LONG)).await;
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..100 {
        let next = request(&lease.key, LONG);
        let handed = hand_over(&ours, &Owner::from(lease), &next).await;
        assert_eq!(handed.released, Mutation::Done(()));
        lease = granted(handed);
        tokio::task::yield_now().await;
    }
    over.store(true, Ordering::Relaxed);
    trying.await.expect("every rival is refused");
}

pub(super) async fn yields_to_other_watchers(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let can = ours.capabilities();
    if !can.hands_over || !can.wakes {
        return;
    }
    let lease = grant(&ours, &t.request(LONG)).await;
    let own = ours.watch(&lease.key).await.expect("watch answers");
    let other = theirs.watch(&lease.key).await.expect("watch answers");
    let next = request(&lease.key, LONG);
    let handed =
        hand_over_or_yield(&ours, &Owner::from(lease.clone()), &next, Yield::IfWatched { own: 1 }).await;
    assert_eq!(handed.released, Mutation::Done(()));
    assert_eq!(handed.next, None, "it is the others' turn");
    assert!(!is_locked(&ours, &lease.key).await, "the key is free for them");
    hinted(&other).await;
    grant(&theirs, &request(&lease.key, LONG)).await;
    drop(own);
}

pub(super) async fn keeps_its_turn_where_nobody_else_watches(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let can = ours.capabilities();
    if !can.hands_over || !can.wakes || !t.counts_watchers() {
        return;
    }
    let lease = grant(&ours, &t.request(LONG)).await;
    // Somebody waits for another key.
    let _elsewhere = theirs.watch(&t.key()).await.expect("watch answers");
    let next = request(&lease.key, LONG);
    let handed = hand_over_or_yield(&ours, &Owner::from(lease), &next, Yield::IfWatched { own: 0 }).await;
    assert_eq!(handed.released, Mutation::Done(()));
    let second = granted(handed);

    let _own = ours.watch(&second.key).await.expect("watch answers");
    let next = request(&second.key, LONG);
    let handed = hand_over_or_yield(&ours, &Owner::from(second), &next, Yield::IfWatched { own: 1 }).await;
    assert_eq!(handed.released, Mutation::Done(()));
    still(&theirs, &granted(handed)).await;
}

/// Who polls leaves no mark, so the key is free for everybody.
pub(super) async fn yields_to_whoever_polls(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    if !ours.capabilities().hands_over {
        return;
    }
    for watching in [false, true] {
        let lease = grant(&ours, &t.request(LONG)).await;
        let watch = if watching && ours.capabilities().wakes {
            Some(ours.watch(&lease.key).await.expect("watch answers"))
        } else {
            None
        };
        let (next, own) = (request(&lease.key, LONG), u32::from(watch.is_some()));
        let yields = Yield::Always { own };
        let handed = hand_over_or_yield(&ours, &Owner::from(lease.clone()), &next, yields).await;
        assert_eq!((handed.released, handed.next), (Mutation::Done(()), None));
        assert!(handed.others == Some(0) || !t.counts_watchers(), "{:?} others", handed.others);
        let theirs_now = grant(&theirs, &request(&lease.key, LONG)).await;
        assert!(theirs_now.fence > lease.fence);
        // A turn that is given away by somebody who no longer has the key changes nothing.
        let handed = hand_over_or_yield(&ours, &Owner::from(lease), &next, yields).await;
        assert_eq!(handed.released, Mutation::NotFound);
        still(&theirs, &theirs_now).await;
    }
}
