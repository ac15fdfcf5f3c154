//! `replicas: n`: what counts, and what is taken back.

use redis::Commands;
use rustix::process::Signal;
use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, Mutation, Owner, Surroundings, Yield};
use syncguard::lock::{Code, Error, Outcome};
use syncguard::stores::redis::{RedisBackend, RedisConfig, cluster_keys};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, assert_held, backend, granted, key, request, settings, take, ttl};

fn master() -> RedisServer {
    RedisServer::with(|_| vec!["--repl-diskless-sync-delay".into(), "0".into()])
}

async fn replica_of(master: &RedisServer) -> RedisServer {
    let port = master.port.to_string();
    let replica = RedisServer::with(|_| vec!["--replicaof".into(), "127.0.0.1".into(), port]);
    let mut client = replica.client();
    crate::eventually("the replica is in step", async || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut client).unwrap();
        info.contains("master_link_status:up")
    })
    .await;
    replica
}

fn needing_within(timeout_ms: u64, replicas: u32, url: &str) -> RedisBackend {
    let options = [("replicas", Setting::Number(replicas.into()))];
    let config = RedisConfig::from_target(Target::Url(url.to_owned()), settings(&options), Password::None);
    let operation_timeout = std::time::Duration::from_millis(timeout_ms);
    let surroundings = Surroundings { operation_timeout, ..Surroundings::default() };
    RedisBackend::new(config.expect("a good target").within(&surroundings))
}

fn needing(replicas: u32, url: &str) -> RedisBackend {
    needing_within(5000, replicas, url)
}

/// One that has soon given up on replicas.
fn soon_needing(replicas: u32, url: &str) -> RedisBackend {
    needing_within(1000, replicas, url)
}

/// How many changes the server has seen.
fn changes(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO").arg("persistence").query(&mut server.client()).unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
    count.and_then(|count| count.trim().parse().ok()).expect("a number")
}

fn assert_too_few(error: &Error, outcome: Outcome) {
    assert_eq!(
        (error.code(), error.is_retryable(), error.outcome()),
        (Code::ServiceUnavailable, true, outcome),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_the_replicas_have_counts() {
    let master = master();
    let replicas = [replica_of(&master).await, replica_of(&master).await];
    let backend = needing(2, &master.url());
    let lease = take(&backend, "a").await;
    for replica in &replicas {
        assert!(replica.client().exists::<_, bool>("syncguard:a").unwrap(), "at once");
    }
    let next = request("a");
    let owner = Owner::from(lease);
    let handed =
        backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
    let owner = Owner::from(granted(handed.next.unwrap()));
    assert_done(&backend.extend(&owner, ttl(90_000)).await.unwrap());
    assert_done(backend.extend_many(&[(owner.clone(), ttl(90_000))]).await[0].as_ref().unwrap());
    for replica in &replicas {
        assert!(replica.client().pttl::<_, i64>("syncguard:a").unwrap() > 60_000, "at once");
    }
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert_done(&backend.release(&owner).await.unwrap());
}

#[tokio::test]
async fn a_grant_that_too_few_have_is_taken_back() {
    let master = master();
    let replica = replica_of(&master).await;
    for (needed, frozen) in [(2, false), (1, true)] {
        let backend = soon_needing(needed, &master.url());
        assert!(!backend.is_locked(&key("a")).await.unwrap());
        if frozen {
            replica.signal(Signal::STOP);
        }
        assert_too_few(&backend.acquire(&request("a")).await.unwrap_err(), Outcome::NotApplied);
        let mut client = master.client();
        assert!(!client.exists::<_, bool>("syncguard:a").unwrap(), "the key is free");
        replica.signal(Signal::CONT);
    }
    // Once it is back, so are the grants.
    take(&needing(1, &master.url()), "a").await;
}

#[tokio::test]
async fn a_hand_over_that_too_few_have_releases_only() {
    let master = master();
    let replica = replica_of(&master).await;
    let backend = needing(1, &master.url());
    let owner = Owner::from(take(&backend, "a").await);
    let backend = soon_needing(1, &master.url());
    replica.signal(Signal::STOP);
    let next = request("a");
    let handed =
        backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
    replica.signal(Signal::CONT);
    assert_eq!(handed.released, Mutation::Done(()));
    assert_eq!(handed.next, Some(Acquired::Held { free_in: None }));
    assert!(!master.client().exists::<_, bool>("syncguard:a").unwrap(), "the key is free");
}

#[tokio::test]
async fn an_extend_that_too_few_have_is_of_unknown_outcome_and_holds_up_nobody() {
    let master = master();
    let replica = replica_of(&master).await;
    let backend = needing(1, &master.url());
    let owner = Owner::from(take(&backend, "a").await);
    let patient = backend;
    let backend = soon_needing(1, &master.url());
    replica.signal(Signal::STOP);
    let extending = async {
        assert_too_few(&backend.extend(&owner, ttl(90_000)).await.unwrap_err(), Outcome::Unknown);
        let many = backend.extend_many(&[(owner.clone(), ttl(90_000))]).await;
        assert_too_few(many[0].as_ref().unwrap_err(), Outcome::Unknown);
    };
    let looking = async {
        for _ in 0..20 {
            let start = std::time::Instant::now();
            assert!(backend.is_locked(&key("a")).await.unwrap());
            assert!(start.elapsed() < std::time::Duration::from_millis(200), "{:?}", start.elapsed());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::join!(extending, looking);
    replica.signal(Signal::CONT);
    assert_done(&patient.extend(&owner, ttl(90_000)).await.unwrap());
}

/// WAIT on a connection that has written nothing need not wait for anything, so the record is written again.
#[tokio::test]
async fn a_repeat_on_another_connection_is_not_believed_before_the_replicas_have_it() {
    let master = master();
    let replica = replica_of(&master).await;
    let request = request("a");
    replica.signal(Signal::STOP);
    let lease = granted(backend(&master.url()).acquire(&request).await.unwrap());
    let repeating = soon_needing(1, &master.url());
    let error = repeating.acquire(&request).await;
    replica.signal(Signal::CONT);
    assert_too_few(&error.unwrap_err(), Outcome::NotApplied);
    assert!(!master.client().exists::<_, bool>("syncguard:a").unwrap(), "{lease:?} was taken back");
    // With the replica there, a repeat is the same lease.
    let lease = granted(needing(1, &master.url()).acquire(&request).await.unwrap());
    let before = changes(&master);
    let again = granted(needing(1, &master.url()).acquire(&request).await.unwrap());
    assert_eq!((again, changes(&master) - before), (lease, 2));
}

#[tokio::test]
async fn who_may_not_send_wait_is_told_so_and_holds_nothing() {
    let master = master();
    let replica = replica_of(&master).await;
    crate::rights::create(&master, &crate::rights::rules());
    let url = master.url_for(crate::rights::LOGIN);
    let denied = |error: Error, outcome| {
        assert_eq!((error.code(), error.outcome()), (Code::AuthFailed, outcome), "{error:?}");
        assert!(error.message().contains("docs/redis.md"), "{error}");
    };
    let backend = needing(1, &url);
    denied(backend.acquire(&request("a")).await.unwrap_err(), Outcome::NotApplied);
    assert!(!master.client().exists::<_, bool>("syncguard:a").unwrap(), "the key is free");
    let owner = Owner::from(take(&crate::backend(&url), "a").await);
    denied(backend.extend(&owner, ttl(90_000)).await.unwrap_err(), Outcome::Unknown);
    let next = request("a");
    let handed =
        backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
    assert_eq!((handed.released, handed.next), (Mutation::Done(()), Some(Acquired::Held { free_in: None })));
    // With the right that the guide names for it.
    crate::rights::create(&master, &["ACL", "SETUSER", "syncguard", "+wait"]);
    take(&needing(1, &url), "a").await;
    drop(replica);
}

#[test]
fn the_number_is_checked() {
    for (value, good) in [(0.0, true), (100.0, true), (101.0, false), (-1.0, false), (1.5, false)] {
        let target = Target::Url("redis://127.0.0.1".into());
        let options = settings(&[("replicas", Setting::Number(value))]);
        let config = RedisConfig::from_target(target, options, Password::None);
        assert_eq!(config.is_ok(), good, "{value}");
        if let Err(error) = config {
            assert!(error.code() == Code::InvalidArgument && error.message().contains("replicas"), "{error}");
        }
    }
}

#[tokio::test]
async fn in_a_cluster_it_is_the_replicas_of_the_keys_own_node_that_count() {
    let mut cluster = RedisCluster::start();
    let node_of = |cluster: &RedisCluster, name: &str| {
        cluster.owner(&cluster_keys("syncguard", &key(name)).unwrap().lock)
    };
    let node = node_of(&cluster, "a");
    let elsewhere = (0..100)
        .map(|n| format!("b{n}"))
        .find(|name| node_of(&cluster, name) != node)
        .expect("three nodes share the keys");
    cluster.add_replica(node);
    let backend = soon_needing(1, &cluster.url());
    let owner = Owner::from(take(&backend, "a").await);
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
    let replica = cluster.nodes.last().expect("the replica");
    let expiry = || -> i64 {
        let mut client = replica.client();
        redis::cmd("READONLY").exec(&mut client).unwrap();
        client.pttl(&lock).unwrap()
    };
    assert!(expiry() > 0, "at once");
    assert_done(&backend.extend(&owner, ttl(90_000)).await.unwrap());
    assert!(expiry() > 60_000, "at once");
    // Its node has none.
    assert_too_few(&backend.acquire(&request(&elsewhere)).await.unwrap_err(), Outcome::NotApplied);
    assert!(!backend.is_locked(&key(&elsewhere)).await.unwrap(), "the key is free");
    replica.signal(Signal::STOP);
    assert_too_few(&backend.extend(&owner, ttl(30_000)).await.unwrap_err(), Outcome::Unknown);
    assert_done(&backend.release(&owner).await.unwrap());
    assert_too_few(&backend.acquire(&request("a")).await.unwrap_err(), Outcome::NotApplied);
    replica.signal(Signal::CONT);
    take(&backend, "a").await;
}
