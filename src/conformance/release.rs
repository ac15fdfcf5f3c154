//! The rules of `release`.

use super::trial::{LONG, SHORT, Trial, by_id, by_key, extend, grant, is_locked, release, request, still};
use crate::backend::{Mutation, Owner};
use crate::lock::{Lease, LockId};

pub(super) async fn frees_the_key(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, lease.clone()).await, Mutation::Done(()));
    assert!(!is_locked(&theirs, &lease.key).await);
    let next = grant(&theirs, &request(&lease.key, LONG)).await;
    assert!(next.fence > lease.fence);
    still(&ours, &next).await;
}

pub(super) async fn finds_nothing_the_second_time(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, lease.clone()).await, Mutation::Done(()));
    assert_eq!(release(&ours, lease.clone()).await, Mutation::NotFound);
    assert_eq!(release(&theirs, lease.lock_id).await, Mutation::NotFound);
    let next = grant(&theirs, &request(&lease.key, LONG)).await;
    assert_eq!(release(&ours, lease).await, Mutation::NotFound);
    still(&ours, &next).await;
}

pub(super) async fn works_by_lock_id_alone_from_another_backend(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let neighbour = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&theirs, lease.lock_id).await, Mutation::Done(()));
    assert_eq!(by_key(&ours, &lease.key).await, None);
    assert_eq!(by_id(&ours, &lease.lock_id).await, None);
    still(&ours, &neighbour).await;
}

pub(super) async fn works_in_the_last_moments(t: &Trial) {
    let backend = t.backend().await;
    let released = t.in_last_moments(&backend, async |lease| release(&backend, lease).await).await;
    assert_eq!(
        released,
        Mutation::Done(()),
        "a lease is live until its expiry and the tolerance have passed"
    );
}

pub(super) async fn tells_an_expired_lease(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let expected = if t.keeps_expired() { Mutation::Expired } else { Mutation::NotFound };
    let lost = t.expired(&ours).await;
    assert_eq!(release(&ours, lost.clone()).await, expected);
    assert!(!is_locked(&ours, &lost.key).await);
    let lost = t.expired(&ours).await;
    assert_eq!(release(&theirs, lost.lock_id).await, expected);
}

pub(super) async fn finds_nothing_under_an_unknown_lock_id(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    assert_eq!(release(&backend, LockId::mint()).await, Mutation::NotFound);
    still(&backend, &lease).await;
}

pub(super) async fn never_touches_a_successor(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    let successor = grant(&theirs, &request(&lost.key, LONG)).await;
    for owner in [Owner::from(lost.lock_id), Owner::from(lost)] {
        assert_ne!(release(&ours, owner).await, Mutation::Done(()), "somebody else's lease was released");
        still(&ours, &successor).await;
    }
}

pub(super) async fn works_with_a_stale_remembered_lease(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(SHORT)).await;
    let extended = extend(&theirs, lease.lock_id, LONG).await;
    assert!(matches!(extended, Mutation::Done(_)), "got {extended:?}");
    t.outlive(&lease).await;
    assert_eq!(release(&ours, lease.clone()).await, Mutation::Done(()), "the store is the truth");
    assert!(!is_locked(&theirs, &lease.key).await);
}

pub(super) async fn trusts_no_remembered_lease_of_somebody_else(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let stranger = Owner { lock_id: LockId::mint(), lease: Some(lease.clone()) };
    for backend in [&ours, &theirs] {
        assert_eq!(release(backend, stranger.clone()).await, Mutation::NotFound);
        still(backend, &lease).await;
    }
}

/// A remembered key may be wrong; whatever the answer, it frees nobody else's key.
pub(super) async fn trusts_no_remembered_key(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let other = grant(&theirs, &t.request(LONG)).await;
    let mistaken = Lease { key: other.key.clone(), ..lease.clone() };
    let answer = release(&ours, mistaken).await;
    still(&theirs, &other).await;
    match answer {
        Mutation::Done(()) => assert!(!is_locked(&theirs, &lease.key).await, "done means released"),
        _ => still(&theirs, &lease).await,
    }
}
