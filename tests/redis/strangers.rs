//! Others who leave no mark at the server: a crowd in one process lets them in all the same.

use std::sync::Arc;
use std::time::Duration;

use syncguard::engine::Wait;

use crate::backend;
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::turns::{Turns, every, often};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_polls_gets_its_turns() {
    let server = RedisServer::start();
    // Another address is another process, as far as the line of waiters knows.
    let proxy = Proxy::to(server.port);
    let turns = Turns::of_crowd(Arc::new(backend(&server.url())));
    turns.beside(Arc::new(backend(&proxy.url())), often(Wait::Poll)).are_shared().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_attempts_gets_its_turns() {
    let server = RedisServer::start();
    let turns = Turns::of_crowd(Arc::new(backend(&server.url())));
    turns.beside_attempts(Arc::new(backend(&server.url()))).are_shared().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_resp3_gets_its_turns() {
    let server = RedisServer::with(|_| vec!["--rename-command".into(), "HELLO".into(), "NO-HELLO".into()]);
    let proxy = Proxy::to(server.port);
    let turns = Turns::of_crowd(Arc::new(backend(&server.url())));
    turns.beside(Arc::new(backend(&proxy.url())), often(Wait::Notify)).are_shared().await;
}

/// Those who subscribe get theirs where the crowd may not ask who does.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_gets_its_turns_where_pubsub_is_denied() {
    let server = RedisServer::start();
    redis::cmd("ACL")
        .arg(&["SETUSER", "crowd", "on", "nopass", "~syncguard:*", "allchannels", "+@all", "-pubsub"])
        .exec(&mut server.client())
        .unwrap();
    let crowd = backend(&format!("redis://crowd:x@127.0.0.1:{}", server.port));
    let turns = Turns::of_crowd(Arc::new(crowd));
    let proxy = Proxy::to(server.port);
    let patient = every(Duration::from_secs(20), Wait::Notify);
    turns.beside(Arc::new(backend(&proxy.url())), patient).are_shared().await;
}
