//! Fences rise whatever became of their counters, and what can't be read is never deleted.

use std::sync::Arc;

use syncguard::backend::{Backend, BackendExt, HandOver, Owner, Yield};
use syncguard::lock::{Code, Fence, FenceRetention};
use syncguard::stores::postgres::PostgresBackend;

use crate::support::postgres_server::PostgresServer;
use crate::{ask, assert_done, backend, eventually, granted, key, request, server, take};

const EXPIRED: &str = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 3600000";

#[tokio::test]
async fn a_fence_is_above_that_of_the_lease_that_is_stored() {
    let server = server().await;
    let client = server.client().await;
    let backend = backend(&server.url());
    for (name, stored) in [("alone", 89_000_000_000_000_i64), ("behind", 88_000_000_000_001)] {
        client
            .batch_execute(&format!(
                "INSERT INTO syncguard_locks VALUES ('{name}', lpad('{name}', 22, 'A'), {EXPIRED}, 0, '{stored:015}', '{name}')"
            ))
            .await
            .unwrap();
        if name == "behind" {
            client
                .batch_execute(&format!("INSERT INTO syncguard_fence_counters VALUES ('fence:{name}', 7)"))
                .await
                .unwrap();
        }
        let lease = take(&backend, name).await;
        assert_eq!(i64::try_from(lease.fence.value()).unwrap(), stored + 1, "{name}");
        let counter: i64 = ask(
            &client,
            &format!("SELECT fence FROM syncguard_fence_counters WHERE fence_key = 'fence:{name}'"),
        )
        .await;
        assert_eq!(counter, stored + 1, "the counter goes with it");
        // Handed over, while the counter was lost.
        client.batch_execute("DELETE FROM syncguard_fence_counters").await.unwrap();
        let next = request(name);
        let owner = Owner::from(lease);
        let handed =
            backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
        let fence = granted(handed.next.unwrap()).fence;
        assert_eq!(i64::try_from(fence.value()).unwrap(), stored + 2, "{name}");
    }
    // Joined requests go by another statement.
    client
        .batch_execute(&format!(
            "INSERT INTO syncguard_locks SELECT 'many' || n, lpad(n::text, 22, 'B'), {EXPIRED}, 0,
                 (87000000000000 + n)::text, 'many' || n FROM generate_series(1, 60) n"
        ))
        .await
        .unwrap();
    let backend = std::sync::Arc::new(backend);
    let taking: Vec<_> = (1..=60u64)
        .map(|n| {
            let backend = backend.clone();
            tokio::spawn(async move { (n, take(&*backend, &format!("many{n}")).await) })
        })
        .collect();
    for taken in taking {
        let (n, lease) = taken.await.unwrap();
        assert_eq!(lease.fence.value(), 87_000_000_000_001 + n);
    }
}

#[tokio::test]
async fn no_fence_is_minted_above_the_last_one_after_a_stored_lease() {
    let server = server().await;
    let client = server.client().await;
    let last = Fence::MAX.value();
    client
        .batch_execute(&format!(
            "INSERT INTO syncguard_locks VALUES ('a', lpad('', 22, 'A'), {EXPIRED}, 0, '{last:015}', 'a')"
        ))
        .await
        .unwrap();
    let error = backend(&server.url()).acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    let counters: i64 = ask(&client, "SELECT count(*) FROM syncguard_fence_counters").await;
    assert_eq!(counters, 0, "nothing is written");
}

#[tokio::test]
async fn clean_up_leaves_every_row_that_it_can_t_read() {
    let server = server().await;
    let client = server.client().await;
    client
        .batch_execute(&format!(
            "INSERT INTO syncguard_locks VALUES
                 ('foreign key', lpad('1', 22, 'A'), {EXPIRED}, 0, '000000000000001', 'another'),
                 ('never acquired', lpad('2', 22, 'A'), {EXPIRED}, -5, '000000000000001', 'never acquired'),
                 ('far future', lpad('3', 22, 'A'), {EXPIRED}, 8640000000000001, '000000000000001', 'far future'),
                 ('odd fence', lpad('4', 22, 'A'), {EXPIRED}, 0, '1e5', 'odd fence'),
                 ('odd id', 'nobody', {EXPIRED}, 0, '000000000000001', 'odd id'),
                 ('', lpad('5', 22, 'A'), {EXPIRED}, 0, '000000000000001', ''),
                 (repeat('x', 513), lpad('6', 22, 'A'), {EXPIRED}, 0, '000000000000001', repeat('x', 513)),
                 ('good', lpad('7', 22, 'A'), {EXPIRED}, 0, '000000000000001', 'good')"
        ))
        .await
        .unwrap();
    let backend = backend(&server.url());
    eventually("the good one goes", async || {
        let lease = take(&backend, "a").await;
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        ask::<i64>(&client, "SELECT count(*) FROM syncguard_locks WHERE key = 'good'").await == 0
    })
    .await;
    let kept: i64 = ask(&client, "SELECT count(*) FROM syncguard_locks").await;
    assert_eq!(kept, 7);
    let unreadable = crate::backend_with(
        &server.url(),
        &[("cleanupInIsLocked", syncguard::stores::target::Setting::Flag(true))],
    );
    for name in ["foreign key", "never acquired", "far future", "odd fence", "odd id"] {
        let error = unreadable.is_locked(&key(name)).await.unwrap_err();
        assert!(error.code() == Code::Internal && error.message().contains(name), "{error:?}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(ask::<i64>(&client, "SELECT count(*) FROM syncguard_locks").await, 7);
}

const COUNTERS: &str = "SELECT count(*) FROM syncguard_fence_counters";

fn forgetful(server: &PostgresServer, retention: u64) -> Arc<PostgresBackend> {
    let mut config = crate::config(&server.url(), &[]);
    config.fence_retention = Some(FenceRetention::unchecked_from_millis(retention));
    Arc::new(PostgresBackend::new(config))
}

/// For a million keys: `SYNCGUARD_TEST_KEYS=1000000 cargo test --test postgres stays_as_small`.
#[tokio::test]
async fn the_table_of_counters_stays_as_small_as_the_retention_asks_for() {
    let server = server().await;
    let client = server.client().await;
    // By the time of the next grant, every counter is old.
    let backend = forgetful(&server, 1);
    let keys: usize = std::env::var("SYNCGUARD_TEST_KEYS").map_or(4_800, |keys| keys.parse().unwrap());
    let mut last = None;
    for round in 1..=keys / 800 {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move {
                    for number in 0..200 {
                        let lease = take(&*backend, &format!("order:{round}:{worker}:{number}")).await;
                        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        // A key that comes back when its counter may have gone.
        let lease = take(&*backend, "again").await;
        assert!(last < Some(lease.fence), "fences rise without their counter, too");
        last = Some(lease.fence);
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        // What autovacuum does in its own time, which is short beside a day.
        client.batch_execute("VACUUM syncguard_fence_counters").await.unwrap();
        let counters: i64 = ask(&client, COUNTERS).await;
        println!("{counters} counters after {} keys", round * 800);
        assert!(counters < 2 * 800, "{counters} counters after {} keys", round * 800);
    }
}

#[tokio::test]
async fn counters_that_are_held_locked_young_or_of_somebody_else_stay() {
    let server = server().await;
    let mut client = server.client().await;
    let looking = server.client().await;
    client
        .batch_execute(
            "INSERT INTO syncguard_fence_counters SELECT 'fence:old' || n, n FROM generate_series(1, 500) n;
             INSERT INTO syncguard_fence_counters VALUES ('fence:locked', 1), ('fence:held', 1), ('of somebody else', 1);
             INSERT INTO syncguard_fence_counters SELECT 'fence:young',
                 floor(extract(epoch FROM clock_timestamp()) * 10000)::bigint - 500000;
             INSERT INTO syncguard_fence_counters SELECT 'fence:ahead',
                 floor(extract(epoch FROM clock_timestamp()) * 10000)::bigint + 9000000;
             INSERT INTO syncguard_locks SELECT 'held', lpad('h', 22, 'A'),
                 floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + 600000, 0, '000000000000001', 'held'",
        )
        .await
        .unwrap();
    let locking = client.transaction().await.unwrap();
    locking.query("SELECT pg_advisory_xact_lock(hashtext('locked'))", &[]).await.unwrap();
    let backend = forgetful(&server, 60_000);
    let cycle = async || {
        for _ in 0..40 {
            let lease = take(&*backend, "a").await;
            assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        }
    };
    eventually("the old ones go", async || {
        cycle().await;
        ask::<i64>(&looking, &format!("{COUNTERS} WHERE fence_key LIKE 'fence:old%'")).await == 0
    })
    .await;
    for _ in 0..10 {
        cycle().await;
    }
    let kept =
        "SELECT string_agg(fence_key, ', ' ORDER BY fence_key COLLATE \"C\") FROM syncguard_fence_counters";
    let all = "fence:a, fence:ahead, fence:held, fence:locked, fence:young, of somebody else";
    assert_eq!(ask::<String>(&looking, kept).await, all);
    locking.commit().await.unwrap();
    eventually("nobody locks it any more", async || {
        cycle().await;
        ask::<i64>(&looking, &format!("{COUNTERS} WHERE fence_key = 'fence:locked'")).await == 0
    })
    .await;
    // Without a retention nothing of this happens: a day is the least that a user may say.
    let everlasting = crate::backend(&server.url());
    client.batch_execute("INSERT INTO syncguard_fence_counters VALUES ('fence:for ever', 1)").await.unwrap();
    for _ in 0..200 {
        let lease = take(&everlasting, "a").await;
        assert_done(&everlasting.release(&Owner::from(lease)).await.unwrap());
    }
    assert_eq!(ask::<i64>(&looking, &format!("{COUNTERS} WHERE fence_key = 'fence:for ever'")).await, 1);
}
