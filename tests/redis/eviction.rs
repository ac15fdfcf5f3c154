//! The warning of a server that may evict locks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::Value;
use syncguard::backend::{Backend, BackendExt, Surroundings, Warning, Warnings};
use syncguard::stores::redis::{RedisBackend, RedisConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

use crate::support::lag::Lag;
use crate::support::proxy::Proxy;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::{eventually, key, request, settings, take};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Warning>>);

impl Warnings for Heard {
    fn warn(&self, warning: Warning) {
        self.0.lock().unwrap().push(warning);
    }
}

impl Heard {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn hearing(url: String, replicas: u32) -> (RedisBackend, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let options = settings(&[("replicas", Setting::Number(replicas.into()))]);
    let config = RedisConfig::from_target(Target::Url(url), options, Password::None).unwrap();
    let surroundings = Surroundings { warnings: heard.clone(), ..Surroundings::default() };
    (RedisBackend::new(config.within(&surroundings)), heard)
}

fn server(limit: &str, policy: &str) -> RedisServer {
    let (limit, policy) = (limit.to_owned(), policy.to_owned());
    RedisServer::with(|_| vec!["--maxmemory".into(), limit, "--maxmemory-policy".into(), policy])
}

/// How often a command was sent, granted or denied.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut server.client()).unwrap();
    let Some(line) = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))) else {
        return 0;
    };
    let count = |name: &str| -> u64 {
        let (_, rest) = line.split_once(name).expect("a count");
        rest.split(',').next().unwrap().trim_end().parse().unwrap()
    };
    count(":calls=") + count(",rejected_calls=")
}

#[tokio::test]
async fn a_server_that_may_evict_is_warned_of_once_whatever_connections_come() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = server("100mb", policy);
        let (backend, heard) = hearing(server.url_for("default:secret@"), 0);
        redis::cmd("CONFIG").arg(&["SET", "requirepass", "secret"]).exec(&mut server.client()).unwrap();
        take(&backend, "a").await;
        eventually("a warning", async || heard.count() > 0).await;
        let warning = heard.0.lock().unwrap()[0].clone();
        assert_eq!((warning.kind, warning.code), ("LockEviction", "SYNCGUARD_EVICTION"));
        for part in [policy, "127.0.0.1", &server.port.to_string(), "noeviction", "fence"] {
            assert!(warning.text.contains(part), "{part}: {}", warning.text);
        }
        assert!(!warning.text.contains("secret"), "{}", warning.text);
        let mut admin =
            redis::Client::open(server.url_for("default:secret@")).unwrap().get_connection().unwrap();
        for round in ["b", "c"] {
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec(&mut admin).unwrap();
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec(&mut admin).unwrap();
            while backend.acquire(&request(round)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(heard.count(), 1);
    }
}

#[tokio::test]
async fn the_connections_of_a_backend_ask_one_server_once() {
    let server = server("100mb", "allkeys-lfu");
    let (backend, heard) = hearing(server.url(), 1);
    let before = calls(&server, "info");
    // No replica is there: both connections are used, for the grant and to take it back.
    backend.acquire(&request("a")).await.unwrap_err();
    eventually("a warning", async || heard.count() > 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    // One is this test's own.
    assert_eq!((heard.count(), calls(&server, "info") - before), (1, 2));
}

#[tokio::test]
async fn the_nodes_of_a_cluster_give_one_warning() {
    let cluster = RedisCluster::start();
    for node in &cluster.nodes {
        let mut client = node.client();
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", "100mb"]).exec(&mut client).unwrap();
        redis::cmd("CONFIG").arg(&["SET", "maxmemory-policy", "volatile-lru"]).exec(&mut client).unwrap();
    }
    let (backend, heard) = hearing(cluster.url(), 0);
    for name in ["a", "b", "c", "d", "e", "f"] {
        take(&backend, name).await;
    }
    eventually("a warning", async || heard.count() > 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(heard.count(), 1);
}

#[tokio::test]
async fn a_server_that_evicts_nothing_is_not_warned_of() {
    for (limit, policy) in [("100mb", "noeviction"), ("0", "allkeys-lru")] {
        let server = server(limit, policy);
        let (backend, heard) = hearing(server.url(), 0);
        let before = calls(&server, "info");
        take(&backend, "a").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // One is this test's own.
        assert_eq!((heard.count(), calls(&server, "info") - before), (0, 2), "{limit} {policy}");
    }
}

#[tokio::test]
async fn one_of_two_ways_to_ask_is_enough_and_without_both_there_is_silence() {
    let server = server("100mb", "allkeys-random");
    for (user, denied, warnings) in
        [("a", "-info", 1), ("b", "-config", 1), ("c", "-@admin -info -config", 0)]
    {
        let rules = format!("{user} on >pw ~* &* +@all {denied}");
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg(rules.split(' ').collect::<Vec<_>>())
            .exec(&mut server.client())
            .unwrap();
        let (backend, heard) = hearing(server.url_for(&format!("{user}:pw@")), 0);
        take(&backend, user).await;
        let last = if warnings > 0 { "a warning" } else { "the last denial" };
        eventually(last, async || heard.count() > 0 || (warnings == 0 && was_denied(&server, "config|get")))
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(heard.count(), warnings, "{denied}");
        assert!(backend.is_locked(&key(user)).await.unwrap());
        redis::cmd("ACL").arg(&["LOG", "RESET"]).exec(&mut server.client()).unwrap();
    }
}

fn was_denied(server: &RedisServer, command: &str) -> bool {
    let log: Value = redis::cmd("ACL").arg("LOG").query(&mut server.client()).unwrap();
    format!("{log:?}").contains(command)
}

#[tokio::test]
async fn a_server_from_before_resp3_is_asked_too() {
    let old = RedisServer::old(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let (backend, heard) = hearing(old.url(), 0);
    take(&backend, "a").await;
    eventually("a warning", async || heard.count() > 0).await;
}

#[tokio::test]
async fn nobody_waits_for_the_answer() {
    const ONE_WAY: Duration = Duration::from_millis(100);
    let server = server("100mb", "allkeys-lru");
    let proxy = Proxy::to(server.port);
    proxy.delay(ONE_WAY);
    let (backend, heard) = hearing(proxy.url(), 0);
    let lag = Lag::measure();
    let start = Instant::now();
    // There and back to connect, and again to ask.
    assert!(!backend.is_locked(&key("a")).await.unwrap());
    let took = start.elapsed();
    assert!(took < ONE_WAY * 5 + lag.total(), "{took:?}");
    eventually("a warning", async || heard.count() > 0).await;
}
