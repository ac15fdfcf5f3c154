//! Many processes, one key, and a register that rejects a fence which does not rise.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use syncguard::backend::{Backend, BackendExt, Mutation, Owner};
use syncguard::lock::Fence;
use syncguard::stores::file::{FileBackend, FileFixture};

use super::child::{LONG, Process, grant, key, open, request, try_grant};

const TIME: Duration = Duration::from_secs(4);

/// Enters a fence; false when a higher one, or this one, has been there.
fn enter(register: &Path, fence: Fence) -> bool {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(register)
        .expect("the register can be written");
    rustix::fs::flock(&file, FlockOperation::LockExclusive).expect("the register has a lock of its own");
    let mut last = String::new();
    file.read_to_string(&mut last).expect("the register is text");
    let rises = last.is_empty() || *last < *fence.to_string();
    file.rewind().and_then(|()| file.write_all(fence.to_string().as_bytes())).expect("it can be written");
    rises
}

/// A child's task: take the key, look that nobody else is inside, give it back, for a while.
pub async fn contend(backend: &FileBackend, name: &str, directory: &Path) {
    let (inside, register) = (directory.join("inside"), directory.join("register"));
    let until = Instant::now() + TIME;
    let (mut grants, mut refusals) = (0u32, 0u32);
    while Instant::now() < until {
        let Some(lease) = try_grant(backend, &request(name, LONG)).await else {
            refusals += 1;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..5))).await;
            continue;
        };
        grants += 1;
        let alone = OpenOptions::new().write(true).create_new(true).open(&inside).is_ok();
        assert!(alone, "somebody else is inside");
        assert!(enter(&register, lease.fence), "{} does not rise", lease.fence);
        std::fs::remove_file(&inside).expect("nobody else removes it");
        let owner = if grants % 2 == 0 { Owner::from(lease.lock_id) } else { Owner::from(lease) };
        assert_eq!(backend.release(&owner).await.expect("release answers"), Mutation::Done(()));
    }
    println!("> done {grants} {refusals}");
}

#[tokio::test]
async fn fifty_processes_take_turns() {
    let fixture = FileFixture::new();
    open(fixture.directory(), "takeover").check().await.expect("the directory can be used");
    let mut children: Vec<Process> =
        (0..50).map(|_| Process::start("contend key", fixture.directory(), |_| {})).collect();
    let mut total = 0;
    for child in &mut children {
        let lines = child.lines();
        assert!(child.finish().success(), "a child failed: {lines:?}");
        let done = lines.iter().find_map(|line| line.strip_prefix("done ")).expect("it tells its grants");
        let grants: u32 = done.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        total += grants;
    }
    assert!(total > 100, "{total} grants are too few to prove anything");
    println!("{total} grants in {TIME:?}");
}

#[tokio::test]
async fn processes_that_are_killed_all_the_time_break_nothing() {
    let fixture = FileFixture::new();
    let register = fixture.directory().join("register");
    let backend = open(fixture.directory(), "takeover");
    backend.check().await.expect("the directory can be used");
    let mut children: Vec<Process> =
        (0..4).map(|_| Process::start("hold key 60000", fixture.directory(), |_| {})).collect();
    let until = Instant::now() + TIME;
    let mut grants = 0;
    while Instant::now() < until || grants < 20 {
        // Children come and are killed wherever they are, while this process takes its turns.
        let victim = fastrand::usize(0..children.len());
        children[victim] = Process::start("hold key 60000", fixture.directory(), |_| {});
        for _ in 0..20 {
            if let Some(lease) = try_grant(&backend, &request("key", LONG)).await {
                grants += 1;
                assert!(enter(&register, lease.fence), "{} does not rise", lease.fence);
                let released = backend.release(&Owner::from(lease)).await.expect("release answers");
                assert_eq!(released, Mutation::Done(()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..3 {
            children[fastrand::usize(0..4)].signal_kill();
        }
    }
    drop(children);
    let last = grant(&backend, &request("key", LONG)).await;
    assert!(enter(&register, last.fence));
    assert!(backend.is_locked(&key("key")).await.expect("is_locked answers"));
}
