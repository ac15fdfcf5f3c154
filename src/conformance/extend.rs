//! The rules of `extend`.

use std::time::Duration;

use super::trial::{
    LONG, SHORT, Trial, by_id, by_key, expires_after, extend, grant, later, release, request, same, still,
};
use crate::backend::{Acquired, Mutation, Owner};
use crate::lock::{Lease, LockId, MAX_TIME_MS, Timestamp};

fn done(mutation: Mutation<Timestamp>) -> Timestamp {
    match mutation {
        Mutation::Done(expires_at) => expires_at,
        other => panic!("extend must be done, got {other:?}"),
    }
}

pub(super) async fn sets_now_plus_ttl_and_never_adds(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(10 * LONG)).await;
    for millis in [3 * LONG, LONG, 20 * LONG] {
        let before = t.now();
        let expires_at = done(extend(&backend, lease.clone(), millis).await);
        expires_after(expires_at, before, t.now(), millis);
        still(&backend, &Lease { expires_at, ..lease.clone() }).await;
    }
}

pub(super) async fn keeps_the_rest_of_the_lease(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    t.advance(Duration::from_millis(20)).await;
    let expires_at = done(extend(&ours, lease.clone(), 2 * LONG).await);
    still(&theirs, &Lease { expires_at, ..lease }).await;
}

pub(super) async fn works_by_lock_id_alone_from_another_backend(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let expires_at = done(extend(&theirs, lease.lock_id, 2 * LONG).await);
    still(&ours, &Lease { expires_at, ..lease }).await;
}

pub(super) async fn works_in_the_last_moments(t: &Trial) {
    let backend = t.backend().await;
    let (lease, extended) = t
        .in_last_moments(&backend, async |lease| {
            let extended = extend(&backend, lease.clone(), LONG).await;
            (lease, extended)
        })
        .await;
    still(&backend, &Lease { expires_at: done(extended), ..lease }).await;
}

pub(super) async fn never_revives(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    let answers = [extend(&theirs, lost.lock_id, LONG).await, extend(&ours, lost.clone(), LONG).await];
    for answer in answers {
        let expected = if t.keeps_expired() { Mutation::Expired } else { Mutation::NotFound };
        assert_eq!(answer, expected, "a lease that has ended stays ended");
    }
    assert_eq!(by_key(&ours, &lost.key).await, None);
    grant(&theirs, &request(&lost.key, LONG)).await;
}

pub(super) async fn never_touches_a_successor(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lost = t.expired(&ours).await;
    let successor = grant(&theirs, &request(&lost.key, LONG)).await;
    for owner in [Owner::from(lost.lock_id), Owner::from(lost)] {
        let answer = extend(&ours, owner, 5 * LONG).await;
        assert!(!matches!(answer, Mutation::Done(_)), "somebody else's lease was extended");
        still(&ours, &successor).await;
    }
}

pub(super) async fn finds_nothing_under_an_unknown_lock_id(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    assert_eq!(extend(&backend, LockId::mint(), LONG).await, Mutation::NotFound);
    still(&backend, &lease).await;
}

pub(super) async fn finds_nothing_after_a_release(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, lease.clone()).await, Mutation::Done(()));
    assert_eq!(extend(&ours, lease.clone(), LONG).await, Mutation::NotFound);
    assert_eq!(extend(&theirs, lease.lock_id, LONG).await, Mutation::NotFound);
    assert_eq!(by_key(&ours, &lease.key).await, None);
}

pub(super) async fn trusts_no_remembered_lease_of_somebody_else(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let stranger = Owner { lock_id: LockId::mint(), lease: Some(lease.clone()) };
    for backend in [&ours, &theirs] {
        assert_eq!(extend(backend, stranger.clone(), 5 * LONG).await, Mutation::NotFound);
        still(backend, &lease).await;
    }
}

pub(super) async fn works_with_a_stale_remembered_lease(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(SHORT)).await;
    done(extend(&theirs, lease.lock_id, LONG).await);
    t.outlive(&lease).await;
    let expires_at = done(extend(&ours, lease.clone(), 2 * LONG).await);
    still(&ours, &Lease { expires_at, ..lease }).await;
}

/// Whoever comes first at the end of a lease, its holder or the next, the other must lose.
pub(super) async fn never_meets_a_successor_at_the_edge(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let mut leases = Vec::new();
    for n in 0..16 {
        leases.push(grant(&ours, &t.request(200 + 15 * n)).await);
    }
    for (n, lease) in leases.into_iter().enumerate() {
        // From 4 ms before the end to 3 ms after it.
        let start = later(t.end(&lease), Duration::from_millis((n % 8) as u64));
        t.advance_to(Timestamp::from_millis(start.as_millis() - 4)).await;
        let (holder, next) = (ours.clone(), theirs.clone());
        let (owner, rival) = (Owner::from(lease.clone()), request(&lease.key, LONG));
        let extending = tokio::spawn(async move { extend(&holder, owner, LONG).await });
        let acquiring = tokio::spawn(async move { next.acquire(&rival).await.expect("acquire answers") });
        let extended = extending.await.expect("extend answers");
        match (extended, acquiring.await.expect("acquire answers")) {
            (Mutation::Done(_), Acquired::Granted(_)) => panic!("two hold the key"),
            (Mutation::Done(expires_at), Acquired::Held { .. }) => {
                still(&theirs, &Lease { expires_at, ..lease }).await;
            }
            (_, Acquired::Granted(successor)) => still(&ours, &successor).await,
            (_, Acquired::Held { .. }) => {}
        }
    }
}

pub(super) async fn takes_a_hundred_years(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    let before = t.now();
    let expires_at = done(extend(&backend, lease.clone(), MAX_TIME_MS).await);
    expires_after(expires_at, before, t.now(), MAX_TIME_MS);
    let found = by_id(&backend, &lease.lock_id).await.expect("the lease is there");
    same(&found, &Lease { expires_at, ..lease });
}
