//! Broken connections, hung servers, refused requests: what the backend says, and how it comes back.

use std::time::{Duration, Instant};

use redis::Commands;
use syncguard::backend::{Backend, BackendExt, LookupBy, Owner};
use syncguard::lock::{Code, Outcome};
use syncguard::stores::target::Setting;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::{TempDir, free_port};
use crate::{
    assert_done, assert_held, assert_is, backend, backend_of, backend_with, eventually, granted, key,
    request, take, text, ttl,
};

#[tokio::test]
async fn forgotten_scripts_are_not_noticed() {
    let server = RedisServer::start();
    let backend = std::sync::Arc::new(backend(&server.url()));
    let mut client = server.client();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let backend = backend.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    let lease = take(&*backend, &format!("k{worker}")).await;
                    assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(5000)).await.unwrap());
                    assert!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().is_some());
                    assert_done(&backend.release(&Owner::from(lease.lock_id)).await.unwrap());
                }
            })
        })
        .collect();
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut client).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_same_request_finds_its_lease() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = std::sync::Arc::new(backend(&proxy.url()));
    take(&*backend, "warm-up").await;
    proxy.mute();
    let request = request("a");
    let lost = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { backend.acquire(&request).await }
    });
    let mut client = server.client();
    eventually("the server has granted it", async || client.exists("syncguard:a").unwrap()).await;
    proxy.cut();
    let error = lost.await.unwrap().unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::Unknown);

    let lease = granted(backend.acquire(&request).await.unwrap());
    assert_eq!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap(), Some(lease));
    assert_held(&backend.acquire(&crate::request("a")).await.unwrap());
}

#[tokio::test]
async fn a_cut_connection_comes_back_by_itself() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    take(&backend, "a").await;
    for round in 2..5 {
        proxy.cut();
        eventually("another connection, though nobody asked", async || proxy.accepted() == round).await;
    }
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert_eq!(proxy.accepted(), 4);
    // Through the server as well, and after a time of refusal.
    proxy.refuse(true);
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    proxy.refuse(false);
    eventually("another connection", async || proxy.accepted() >= 5).await;
    assert_held(&backend.acquire(&request("a")).await.unwrap());
}

#[tokio::test]
async fn a_killed_server_is_unavailable_until_it_is_back() {
    let mut server = RedisServer::start();
    let backend = backend(&server.url());
    let first = take(&backend, "a").await;
    server.kill();
    eventually("the end is noticed", async || true).await;
    let error = loop {
        let error = backend.acquire(&request("a")).await.unwrap_err();
        // The first one may have met the dying connection.
        if !error.is_unknown() {
            break error;
        }
    };
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    assert!(error.message().contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    server.restart();
    assert!(take(&backend, "a").await.fence > first.fence);
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_handshake_is_a_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let backend = backend_with(&url, &[("connectTimeoutMs", Setting::Number(150.0))]);
    let start = Instant::now();
    let (one, other) = (request("a"), request("b"));
    let (one, other) = tokio::join!(backend.acquire(&one), backend.acquire(&other));
    assert!(start.elapsed() >= Duration::from_millis(150));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert_is(&error, Code::NetworkTimeout, true, Outcome::NotApplied);
    }
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_ok());
    assert!(silent.accept().is_err(), "both waited for one attempt");
}

#[tokio::test]
async fn a_handshake_that_breaks_off_is_unavailable() {
    const HELLO: &[u8] = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let answers: Vec<&[u8]> =
        (0..HELLO.len()).map(|end| &HELLO[..end]).chain([&b"HTTP/1.1 400 Bad Request\r\n"[..]]).collect();
    for answer in answers {
        let serving = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.readable().await.unwrap();
            let _ = socket.try_read(&mut [0; 1024]);
            socket.write_all(answer).await.unwrap();
        };
        let (client, asked) = (backend(&url), request("a"));
        let (refused, ()) = tokio::join!(client.acquire(&asked), serving);
        assert_is(&refused.unwrap_err(), Code::ServiceUnavailable, true, Outcome::NotApplied);
    }
}

#[tokio::test]
async fn a_connection_that_hangs_is_replaced_once_somebody_gave_up_on_it() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    take(&backend, "a").await;
    proxy.mute();
    let hung = Instant::now();
    assert!(timeout(Duration::from_millis(50), backend.acquire(&request("b"))).await.is_err());
    tokio::time::sleep_until((hung + Duration::from_secs(1)).into()).await;
    assert_eq!(proxy.accepted(), 2);
    assert_held(&backend.acquire(&request("a")).await.unwrap());
}

#[tokio::test]
async fn abandoned_requests_poison_nothing() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "a").await;
    for i in 0..300 {
        let abandoned = request("b");
        let _ = timeout(Duration::from_micros(i * 3), backend.acquire(&abandoned)).await;
        let lease = take(&backend, "c").await;
        assert_eq!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap(), Some(lease.clone()));
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        // Behind the abandoned request on the same connection, so it can't be overtaken.
        backend.release(&Owner::from(abandoned.lock_id)).await.unwrap();
        assert!(!backend.is_locked(&key("b")).await.unwrap(), "round {i}");
    }
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
    assert_eq!(clients.lines().count(), 2, "{clients}");
}

#[tokio::test]
async fn nobody_listens_and_no_such_host() {
    let refused = backend(&format!("redis://127.0.0.1:{}", free_port()));
    let error = refused.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    assert!(error.cause().is_some());
    let unknown = backend("redis://no-such-host.invalid");
    let error = unknown.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    let dir = TempDir::new();
    let absent = backend(&format!("redis+unix://{}", dir.join("absent.sock")));
    let error = absent.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
}

#[tokio::test]
async fn refusals_are_told_apart_by_their_codes() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    let lease = take(&backend, "a").await;
    let config = |client: &mut redis::Connection, name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(client).unwrap();
    };

    config(&mut client, "maxmemory", "1");
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::RateLimited, true, Outcome::NotApplied);
    config(&mut client, "maxmemory", "0");

    config(&mut client, "min-replicas-to-write", "1");
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    config(&mut client, "min-replicas-to-write", "0");

    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(free_port()).exec(&mut client).unwrap();
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client).unwrap();

    config(&mut client, "busy-reply-threshold", "1");
    let url = server.url();
    let busy = std::thread::spawn(move || {
        let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut client).unwrap_err();
    });
    let error = loop {
        match backend.acquire(&request("b")).await {
            Ok(_) => {}
            Err(error) => break error,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    redis::cmd("SCRIPT").arg("KILL").exec(&mut client).unwrap();
    busy.join().unwrap();
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
}

#[tokio::test]
async fn passwords_are_checked_and_shown_nowhere() {
    const CANARY: &str = "c@n:a/r?y#%41 é";
    const ENCODED: &str = "c%40n%3Aa%2Fr%3Fy%23%2541%20%C3%A9";
    let server = RedisServer::with(|dir| {
        let users = dir.join("users.acl");
        let rules = [
            format!("user default on >{} ~* &* +@all", CANARY.replace(' ', "_")),
            format!("user limited on >{} ~syncguard:* +@all -@pubsub", CANARY.replace(' ', "_")),
            "user reader on nopass ~* &* +@read +@connection".to_owned(),
        ];
        std::fs::write(&users, rules.join("\n") + "\n").unwrap();
        vec!["--aclfile".into(), users]
    });
    let host = format!("127.0.0.1:{}", server.port);
    let (canary, encoded) = (CANARY.replace(' ', "_"), ENCODED.replace("%20", "_"));
    let port = Setting::Number(server.port.into());

    for good in [
        backend(&format!("redis://:{encoded}@{host}")),
        backend(&format!("redis://default:{encoded}@{host}/0")),
        backend_of(&[("port", port.clone()), ("password", text(&canary))], &[]),
        backend_of(
            &[("port", port.clone()), ("username", text("limited")), ("password", text(&canary))],
            &[],
        ),
    ] {
        let lease = take(&good, "a").await;
        assert!(!format!("{good:?} {:?}", good.capabilities().store).contains("c@n"));
        assert_done(&good.release(&Owner::from(lease)).await.unwrap());
    }
    for (bad, code) in [
        (backend(&format!("redis://{host}")), Code::AuthFailed),
        (backend(&format!("redis://:wrong-c%40n@{host}")), Code::AuthFailed),
        (backend(&format!("redis://nobody:{encoded}@{host}")), Code::AuthFailed),
        (backend(&format!("redis://reader:x@{host}")), Code::AuthFailed),
    ] {
        let error = bad.acquire(&request("a")).await.unwrap_err();
        assert_is(&error, code, false, Outcome::NotApplied);
        let shown = format!("{error:?} {error} {bad:?}");
        assert!(!shown.contains("c@n") && !shown.contains("c%40n"), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_looked_up_again() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    take(&backend, "a").await;
    let mut client = server.client();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(free_port()).exec(&mut client).unwrap();
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    eventually("another connection, since the name may lead elsewhere now", async || proxy.accepted() >= 2)
        .await;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut client).unwrap();
    take(&backend, "b").await;
}

#[tokio::test]
async fn a_server_that_is_full_is_unavailable() {
    let server = RedisServer::start();
    let mut client = server.client();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec(&mut client).unwrap();
    let backend = backend(&server.url());
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(100).exec(&mut client).unwrap();
    take(&backend, "a").await;
}

// One worker, as in the addon: its scheduler runs whoever was woken last first, which splits batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_at_the_same_time_travel_together() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "warm-up").await;
    let mut client = server.client();
    let mut reads = || -> u64 {
        let stats: String = redis::cmd("INFO").arg("stats").query(&mut client).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = reads();
    let backend = std::sync::Arc::new(backend);
    // On the worker, since this function itself runs beside it.
    let together = async move {
        let take_one = |i| {
            let backend = backend.clone();
            tokio::spawn(async move { take(&*backend, &format!("k{i}")).await })
        };
        for task in (0..64).map(take_one).collect::<Vec<_>>() {
            task.await.unwrap();
        }
    };
    tokio::spawn(together).await.unwrap();
    let reads = reads() - before;
    assert!(reads < 16, "64 requests came in {reads} reads");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_refused() {
    let server = RedisServer::start();
    let error = backend(&format!("{}/99", server.url())).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);
    let second = backend(&format!("{}/2", server.url()));
    take(&second, "a").await;
    take(&backend(&server.url()), "a").await;
}

#[tokio::test]
async fn a_hang_of_joined_requests_is_over_for_those_who_come_a_second_later() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = std::sync::Arc::new(backend(&proxy.url()));
    take(&*backend, "a").await;
    proxy.mute();
    let hung = Instant::now();
    // More than there are scripts at a time; whoever waits gives up as the engine does.
    let limit = Duration::from_millis(300);
    let callers: Vec<_> = (0..200)
        .map(|i| {
            let backend = backend.clone();
            tokio::spawn(async move { timeout(limit, backend.acquire(&request(&format!("k{i}")))).await })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap().is_err());
    }
    tokio::time::sleep_until((hung + Duration::from_secs(1)).into()).await;
    let late = request("late");
    let answer = timeout(limit, backend.acquire(&late)).await.expect("an answer from a new connection");
    granted(answer.unwrap());
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn those_who_wait_on_a_hung_connection_hear_soon_that_the_outcome_is_unknown() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    take(&backend, "a").await;
    proxy.mute();
    let error = timeout(Duration::from_secs(2), backend.acquire(&request("b"))).await.unwrap().unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::Unknown);
}

#[tokio::test]
async fn a_server_that_is_busy_keeps_its_connection() {
    let server = RedisServer::with(|_| vec!["--enable-debug-command".into(), "yes".into()]);
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    take(&backend, "a").await;
    let url = server.url();
    let busy = std::thread::spawn(move || {
        let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("DEBUG").arg("SLEEP").arg("1.5").exec(&mut client).unwrap();
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    take(&backend, "b").await;
    busy.join().unwrap();
    // What it tried meanwhile is closed again, and the old one goes on.
    let clients = || -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap();
        list.lines().filter(|line| line.contains("lib-name=syncguard") || line.contains("resp=3")).count()
    };
    eventually("one connection is left", async || clients() == 1).await;
    let lease = take(&backend, "c").await;
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_due_is_left_alone() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = backend(&proxy.url());
    for i in 0..20 {
        let _ = timeout(Duration::from_micros(i * 20), backend.acquire(&request("a"))).await;
    }
    take(&backend, "b").await;
    for i in 0..20 {
        let _ = timeout(Duration::from_micros(i * 20), backend.acquire(&request("a"))).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(proxy.accepted(), 1);
}
