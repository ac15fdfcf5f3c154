//! Watchers that come and go at any moment, in numbers, and beside tables that are made anew.

use std::sync::Arc;
use std::time::Duration;

use syncguard::backend::{Backend, Owner, Watch};
use syncguard::stores::postgres::PostgresBackend;
use tokio::time::timeout;

use crate::support::postgres_server::PostgresServer;
use crate::{ask, assert_done, backend, backend_with, config, eventually, key, millis, server, take};

const SHARED_LOCKS: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock'";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncguard'";

async fn drain(watch: &Watch) {
    while timeout(Duration::from_millis(50), watch.hint()).await.is_ok() {}
}

#[tokio::test]
async fn sixty_aborted_watches_leave_neither_lock_nor_listener() {
    let server = server().await;
    let client = server.client().await;
    let waiter = Arc::new(backend_with(&server.url(), &[("operationTimeoutMs", millis(1000))]));
    let class: i32 = ask(&client, "SELECT 'syncguard_locks'::regclass::oid::int").await;
    let release = format!("SELECT pg_advisory_unlock({class}, hashtext('busy'))::text");
    for round in 0..3 {
        // In the last round, the listener is busy all the while: somebody is just releasing a key that it wants.
        let busy = if round == 2 {
            client.query(&format!("SELECT pg_advisory_lock({class}, hashtext('busy'))"), &[]).await.unwrap();
            let waiter = Arc::clone(&waiter);
            Some(tokio::spawn(async move { waiter.watch(&key("busy")).await.unwrap() }))
        } else {
            None
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let aborted: Vec<_> = (0..60)
            .map(|n| {
                let waiter = Arc::clone(&waiter);
                tokio::spawn(async move {
                    // Gone before the first answer, in its midst, and after it.
                    let after = Duration::from_micros(n * 150);
                    let _ = timeout(after, waiter.watch(&key(&format!("k{}", n % 40)))).await;
                })
            })
            .collect();
        for watch in aborted {
            watch.await.unwrap();
        }
        if let Some(busy) = busy {
            assert_eq!(ask::<String>(&client, &release).await, "true");
            drop(busy.await.unwrap());
        }
        // Whatever the listener was told before, it has done by the time that it has done this.
        let last = waiter.watch(&key("last")).await.unwrap();
        eventually(&format!("round {round} leaves one lock"), async || {
            ask::<i64>(&client, SHARED_LOCKS).await == 1
        })
        .await;
        drop(last);
        eventually(&format!("round {round} leaves no lock"), async || {
            ask::<i64>(&client, SHARED_LOCKS).await == 0
        })
        .await;
    }
    eventually("nobody listens any more", async || ask::<i64>(&client, SESSIONS).await == 0).await;
    // And yet the next one is served.
    let watch = waiter.watch(&key("k1")).await.unwrap();
    drain(&watch).await;
    let holder = backend(&server.url());
    let lease = take(&holder, "k1").await;
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    timeout(Duration::from_secs(5), watch.hint()).await.expect("a hint");
}

#[tokio::test]
async fn watchers_outlive_tables_that_are_made_anew() {
    let server = server().await;
    let client = server.client().await;
    let waiter = backend_with(&server.url(), &[("operationTimeoutMs", millis(1000))]);
    let holder = backend(&server.url());
    let old = waiter.watch(&key("a")).await.unwrap();
    client.batch_execute("DROP TABLE syncguard_locks, syncguard_fence_counters").await.unwrap();
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap();
    drain(&old).await;
    eventually("the listener has seen it", async || {
        let class: String = ask(&client, "SELECT 'syncguard_locks'::regclass::oid::text").await;
        ask::<i64>(&client, &format!("{SHARED_LOCKS} AND classid = {class}")).await == 1
    })
    .await;
    drain(&old).await;
    let lease = take(&holder, "a").await;
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    timeout(Duration::from_secs(5), old.hint()).await.expect("a hint");
}

#[tokio::test]
async fn thousands_of_watched_keys_leave_the_server_s_lock_table_to_others() {
    // 64 locks for each of 20 sessions and a little more: fewer than there are keys.
    let server = PostgresServer::with(|_| vec!["max_connections = 20".to_owned()]);
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap();
    let client = server.client().await;
    let waiter = Arc::new(backend(&server.url()));
    let watching: Vec<_> = (0..4000)
        .map(|n| {
            let waiter = Arc::clone(&waiter);
            tokio::spawn(async move { waiter.watch(&key(&format!("k{n}"))).await.map(|watch| (n, watch)) })
        })
        .collect();
    let mut watches = Vec::new();
    for watch in watching {
        watches.push(watch.await.unwrap().expect("a watch without a lock is one without hints"));
    }
    let held: i64 = ask(&client, SHARED_LOCKS).await;
    assert!((64..=20 * 64 / 2 + 64).contains(&held), "{held} locks are held for 4000 watched keys");
    // The first of them are heard of, and all others are only slower.
    let holder = Arc::new(backend(&server.url()));
    drain(&watches[0].1).await;
    let taking: Vec<_> = (0..200)
        .map(|n| {
            let holder = Arc::clone(&holder);
            tokio::spawn(async move {
                let lease = take(&*holder, &format!("k{}", n * 7)).await;
                assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
            })
        })
        .collect();
    for taken in taking {
        taken.await.unwrap();
    }
    timeout(Duration::from_secs(5), watches[0].1.hint()).await.expect("a hint");
    // Places that are given back go to those who had none.
    let last = watches.pop().unwrap();
    drop(watches);
    eventually("the last one has a place", async || ask::<i64>(&client, SHARED_LOCKS).await == 1).await;
    drain(&last.1).await;
    let lease = take(&*holder, &format!("k{}", last.0)).await;
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    timeout(Duration::from_secs(5), last.1.hint()).await.expect("a hint");
}
