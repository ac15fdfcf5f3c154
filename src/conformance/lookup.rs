//! The rules of `lookup`.

use super::trial::{LONG, Trial, by_id, by_key, extend, grant, release, same, still};
use crate::backend::{BackendExt, LookupBy, Mutation};
use crate::lock::{Code, LockId};

pub(super) async fn finds_by_key_and_lock_id_from_any_backend(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let first = grant(&ours, &t.request(LONG)).await;
    let second = grant(&theirs, &t.request(2 * LONG)).await;
    for backend in [&ours, &theirs] {
        still(backend, &first).await;
        still(backend, &second).await;
    }
}

pub(super) async fn finds_nothing_where_nothing_is(t: &Trial) {
    let backend = t.backend().await;
    grant(&backend, &t.request(LONG)).await;
    assert_eq!(by_key(&backend, &t.key()).await, None);
    assert_eq!(by_id(&backend, &LockId::mint()).await, None);
}

pub(super) async fn finds_in_the_last_moments(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let (lease, named, identified) = t
        .in_last_moments(&ours, async |lease| {
            let named = by_key(&theirs, &lease.key).await;
            let identified = by_id(&theirs, &lease.lock_id).await;
            (lease, named, identified)
        })
        .await;
    same(&named.expect("found by key while it is live"), &lease);
    same(&identified.expect("found by lock id while it is live"), &lease);
}

pub(super) async fn finds_nothing_after_the_end(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    for backend in [&ours, &theirs] {
        assert_eq!(by_key(backend, &lost.key).await, None);
        assert_eq!(by_id(backend, &lost.lock_id).await, None);
    }
}

pub(super) async fn finds_nothing_after_a_release(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, lease.clone()).await, Mutation::Done(()));
    for backend in [&ours, &theirs] {
        assert_eq!(by_key(backend, &lease.key).await, None);
        assert_eq!(by_id(backend, &lease.lock_id).await, None);
    }
}

pub(super) async fn writes_nothing(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    for _ in 0..3 {
        still(&backend, &lease).await;
    }
    let lost = t.expired(&backend).await;
    assert_eq!(by_key(&backend, &lost.key).await, None);
    assert_eq!(by_id(&backend, &lost.lock_id).await, None);
    if t.keeps_expired() {
        let answer = extend(&backend, lost.lock_id, LONG).await;
        assert_eq!(answer, Mutation::Expired, "a look at an expired record leaves it where it is");
    }
}

pub(super) async fn never_takes_an_unreadable_record_for_free(t: &Trial) {
    let backend = t.backend().await;
    let key = t.key();
    t.spoil(&key).await;
    for _ in 0..2 {
        match backend.lookup(LookupBy::Key(&key)).await {
            Err(error) => assert_eq!(error.code(), Code::Internal, "got {error:?}"),
            Ok(answer) => panic!("a record that can't be read is Internal, got {answer:?}"),
        }
    }
}
