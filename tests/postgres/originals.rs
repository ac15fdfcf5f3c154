//! Beside the TypeScript library: the same rows, the same serialising.

use std::sync::Arc;
use std::time::{Duration, Instant};

use syncguard::backend::{Acquired, Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::lock::{Code, Fence, Timestamp};
use tokio_postgres::Client;

use crate::{
    ask, assert_done, assert_held, backend, backend_with, eventually, key, millis, request, server, take, ttl,
};

#[tokio::test]
async fn rows_are_those_of_the_contract() {
    let server = server().await;
    let backend = backend(&server.url());
    let client = server.client().await;
    let name = "clé '; DROP TABLE x; --";
    let lease = take(&backend, name).await;
    let row = client.query_one("SELECT * FROM syncguard_locks", &[]).await.unwrap();
    let columns: Vec<&str> = row.columns().iter().map(tokio_postgres::Column::name).collect();
    assert_eq!(columns, ["key", "lock_id", "expires_at_ms", "acquired_at_ms", "fence", "user_key"]);
    assert_eq!(row.get::<_, &str>("key"), name);
    assert_eq!(row.get::<_, &str>("user_key"), name);
    assert_eq!(row.get::<_, &str>("lock_id"), lease.lock_id.as_str());
    assert_eq!(row.get::<_, &str>("fence"), lease.fence.to_string());
    let times = (row.get::<_, i64>("acquired_at_ms"), row.get::<_, i64>("expires_at_ms"));
    assert_eq!(u64::try_from(times.0).unwrap(), lease.acquired_at.as_millis());
    assert_eq!(times, (times.1 - 30_000, times.0 + 30_000));
    let row = client.query_one("SELECT * FROM syncguard_fence_counters", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>("fence_key"), format!("fence:{name}"));
    assert_eq!(u64::try_from(row.get::<_, i64>("fence")).unwrap(), lease.fence.value());
    assert_eq!(row.get::<_, Option<&str>>("key_debug"), Some(name));
}

#[tokio::test]
async fn records_of_the_original_are_read_and_counted_on() {
    let server = server().await;
    let backend = backend(&server.url());
    let client = server.client().await;
    let now = i64::try_from(Timestamp::now().as_millis()).unwrap();
    client
        .execute(
            "INSERT INTO syncguard_locks VALUES ('a', 'AAAAAAAAAAAAAAAAAAAAAA', $1, $2, '000000000000001', 'a')",
            &[&(now + 60_000), &now],
        )
        .await
        .unwrap();
    client.execute("INSERT INTO syncguard_fence_counters VALUES ('fence:a', 1, NULL)", &[]).await.unwrap();
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    let lease = backend.lookup(LookupBy::Key(&key("a"))).await.unwrap().unwrap();
    assert_eq!(lease.fence, Fence::new(1).unwrap());
    assert_done(&backend.extend(&Owner::from(lease.lock_id), ttl(1000)).await.unwrap());
    assert_done(&backend.release(&Owner::from(lease.lock_id)).await.unwrap());
    assert!(take(&backend, "a").await.fence > lease.fence);
}

/// As the original acquires: the advisory lock, a look without a row lock, and an upsert without condition.
async fn acquire_as_original(client: &mut Client, id: &str) -> bool {
    let transaction = client.transaction().await.unwrap();
    transaction.query("SELECT pg_advisory_xact_lock(hashtext('edge'))", &[]).await.unwrap();
    let look = "SELECT count(*) FROM syncguard_locks WHERE key = 'edge'
        AND expires_at_ms > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1000";
    let held: i64 = transaction.query_one(look, &[]).await.unwrap().get(0);
    if held > 0 {
        transaction.rollback().await.unwrap();
        return false;
    }
    // The gap in which an extend that takes no advisory lock would succeed.
    tokio::time::sleep(Duration::from_millis(3)).await;
    let upsert = "INSERT INTO syncguard_locks
        SELECT 'edge', $1, now_ms + 60000, now_ms, '000000000000002', 'edge'
        FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) clock
        ON CONFLICT (key) DO UPDATE SET lock_id = excluded.lock_id, expires_at_ms = excluded.expires_at_ms";
    transaction.execute(upsert, &[&id]).await.unwrap();
    transaction.commit().await.unwrap();
    true
}

/// The store's clock decides, so the edge can be moved to the extends instead of waiting for it.
#[tokio::test]
async fn an_extend_at_the_edge_and_an_acquire_of_the_original_never_both_succeed() {
    let server = server().await;
    let backend = Arc::new(backend(&server.url()));
    let mut client = server.client().await;
    // An extend is slow between its look at the clock and its commit, as on a busy machine.
    client
        .batch_execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE UPDATE ON syncguard_locks FOR EACH ROW
                 WHEN (new.lock_id = old.lock_id AND new.expires_at_ms > old.expires_at_ms + 30000)
                 EXECUTE FUNCTION slow()",
        )
        .await
        .unwrap();
    let (mut extended, mut taken) = (0, 0);
    for round in 0..60 {
        client.batch_execute("DELETE FROM syncguard_locks").await.unwrap();
        let lease = take(&*backend, "edge").await;
        let to_the_edge = "UPDATE syncguard_locks
            SET expires_at_ms = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1000 + 8";
        client.batch_execute(to_the_edge).await.unwrap();
        let extending = tokio::spawn({
            let backend = Arc::clone(&backend);
            async move {
                tokio::time::sleep(Duration::from_micros(150 * (round % 60))).await;
                loop {
                    match backend.extend(&Owner::from(lease.lock_id), ttl(60_000)).await {
                        Ok(answer) => return matches!(answer, Mutation::Done(_)),
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                }
            }
        });
        let deadline = Instant::now() + Duration::from_millis(20);
        let mut original = false;
        while !original && Instant::now() < deadline {
            original = acquire_as_original(&mut client, "BBBBBBBBBBBBBBBBBBBBBB").await;
        }
        let ours = extending.await.unwrap();
        assert!(!(ours && original), "round {round}: two holders");
        extended += u32::from(ours);
        taken += u32::from(original);
    }
    assert!(extended > 0 && taken > 0, "both sides of the edge were met: {extended} and {taken}");
}

#[tokio::test]
async fn a_lock_that_the_original_is_changing_is_waited_for() {
    let server = server().await;
    let backend = Arc::new(backend_with(&server.url(), &[("poolSize", millis(2))]));
    let lease = take(&*backend, "a").await;
    let client = server.client().await;
    client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('a'))").await.unwrap();
    let releasing = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.release(&Owner::from(lease)).await }
    });
    eventually("the release waits", async || {
        ask::<i64>(&client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await
            == 1
    })
    .await;
    client.batch_execute("DELETE FROM syncguard_locks WHERE key = 'a'; COMMIT").await.unwrap();
    assert_eq!(releasing.await.unwrap().unwrap(), Mutation::NotFound, "what it waited for counts");

    // The same for an acquire: the look came before the other's commit, the answer comes after it.
    client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('a'))").await.unwrap();
    let acquiring = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { backend.acquire(&request("a")).await }
    });
    eventually("the acquire waits", async || {
        ask::<i64>(&client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await
            == 1
    })
    .await;
    let now = i64::try_from(Timestamp::now().as_millis()).unwrap();
    let insert =
        "INSERT INTO syncguard_locks VALUES ('a', 'BBBBBBBBBBBBBBBBBBBBBB', $1, $2, '000000000000001', 'a')";
    client.execute(insert, &[&(now + 60_000), &now]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(acquiring.await.unwrap().unwrap(), Acquired::Held { .. }));
    let fences: i64 = ask(&client, "SELECT count(*) FROM syncguard_fence_counters").await;
    assert_eq!(fences, 1, "no second grant, no second fence");
}

#[tokio::test]
async fn joined_requests_answer_each_their_own() {
    let server = server().await;
    // One connection, so that requests have to share statements.
    let backend = Arc::new(backend_with(&server.url(), &[("poolSize", millis(1))]));
    let client = server.client().await;
    client
        .batch_execute(
            "INSERT INTO syncguard_locks VALUES ('broken', 'nobody', 0, 0, 'none', 'broken');
             INSERT INTO syncguard_fence_counters VALUES ('fence:spent', 900000000000000)",
        )
        .await
        .unwrap();
    let held = take(&*backend, "held").await;
    let names = ["free", "held", "broken", "spent", "free", "other", "held", "last"];
    for _ in 0..5 {
        let asking: Vec<_> = (0..64)
            .map(|n| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { backend.acquire(&request(names[n % names.len()])).await })
            })
            .collect();
        let mut leases = Vec::new();
        for (n, answer) in asking.into_iter().enumerate() {
            match (names[n % names.len()], answer.await.unwrap()) {
                ("held", Ok(Acquired::Held { free_in })) => assert!(free_in > Some(Duration::from_secs(20))),
                ("broken" | "spent", Err(error)) => {
                    assert_eq!(error.code(), Code::Internal, "{error:?}");
                    assert!(!error.is_unknown(), "{error:?}");
                }
                ("free" | "other" | "last", Ok(Acquired::Granted(lease))) => leases.push(lease),
                ("free" | "other" | "last", Ok(Acquired::Held { .. })) => {}
                (name, answer) => panic!("{name}: {answer:?}"),
            }
        }
        assert_eq!(leases.len(), 3, "each free key is granted once");
        let owners: Vec<_> = leases.iter().cloned().map(|lease| (Owner::from(lease), ttl(90_000))).collect();
        for answer in backend.extend_many(&owners).await {
            assert_done(&answer.unwrap());
        }
        let releasing: Vec<_> = leases
            .into_iter()
            .map(|lease| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { backend.release(&Owner::from(lease)).await })
            })
            .collect();
        for answer in releasing {
            assert_done(&answer.await.unwrap().unwrap());
        }
    }
    assert_done(&backend.release(&Owner::from(held)).await.unwrap());
}

#[tokio::test]
async fn expired_rows_go_in_small_steps_and_fences_never_do() {
    let server = server().await;
    let client = server.client().await;
    client
        .batch_execute(
            "INSERT INTO syncguard_locks SELECT 'old' || n, lpad(n::text, 22, '0'),
                 floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 3600000 + n, 0, '000000000000001', 'old' || n
             FROM generate_series(1, 250) n;
             INSERT INTO syncguard_fence_counters SELECT 'fence:old' || n, 1 FROM generate_series(1, 250) n;
             INSERT INTO syncguard_locks VALUES ('garbled', 'nobody', 5, 0, 'none', 'garbled');
             INSERT INTO syncguard_locks SELECT 'recent', 'CCCCCCCCCCCCCCCCCCCCCC',
                 floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 60000, 0, '000000000000001', 'recent'",
        )
        .await
        .unwrap();
    let backend = backend(&server.url());
    let mut lowest = 250;
    eventually("all of the old ones go", async || {
        let lease = take(&backend, "a").await;
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        let left: i64 = ask(&client, "SELECT count(*) FROM syncguard_locks WHERE key LIKE 'old%'").await;
        assert!(lowest - left <= 200, "a step is small");
        lowest = left;
        left == 0
    })
    .await;
    let kept: String = ask(&client, "SELECT string_agg(key, ' ' ORDER BY key) FROM syncguard_locks").await;
    assert_eq!(kept, "garbled recent", "neither what can't be read nor what has just expired");
    let fences: i64 = ask(&client, "SELECT count(*) FROM syncguard_fence_counters").await;
    assert_eq!(fences, 251);
}
