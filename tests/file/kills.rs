//! SIGKILL at every step of every change: what is left is the old record or the new one.

use std::path::Path;

use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Yield};
use syncguard::lock::{Lease, LockId};
use syncguard::stores::file::{FileBackend, FileFixture};

use super::child::{LONG, Process, grant, key, open, request, try_grant, ttl};

/// Whose lease must be found after a kill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nobody,
    First { extended: bool },
    Second,
}

const STEPS: &[(&str, Left)] = &[
    ("grant: written", Left::Nobody),
    ("grant: indexed", Left::Nobody),
    ("grant: shown", Left::First { extended: false }),
    ("update: written", Left::First { extended: false }),
    ("update: shown", Left::First { extended: true }),
    ("replace: written", Left::First { extended: true }),
    ("replace: indexed", Left::First { extended: true }),
    ("replace: shown", Left::Second),
    ("free: made room", Left::Second),
    ("free: shown", Left::Nobody),
    ("free: index dropped", Left::Nobody),
    ("free: rung", Left::Nobody),
];

/// What a killed child had said.
#[derive(Debug)]
struct Story {
    first: LockId,
    second: Option<LockId>,
    highest_fence: u64,
}

fn killed_at(step: &str, name: &str, directory: &Path, owner_death: &str) -> Story {
    let mut child = Process::start(&format!("steps {name}"), directory, |command| {
        command.env("SYNCGUARD_TEST_KILL_AT", step).env("SYNCGUARD_TEST_OWNER_DEATH", owner_death);
    });
    let lines = child.lines();
    assert!(child.was_killed(), "{step} is never reached: {lines:?}");
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let id = |what: &str| {
        let line = words.iter().find(|line| line[0] == what)?;
        Some(LockId::parse(line[1]).expect("a lock id"))
    };
    let fences = words.iter().filter(|line| matches!(line[0], "acquired" | "handed"));
    Story {
        first: id("acquiring").expect("it began"),
        second: id("handing"),
        highest_fence: fences.map(|line| line[1].parse().expect("a fence")).max().unwrap_or(0),
    }
}

async fn by_id(backend: &FileBackend, id: LockId) -> Option<Lease> {
    backend.lookup(LookupBy::LockId(&id)).await.expect("lookup answers")
}

/// Every operation once more, from whatever a kill has left.
async fn works_as_ever(backend: &FileBackend, name: &str, above: u64) -> u64 {
    let mut fence = above;
    for _ in 0..2 {
        let lease = grant(backend, &request(name, LONG)).await;
        assert!(lease.fence.value() > fence, "{} does not follow {fence}", lease.fence);
        let owner = Owner::from(lease.clone());
        assert!(matches!(backend.extend(&owner, ttl(LONG)).await, Ok(Mutation::Done(_))));
        assert_eq!(try_grant(backend, &request(name, LONG)).await, None);
        let next = request(name, LONG);
        let handed = backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await;
        let Some(Acquired::Granted(next)) = handed.expect("hand_over answers").next else {
            panic!("the lease is handed over")
        };
        assert!(next.fence > lease.fence);
        assert_eq!(by_id(backend, lease.lock_id).await, None);
        assert_eq!(by_id(backend, next.lock_id).await.as_ref(), Some(&next));
        fence = next.fence.value();
        assert_eq!(backend.release(&Owner::from(next.lock_id)).await.expect("answers"), Mutation::Done(()));
        assert_eq!(backend.release(&Owner::from(next)).await.expect("answers"), Mutation::NotFound);
    }
    fence
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_the_old_or_the_new() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "wait");
    // The first round meets a key without files, the second one with files that earlier rounds left.
    for round in 0..2 {
        for (number, (step, left)) in STEPS.iter().enumerate() {
            let name = format!("key-{number}");
            let story = killed_at(step, &name, fixture.directory(), "wait");
            let found = backend.lookup(LookupBy::Key(&key(&name))).await.expect("the record is whole");
            let expected = match left {
                Left::Nobody => None,
                Left::First { .. } => Some(story.first),
                Left::Second => story.second,
            };
            let context = format!("round {round}, {step}: {story:?}");
            assert!(found.as_ref().map(|lease| lease.lock_id) == expected, "{context} left {found:?}");
            assert!(found.is_some() || *left == Left::Nobody, "{context}");
            if let (Some(lease), Left::First { extended }) = (&found, left) {
                let lasts = lease.expires_at.since(lease.acquired_at).as_millis();
                assert_eq!(lasts > u128::from(LONG) * 3 / 2, *extended, "{context}: {lasts} ms");
            }
            for id in [Some(story.first), story.second].into_iter().flatten() {
                let expected = found.as_ref().filter(|lease| lease.lock_id == id);
                assert_eq!(by_id(&backend, id).await.as_ref(), expected, "{context}");
            }
            let fence = match found {
                None => story.highest_fence,
                Some(lease) => {
                    assert_eq!(try_grant(&backend, &request(&name, LONG)).await, None, "{context}");
                    let released = backend.release(&Owner::from(lease.lock_id)).await;
                    assert_eq!(released.expect("release answers"), Mutation::Done(()), "{context}");
                    lease.fence.value().max(story.highest_fence)
                }
            };
            works_as_ever(&backend, &name, fence).await;
        }
    }
}

#[tokio::test]
async fn the_key_of_a_killed_process_is_free_at_once() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let mut fence = 0;
    // One key for all: each round starts from what the last kill and the work after it have left.
    for round in 0..2 {
        for (step, _) in STEPS {
            let story = killed_at(step, "key", fixture.directory(), "takeover");
            assert!(story.highest_fence == 0 || story.highest_fence > fence, "round {round}, {step}");
            fence = works_as_ever(&backend, "key", fence.max(story.highest_fence)).await;
        }
    }
}

#[tokio::test]
async fn a_killed_process_that_took_over_leaves_the_old_or_the_new() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let mut fence = 0;
    for step in ["replace: written", "replace: indexed", "replace: shown"] {
        let story = killed_at("grant: shown", "key", fixture.directory(), "takeover");
        // Its record is a dead process's: the next one replaces it, and is killed while it does.
        let mut next = Process::start("hold key 60000", fixture.directory(), |command| {
            command.env("SYNCGUARD_TEST_KILL_AT", step);
        });
        assert!(next.was_killed(), "{step} is reached by who takes over");
        assert!(story.highest_fence == 0, "it died before it could tell");
        fence = works_as_ever(&backend, "key", fence).await;
    }
}
