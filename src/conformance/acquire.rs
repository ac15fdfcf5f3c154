//! The rules of `acquire`.

use std::sync::Arc;

use super::trial::{
    LONG, Trial, by_id, by_key, expires_after, extend, grant, is_locked, near, refuse, release, request,
    same, still, ttl,
};
use crate::backend::{AcquireRequest, Acquired, Mutation};
use crate::lock::{Code, LockId, MAX_TIME_MS};

pub(super) async fn grants_a_free_key(t: &Trial) {
    let backend = t.backend().await;
    let before = t.now();
    let lease = grant(&backend, &t.request(LONG)).await;
    expires_after(lease.expires_at, before, t.now(), LONG);
    near(lease.expires_at, lease.acquired_at.plus(ttl(LONG)), "a lease lasts its TTL");
    still(&backend, &lease).await;
}

pub(super) async fn refuses_a_held_key(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    refuse(&theirs, &request(&lease.key, LONG)).await;
    refuse(&ours, &request(&lease.key, LONG)).await;
    still(&theirs, &lease).await;
}

pub(super) async fn refuses_in_the_last_moments(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let answer = t
        .in_last_moments(&ours, async |lease| theirs.acquire(&request(&lease.key, LONG)).await)
        .await
        .expect("acquire answers");
    assert!(
        matches!(answer, Acquired::Held { .. }),
        "a record is live until its expiry and the store's tolerance have passed, got {answer:?}"
    );
}

pub(super) async fn grants_after_the_end(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    let lease = grant(&theirs, &request(&lost.key, LONG)).await;
    assert!(lease.fence > lost.fence, "a successor has the higher fence");
    still(&ours, &lease).await;
    assert_eq!(by_id(&ours, &lost.lock_id).await, None, "the predecessor's lock id leads nowhere");
}

pub(super) async fn answers_its_own_lock_id_again(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let first = t.request(LONG);
    let lease = grant(&ours, &first).await;
    let again = AcquireRequest { ttl: ttl(2 * LONG), ..first.clone() };
    for backend in [&ours, &theirs] {
        same(&grant(backend, &first).await, &lease);
        same(&grant(backend, &again).await, &lease);
    }
    still(&ours, &lease).await;
    assert_eq!(release(&ours, lease).await, Mutation::Done(()));
    assert!(!is_locked(&ours, &first.key).await, "however often it was asked for, there is one lease");
}

pub(super) async fn answers_its_own_lock_id_again_after_an_extend(t: &Trial) {
    let backend = t.backend().await;
    let first = t.request(LONG);
    let mut lease = grant(&backend, &first).await;
    match extend(&backend, lease.clone(), 3 * LONG).await {
        Mutation::Done(expires_at) => lease.expires_at = expires_at,
        other => panic!("extend must be done, got {other:?}"),
    }
    same(&grant(&backend, &first).await, &lease);
}

pub(super) async fn answers_its_own_lock_id_again_in_the_last_moments(t: &Trial) {
    let backend = t.backend().await;
    let (lease, answer) = t
        .in_last_moments(&backend, async |lease| {
            let repeat = AcquireRequest { key: lease.key.clone(), lock_id: lease.lock_id, ttl: ttl(LONG) };
            (lease, backend.acquire(&repeat).await)
        })
        .await;
    match answer {
        Ok(Acquired::Granted(again)) => same(&again, &lease),
        other => panic!("its own live record is granted again, got {other:?}"),
    }
}

pub(super) async fn answers_a_racing_repeat_alike(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    for _ in 0..10 {
        let first = t.request(LONG);
        let racers = [&ours, &theirs, &ours, &theirs].map(|backend| {
            let (backend, request) = (Arc::clone(backend), first.clone());
            tokio::spawn(async move { grant(&backend, &request).await })
        });
        let mut leases = Vec::new();
        for racer in racers {
            leases.push(racer.await.expect("every repeat is granted"));
        }
        leases.iter().for_each(|lease| same(lease, &leases[0]));
    }
}

pub(super) async fn grants_its_own_lock_id_anew_after_the_end(t: &Trial) {
    let backend = t.backend().await;
    let lost = t.expired(&backend).await;
    let again = AcquireRequest { key: lost.key.clone(), lock_id: lost.lock_id, ttl: ttl(LONG) };
    let before = t.now();
    let lease = grant(&backend, &again).await;
    assert!(lease.fence > lost.fence, "an expired lease is not revived: this is a new grant");
    expires_after(lease.expires_at, before, t.now(), LONG);
    still(&backend, &lease).await;
}

pub(super) async fn writes_nothing_when_it_is_refused(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    for _ in 0..3 {
        let refused = request(&lease.key, 3 * LONG);
        refuse(&theirs, &refused).await;
        still(&ours, &lease).await;
        assert_eq!(by_id(&ours, &refused.lock_id).await, None, "a refused lock id is stored nowhere");
        assert_eq!(release(&theirs, refused.lock_id).await, Mutation::NotFound);
    }
    still(&theirs, &lease).await;
    assert_eq!(release(&ours, lease.lock_id).await, Mutation::Done(()));
}

pub(super) async fn grants_a_hundred_years(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let before = t.now();
    let lease = grant(&ours, &t.request(MAX_TIME_MS)).await;
    expires_after(lease.expires_at, before, t.now(), MAX_TIME_MS);
    refuse(&theirs, &request(&lease.key, LONG)).await;
    still(&theirs, &lease).await;
    assert_eq!(release(&theirs, lease.lock_id).await, Mutation::Done(()));
}

pub(super) async fn grants_one_millisecond(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let before = t.now();
    let lease = grant(&ours, &t.request(1)).await;
    expires_after(lease.expires_at, before, t.now(), 1);
    t.outlive(&lease).await;
    assert_eq!(by_key(&theirs, &lease.key).await, None);
    grant(&theirs, &request(&lease.key, LONG)).await;
}

pub(super) async fn never_takes_an_unreadable_record_for_free(t: &Trial) {
    let backend = t.backend().await;
    let key = t.key();
    t.spoil(&key).await;
    for _ in 0..2 {
        let attempt = AcquireRequest { key: key.clone(), lock_id: LockId::mint(), ttl: ttl(LONG) };
        match backend.acquire(&attempt).await {
            Err(error) => assert_eq!(error.code(), Code::Internal, "got {error:?}"),
            Ok(answer) => panic!("a record that can't be read is Internal, got {answer:?}"),
        }
    }
}
