//! The user of docs/redis.md, with exactly those rights.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, Find, HandOver, LookupBy, Owner, Span, Yield};
use syncguard::lock::{Error, Result};
use tokio::time::timeout;

use crate::conformance::RedisFixture;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend, granted, key, request, take, ttl};

pub const LOGIN: &str = "syncguard:PASSWORD@";

/// The rules as the guide has them.
pub fn rules() -> Vec<&'static str> {
    let guide = include_str!("../../docs/redis.md");
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER ")).expect("a line of the guide");
    line.split_ascii_whitespace().collect()
}

pub fn create(server: &RedisServer, rules: &[&str]) {
    redis::cmd(rules[0]).arg(&rules[1..]).exec(&mut server.client()).unwrap();
}

fn server() -> RedisServer {
    let server = RedisServer::start();
    create(&server, &rules());
    server
}

mod conformance {
    use super::{LOGIN, Mutex, RedisFixture, Weak, server};

    syncguard::conformance_suite!({
        static SERVER: Mutex<Weak<crate::support::redis_server::RedisServer>> = Mutex::new(Weak::new());
        RedisFixture::on(&SERVER, server).by(LOGIN)
    });
}

/// Everything once, many at a time as well, and what is done beside the answer.
async fn everything(server: &RedisServer) -> Result<()> {
    let ours = Arc::new(backend(&server.url_for(LOGIN)));
    // Twice, so that the counters are there, and many of them are written at once.
    for _ in 0..2 {
        let many: Vec<_> = (0..40)
            .map(|i| {
                let ours = ours.clone();
                tokio::spawn(async move {
                    let asked = request(&format!("k{i}"));
                    ours.acquire(&asked).await?;
                    ours.release(&Owner::from(asked.lock_id)).await
                })
            })
            .collect();
        for one in many {
            one.await.unwrap()?;
        }
    }
    let asked = request("a");
    let lease = granted(ours.acquire(&asked).await?);
    ours.acquire(&request("a")).await?;
    let watch = ours.watch(&key("a")).await?;
    ours.extend(&Owner::from(lease.clone()), ttl(9000)).await?;
    ours.extend(&Owner::from(lease.lock_id), ttl(9000)).await?;
    ours.lookup(LookupBy::Key(&key("a"))).await?;
    ours.lookup(LookupBy::LockId(&lease.lock_id)).await?;
    let listed = ours.find(Find::Prefix(Span { prefix: "a", limit: 10, cursor: None })).await?;
    assert_eq!(listed.leases.len(), 1);
    let (owner, next) = (Owner::from(lease), request("a"));
    let handed =
        ours.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 1 } }).await?;
    let lease = handed.next.map(granted).ok_or_else(|| Error::internal("nobody else waits"))?;
    ours.release(&Owner::from(lease)).await?;
    timeout(Duration::from_secs(2), watch.hint()).await.map_err(|_| Error::unavailable("no hint came"))?;
    // Nobody watches any more, which the server is told behind the answer.
    drop(watch);
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

/// What was denied, as the server noted it.
fn denied(server: &RedisServer) -> Vec<String> {
    let log: Vec<std::collections::HashMap<String, redis::Value>> =
        redis::cmd("ACL").arg("LOG").query(&mut server.client()).unwrap();
    log.iter().map(|entry| format!("{:?}", entry["object"])).collect()
}

#[tokio::test]
async fn nothing_that_is_done_is_denied() {
    let server = server();
    everything(&server).await.unwrap();
    assert_eq!(denied(&server), Vec::<String>::new());
    let foreign = backend(&server.url_for(LOGIN)).acquire(&request("x")).await;
    assert_done(&backend(&server.url()).release(&Owner::from(granted(foreign.unwrap()))).await.unwrap());
    // Nor may it do more.
    let mut theirs = redis::Client::open(server.url_for(LOGIN)).unwrap().get_connection().unwrap();
    for beyond in [["GET", "other"], ["KEYS", "syncguard:*"], ["CONFIG", "GET"], ["PUBLISH", "other"]] {
        let refused = redis::cmd(beyond[0]).arg(&beyond[1..]).arg("x").exec(&mut theirs);
        assert!(refused.is_err(), "{beyond:?}");
    }
}

#[tokio::test]
async fn each_right_that_the_guide_names_is_needed() {
    let rules = rules();
    for given in rules.iter().filter(|rule| rule.starts_with('+')) {
        // For a cluster, for sentinels, for an option, and for servers without RESP3.
        if ["+cluster|slots", "+cluster|info", "+role", "+ping", "+select", "+client|setname", "+eval"]
            .contains(given)
        {
            continue;
        }
        let server = RedisServer::start();
        let without: Vec<&str> = rules.iter().filter(|rule| *rule != given).copied().collect();
        create(&server, &without);
        let failed = everything(&server).await.is_err();
        // What a wake-up or a subscription's end needs fails silently.
        assert!(failed || !denied(&server).is_empty(), "{given} is not needed");
    }
    let server = RedisServer::start();
    let without: Vec<&str> = rules.iter().filter(|rule| **rule != "+eval").copied().collect();
    create(&server, &without);
    assert!(everything(&server).await.is_err(), "+eval is not needed");
    take(&backend(&server.url()), "a").await;
}
