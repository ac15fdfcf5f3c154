//! Calls on their caller's event loop: the same contract on a connection of its own, and what may befall that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use syncguard::backend::{Acquired, Backend, BackendExt, Mutation, Owner};
use syncguard::conformance::Fixture;
use syncguard::engine::{AcquireOptions, Client, ClientOptions, KeepPolicy, NoEnvironment, Policy};
use syncguard::lock::{Code, Fence, Key, Outcome};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::conformance::RedisFixture;
use crate::support::on_loop::OnLoop;
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, assert_is, backend, eventually, granted, key, request, take, ttl};

struct LoopFixture(RedisFixture);

#[async_trait]
impl Fixture for LoopFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(OnLoop::warm(self.0.backend().await).await)
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        Arc::new(OnLoop::warm(self.0.backend_with_clean_up().await).await)
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        self.0.set_fence(key, fence).await;
    }

    async fn spoil(&self, key: &Key) {
        self.0.spoil(key).await;
    }

    fn tolerance(&self) -> Duration {
        self.0.tolerance()
    }
}

mod conformance {
    use super::*;
    syncguard::conformance_suite!(LoopFixture(RedisFixture::start()));
}

/// Connections of a backend to the server: their ids, oldest first.
fn connections(server: &RedisServer) -> Vec<u64> {
    connections_seen_by(&mut server.client())
}

fn connections_seen_by(admin: &mut redis::Connection) -> Vec<u64> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(admin).unwrap();
    let ours = list.lines().filter(|line| line.contains(" resp=3"));
    let id = |line: &str| line.split_once("id=")?.1.split(' ').next()?.parse().ok();
    let mut ids: Vec<u64> = ours.filter_map(id).collect();
    ids.sort_unstable();
    ids
}

fn kill(server: &RedisServer, id: u64) {
    redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).exec(&mut server.client()).unwrap();
}

async fn cycle(backend: &OnLoop, name: &str) {
    let lease = take(backend, name).await;
    assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(20_000)).await.unwrap());
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_calls_make_a_connection_that_subscribes_to_nothing() {
    let server = RedisServer::start();
    let own = OnLoop::new(Arc::new(backend(&server.url())));
    cycle(&own, "a").await;
    assert_eq!((connections(&server).len(), own.ended_here()), (1, 0), "one cycle is not worth it");
    own.warm_up().await;
    assert_eq!(connections(&server).len(), 2);
    let before = (own.ended_here(), own.ended_elsewhere());
    for _ in 0..20 {
        cycle(&own, "a").await;
    }
    assert_eq!((own.ended_here(), own.ended_elsewhere()), (before.0 + 60, before.1));
    let _watch = own.watch(&key("a")).await.unwrap();
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
    let subscribed = list.lines().filter(|line| line.contains(" sub=1 ")).count();
    assert_eq!((connections(&server).len(), subscribed), (2, 1), "{list}");
    own.close().await.unwrap();
    eventually("both are closed", async || connections(&server).is_empty()).await;
    let error = own.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_go_together() {
    let server = RedisServer::start();
    let own = Arc::new(OnLoop::warm(Arc::new(backend(&server.url()))).await);
    let before = own.ended_elsewhere();
    let calls = (0..200).map(|n| {
        let own = Arc::clone(&own);
        async move {
            for _ in 0..5 {
                cycle(&own, &format!("key {n}")).await;
            }
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(own.ended_elsewhere(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_second_connection_is_used_by_one() {
    let server = RedisServer::start();
    let own = OnLoop::new(Arc::new(backend(&server.url())));
    cycle(&own, "a").await;
    let mut admin = server.client();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(2).exec(&mut admin).unwrap();
    for _ in 0..30 {
        cycle(&own, "a").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(connections_seen_by(&mut admin).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_over_a_unix_socket() {
    let port = crate::support::free_port();
    let server = RedisServer::with(|dir| {
        let mut args = crate::tls::tls_args(dir, port, "server", "no");
        args.extend(["--unixsocket".to_owned(), dir.join("redis.sock")]);
        args
    });
    for url in [
        format!("rediss://localhost:{port}?ca={}", server.dir.join("ca.crt")),
        format!("redis+unix://{}", server.dir.join("redis.sock")),
    ] {
        let own = OnLoop::warm(Arc::new(backend(&url))).await;
        let before = own.ended_elsewhere();
        for _ in 0..20 {
            cycle(&own, "a").await;
        }
        assert_eq!(own.ended_elsewhere(), before, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_the_server_has_forgotten_is_told_again() {
    let server = RedisServer::start();
    let own = OnLoop::warm(Arc::new(backend(&server.url()))).await;
    let before = own.ended_elsewhere();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
    cycle(&own, "a").await;
    assert_eq!(own.ended_elsewhere(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_connection_is_lost_calls_go_on() {
    let server = RedisServer::start();
    let own = OnLoop::warm(Arc::new(backend(&server.url()))).await;
    let [engine, event_loop] = connections(&server)[..] else { panic!("two connections") };
    kill(&server, event_loop);
    eventually("it has ended", async || !connections(&server).contains(&event_loop)).await;
    cycle(&own, "a").await;
    assert!(connections(&server).contains(&engine));
    own.warm_up().await;
    // Where the engine's is lost, nobody knows whether the other one still leads to the same server.
    kill(&server, engine);
    eventually("both have ended", async || {
        let now = connections(&server);
        !now.contains(&engine) && now.len() < 2
    })
    .await;
    cycle(&own, "a").await;
    own.warm_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_learns_that_the_server_is_a_replica_closes_both() {
    let server = RedisServer::start();
    let own = OnLoop::warm(Arc::new(backend(&server.url()))).await;
    let before = connections(&server);
    let mut admin = server.client();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(crate::support::free_port()).exec(&mut admin).unwrap();
    let error = own.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    eventually("both have ended", async || connections(&server).iter().all(|id| !before.contains(id))).await;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut admin).unwrap();
    cycle(&own, "a").await;
}

/// A client whose calls begin on the loop.
fn client(own: &OnLoop, operation_timeout: u64) -> Client {
    let options = ClientOptions { operation_timeout: Duration::from_millis(operation_timeout) };
    Client::new(Arc::clone(&own.inner), options, Arc::new(NoEnvironment), Handle::current())
}

fn options(name: &str, keep: Option<KeepPolicy>) -> AcquireOptions {
    AcquireOptions { key: key(name), ttl: ttl(30_000), keep, observer: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_lock_ends_on_the_loop_and_one_that_is_kept_or_waits_does_not() {
    let server = RedisServer::start();
    let own = OnLoop::warm(Arc::new(backend(&server.url()))).await;
    let client = client(&own, 5000);
    let lock = |keep| {
        let client = client.clone();
        own.poller.call(async move { client.lock(options("a", keep), &Policy::default(), None).await })
    };
    let (lease, here) = lock(None).await.unwrap();
    let lease = lease.unwrap();
    assert!(here);
    let mut admin = server.client();
    let mut scripts = || -> u64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut admin).unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap()
    };
    let before = scripts();
    let waits = lock(None);
    eventually("somebody has asked twice", async || scripts() >= before + 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The hand-over is the engine's, since the next one may be anybody's.
    let release = client.clone();
    let (released, here) =
        own.poller.call(async move { release.release(lease.lock_id, None).await }).await.unwrap();
    assert_eq!((released.unwrap(), here), (Mutation::Done(()), false));
    let (next, here) = waits.await.unwrap();
    assert!(!here);
    let release = client.clone();
    let id = next.unwrap().lock_id;
    let (released, here) = own.poller.call(async move { release.release(id, None).await }).await.unwrap();
    assert_eq!((released.unwrap(), here), (Mutation::Done(()), true));
    let (kept, here) = lock(Some(KeepPolicy::default())).await.unwrap();
    assert!(!here, "a lease that is kept is watched over from its grant on");
    client.release(kept.unwrap().lock_id, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_in_time_however_long_the_loop_was_blocked() {
    let server = RedisServer::start();
    let own = OnLoop::warm(Arc::new(backend(&server.url()))).await;
    let client = client(&own, 200);
    let call = own.poller.call(async move { client.acquire(options("a", None), None).await });
    own.poller.block(Duration::from_millis(900));
    let (acquired, here) = call.await.unwrap();
    assert!(matches!(acquired, Ok(Acquired::Granted(_))) && here, "{acquired:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_aborted_is_undone_though_the_loop_is_blocked() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let own = OnLoop::warm(Arc::new(backend(&proxy.url()))).await;
    let client = client(&own, 5000);
    // The request arrives, and its reply only later.
    proxy.delay(Duration::from_millis(100));
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let call = own.poller.call(async move { client.acquire(options("a", None), Some(&token)).await });
    let abort = cancel.clone();
    own.poller.post(move |_| abort.cancel());
    let (acquired, _) = call.await.unwrap();
    let error = acquired.unwrap_err();
    assert_is(&error, Code::Aborted, false, Outcome::Unknown);
    own.poller.block(Duration::from_secs(3));
    let begun = Instant::now();
    let direct = backend(&server.url());
    eventually("it was granted and given back", async || {
        begun.elapsed() > Duration::from_millis(300) && !direct.is_locked(&key("a")).await.unwrap()
    })
    .await;
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_reply_is_repeated_elsewhere_and_leaves_nothing_behind() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let own = OnLoop::warm(Arc::new(backend(&proxy.url()))).await;
    let client = client(&own, 200);
    proxy.mute();
    let policy = Policy { timeout: Duration::from_secs(10), ..Policy::default() };
    let lock = client.clone();
    let call = own.poller.call(async move { lock.lock(options("a", None), &policy, None).await });
    let lease = call.await.unwrap().0.expect("the repeat goes by another connection");
    client.release(lease.lock_id, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!backend(&server.url()).is_locked(&key("a")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_the_loop_the_engine_reads_the_reply() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let own = OnLoop::warm(Arc::new(backend(&proxy.url()))).await;
    proxy.delay(Duration::from_millis(200));
    let OnLoop { inner, poller, .. } = own;
    let (asks, asked) = (Arc::clone(&inner), request("a"));
    let call = poller.call(async move { asks.acquire(&asked).await });
    poller.call(async {}).await.unwrap();
    drop(Arc::try_unwrap(poller).expect("nobody else has it"));
    let (acquired, here) = call.await.unwrap();
    let lease = granted(acquired.unwrap());
    assert!(!here);
    assert_done(&inner.release(&Owner::from(lease)).await.unwrap());
}
