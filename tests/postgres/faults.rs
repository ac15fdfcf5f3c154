//! Broken sessions, hung servers, locks that others hold: what the backend says, and how it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use syncguard::backend::{Acquired, Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::engine::{AcquireOptions, Client as Engine, ClientOptions, NoEnvironment, Policy};
use syncguard::lock::{Code, Outcome};
use syncguard::stores::postgres::PostgresBackend;
use syncguard::stores::target::Setting;
use tokio::time::timeout;

use crate::support::proxy::Proxy;
use crate::{
    ask, assert_done, assert_held, assert_is, backend, backend_with, config, eventually, granted, key,
    millis, request, server, take, ttl,
};

fn through(proxy: &Proxy) -> String {
    format!("postgres://tester@127.0.0.1:{}/postgres", proxy.port)
}

/// So that the only connection is open, and the step of clean-up that the first grant causes is over.
async fn warm_up(backend: &dyn Backend) {
    take(backend, "warm-up").await;
    take(backend, "warmer").await;
}

const KILL_OTHERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

#[tokio::test]
async fn terminated_sessions_come_back_without_help() {
    let server = server().await;
    let backend = Arc::new(backend(&server.url()));
    let killer = server.client().await;
    let over = Instant::now() + Duration::from_secs(3);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move {
                let (mut cycles, mut last_fence) = (0, None);
                while Instant::now() < over {
                    // Repeats under the same lock id until there is an answer, as the engine does.
                    let request = request(&format!("key{worker}"));
                    let lease = loop {
                        match backend.acquire(&request).await {
                            Ok(Acquired::Granted(lease)) => break lease,
                            Ok(Acquired::Held { .. }) => panic!("nobody else wants this key"),
                            Err(error) => assert!(error.is_retryable(), "{error:?}"),
                        }
                    };
                    assert!(last_fence < Some(lease.fence), "fences rise");
                    last_fence = Some(lease.fence);
                    let mut uncertain = false;
                    loop {
                        match backend.release(&Owner::from(lease.lock_id)).await {
                            Ok(Mutation::Done(())) => break,
                            Ok(Mutation::NotFound) if uncertain => break,
                            Ok(other) => panic!("our own live lease: {other:?}"),
                            Err(error) => {
                                assert!(error.is_retryable(), "{error:?}");
                                uncertain |= error.is_unknown();
                            }
                        }
                    }
                    cycles += 1;
                }
                cycles
            })
        })
        .collect();
    let mut killed = 0;
    while Instant::now() < over {
        killed += ask::<i64>(&killer, KILL_OTHERS).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    for worker in workers {
        assert!(worker.await.unwrap() > 0, "every worker gets through");
    }
    assert!(killed > 20, "only {killed} sessions were hit");
    take(&*backend, "afterwards").await;
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_same_request_finds_its_lease() {
    let server = server().await;
    let proxy = Proxy::to(server.port);
    let backend = Arc::new(backend_with(&through(&proxy), &[("poolSize", millis(1))]));
    warm_up(&*backend).await;
    proxy.mute();
    let request = request("a");
    let lost = tokio::spawn({
        let (backend, request) = (Arc::clone(&backend), request.clone());
        async move { backend.acquire(&request).await }
    });
    let client = server.client().await;
    eventually("the server has granted it", async || {
        ask::<i64>(&client, "SELECT count(*) FROM syncguard_locks WHERE key = 'a'").await == 1
    })
    .await;
    proxy.cut();
    let error = lost.await.unwrap().unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::Unknown);
    let lease = granted(backend.acquire(&request).await.unwrap());
    assert_eq!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap(), Some(lease));
    assert_held(&backend.acquire(&crate::request("a")).await.unwrap());
}

#[tokio::test]
async fn a_locked_table_is_an_error_in_time_and_goes_by() {
    let server = server().await;
    let backend = backend_with(&server.url(), &[("operationTimeoutMs", millis(600))]);
    let lease = take(&backend, "a").await;
    let client = server.client().await;
    client.batch_execute("BEGIN; LOCK TABLE syncguard_locks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let started = Instant::now();
    let (acquired, extended, looked_up) = tokio::join!(
        async { backend.acquire(&request("b")).await.unwrap_err() },
        async { backend.extend(&Owner::from(lease.clone()), ttl(60_000)).await.unwrap_err() },
        async { backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap_err() },
    );
    for error in [acquired, extended, looked_up] {
        // The server itself stopped the statement, so it is known that nothing happened.
        assert_is(&error, Code::NetworkTimeout, true, Outcome::NotApplied);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    client.batch_execute("COMMIT").await.unwrap();
    take(&backend, "b").await;
    assert_done(&backend.extend(&Owner::from(lease), ttl(60_000)).await.unwrap());
}

#[tokio::test]
async fn somebody_idle_in_a_transaction_only_blocks_his_own_key() {
    let server = server().await;
    for pool_size in [1, 4] {
        let options = [("poolSize", millis(pool_size)), ("operationTimeoutMs", millis(2000))];
        let backend = Arc::new(backend_with(&server.url(), &options));
        let client = server.client().await;
        client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('blocked'))").await.unwrap();
        let blocked: Vec<_> = (0..4)
            .map(|_| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { backend.acquire(&request("blocked")).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        for n in 0..10 {
            let lease = take(&*backend, &format!("free{n}")).await;
            assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        }
        assert!(started.elapsed() < Duration::from_secs(5), "pool of {pool_size}: {:?}", started.elapsed());
        for attempt in blocked {
            let error = attempt.await.unwrap().unwrap_err();
            assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
        }
        client.batch_execute("COMMIT").await.unwrap();
        let lease = take(&*backend, "blocked").await;
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    }
}

/// Stops or continues the server's processes.
fn signal(pids: &[i32], signal: Signal) {
    for pid in pids {
        kill_process(Pid::from_raw(*pid).unwrap(), signal).unwrap();
    }
}

#[tokio::test]
async fn a_frozen_server_is_unknown_in_time_and_leaves_no_hung_session() {
    let server = server().await;
    let options = [("operationTimeoutMs", millis(500)), ("connectTimeoutMs", millis(500))];
    let backend = backend_with(&server.url(), &options);
    take(&backend, "a").await;
    let client = server.client().await;
    let mine = "SELECT pid FROM pg_stat_activity WHERE application_name = 'syncguard'";
    let pids: Vec<i32> = client.query(mine, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(!pids.is_empty());
    signal(&pids, Signal::STOP);
    let started = Instant::now();
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::NetworkTimeout, true, Outcome::Unknown);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    // The session that hung is given up: the next request gets another one, though the old is still frozen.
    take(&backend, "c").await;
    signal(&pids, Signal::CONT);
}

#[tokio::test]
async fn a_server_that_crashed_is_found_again() {
    let server = server().await;
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    server.down("immediate");
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::ServiceUnavailable, true), "{error:?}");
    let error = backend.acquire(&request("b")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    server.up();
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
}

#[tokio::test]
async fn one_connection_serves_two_hundred_waiters() {
    let server = server().await;
    let backend = backend_with(&server.url(), &[("poolSize", millis(1))]);
    let engine = Engine::new(
        Arc::new(backend),
        ClientOptions::default(),
        Arc::new(NoEnvironment),
        tokio::runtime::Handle::current(),
    );
    let waiters: Vec<_> = (0..200)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let options = AcquireOptions {
                    key: key(&format!("k{}", n % 10)),
                    ttl: ttl(20_000),
                    keep: None,
                    observer: None,
                };
                let wanted = [("timeoutMs", millis(60_000)), ("maxRetries", millis(1000))];
                let policy = Policy::from_settings(crate::settings(&wanted)).unwrap();
                let lease = engine.lock(options, &policy, None).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_done(&engine.release(lease.lock_id, None).await.unwrap());
                (lease.key, lease.fence)
            })
        })
        .collect();
    let all = async {
        let mut fences = Vec::new();
        for waiter in waiters {
            fences.push(waiter.await.unwrap());
        }
        fences
    };
    let mut fences = timeout(Duration::from_secs(60), all).await.expect("everybody gets a turn");
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 200, "each grant has a fence of its own");
    let client = server.client().await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncguard'";
    assert!(ask::<i64>(&client, sessions).await <= 2, "one connection and one listener");
}

#[tokio::test]
async fn a_dead_session_s_statement_is_told_from_one_that_was_refused() {
    let server = server().await;
    let client = server.client().await;
    let mine = "FROM pg_stat_activity WHERE application_name = 'syncguard'";
    let backend = Arc::new(backend_with(&server.url(), &[("poolSize", millis(1))]));
    warm_up(&*backend).await;
    client.batch_execute("BEGIN; LOCK TABLE syncguard_locks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.acquire(&request("a")).await }
    });
    eventually("it waits for the table", async || {
        ask::<i64>(&client, &format!("SELECT count(*) {mine} AND wait_event_type = 'Lock'")).await == 1
    })
    .await;
    client.batch_execute(&format!("SELECT pg_cancel_backend(pid) {mine}")).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_is(&error, Code::NetworkTimeout, true, Outcome::NotApplied);

    let waiting = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.acquire(&request("a")).await }
    });
    eventually("it waits for the table", async || {
        ask::<i64>(&client, &format!("SELECT count(*) {mine} AND wait_event_type = 'Lock'")).await == 1
    })
    .await;
    client.batch_execute(&format!("SELECT pg_terminate_backend(pid) {mine}")).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::Unknown);
    client.batch_execute("ROLLBACK").await.unwrap();
    take(&*backend, "a").await;
}

#[tokio::test]
async fn errors_are_told_by_their_sqlstate() {
    let server = server().await;
    let client = server.client().await;

    let missing = backend_with(&server.url(), &[("tableName", crate::text("nowhere"))]);
    let error = missing.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);
    assert!(error.message().contains("setupSchema"), "{error:?}");
    let error = missing.watch(&key("a")).await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.message().contains("setupSchema"), "{error:?}");

    client.batch_execute("CREATE TABLE other (id int); CREATE TABLE other_fences (id int)").await.unwrap();
    let other = backend_with(
        &server.url(),
        &[("tableName", crate::text("other")), ("fenceTableName", crate::text("other_fences"))],
    );
    let error = other.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::InvalidArgument, false, Outcome::NotApplied);

    client
        .batch_execute("CREATE ROLE stranger LOGIN; CREATE ROLE guest LOGIN CONNECTION LIMIT 0")
        .await
        .unwrap();
    let url = |user: &str| format!("postgres://{user}@127.0.0.1:{}/postgres", server.port);
    let error = backend(&url("stranger")).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    let error = backend(&url("guest")).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::RateLimited, true, Outcome::NotApplied);
    let error = backend(&url("nobody_at_all")).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);

    client.batch_execute("ALTER ROLE tester SET default_transaction_read_only = on").await.unwrap();
    let error = backend(&server.url()).acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::ServiceUnavailable, true, Outcome::NotApplied);
    assert!(error.message().contains("target_session_attrs=read-write"), "{error:?}");
}

#[tokio::test]
async fn settings_of_the_role_change_nothing() {
    let server = server().await;
    let client = server.client().await;
    client
        .batch_execute(
            "ALTER ROLE tester SET default_transaction_isolation = 'serializable';
             ALTER ROLE tester SET synchronous_commit = off; ALTER ROLE tester SET statement_timeout = 0",
        )
        .await
        .unwrap();
    let backends = [Arc::new(backend(&server.url())), Arc::new(backend(&server.url()))];
    // Under SERIALIZABLE, workers on neighbouring keys would get in each other's way.
    let workers: Vec<_> = (0..8)
        .map(|n| {
            let backend = Arc::clone(&backends[n % 2]);
            tokio::spawn(async move {
                for _ in 0..50 {
                    let lease = take(&*backend, &format!("k{n}")).await;
                    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    // What a statement runs under is seen from inside it.
    client
        .batch_execute(
            "CREATE TABLE seen (isolation text, durable text, timeout text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen VALUES (current_setting('transaction_isolation'),
                     current_setting('synchronous_commit'), current_setting('statement_timeout'));
                 RETURN NEW; END $$;
             CREATE TRIGGER see BEFORE INSERT ON syncguard_locks FOR EACH ROW EXECUTE FUNCTION see()",
        )
        .await
        .unwrap();
    take(&*backends[0], "a").await;
    let seen: String = ask(&client, "SELECT concat_ws(' | ', isolation, durable, timeout) FROM seen").await;
    assert_eq!(seen, "read committed | on | 5s");
}

#[tokio::test]
async fn tables_that_are_made_anew_are_used_without_an_error() {
    let server = server().await;
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    let client = server.client().await;
    client.batch_execute("DROP TABLE syncguard_locks, syncguard_fence_counters").await.unwrap();
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.unwrap();
    assert_eq!(backend.release(&Owner::from(lease)).await.unwrap(), Mutation::NotFound);
    let lease = take(&backend, "a").await;
    client.batch_execute("ALTER TABLE syncguard_locks ALTER COLUMN fence TYPE varchar(15)").await.unwrap();
    assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(1000)).await.unwrap());
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap().is_some());
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
}

#[tokio::test]
async fn nothing_is_sent_for_a_caller_who_left_before_his_turn() {
    let server = server().await;
    let backend = Arc::new(backend_with(&server.url(), &[("poolSize", millis(1))]));
    warm_up(&*backend).await;
    let client = server.client().await;
    client.batch_execute("BEGIN; LOCK TABLE syncguard_locks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let busy = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { take(&*backend, "busy").await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let gone = timeout(Duration::from_millis(50), backend.acquire(&request("gone"))).await;
    assert!(gone.is_err(), "the only connection is busy");
    client.batch_execute("COMMIT").await.unwrap();
    busy.await.unwrap();
    take(&*backend, "last").await;
    assert!(!backend.is_locked(&key("gone")).await.unwrap());
}

#[tokio::test]
async fn no_secret_is_shown() {
    let server = server().await;
    server.append("pg_hba.conf", "");
    let hba = std::fs::read_to_string(server.data("pg_hba.conf")).unwrap();
    std::fs::write(server.data("pg_hba.conf"), hba.replace("trust", "scram-sha-256")).unwrap();
    let client = server.client().await;
    client.batch_execute("CREATE ROLE locker LOGIN PASSWORD 'right-canary'").await.unwrap();
    client.batch_execute("GRANT ALL ON syncguard_locks, syncguard_fence_counters TO locker").await.unwrap();
    server.reload();
    eventually("passwords are asked for", async || {
        let config = format!("host=127.0.0.1 port={} user=locker dbname=postgres", server.port);
        tokio_postgres::connect(&config, tokio_postgres::NoTls).await.is_err()
    })
    .await;
    let url = |password: &str| format!("postgres://locker:{password}@127.0.0.1:{}/postgres", server.port);
    let right = backend(&url("right-canary"));
    let lease = take(&right, "a").await;
    let wrong = backend(&url("wrong-canary"));
    let error = wrong.acquire(&request("a")).await.unwrap_err();
    assert_is(&error, Code::AuthFailed, false, Outcome::NotApplied);
    let none = backend(&format!("postgres://locker@127.0.0.1:{}/postgres", server.port));
    let unanswered = none.acquire(&request("a")).await.unwrap_err();
    assert_is(&unanswered, Code::AuthFailed, false, Outcome::NotApplied);
    let shown = format!(
        "{right:?} {wrong:?} {error:?} {error} {:?} {unanswered:?}",
        config(&url("right-canary"), &[])
    );
    assert!(!shown.contains("canary") && !shown.contains(lease.lock_id.as_str()), "{shown}");
}

#[tokio::test]
async fn a_closed_backend_leaves_no_session() {
    let server = server().await;
    let backend = backend_with(&server.url(), &[("cleanupInIsLocked", Setting::Flag(true))]);
    take(&backend, "a").await;
    let watch = backend.watch(&key("a")).await.unwrap();
    backend.close().await.unwrap();
    drop(watch);
    let client = server.client().await;
    eventually("its sessions end", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncguard'";
        ask::<i64>(&client, sessions).await == 0
    })
    .await;
}
