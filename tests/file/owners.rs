//! What the death of a holder, a stopped process and a deleted directory mean.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use syncguard::backend::{Acquired, Backend, BackendExt, Mutation, Owner};
use syncguard::lock::Code;
use syncguard::stores::file::FileFixture;

use super::child::{LONG, Process, grant, key, open, request, try_grant};

#[tokio::test]
async fn with_wait_a_lock_outlives_its_process_until_its_expiry() {
    let fixture = FileFixture::new();
    let mut child = Process::start("hold key 2000", fixture.directory(), |command| {
        command.env("SYNCGUARD_TEST_OWNER_DEATH", "wait");
    });
    assert!(child.line().is_some_and(|line| line.starts_with("held")));
    child.kill();
    let backend = open(fixture.directory(), "takeover");
    assert_eq!(try_grant(&backend, &request("key", LONG)).await, None, "who granted it said that it waits");
    tokio::time::sleep(Duration::from_millis(3100)).await;
    grant(&backend, &request("key", LONG)).await;
}

#[tokio::test]
async fn who_waits_for_expiry_takes_nothing_over() {
    let fixture = FileFixture::new();
    let mut child = Process::start("hold key 60000", fixture.directory(), |_| {});
    assert!(child.line().is_some_and(|line| line.starts_with("held")));
    child.kill();
    assert_eq!(try_grant(&open(fixture.directory(), "wait"), &request("key", LONG)).await, None);
    grant(&open(fixture.directory(), "takeover"), &request("key", LONG)).await;
}

#[tokio::test]
async fn a_dead_owners_lease_is_gone_for_every_operation() {
    let fixture = FileFixture::new();
    let mut child = Process::start("hold key 60000", fixture.directory(), |_| {});
    let line = child.line().expect("it holds the key");
    let id = syncguard::lock::LockId::parse(line.split(' ').nth(2).expect("its lock id")).expect("a lock id");
    let backend = open(fixture.directory(), "takeover");
    assert!(backend.is_locked(&key("key")).await.expect("answers"));
    child.kill();
    assert!(!backend.is_locked(&key("key")).await.expect("answers"));
    let owner = Owner::from(id);
    assert_eq!(backend.extend(&owner, super::child::ttl(LONG)).await.expect("answers"), Mutation::Expired);
    assert_eq!(backend.release(&owner).await.expect("answers"), Mutation::Expired);
}

#[tokio::test]
async fn a_watcher_hears_of_the_holders_death() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    // Subscribed before it is held, refused once, told by death: the order of the engine.
    let watch = backend.watch(&key("key")).await.expect("watch answers");
    for _ in 0..3 {
        let mut child = Process::start("hold key 60000", fixture.directory(), |_| {});
        assert!(child.line().is_some_and(|line| line.starts_with("held")));
        assert_eq!(try_grant(&backend, &request("key", LONG)).await, None);
        while tokio::time::timeout(Duration::from_millis(50), watch.hint()).await.is_ok() {}
        child.signal(Signal::KILL);
        let hint = tokio::time::timeout(Duration::from_secs(5), watch.hint()).await;
        assert!(hint.is_ok(), "no hint came within 5 s of the holder's death");
        let lease = grant(&backend, &request("key", LONG)).await;
        backend.release(&Owner::from(lease)).await.expect("release answers");
    }
    // Subscribed while it is held.
    drop(watch);
    let mut child = Process::start("hold key 60000", fixture.directory(), |_| {});
    assert!(child.line().is_some_and(|line| line.starts_with("held")));
    let watch = backend.watch(&key("key")).await.expect("watch answers");
    child.signal(Signal::KILL);
    let hint = tokio::time::timeout(Duration::from_secs(5), watch.hint()).await;
    assert!(hint.is_ok(), "no hint came within 5 s of the holder's death");
}

#[tokio::test]
async fn a_pid_that_was_used_again_frees_the_key() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let rival = open(fixture.directory(), "takeover");
    for (field, frees) in [("\"startTime\":", true), ("\"pidNamespace\":", false)] {
        let lease = grant(&backend, &request("key", LONG)).await;
        let file = fixture.held(&lease.key);
        let line = std::fs::read_to_string(&file).expect("the record is there");
        let (before, after) = line.split_once(field).expect("the owner is named");
        // One digit in front makes it another process's.
        std::fs::write(&file, format!("{before}{field}1{after}")).expect("the record can be changed");
        let taken = try_grant(&rival, &request("key", LONG)).await;
        assert_eq!(taken.is_some(), frees, "{field}");
        let lock_id = taken.map_or(lease.lock_id, |taken| taken.lock_id);
        assert_eq!(rival.release(&Owner::from(lock_id)).await.expect("answers"), Mutation::Done(()));
    }
}

/// A process that is stopped in the middle of a change keeps its rivals waiting, and nobody else.
#[tokio::test]
async fn a_stopped_process_holds_up_its_rivals_only() {
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let mut child = Process::start("steps key", fixture.directory(), |command| {
        command.env("SYNCGUARD_TEST_STOP_AT", "free: made room");
    });
    while !std::fs::read_to_string(format!("/proc/{}/stat", child.id()))
        .expect("the child is there")
        .contains(") T ")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rival = request("key", LONG);
    let waiting = tokio::time::timeout(Duration::from_millis(200), backend.acquire(&rival)).await;
    assert!(waiting.is_err(), "the change is not done yet, so nobody can tell: {waiting:?}");
    let other = ["other", "and-another", "third"].map(|name| request(name, LONG));
    let mut granted = 0;
    for request in &other {
        let result = tokio::time::timeout(Duration::from_secs(5), backend.acquire(request)).await;
        granted += u32::from(matches!(result, Ok(Ok(Acquired::Granted(_)))));
    }
    assert!(granted >= 2, "keys of other shards are not held up");
    child.signal(Signal::CONT);
    assert!(child.lines().iter().any(|line| line.starts_with("released Ok(Done")));
    // The call that was given up comes to its turn now, and must not take the key that was freed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!backend.is_locked(&key("key")).await.expect("answers"));
    grant(&backend, &request("key", LONG)).await;
}

/// Deletes a directory in which a clean-up may just be making a file.
fn delete(directory: &Path) {
    while directory.exists() {
        let _ = std::fs::remove_dir_all(directory);
    }
}

#[tokio::test]
async fn a_directory_that_was_deleted_is_made_again() {
    let fixture = FileFixture::new();
    let (ours, theirs) = (open(fixture.directory(), "takeover"), open(fixture.directory(), "takeover"));
    let lost = grant(&ours, &request("key", LONG)).await;
    grant(&theirs, &request("other", LONG)).await;
    delete(fixture.directory());
    assert_eq!(ours.release(&Owner::from(lost)).await.expect("release answers"), Mutation::NotFound);
    grant(&theirs, &request("key", LONG)).await;
    assert_eq!(try_grant(&ours, &request("key", LONG)).await, None, "both use the new one");

    delete(fixture.directory());
    std::fs::write(fixture.directory(), "not a directory").expect("it can be written");
    let error = ours.acquire(&request("key", LONG)).await.expect_err("there is a file in its place");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    std::fs::remove_file(fixture.directory()).expect("it can be removed");
}
