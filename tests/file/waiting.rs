//! The engine on files: waiters that only a hint can wake, across processes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{Backend, Owner};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment, Policy};
use syncguard::lock::{Lease, Result};
use syncguard::stores::file::FileFixture;
use tokio::runtime::Handle;

use super::child::{LONG, Process, grant, key, open, request, ttl};

fn client(directory: &Path) -> Client {
    let backend = open(directory, "takeover");
    Client::new(backend, ClientOptions::default(), Arc::new(NoEnvironment), Handle::current())
}

/// Retries so seldom that only a hint can be in time.
async fn wait_for(client: &Client, name: &str) -> Result<Lease> {
    let minute = Duration::from_secs(60);
    let policy = Policy { timeout: minute / 2, retry_delay: minute, ..Policy::default() };
    let options = AcquireOptions { key: key(name), ttl: ttl(LONG), keep: None, observer: None };
    client.lock(options, &policy, None).await
}

/// A child's task: locks again and again, four at a time, until its parent says so.
pub async fn take_turns(name: &str, directory: &Path) {
    let client = client(directory);
    let over = tokio::task::spawn_blocking(super::child::wait_for_parent);
    let locking = (0..4).map(|_| async {
        let mut turns = 0;
        while !over.is_finished() {
            let lease = wait_for(&client, name).await.expect("every waiter gets its turn");
            turns += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.release(lease.lock_id, None).await.expect("release answers");
        }
        turns
    });
    let turns: u32 = futures_util::future::join_all(locking).await.into_iter().sum();
    println!("> turns {turns}");
}

#[tokio::test]
async fn a_waiter_gets_the_key_when_another_process_releases_it() {
    let fixture = FileFixture::new();
    let client = client(fixture.directory());
    for name in ["key", "another/key", "key"] {
        let mut child = Process::start(&format!("release {name}"), fixture.directory(), |_| {});
        assert!(child.line().is_some_and(|line| line.starts_with("held")));
        let (lease, ()) = tokio::join!(wait_for(&client, name), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            child.go_on();
        });
        let lease = lease.expect("the release wakes whoever waits");
        client.release(lease.lock_id, None).await.expect("release answers");
    }
}

#[tokio::test]
async fn a_waiter_gets_the_key_when_its_holder_is_killed() {
    let fixture = FileFixture::new();
    let client = client(fixture.directory());
    for _ in 0..3 {
        let mut child = Process::start("hold key 60000", fixture.directory(), |_| {});
        assert!(child.line().is_some_and(|line| line.starts_with("held")));
        let (lease, ()) = tokio::join!(wait_for(&client, "key"), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            child.signal_kill();
        });
        let lease = lease.expect("the holder's death wakes whoever waits");
        client.release(lease.lock_id, None).await.expect("release answers");
    }
}

#[tokio::test]
async fn waiters_of_several_processes_take_turns() {
    let fixture = FileFixture::new();
    let mut children: Vec<Process> =
        (0..3).map(|_| Process::start("turns key", fixture.directory(), |_| {})).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    children.iter_mut().for_each(Process::go_on);
    for child in &mut children {
        let lines = child.lines();
        let turns = lines.iter().find_map(|line| line.strip_prefix("turns ")?.parse::<u32>().ok());
        assert!(turns.is_some_and(|turns| turns > 0), "one of them got no turn: {lines:?}");
        assert!(child.finish().success());
    }
    let backend = open(fixture.directory(), "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    backend.release(&Owner::from(lease)).await.expect("nobody holds it any more");
}
