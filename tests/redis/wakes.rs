//! Hints: who gets one, who does not, and that none is lost with a connection.

use std::time::Duration;

use redis::Commands;
use syncguard::backend::{Backend, BackendExt, HandOver, Mutation, Owner, Yield};
use syncguard::stores::target::Setting;
use tokio::time::timeout;

use crate::support::redis_server::RedisServer;
use crate::{
    assert_done, assert_hinted, assert_quiet, backend, backend_with, eventually, granted, key, request, take,
};

/// A wrong hint would come by then.
const QUIET: Duration = Duration::from_millis(100);

/// How many connections subscribe to a key's channel.
fn subscribers(client: &mut redis::Connection, name: &str) -> usize {
    let channel = format!("syncguard:{name}:wake");
    let (_, count): (String, usize) = redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query(client).unwrap();
    count
}

#[tokio::test]
async fn a_release_wakes_those_who_watch_its_key() {
    let server = RedisServer::start();
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let (a, b) = (take(&holder, "a").await, take(&holder, "b").await);
    let first = waiter.watch(&key("a")).await.unwrap();
    let second = waiter.watch(&key("a")).await.unwrap();
    let other = waiter.watch(&key("b")).await.unwrap();
    assert_done(&holder.release(&Owner::from(a)).await.unwrap());
    assert_hinted(&first).await;
    assert_hinted(&second).await;
    assert_quiet(&other, QUIET).await;
    // By lock id alone as well, and to a watcher that is left when another one goes.
    assert_done(&holder.release(&Owner::from(b.lock_id)).await.unwrap());
    assert_hinted(&other).await;
    drop(first);
    assert_done(&holder.release(&Owner::from(take(&holder, "a").await)).await.unwrap());
    assert_hinted(&second).await;
}

#[tokio::test]
async fn a_hint_before_the_wait_is_kept() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    let watch = backend.watch(&key("a")).await.unwrap();
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_hinted(&watch).await;
    assert_quiet(&watch, QUIET).await;
}

#[tokio::test]
async fn the_last_watcher_unsubscribes_and_the_next_subscribes_again() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    for _ in 0..5 {
        let one = backend.watch(&key("a")).await.unwrap();
        let other = backend.watch(&key("a")).await.unwrap();
        assert_eq!(subscribers(&mut client, "a"), 1);
        drop(one);
        assert_eq!(subscribers(&mut client, "a"), 1);
        drop(other);
        // At once: whatever the order in which both arrive, this one is subscribed in the end.
        let again = backend.watch(&key("a")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(subscribers(&mut client, "a"), 1);
        drop(again);
        eventually("nobody is subscribed", async || subscribers(&mut client, "a") == 0).await;
    }
    for i in 0..50 {
        let _ = timeout(Duration::from_micros(i * 5), backend.watch(&key("a"))).await;
    }
    eventually("nobody is subscribed", async || subscribers(&mut client, "a") == 0).await;
}

#[tokio::test]
async fn a_killed_connection_is_replaced_subscribed_again_and_everybody_hinted() {
    let server = RedisServer::start();
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let lease = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    let mut client = server.client();
    for _ in 0..3 {
        redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes").exec(&mut client).unwrap();
        assert_hinted(&watch).await;
        eventually("subscribed again, though nobody called", async || subscribers(&mut client, "a") == 1)
            .await;
    }
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    assert_hinted(&watch).await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again_by_those_who_wait() {
    let mut server = RedisServer::start();
    let (holder, waiter) = (backend(&server.url()), backend(&server.url()));
    let watch = waiter.watch(&key("a")).await.unwrap();
    server.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.restart();
    assert_hinted(&watch).await;
    let lease = take(&holder, "a").await;
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    assert_hinted(&watch).await;
}

#[tokio::test]
async fn hand_over_yields_when_others_watch() {
    let server = RedisServer::start();
    let (ours, theirs) = (backend(&server.url()), backend(&server.url()));
    let mut owner = Owner::from(take(&ours, "a").await);
    let own_watch = ours.watch(&key("a")).await.unwrap();
    let hand_over = async |owner: &Owner, yields| {
        let next = request("a");
        ours.hand_over(&HandOver { owner, next: &next, yields }).await.unwrap()
    };
    // Our own subscription is the only one.
    let handed = hand_over(&owner, Yield::IfWatched { own: 1 }).await;
    owner = Owner::from(granted(handed.next.unwrap()));
    assert_quiet(&own_watch, QUIET).await;

    let their_watch = theirs.watch(&key("a")).await.unwrap();
    let handed = hand_over(&owner, Yield::Never).await;
    owner = Owner::from(granted(handed.next.unwrap()));
    let handed = hand_over(&owner, Yield::IfWatched { own: 1 }).await;
    assert_eq!(handed.released, Mutation::Done(()));
    assert!(handed.next.is_none());
    assert_hinted(&their_watch).await;
    assert!(!ours.is_locked(&key("a")).await.unwrap());
}

#[tokio::test]
async fn without_the_right_to_publish_a_release_still_releases() {
    let server = RedisServer::start();
    let mut client = server.client();
    redis::cmd("ACL")
        .arg(&["SETUSER", "quiet", "on", "nopass", "~syncguard:*", "resetchannels", "+@all", "-@pubsub"])
        .exec(&mut client)
        .unwrap();
    let quiet = backend(&format!("redis://quiet:x@127.0.0.1:{}", server.port));
    let lease = take(&quiet, "a").await;
    let next = request("a");
    let owner = Owner::from(lease);
    let handed = quiet
        .hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 0 } })
        .await
        .unwrap();
    assert_done(&quiet.release(&Owner::from(granted(handed.next.unwrap()))).await.unwrap());
    assert!(quiet.watch(&key("a")).await.is_err());
    assert_eq!(client.exists::<_, usize>("syncguard:a").unwrap(), 0);
}

#[tokio::test]
async fn a_server_without_resp3_can_be_locked_on_and_watched() {
    let server = RedisServer::with(|_| vec!["--rename-command".into(), "HELLO".into(), "NO-HELLO".into()]);
    let (holder, waiter) = (
        backend(&server.url()),
        backend_with(&server.url(), &[("connectTimeoutMs", Setting::Number(2000.0))]),
    );
    let lease = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    drop(watch);
    take(&waiter, "a").await;
}
