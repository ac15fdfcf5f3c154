//! Hints: who gets one, who does not, and that none is lost with a stream.

use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::lock::{Code, Outcome};
use tokio::time::timeout;

use crate::emulator::{self, Emulator, eventually};
use crate::gate::{Fault, Gate};
use crate::raw::{Raw, text, whole};
use crate::{FirestoreBackend, assert_hinted, assert_quiet, backend_at, backend_on, key, request, take, ttl};

const LISTEN: &str = "Listen";

/// A wrong hint would come by then.
const QUIET: Duration = Duration::from_millis(300);

async fn done(backend: &FirestoreBackend, owner: impl Into<Owner>) {
    assert_eq!(backend.release(&owner.into()).await.unwrap(), Mutation::Done(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_waited_keys_share_one_stream() {
    let project = emulator::project();
    let gate = Gate::to(emulator::shared()).await;
    let (holder, waiter) = (backend_on(&project, &[]), backend_at(&gate.host(), &project, &[]));
    let (mut leases, mut watches) = (Vec::new(), Vec::new());
    for n in 0..10 {
        leases.push(take(&holder, &format!("key {n}")).await);
        watches.push(waiter.watch(&key(&format!("key {n}"))).await.unwrap());
    }
    assert_eq!(gate.calls(), [LISTEN]);
    for (lease, watch) in leases.into_iter().zip(&watches) {
        assert_quiet(watch, QUIET).await;
        done(&holder, lease).await;
        assert_hinted(watch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_free_the_key_is_a_hint() {
    let project = emulator::project();
    let (holder, waiter) = (backend_on(&project, &[]), backend_on(&project, &[]));
    let raw = Raw::new(emulator::shared(), &project);
    let lease = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    assert_quiet(&watch, QUIET).await;
    holder.extend(&Owner::from(lease.clone()), ttl(60_000)).await.unwrap();
    assert_quiet(&watch, QUIET).await;
    done(&holder, lease.clone()).await;
    assert_hinted(&watch).await;
    // Written over as expired, which is how others may give it up.
    let fields = [
        ("lockId", text(lease.lock_id.as_str())),
        ("expiresAtMs", whole(1)),
        ("acquiredAtMs", whole(1)),
        ("key", text("a")),
        ("fence", text("000000000000001")),
    ];
    raw.put("locks/a", &fields).await;
    assert_hinted(&watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_free_already_is_a_hint() {
    let waiter = backend_on(&emulator::project(), &[]);
    assert_hinted(&waiter.watch(&key("nobody's")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_while_the_stream_is_broken_is_told_by_the_next() {
    let project = emulator::project();
    let gate = Gate::to(emulator::shared()).await;
    let (holder, waiter) = (backend_on(&project, &[]), backend_at(&gate.host(), &project, &[]));
    for _ in 0..3 {
        let lease = take(&holder, "a").await;
        // The cut before may come late on a busy machine, and meet the stream that came after it.
        let watch = eventually("a stream", async || waiter.watch(&key("a")).await.ok()).await;
        assert_quiet(&watch, QUIET).await;
        gate.next(LISTEN, Fault::Refuse(14));
        gate.cut();
        // The emulator answers UNKNOWN to a change that it tells a stream which just then breaks.
        let owner = Owner::from(lease);
        while let Err(error) = holder.release(&owner).await {
            assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        }
        assert_hinted(&watch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_opened_is_an_error_and_the_next_watch_tries_again() {
    let project = emulator::project();
    let gate = Gate::to(emulator::shared()).await;
    let (holder, waiter) = (backend_on(&project, &[]), backend_at(&gate.host(), &project, &[]));
    let lease = take(&holder, "a").await;
    gate.next(LISTEN, Fault::Refuse(7));
    let error = timeout(Duration::from_secs(5), waiter.watch(&key("a"))).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::AuthFailed);
    let watch = eventually("a stream", async || waiter.watch(&key("a")).await.ok()).await;
    done(&holder, lease).await;
    assert_hinted(&watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_was_killed_and_restarted_is_listened_to_again() {
    let mut server = Emulator::start();
    let (holder, waiter) = (backend_at(&server.host(), "p", &[]), backend_at(&server.host(), "p", &[]));
    let lost = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    server.kill();
    let error = holder.acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::ServiceUnavailable);
    assert!(error.is_retryable());
    let server = Emulator::on(server.port);
    // A Java that has just begun takes its time over its first stream.
    let first = backend_at(&server.host(), "first", &[]);
    timeout(Duration::from_secs(60), first.watch(&key("a"))).await.expect("a stream").unwrap();
    // What it held is gone, so the key is free, and the fence goes on by the clock.
    assert_hinted(&watch).await;
    let lease = eventually("a grant", async || match holder.acquire(&request("a")).await {
        Ok(syncguard::backend::Acquired::Granted(lease)) => Some(lease),
        _ => None,
    })
    .await;
    assert!(lease.fence > lost.fence);
    assert_eq!(holder.lookup(LookupBy::LockId(&lost.lock_id)).await.unwrap(), None);
    assert_quiet(&watch, QUIET).await;
    done(&holder, lease).await;
    assert_hinted(&watch).await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_the_stream() {
    let project = emulator::project();
    let gate = Gate::to(emulator::shared()).await;
    let waiter = backend_at(&gate.host(), &project, &[]);
    let watch = waiter.watch(&key("a")).await.unwrap();
    gate.calls();
    waiter.close().await.unwrap();
    gate.cut();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gate.calls(), [""; 0], "nobody listens any more");
    drop(watch);
    assert_eq!(waiter.watch(&key("a")).await.unwrap_err().code(), Code::InvalidArgument);
}
