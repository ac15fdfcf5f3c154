//! The rules of fences.

use super::trial::{
    CLOCK_SLACK, LONG, SHORT, Trial, by_id, by_key, fence, grant, is_locked, refuse, release, request,
};
use crate::backend::Mutation;
use crate::lock::{Code, Fence, Timestamp};

pub(super) async fn is_at_least_the_clock(t: &Trial) {
    let backend = t.backend().await;
    let before = t.now();
    let lease = grant(&backend, &t.request(LONG)).await;
    let slack = u64::try_from(CLOCK_SLACK.as_millis()).expect("a short time");
    let least = Fence::clock(Timestamp::from_millis(before.as_millis() - slack));
    let most = Fence::clock(Timestamp::from_millis(t.now().as_millis() + slack));
    let value = lease.fence.value();
    assert!((least..=most).contains(&value), "the first fence is the clock: {least} to {most}, got {value}");
}

pub(super) async fn rises_with_every_grant(t: &Trial) {
    let backends = [t.backend().await, t.backend().await];
    let key = t.key();
    let mut last = fence(0);
    for n in 0..10 {
        let backend = &backends[n % 2];
        let lease = grant(backend, &request(&key, LONG)).await;
        assert!(lease.fence > last, "grant {n}: {} does not follow {last}", lease.fence);
        last = lease.fence;
        assert_eq!(release(backend, lease).await, Mutation::Done(()));
    }
}

pub(super) async fn counts_on_from_the_counter(t: &Trial) {
    let backend = t.backend().await;
    let key = t.key();
    let ahead = t.set_fence_ahead(&key).await;
    let lease = grant(&backend, &request(&key, LONG)).await;
    assert_eq!(lease.fence.value(), ahead.value() + 1, "where the counter is ahead of the clock it counts");
}

pub(super) async fn survives_release_and_expiry(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let key = t.key();
    let ahead = t.set_fence_ahead(&key).await.value();
    let first = grant(&ours, &request(&key, LONG)).await;
    assert_eq!(release(&ours, first).await, Mutation::Done(()));
    let second = grant(&theirs, &request(&key, SHORT)).await;
    assert_eq!(second.fence.value(), ahead + 2, "a release leaves the counter alone");
    t.outlive(&second).await;
    let third = grant(&ours, &request(&key, LONG)).await;
    assert_eq!(third.fence.value(), ahead + 3, "an expiry leaves the counter alone");
}

pub(super) async fn is_not_spent_by_a_refused_acquire(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let key = t.key();
    let ahead = t.set_fence_ahead(&key).await.value();
    let first = grant(&ours, &request(&key, LONG)).await;
    for _ in 0..5 {
        refuse(&theirs, &request(&key, LONG)).await;
    }
    assert_eq!(release(&ours, first).await, Mutation::Done(()));
    let second = grant(&theirs, &request(&key, LONG)).await;
    assert_eq!(second.fence.value(), ahead + 2, "a refused acquire writes nothing, the counter included");
}

pub(super) async fn rises_after_the_counter_was_lost(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let first = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, first.clone()).await, Mutation::Done(()));
    t.set_fence(&first.key, None).await;
    t.advance(CLOCK_SLACK).await;
    for backend in [&ours, &theirs] {
        let lease = grant(backend, &request(&first.key, LONG)).await;
        assert!(lease.fence > first.fence, "{} does not follow {}", lease.fence, first.fence);
        assert_eq!(release(backend, lease).await, Mutation::Done(()));
    }
}

pub(super) async fn may_reach_the_limit(t: &Trial) {
    let backend = t.backend().await;
    let key = t.key();
    t.set_fence(&key, Some(fence(Fence::MAX.value() - 1))).await;
    let lease = grant(&backend, &request(&key, LONG)).await;
    assert_eq!(lease.fence, Fence::MAX);
    assert_eq!(by_key(&backend, &key).await.map(|found| found.fence), Some(Fence::MAX));
}

pub(super) async fn over_the_limit_fails_before_anything_is_written(t: &Trial) {
    let backend = t.backend().await;
    let key = t.key();
    t.set_fence(&key, Some(Fence::MAX)).await;
    for _ in 0..2 {
        let attempt = request(&key, LONG);
        match backend.acquire(&attempt).await {
            Err(error) => {
                assert_eq!(error.code(), Code::Internal, "got {error:?}");
                assert!(!error.is_unknown() && !error.is_retryable(), "got {error:?}");
            }
            Ok(answer) => panic!("no fence is above the limit, got {answer:?}"),
        }
        assert!(!is_locked(&backend, &key).await, "the key stays free");
        assert_eq!(by_id(&backend, &attempt.lock_id).await, None);
    }
}
