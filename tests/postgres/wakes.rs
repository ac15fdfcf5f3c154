//! Hints: who gets one, what they cost those who need none, and that none is lost with a session.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use syncguard::backend::{Backend, HandOver, Owner, Yield};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::postgres_server::PostgresServer;
use crate::{ask, assert_done, assert_hinted, assert_quiet, backend, eventually, key, request, server, take};

/// A wrong hint would come by then.
const QUIET: Duration = Duration::from_millis(150);

const SHARED_LOCKS: &str =
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock'";
const LISTENERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'syncguard' AND query ILIKE ANY (ARRAY['%advisory_lock_shared%', 'LISTEN%'])";

#[tokio::test]
async fn a_release_wakes_those_who_watch_its_key() {
    let server = server().await;
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let (a, b) = (take(&holder, "a").await, take(&holder, "b").await);
    let first = waiter.watch(&key("a")).await.unwrap();
    let second = waiter.watch(&key("a")).await.unwrap();
    let other = waiter.watch(&key("b")).await.unwrap();
    for watch in [&first, &second, &other] {
        while timeout(Duration::from_millis(50), watch.hint()).await.is_ok() {}
    }
    assert_done(&holder.release(&Owner::from(a)).await.unwrap());
    assert_hinted(&first).await;
    assert_hinted(&second).await;
    assert_quiet(&other, QUIET).await;
    assert_done(&holder.release(&Owner::from(b.lock_id)).await.unwrap());
    assert_hinted(&other).await;
    drop(first);
    assert_done(&holder.release(&Owner::from(take(&holder, "a").await)).await.unwrap());
    assert_hinted(&second).await;
}

/// Counts the notifications of all that is released, on any channel of the tables.
async fn notifications(server: &PostgresServer, work: impl AsyncFnOnce()) -> usize {
    let config = format!("host=127.0.0.1 port={} user=tester dbname=postgres", server.port);
    let (client, mut connection): (Client, _) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = poll_fn(|cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sent.send(notification.channel().to_owned());
            }
        }
    });
    let channel: String = ask(&client, "SELECT 'syncguard_' || 'syncguard_locks'::regclass::oid::text").await;
    assert!(channel.len() <= 63);
    client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
    work().await;
    let _: i32 = ask(&client, "SELECT 1").await;
    let mut count = 0;
    while received.try_recv().is_ok() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn commits_carry_notifications_only_where_somebody_waits() {
    let server = server().await;
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let quiet = notifications(&server, async || {
        for n in 0..20 {
            let lease = take(&holder, &format!("k{n}")).await;
            assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
        }
        let owner = Owner::from(take(&holder, "handed").await);
        let next = request("handed");
        let handed = HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 0 } };
        assert!(holder.hand_over(&handed).await.unwrap().next.is_some());
    });
    assert_eq!(quiet.await, 0, "nobody waits");
    let watch = waiter.watch(&key("k3")).await.unwrap();
    let told = notifications(&server, async || {
        for n in 0..20 {
            let lease = take(&holder, &format!("k{n}")).await;
            assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
        }
    });
    assert_eq!(told.await, 1, "one key is waited for");
    drop(watch);
    let client = server.client().await;
    eventually("the shared lock is given back", async || ask::<i64>(&client, SHARED_LOCKS).await == 0).await;
    let again = notifications(&server, async || {
        let lease = take(&holder, "k3").await;
        assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    });
    assert_eq!(again.await, 0, "nobody waits any more");
}

#[tokio::test]
async fn a_listener_that_was_killed_hints_and_listens_again() {
    let server = server().await;
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let client = server.client().await;
    let watches = [waiter.watch(&key("a")).await.unwrap(), waiter.watch(&key("b")).await.unwrap()];
    for round in 0..3 {
        for watch in &watches {
            while timeout(Duration::from_millis(50), watch.hint()).await.is_ok() {}
        }
        let lease = take(&holder, "a").await;
        assert_eq!(ask::<i64>(&client, LISTENERS).await, 1, "the listener is killed in round {round}");
        // Whoever may have missed something looks again.
        for watch in &watches {
            assert_hinted(watch).await;
        }
        assert_eq!(ask::<i64>(&client, SHARED_LOCKS).await, 2);
        assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
        assert_hinted(&watches[0]).await;
    }
}

#[tokio::test]
async fn five_hundred_keys_are_watched_through_one_session() {
    let server = server().await;
    let waiter = std::sync::Arc::new(backend(&server.url()));
    let watching: Vec<_> = (0..500)
        .map(|n| {
            let waiter = waiter.clone();
            tokio::spawn(async move { waiter.watch(&key(&format!("k{n}"))).await.unwrap() })
        })
        .collect();
    let mut watches = Vec::new();
    for watch in watching {
        watches.push(watch.await.unwrap());
    }
    let client = server.client().await;
    assert_eq!(ask::<i64>(&client, SHARED_LOCKS).await, 500);
    let holder = backend(&server.url());
    for n in [0, 250, 499] {
        let lease = take(&holder, &format!("k{n}")).await;
        assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
        assert_hinted(&watches[n]).await;
    }
    drop(watches);
    eventually("all are given back", async || ask::<i64>(&client, SHARED_LOCKS).await == 0).await;
}

#[tokio::test]
async fn a_turn_goes_to_other_processes_and_says_how_many_wait() {
    let server = server().await;
    let (ours, b, c) = (backend(&server.url()), backend(&server.url()), backend(&server.url()));
    let owner = Owner::from(take(&ours, "a").await);
    let _own = [ours.watch(&key("a")).await.unwrap(), ours.watch(&key("a")).await.unwrap()];
    let next = request("a");
    let handed = ours
        .hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 2 } })
        .await
        .unwrap();
    assert!(handed.next.is_some(), "two watchers of our own are nobody else");
    let owner = Owner::from(next.lock_id);
    let others = [b.watch(&key("a")).await.unwrap(), c.watch(&key("a")).await.unwrap()];
    let next = request("a");
    let handed = ours
        .hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 2 } })
        .await
        .unwrap();
    assert_eq!((handed.next, handed.others), (None, Some(2)));
    for other in &others {
        assert_hinted(other).await;
    }
}
