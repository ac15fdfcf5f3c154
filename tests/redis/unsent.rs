//! Connections that ended while nobody used them: what surely was not sent is sent again on a new one.

use syncguard::backend::{Backend, BackendExt, LookupBy, Owner};

use crate::support::proxy::Proxy;
use crate::support::redis_cluster::{RedisCluster, Sentinels};
use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend, request, take, ttl};

const ROUNDS: usize = 50;

fn kill_all(server: &RedisServer) {
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("NORMAL").exec(&mut server.client()).unwrap();
}

/// Each kind of request is the first one after the connection has ended.
async fn nothing_is_lost(backend: &dyn Backend, end: impl Fn()) {
    for round in 0..ROUNDS {
        let name = format!("k{round}");
        end();
        let lease = take(backend, &name).await;
        end();
        assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(60_000)).await.unwrap());
        end();
        assert!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().is_some());
        end();
        assert!(backend.is_locked(&lease.key).await.unwrap());
        end();
        drop(backend.watch(&lease.key).await.unwrap());
        end();
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    }
}

#[tokio::test]
async fn the_first_request_after_the_server_closed_the_connection_succeeds() {
    let server = RedisServer::start();
    nothing_is_lost(&backend(&server.url()), || kill_all(&server)).await;
}

// As in the addon: a worker beside the caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_request_after_a_cut_succeeds_on_a_worker_as_well() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    tokio::spawn(async move { nothing_is_lost(&backend, || proxy.cut()).await }).await.unwrap();
}

#[tokio::test]
async fn the_first_request_after_the_other_side_hung_up_succeeds_and_is_applied_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    nothing_is_lost(&backend, || proxy.hang_up()).await;
}

#[tokio::test]
async fn many_at_once_after_a_cut_all_succeed() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = std::sync::Arc::new(backend(&proxy.url()));
    for round in 0..ROUNDS {
        proxy.cut();
        let tasks: Vec<_> = (0..40)
            .map(|i| {
                let backend = backend.clone();
                tokio::spawn(async move { take(&*backend, &format!("k{round}-{i}")).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_first_request_after_a_cut_succeeds_behind_sentinels() {
    let sentinels = Sentinels::of_one();
    nothing_is_lost(&backend(&sentinels.url()), || kill_all(&sentinels.servers[0])).await;
}

#[tokio::test]
async fn the_first_request_after_a_cut_succeeds_in_a_cluster() {
    let cluster = RedisCluster::start();
    nothing_is_lost(&backend(&cluster.url()), || cluster.nodes.iter().for_each(kill_all)).await;
}

#[tokio::test]
async fn what_may_have_been_applied_is_not_sent_again() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = std::sync::Arc::new(backend(&proxy.url()));
    for round in 0..ROUNDS {
        take(&*backend, &format!("warm-up{round}")).await;
        proxy.mute();
        let request = request(&format!("a{round}"));
        let lost = tokio::spawn({
            let (backend, request) = (backend.clone(), request.clone());
            async move { backend.acquire(&request).await }
        });
        let name = format!("syncguard:a{round}");
        crate::eventually("it is granted", async || {
            redis::cmd("EXISTS").arg(&name).query::<bool>(&mut server.client()).unwrap()
        })
        .await;
        proxy.cut();
        assert!(lost.await.unwrap().unwrap_err().is_unknown());
    }
}
