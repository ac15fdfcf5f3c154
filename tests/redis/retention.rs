//! Fence counters that go once they say nothing any more (`fenceRetentionMs`).

use std::time::Duration;

use futures_util::future::join_all;
use redis::{Commands, cmd};
use syncguard::backend::{Backend, HandOver, Owner, Yield};
use syncguard::lock::FenceRetention;
use syncguard::stores::redis::{RedisBackend, RedisConfig, cluster_keys};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend, backend_with, eventually, granted, key, request, settings, take};

const DAY: i64 = 86_400_000;

/// With a retention that a test can wait for.
fn forgetful(url: &str, millis: u64) -> RedisBackend {
    let mut config =
        RedisConfig::from_target(Target::Url(url.to_owned()), settings(&[]), Password::None).unwrap();
    config.fence_retention = Some(FenceRetention::unchecked_from_millis(millis));
    RedisBackend::new(config)
}

fn day(url: &str) -> RedisBackend {
    backend_with(url, &[("fenceRetentionMs", Setting::Number(86_400_000.0))])
}

fn fence(name: &str) -> String {
    format!("syncguard:fence:syncguard:{name}")
}

fn assert_stays(left: i64, ahead: i64) {
    assert!((DAY + ahead - 20_000..=DAY + ahead).contains(&left), "{left} with a fence {ahead} ms ahead");
}

#[tokio::test]
async fn a_counter_stays_for_the_retention_and_for_as_much_longer_as_it_is_ahead_of_the_clock() {
    let server = RedisServer::start();
    let (backend, mut client) = (day(&server.url()), server.client());
    let hour_ahead = (crate::records::now(&mut client) + 3_600_000) * 10;
    let names: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    for ahead in [false, true] {
        // A counter that is new, one that is known, and one that is handed on, alone and with others.
        for _ in 0..2 {
            if ahead {
                let counters =
                    names.iter().map(String::as_str).chain(["a"]).map(|name| (fence(name), hour_ahead));
                let _: () = client.mset(&counters.collect::<Vec<_>>()).unwrap();
            }
            let stays = if ahead { 3_600_000 } else { 0 };
            let lease = take(&backend, "a").await;
            assert_eq!(lease.fence.value() > hour_ahead, ahead);
            assert_stays(client.pttl(fence("a")).unwrap(), stays);
            let _: () = client.persist(fence("a")).unwrap();
            let (owner, next) = (Owner::from(lease), request("a"));
            let handing = HandOver { owner: &owner, next: &next, yields: Yield::Never };
            let lease = granted(backend.hand_over(&handing).await.unwrap().next.unwrap());
            assert_stays(client.pttl(fence("a")).unwrap(), stays);
            assert_done(&backend.release(&Owner::from(lease)).await.unwrap());

            let requests: Vec<_> = names.iter().map(|name| request(name)).collect();
            for acquired in join_all(requests.iter().map(|request| backend.acquire(request))).await {
                let lease = granted(acquired.unwrap());
                assert_eq!(lease.fence.value() > hour_ahead, ahead);
                assert_stays(client.pttl(fence(lease.key.as_str())).unwrap(), stays);
                assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
            }
        }
    }
    // A process without the option lets the counters stay again, as the original library needs them.
    let lasting = self::backend(&server.url());
    for lease in [take(&lasting, "a").await, take(&lasting, "new").await] {
        assert_eq!(client.pttl::<_, i64>(fence(lease.key.as_str())).unwrap(), -1);
    }
}

#[tokio::test]
async fn a_counter_of_a_cluster_stays_as_long() {
    let cluster = RedisCluster::start();
    let backend = day(&cluster.url());
    let left = |name: &str| {
        let counter = cluster_keys("syncguard", &key(name)).unwrap().fence;
        cluster.run::<i64>(cmd("PTTL").arg(counter))
    };
    for name in ["a", "b", "c"] {
        let lease = take(&backend, name).await;
        assert_stays(left(name), 0);
        let (owner, next) = (Owner::from(lease), request(name));
        let handing = HandOver { owner: &owner, next: &next, yields: Yield::Never };
        granted(backend.hand_over(&handing).await.unwrap().next.unwrap());
        assert_stays(left(name), 0);
    }
    take(&self::backend(&cluster.url()), "d").await;
    assert_eq!(left("d"), -1);
}

#[tokio::test]
async fn fences_rise_across_the_end_of_their_counter() {
    let server = RedisServer::start();
    let (backend, mut client) = (forgetful(&server.url(), 30), server.client());
    let mut last = None;
    for round in 0..5 {
        if let Some(fence) = last.filter(|_| round == 3) {
            let fence: syncguard::lock::Fence = fence;
            // A burst of grants that ran ahead of the clock, by half a second.
            let _: () = client.set(self::fence("a"), fence.value() + 5000).unwrap();
            last = syncguard::lock::Fence::new(fence.value() + 5000);
        }
        let lease = take(&backend, "a").await;
        assert!(Some(lease.fence) > last, "{:?} after {last:?}", lease.fence);
        last = Some(lease.fence);
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        eventually("the counter goes", async || !client.exists::<_, bool>(self::fence("a")).unwrap()).await;
    }
}

/// How many counters there are at a time is those of the keys that were granted within the retention. For a million
/// keys: `SYNCGUARD_TEST_KEYS=1000000 cargo test --test redis leave_nothing`.
#[tokio::test]
async fn a_hundred_thousand_keys_leave_nothing_behind() {
    let keys: usize = std::env::var("SYNCGUARD_TEST_KEYS").map_or(100_000, |keys| keys.parse().unwrap());
    let server = RedisServer::start();
    let (backend, mut client) = (forgetful(&server.url(), 200), server.client());
    let mut most = 0;
    for first in (0..keys).step_by(500) {
        let requests: Vec<_> = (first..first + 500).map(|i| request(&format!("order:{i}"))).collect();
        let leases = join_all(requests.iter().map(|request| backend.acquire(request))).await;
        let owners: Vec<_> = leases.into_iter().map(|lease| Owner::from(granted(lease.unwrap()))).collect();
        for released in join_all(owners.iter().map(|owner| backend.release(owner))).await {
            assert_done(&released.unwrap());
        }
        most = most.max(cmd("DBSIZE").query::<usize>(&mut client).unwrap());
    }
    println!("{most} counters at a time, of {keys} keys");
    assert!(most < 50_000, "{most} counters at a time");
    let size = || cmd("DBSIZE").query::<usize>(&mut client).unwrap();
    let mut size = size;
    for _ in 0..1000 {
        if size() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of {keys} counters are still there", size());
}
