//! Which backends see the same locks, and so share a queue.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use syncguard::backend::Backend;
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment, Policy};
use syncguard::stores::redis::RedisBackend;
use syncguard::stores::target::Setting;
use tokio::runtime::Handle;

use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend_of, eventually, key, take, text, ttl};

fn prefixed(server: &RedisServer, client_prefix: &str, prefix: &str) -> RedisBackend {
    let facts = [("port", Setting::Number(server.port.into())), ("clientKeyPrefix", text(client_prefix))];
    backend_of(&facts, &[("keyPrefix", text(prefix))])
}

fn client_of(backend: RedisBackend) -> Client {
    Client::new(Arc::new(backend), ClientOptions::default(), Arc::new(NoEnvironment), Handle::current())
}

#[tokio::test]
async fn no_lease_is_handed_to_a_waiter_of_another_prefix() {
    let server = RedisServer::start();
    let ours = client_of(prefixed(&server, "a|b", "c"));
    let theirs = client_of(prefixed(&server, "a", "b|c"));
    let options = || AcquireOptions { key: key("k"), ttl: ttl(30_000), keep: None, observer: None };
    let lease = ours.lock(options(), &Policy::default(), None).await.expect("the key is free");
    // Another process holds their key of this name.
    let elsewhere = prefixed(&server, "a", "b|c");
    take(&elsewhere, "k").await;
    let waiting = {
        let theirs = theirs.clone();
        let policy = Policy { timeout: Duration::from_millis(600), max_retries: 100, ..Policy::default() };
        tokio::spawn(async move { theirs.lock(options(), &policy, None).await })
    };
    let mut client = server.client();
    let in_line =
        async || !cmd("PUBSUB").arg("CHANNELS").query::<Vec<String>>(&mut client).unwrap().is_empty();
    eventually("their waiter is in line", in_line).await;
    assert_done(&ours.release(lease.lock_id, None).await.expect("an answer"));
    waiting.await.unwrap().expect_err("their key is held");
    assert_ne!(ours.capabilities().store, theirs.capabilities().store);
    assert_eq!(theirs.capabilities().store, elsewhere.capabilities().store);
}
