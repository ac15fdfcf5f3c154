//! How many requests an operation takes, and what becomes of it when one of them goes wrong.

use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Part, Yield};
use syncguard::lock::{Code, Lease, Outcome};

use crate::gate::{Fault, Gate};
use crate::raw::{Raw, text};
use crate::{FirestoreBackend, backend_at, backend_on, emulator, held, request, take, ttl};

async fn gated(project: &str) -> (Gate, FirestoreBackend) {
    let gate = Gate::to(emulator::shared()).await;
    let backend = backend_at(&gate.host(), project, &[]);
    (gate, backend)
}

const READ: &str = "BatchGetDocuments";
const COMMIT: &str = "Commit";
const QUERY: &str = "RunQuery";
const BATCH: &str = "BatchWrite";

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_takes_as_few_as_promised() {
    let project = emulator::project();
    let (gate, backend) = gated(&project).await;
    let lease = take(&backend, "a").await;
    assert_eq!(gate.calls(), [READ, COMMIT], "acquire");
    assert!(held(&backend, "a").await);
    assert_eq!(gate.calls(), [READ], "a refused acquire");
    backend.extend(&Owner::from(lease.clone()), ttl(30_000)).await.unwrap();
    assert_eq!(gate.calls(), [COMMIT], "extend");
    backend.extend(&Owner::from(lease.lock_id), ttl(30_000)).await.unwrap();
    assert_eq!(gate.calls(), [COMMIT], "extend by lock id of a lease that this process granted");
    let next = request("a");
    let owner = Owner::from(lease);
    let handed =
        backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
    assert!(matches!(handed.next, Some(Acquired::Granted(_))));
    assert_eq!(gate.calls(), [COMMIT], "hand over");
    assert_eq!(backend.release(&Owner::from(next.lock_id)).await.unwrap(), Mutation::Done(()));
    assert_eq!(gate.calls(), [COMMIT], "release");

    let foreign = take(&backend_on(&project, &[]), "a").await;
    backend.extend(&Owner::from(foreign.lock_id), ttl(30_000)).await.unwrap();
    assert_eq!(gate.calls(), [QUERY, COMMIT], "extend for another process");
    assert_eq!(backend.release(&Owner::from(foreign.lock_id)).await.unwrap(), Mutation::Done(()));
    assert_eq!(gate.calls(), [COMMIT], "release of what it has found before");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_leases_are_extended_by_one_request() {
    let (gate, backend) = gated(&emulator::project()).await;
    let mut owners = Vec::new();
    for n in 0..20 {
        owners.push((Owner::from(take(&backend, &format!("key {n}")).await), ttl(60_000)));
    }
    gate.calls();
    let extended = backend.extend_many(&owners).await;
    assert!(extended.iter().all(|it| matches!(it, Ok(Mutation::Done(_)))));
    assert_eq!(gate.calls(), [BATCH]);

    // One of them was taken away meanwhile, and one is named twice.
    backend_at(emulator::shared(), &gate_project(&backend), &[])
        .release(&Owner::from(owners[3].0.lock_id))
        .await
        .unwrap();
    owners.push((owners[0].0.clone(), ttl(90_000)));
    let extended = backend.extend_many(&owners).await;
    for (index, result) in extended.iter().enumerate() {
        let expected_gone = index == 3;
        assert_eq!(matches!(result, Ok(Mutation::NotFound)), expected_gone, "{index}: {result:?}");
        assert_eq!(matches!(result, Ok(Mutation::Done(_))), !expected_gone, "{index}: {result:?}");
    }
    assert_eq!(gate.calls().iter().filter(|call| *call == BATCH).count(), 1);
}

fn gate_project(backend: &FirestoreBackend) -> String {
    match &backend.capabilities().store.parts()[1] {
        Part::Text(project) => project.clone(),
        other => panic!("no project: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interfering_writer_costs_two_more_and_no_error() {
    let project = emulator::project();
    let (gate, backend) = gated(&project).await;
    for (status, call) in
        [(9, "failed precondition"), (6, "already exists"), (10, "aborted"), (5, "not found")]
    {
        gate.next(COMMIT, Fault::Refuse(status));
        let lease = take(&backend, call).await;
        assert_eq!(gate.calls(), [READ, COMMIT, READ, COMMIT], "acquire, {call}");
        gate.next(COMMIT, Fault::Refuse(status));
        backend.extend(&Owner::from(lease.clone()), ttl(30_000)).await.unwrap();
        assert_eq!(gate.calls(), [COMMIT, READ, COMMIT], "extend, {call}");
        gate.next(COMMIT, Fault::Refuse(status));
        assert_eq!(backend.release(&Owner::from(lease)).await.unwrap(), Mutation::Done(()));
        assert_eq!(gate.calls(), [COMMIT, READ, COMMIT], "release, {call}");
    }
}

/// A refusal is founded on a look: conflicts alone say nothing about who holds the key.
#[tokio::test(flavor = "multi_thread")]
async fn who_loses_again_and_again_is_granted_or_told_who_holds_it() {
    let project = emulator::project();
    let (gate, backend) = gated(&project).await;
    // Conflicts, and yet nobody holds it.
    gate.next(COMMIT, Fault::Refuse(10));
    gate.next(COMMIT, Fault::Refuse(9));
    take(&backend, "nobody's").await;
    assert_eq!(gate.calls(), [READ, COMMIT, READ, COMMIT, READ, COMMIT]);

    // Somebody takes it before the last commit.
    for fault in [Fault::Refuse(10), Fault::Refuse(6), Fault::Delay(500)] {
        gate.next(COMMIT, fault);
    }
    let backend = Arc::new(backend);
    let asking = Arc::clone(&backend);
    let losing = tokio::spawn(async move { asking.acquire(&request("somebody's")).await });
    let mut calls = Vec::new();
    while calls.iter().filter(|call| *call == COMMIT).count() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        calls.extend(gate.calls());
    }
    take(&backend_on(&project, &[]), "somebody's").await;
    match losing.await.unwrap().expect("no conflict comes through") {
        Acquired::Held { free_in: Some(free_in) } => {
            assert!(free_in > Duration::from_secs(25) && free_in <= Duration::from_secs(31), "{free_in:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gate.calls(), [READ], "the last look");

    // And so for those who own it.
    let owner = Owner::from(take(&*backend, "a").await);
    gate.calls();
    for status in [10, 9, 10] {
        gate.next(COMMIT, Fault::Refuse(status));
    }
    let error = backend.extend(&owner, ttl(60_000)).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::NotApplied));
    assert!(error.is_retryable());
    assert_eq!(gate.calls(), [COMMIT, READ, COMMIT, READ, COMMIT, READ]);
    for fault in [Fault::Refuse(10), Fault::Refuse(10), Fault::Delay(500)] {
        gate.next(COMMIT, fault);
    }
    let releasing = backend.release(&owner);
    let interfering = async {
        let mut calls = Vec::new();
        while calls.iter().filter(|call| *call == COMMIT).count() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            calls.extend(gate.calls());
        }
        backend_on(&project, &[]).release(&Owner::from(owner.lock_id)).await.unwrap()
    };
    let (released, interfered) = tokio::join!(releasing, interfering);
    assert_eq!(interfered, Mutation::Done(()));
    assert_eq!(released.unwrap(), Mutation::NotFound, "the last look");
}

/// The lock's document is as it was, not there, though somebody had the lock in between: only the counter tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_came_and_went_meanwhile_takes_no_fence_twice() {
    let project = emulator::project();
    let (gate, slow) = gated(&project).await;
    let quick = backend_on(&project, &[]);
    let raw = Raw::new(emulator::shared(), &project);
    // Ahead of the clock, which would hide it.
    raw.put("fence_counters/fence:a", &[("fence", text("080000000000000"))]).await;
    gate.next(COMMIT, Fault::Delay(500));
    let slow = tokio::spawn(async move { take(&slow, "a").await });
    while !gate.calls().iter().any(|call| call == COMMIT) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let between = take(&quick, "a").await;
    assert_eq!(quick.release(&Owner::from(between.clone())).await.unwrap(), Mutation::Done(()));
    let lease = slow.await.unwrap();
    assert_eq!(between.fence.to_string(), "080000000000001");
    assert_eq!(lease.fence.to_string(), "080000000000002");
}

/// What this process remembers is no longer so: its lease was released by lock id elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_grant_never_overrides_a_successor() {
    let project = emulator::project();
    let (ours, theirs) = (backend_on(&project, &[]), backend_on(&project, &[]));
    for operation in ["extend", "release", "hand over", "extend many"] {
        let owner = Owner::from(take(&ours, operation).await);
        assert_eq!(theirs.release(&Owner::from(owner.lock_id)).await.unwrap(), Mutation::Done(()));
        let successor = take(&theirs, operation).await;
        match operation {
            "extend" => assert_eq!(ours.extend(&owner, ttl(60_000)).await.unwrap(), Mutation::NotFound),
            "release" => assert_eq!(ours.release(&owner).await.unwrap(), Mutation::NotFound),
            "extend many" => {
                let results = ours.extend_many(&[(owner, ttl(60_000))]).await;
                assert!(matches!(results[..], [Ok(Mutation::NotFound)]), "{results:?}");
            }
            _ => {
                let next = request(operation);
                let handing = HandOver { owner: &owner, next: &next, yields: Yield::Never };
                let handed = ours.hand_over(&handing).await.unwrap();
                assert_eq!(handed.released, Mutation::NotFound);
                assert!(matches!(handed.next, Some(Acquired::Held { .. })), "{handed:?}");
            }
        }
        let found = theirs.lookup(LookupBy::Key(&successor.key)).await.unwrap();
        assert_eq!(found, Some(successor), "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_unknown_and_a_repeat_answers_the_same_lease() {
    let (gate, backend) = gated(&emulator::project()).await;
    let backend = Arc::new(backend);
    for fault in [Fault::CutReply, Fault::LoseReply] {
        let request = request(&format!("{fault:?}"));
        gate.next(COMMIT, fault);
        let attempt = backend.acquire(&request);
        match tokio::time::timeout(Duration::from_millis(1500), attempt).await {
            Ok(answer) => {
                let error = answer.unwrap_err();
                assert_eq!(error.code(), Code::ServiceUnavailable, "{error:?}");
                assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
                assert!(error.is_retryable());
            }
            Err(_) => assert_eq!(fault, Fault::LoseReply, "a cut connection is noticed at once"),
        }
        let stored = backend.lookup(LookupBy::Key(&request.key)).await.unwrap();
        let stored = stored.expect("the commit was applied");
        assert!(stored.lock_id == request.lock_id);
        match backend.acquire(&request).await.unwrap() {
            Acquired::Granted(lease) => assert_eq!(lease, stored),
            other => panic!("{other:?}"),
        }
        // The release of a lease whose last change was lost still finds it.
        gate.next(COMMIT, Fault::CutReply);
        let error = backend.extend(&Owner::from(stored.clone()), ttl(60_000)).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(backend.release(&Owner::from(stored)).await.unwrap(), Mutation::Done(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_status_becomes_its_error_without_the_servers_text() {
    let (gate, backend) = gated(&emulator::project()).await;
    for (status, code, retryable) in [
        (14, Code::ServiceUnavailable, true),
        (13, Code::ServiceUnavailable, true),
        (10, Code::ServiceUnavailable, true),
        (7, Code::AuthFailed, false),
        (16, Code::AuthFailed, false),
        (4, Code::NetworkTimeout, true),
        (8, Code::RateLimited, true),
        (3, Code::InvalidArgument, false),
        (9, Code::InvalidArgument, false),
        (5, Code::InvalidArgument, false),
    ] {
        gate.next(READ, Fault::Refuse(status));
        let error = backend.acquire(&request("a")).await.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (code, retryable), "{status}: {error:?}");
        assert_eq!(error.outcome(), Outcome::NotApplied, "a read changes nothing");
        assert!(!format!("{error:?}{error}").contains("canary"), "{error:?}");
    }
    for (status, code, outcome) in [
        (14, Code::ServiceUnavailable, Outcome::Unknown),
        (4, Code::NetworkTimeout, Outcome::Unknown),
        (13, Code::ServiceUnavailable, Outcome::Unknown),
        (7, Code::AuthFailed, Outcome::NotApplied),
        (8, Code::RateLimited, Outcome::NotApplied),
    ] {
        gate.next(COMMIT, Fault::Refuse(status));
        let error = backend.acquire(&request("a")).await.unwrap_err();
        assert_eq!((error.code(), error.outcome()), (code, outcome), "{status}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_given_up_on_a_dead_connection_costs_no_second_one() {
    let (gate, backend) = gated(&emulator::project()).await;
    let lease: Lease = take(&backend, "a").await;
    assert_eq!(gate.accepted(), 1);
    gate.next(COMMIT, Fault::LoseReply);
    let wait = Duration::from_millis(1200);
    let owner = Owner::from(lease);
    assert!(tokio::time::timeout(wait, backend.extend(&owner, ttl(30_000))).await.is_err());
    // Nothing came for over a second, so the next call does not trust the connection.
    assert_eq!(backend.release(&owner).await.unwrap(), Mutation::Done(()));
    assert_eq!(gate.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_name_their_database_to_the_front_ends() {
    let project = emulator::project();
    let (gate, backend) = gated(&project).await;
    take(&backend, "headers").await;
    assert_eq!(
        gate.last_header("google-cloud-resource-prefix").as_deref(),
        Some(format!("projects/{project}/databases/(default)")).as_deref()
    );
    assert_eq!(
        gate.last_header("x-goog-request-params").as_deref(),
        Some(format!("project_id={project}&database_id=%28default%29")).as_deref()
    );
    assert_eq!(gate.tokens().last().map(String::as_str), Some("Bearer owner"));
}
