//! A server that is out of memory and evicts nothing: nothing can be taken, everything can be given back.

use std::sync::Arc;
use std::time::Duration;

use redis::{Commands, cmd};
use syncguard::backend::{Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Yield};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment, Policy};
use syncguard::lock::{Code, Lease, Result};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend, eventually, key, request, take, ttl};

fn fill(client: &mut redis::Connection, full: bool) {
    let limit = if full { "1" } else { "0" };
    cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).exec(client).unwrap();
}

fn client_of(server: &RedisServer) -> Client {
    let backend = Arc::new(backend(&server.url()));
    Client::new(backend, ClientOptions::default(), Arc::new(NoEnvironment), Handle::current())
}

async fn lock(client: &Client, timeout: Duration) -> Result<Lease> {
    let options = AcquireOptions { key: key("a"), ttl: ttl(30_000), keep: None, observer: None };
    client.lock(options, &Policy { timeout, max_retries: 1000, ..Policy::default() }, None).await
}

/// A waiter of the same process who is in line: it has subscribed.
async fn waiter(client: &Client, server: &RedisServer, timeout: Duration) -> JoinHandle<Result<Lease>> {
    let (waiting, mut direct) = (client.clone(), server.client());
    let task = tokio::spawn(async move { lock(&waiting, timeout).await });
    let subscribed = async || {
        let channels: Vec<String> = cmd("PUBSUB").arg("CHANNELS").query(&mut direct).unwrap();
        channels == ["syncguard:a:wake"]
    };
    eventually("the waiter is in line", subscribed).await;
    task
}

#[tokio::test]
async fn the_holder_releases_though_somebody_waits_who_cannot_be_granted_the_lease() {
    let server = RedisServer::start();
    let (client, mut direct) = (client_of(&server), server.client());
    for recovers in [true, false] {
        let lease = lock(&client, Duration::from_secs(5)).await.expect("the key is free");
        let timeout = Duration::from_secs(if recovers { 20 } else { 1 });
        let waiting = waiter(&client, &server, timeout).await;
        fill(&mut direct, true);
        assert_done(&client.release(lease.lock_id, None).await.expect("nothing new is stored"));
        let left: Vec<String> = direct.keys("*").unwrap();
        assert_eq!(left, ["syncguard:fence:syncguard:a"]);
        if recovers {
            fill(&mut direct, false);
            let next = waiting.await.unwrap().expect("it waits on");
            assert_done(&client.release(next.lock_id, None).await.unwrap());
        } else {
            assert_eq!(waiting.await.unwrap().unwrap_err().code(), Code::RateLimited);
            fill(&mut direct, false);
        }
    }
}

#[tokio::test]
async fn a_hand_over_that_fails_has_changed_nothing() {
    let server = RedisServer::start();
    let (backend, mut direct) = (backend(&server.url()), server.client());
    let lease = take(&backend, "a").await;
    let contents = |direct: &mut redis::Connection| {
        let mut names: Vec<String> = direct.keys("*").unwrap();
        names.sort();
        let values: Vec<String> = direct.mget(&names).unwrap();
        (names, values)
    };
    let before = contents(&mut direct);
    fill(&mut direct, true);
    let (owner, next) = (Owner::from(lease.clone()), request("a"));
    for yields in [Yield::Never, Yield::IfWatched { own: 5 }] {
        let error = backend.hand_over(&HandOver { owner: &owner, next: &next, yields }).await.unwrap_err();
        assert!(
            error.code() == Code::RateLimited && error.is_retryable() && !error.is_unknown(),
            "{error:?}"
        );
        assert_eq!(contents(&mut direct), before);
    }
    assert_eq!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap(), Some(lease));
    assert_eq!(backend.release(&owner).await.unwrap(), Mutation::Done(()));
}
