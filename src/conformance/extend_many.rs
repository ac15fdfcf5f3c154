//! The rules of `extend_many`.

use super::trial::{LONG, Trial, by_id, expires_after, grant, near, release, still, ttl};
use crate::backend::{Mutation, Owner};
use crate::lock::{Lease, LockId};

pub(super) async fn answers_one_result_for_each_in_order(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let expired = t.expired(&ours).await;
    let first = grant(&ours, &t.request(LONG)).await;
    let released = grant(&ours, &t.request(LONG)).await;
    assert_eq!(release(&ours, released.clone()).await, Mutation::Done(()));
    let second = grant(&theirs, &t.request(LONG)).await;
    let owners = [
        (Owner::from(LockId::mint()), ttl(LONG)),
        (Owner::from(first.clone()), ttl(2 * LONG)),
        (Owner::from(released), ttl(LONG)),
        (Owner::from(second.lock_id), ttl(3 * LONG)),
        (Owner::from(expired), ttl(LONG)),
        (Owner::from(first.lock_id), ttl(4 * LONG)),
    ];
    let before = t.now();
    let results = ours.extend_many(&owners).await;
    let after = t.now();
    let answers: Vec<_> = results.into_iter().map(|result| result.expect("extend_many answers")).collect();
    assert_eq!(answers.len(), owners.len(), "one result for each");
    let lapsed = if t.keeps_expired() { Mutation::Expired } else { Mutation::NotFound };
    assert_eq!([answers[0], answers[2], answers[4]], [Mutation::NotFound, Mutation::NotFound, lapsed]);
    for (index, factor) in [(1, 2), (3, 3), (5, 4)] {
        match answers[index] {
            Mutation::Done(expires_at) => expires_after(expires_at, before, after, factor * LONG),
            other => panic!("result {index} must be an expiry, got {other:?}"),
        }
    }
    let Mutation::Done(expires_at) = answers[3] else { unreachable!("checked above") };
    still(&theirs, &Lease { expires_at, ..second }).await;
}

pub(super) async fn answers_nothing_for_none(t: &Trial) {
    let backend = t.backend().await;
    assert_eq!(backend.extend_many(&[]).await.len(), 0);
}

pub(super) async fn extends_a_hundred(t: &Trial) {
    let backend = t.backend().await;
    let mut owners = Vec::new();
    for n in 0..100 {
        let lease = grant(&backend, &t.request(LONG)).await;
        // Every tenth under a lock id that nobody has, so that a result in the wrong place shows.
        let owner = if n % 10 == 7 { Owner::from(LockId::mint()) } else { Owner::from(lease) };
        owners.push((owner, ttl(2 * LONG + n * LONG)));
    }
    let before = t.now();
    let results = backend.extend_many(&owners).await;
    let after = t.now();
    assert_eq!(results.len(), owners.len());
    for ((owner, ttl), result) in owners.iter().zip(results) {
        match (&owner.lease, result.expect("extend_many answers")) {
            (None, answer) => assert_eq!(answer, Mutation::NotFound),
            (Some(_), Mutation::Done(expires_at)) => {
                expires_after(expires_at, before, after, ttl.as_millis());
                let found = by_id(&backend, &owner.lock_id).await.expect("the lease is there");
                near(found.expires_at, expires_at, "what was answered is what is stored");
            }
            (Some(_), other) => panic!("a live lease must be extended, got {other:?}"),
        }
    }
}

pub(super) async fn trusts_no_remembered_lease_of_somebody_else(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    let stranger = Owner { lock_id: LockId::mint(), lease: Some(lease.clone()) };
    let results = backend.extend_many(&[(stranger, ttl(5 * LONG))]).await;
    assert!(matches!(results[..], [Ok(Mutation::NotFound)]), "got {results:?}");
    still(&backend, &lease).await;
}
