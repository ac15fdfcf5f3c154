//! The rules of `close`.

use std::fmt::Debug;

use super::trial::{LONG, Trial, grant, refuse, request, still, ttl};
use crate::backend::{BackendExt, HandOver, LookupBy, Owner, Yield};
use crate::lock::{Code, Result};

pub(super) async fn makes_every_operation_an_invalid_argument(t: &Trial) {
    let backend = t.backend().await;
    let lease = grant(&backend, &t.request(LONG)).await;
    let (owner, next) = (Owner::from(lease.clone()), request(&lease.key, LONG));
    backend.close().await.expect("close answers");

    refused("acquire", &backend.acquire(&next).await);
    refused("acquire", &backend.acquire(&t.request(LONG)).await);
    refused("extend", &backend.extend(&owner, ttl(LONG)).await);
    for result in backend.extend_many(&[(owner.clone(), ttl(LONG))]).await {
        refused("extend_many", &result);
    }
    refused("lookup", &backend.lookup(LookupBy::Key(&lease.key)).await);
    refused("lookup", &backend.lookup(LookupBy::LockId(&lease.lock_id)).await);
    refused("is_locked", &backend.is_locked(&lease.key).await);
    if backend.capabilities().wakes {
        refused("watch", &backend.watch(&lease.key).await);
    }
    if backend.capabilities().hands_over {
        let request = HandOver { owner: &owner, next: &next, yields: Yield::Never };
        refused("hand_over", &backend.hand_over(&request).await);
    }
    refused("release", &backend.release(&owner).await);
    still(&t.backend().await, &lease).await;
}

fn refused<T: Debug>(operation: &str, result: &Result<T>) {
    match result {
        Err(error) => assert_eq!(error.code(), Code::InvalidArgument, "{operation} after close: {error:?}"),
        Ok(answer) => panic!("{operation} after close must be an InvalidArgument, got {answer:?}"),
    }
}

pub(super) async fn may_be_repeated(t: &Trial) {
    let backend = t.backend().await;
    backend.close().await.expect("close answers on a backend that was never used");
    backend.close().await.expect("close answers the second time, too");
}

pub(super) async fn leaves_leases_and_other_backends_alone(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    let other = grant(&theirs, &t.request(LONG)).await;
    ours.close().await.expect("close answers");
    still(&theirs, &lease).await;
    still(&theirs, &other).await;
    refuse(&theirs, &request(&lease.key, LONG)).await;
    grant(&theirs, &t.request(LONG)).await;
}
