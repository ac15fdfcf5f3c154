//! A master behind a sentinel, and its failover.

use std::time::Duration;

use syncguard::backend::{Backend, Owner};
use syncguard::lock::{Code, Outcome};
use syncguard::stores::target::Setting;
use tokio::time::timeout;

use crate::support::free_port;
use crate::support::redis_cluster::Sentinels;
use crate::{assert_done, backend, backend_of, backend_with, key, request, take, text};

#[tokio::test]
async fn the_sentinels_master_is_used_and_its_successor_found() {
    let mut sentinels = Sentinels::start();
    let backend = backend(&sentinels.url());
    let first = take(&backend, "a").await;
    assert_done(&backend.release(&Owner::from(first.clone())).await.unwrap());
    let watch = backend.watch(&key("a")).await.unwrap();
    sentinels.servers[0].kill();
    timeout(Duration::from_secs(20), watch.hint()).await.expect("the new master is found without help");
    let second = take(&backend, "a").await;
    assert!(second.fence > first.fence);
    let stored: bool =
        redis::cmd("EXISTS").arg("syncguard:a").query(&mut sentinels.servers[1].client()).unwrap();
    assert!(stored);
}

#[tokio::test]
async fn a_demoted_master_is_left() {
    leaves_a_demoted_master(&Sentinels::start()).await;
}

#[tokio::test]
async fn a_demoted_master_of_version_6_is_left() {
    leaves_a_demoted_master(&Sentinels::old()).await;
}

async fn leaves_a_demoted_master(sentinels: &Sentinels) {
    let backend = backend(&sentinels.url());
    take(&backend, "a").await;
    redis::cmd("SENTINEL").arg("FAILOVER").arg("main").exec(&mut sentinels.sentinel.client()).unwrap();
    for round in 0.. {
        assert!(round < 3000, "the new master is never found");
        match backend.acquire(&request(&format!("k{round}"))).await {
            Ok(_) => {
                // Sentinels cut everybody off who is connected while they change a server's role.
                let ask = |command: &mut redis::Cmd| -> redis::Value {
                    command.query(&mut sentinels.servers[1].client()).unwrap_or(redis::Value::Nil)
                };
                let role = ask(&mut redis::cmd("ROLE"));
                let is_master = matches!(&role, redis::Value::Array(parts) if parts[0] == redis::Value::BulkString(b"master".to_vec()));
                if is_master
                    && ask(redis::cmd("EXISTS").arg(format!("syncguard:k{round}"))) == redis::Value::Int(1)
                {
                    return;
                }
            }
            Err(error) => assert_eq!(
                (error.code(), error.is_retryable()),
                (Code::ServiceUnavailable, true),
                "{error:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_the_sentinel_calls_a_master_must_be_one() {
    let sentinels = Sentinels::of_one();
    let mut client = sentinels.servers[0].client();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(free_port()).exec(&mut client).unwrap();
    let backend = backend(&sentinels.url());
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::NotApplied));
    assert!(error.is_retryable() && error.message().contains("no master"), "{error}");
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client).unwrap();
    take(&backend, "a").await;
}

#[tokio::test]
async fn one_reachable_sentinel_is_enough_and_an_unknown_name_is_said() {
    let sentinels = Sentinels::start();
    let list = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), sentinels.sentinel.port);
    let facts = [("sentinels", text(&list)), ("sentinelName", text("main")), ("db", Setting::Number(1.0))];
    take(&backend_of(&facts, &[]), "a").await;

    let error =
        backend(&sentinels.url().replace("/main", "/other")).acquire(&request("a")).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::NotApplied));
    assert!(error.message().contains("\"other\""), "{error}");
    let nobody = backend_with(&format!("redis-sentinel://127.0.0.1:{}/main", free_port()), &[]);
    let error = nobody.acquire(&request("a")).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ServiceUnavailable, Outcome::NotApplied));
}
