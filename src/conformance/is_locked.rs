//! The rules of `is_locked`.

use std::time::Duration;

use super::trial::{
    CLOCK_SLACK, LONG, SHORT, Trial, by_key, extend, grant, is_locked, later, release, request, still,
};
use crate::backend::{BackendExt, Mutation};
use crate::lock::Code;

/// How long after its expiry a record may be deleted by clean-up.
const RECENT: Duration = Duration::from_millis(2000);

pub(super) async fn tells_held_from_free(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let key = t.key();
    assert!(!is_locked(&ours, &key).await);
    let lease = grant(&ours, &request(&key, LONG)).await;
    assert!(is_locked(&ours, &key).await);
    assert!(is_locked(&theirs, &key).await);
    assert!(!is_locked(&theirs, &t.key()).await, "another key is not held");
    assert_eq!(release(&ours, lease).await, Mutation::Done(()));
    assert!(!is_locked(&ours, &key).await);
    assert!(!is_locked(&theirs, &key).await);
}

pub(super) async fn is_true_in_the_last_moments(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let locked = t.in_last_moments(&ours, async |lease| is_locked(&theirs, &lease.key).await).await;
    assert!(locked, "a record is live until its expiry and the store's tolerance have passed");
}

pub(super) async fn is_false_after_the_end(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    assert!(!is_locked(&ours, &lost.key).await);
    assert!(!is_locked(&theirs, &lost.key).await);
}

pub(super) async fn writes_nothing(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    for _ in 0..3 {
        assert!(is_locked(&backend, &lease.key).await);
    }
    still(&backend, &lease).await;

    let lost = t.expired(&backend).await;
    assert!(!is_locked(&backend, &lost.key).await);
    if t.keeps_expired() {
        let answer = extend(&backend, lost.lock_id, LONG).await;
        assert_eq!(answer, Mutation::Expired, "without clean-up the expired record is still there");
    }
}

pub(super) async fn cleans_up_nothing_live_or_recent(t: &Trial) {
    let backend = t.backend_with_clean_up().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    assert!(is_locked(&backend, &lease.key).await);
    still(&backend, &lease).await;

    let locked = t.in_last_moments(&backend, async |lease| is_locked(&backend, &lease.key).await).await;
    assert!(locked);
    if !t.keeps_expired() {
        return;
    }
    for _ in 0..8 {
        let lost = t.expired(&backend).await;
        assert!(!is_locked(&backend, &lost.key).await);
        if later(t.now(), CLOCK_SLACK) < later(lost.expires_at, RECENT) {
            let answer = extend(&backend, lost.lock_id, LONG).await;
            assert_eq!(answer, Mutation::Expired, "what expired less than {RECENT:?} ago is left alone");
            return;
        }
    }
    panic!("this machine is too busy to judge: eight times in a row a call took 900 ms")
}

pub(super) async fn cleans_up_no_fence(t: &Trial) {
    let backend = t.backend_with_clean_up().await;
    let key = t.key();
    let ahead = t.set_fence_ahead(&key).await.value();
    let lost = grant(&backend, &request(&key, SHORT)).await;
    t.advance_to(later(later(lost.expires_at, RECENT), 4 * CLOCK_SLACK)).await;
    for _ in 0..3 {
        assert!(!is_locked(&backend, &key).await);
    }
    assert_eq!(by_key(&backend, &key).await, None);
    let lease = grant(&backend, &request(&key, LONG)).await;
    assert_eq!(lease.fence.value(), ahead + 2, "clean-up leaves the counter alone");
    assert_ne!(release(&backend, lost.lock_id).await, Mutation::Done(()));
    still(&backend, &lease).await;
}

pub(super) async fn never_takes_an_unreadable_record_for_free(t: &Trial) {
    let key = t.key();
    t.spoil(&key).await;
    for backend in [t.backend().await, t.backend_with_clean_up().await, t.backend().await] {
        match backend.is_locked(&key).await {
            Err(error) => assert_eq!(error.code(), Code::Internal, "got {error:?}"),
            Ok(answer) => panic!("a record that can't be read is Internal, got {answer}"),
        }
    }
}
