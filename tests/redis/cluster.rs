//! A Redis Cluster: the contract's rules, and slots that move.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use syncguard::backend::{Backend, LookupBy, Mutation, Owner};
use syncguard::conformance::Fixture;
use syncguard::lock::{Code, Fence, Key, LockId, redis_cluster_keys};
use syncguard::redis::RedisConfig;
use syncguard::secret::Password;
use syncguard::settings::{Setting, Target};

use crate::support::redis_cluster::RedisCluster;
use crate::{
    assert_done, assert_held, backend, backend_with, eventually, granted, key, request, settings, take, text,
    ttl,
};

/// A prefix of its own on a cluster that the rules share while any of them runs.
struct ClusterFixture {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

impl ClusterFixture {
    fn start() -> ClusterFixture {
        static CLUSTER: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut shared = CLUSTER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cluster = shared.upgrade().unwrap_or_else(|| Arc::new(RedisCluster::start()));
        *shared = Arc::downgrade(&cluster);
        ClusterFixture { cluster, prefix: format!("rule{}", COUNT.fetch_add(1, Ordering::Relaxed)) }
    }

    fn open(&self, cleanup: bool) -> Arc<dyn Backend> {
        let options = [("keyPrefix", text(&self.prefix)), ("cleanupInIsLocked", Setting::Flag(cleanup))];
        Arc::new(backend_with(&self.cluster.url(), &options))
    }
}

#[async_trait]
impl Fixture for ClusterFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        self.open(false)
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        self.open(true)
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        let name = redis_cluster_keys(&self.prefix, key).unwrap().fence;
        match fence {
            Some(fence) => self.cluster.run::<()>(cmd("SET").arg(name).arg(fence.value())),
            None => self.cluster.run::<()>(cmd("DEL").arg(name)),
        }
    }

    async fn spoil(&self, key: &Key) {
        let name = redis_cluster_keys(&self.prefix, key).unwrap().lock;
        self.cluster.run::<()>(cmd("SET").arg(name).arg("garbage"));
    }

    fn tolerance(&self) -> Duration {
        Duration::ZERO
    }
}

mod conformance {
    use super::ClusterFixture;

    syncguard::conformance_suite!(ClusterFixture::start());
}

#[tokio::test]
async fn lock_and_fence_lie_together_and_the_pointer_leads_there() {
    let cluster = RedisCluster::start();
    let (ours, theirs) = (backend(&cluster.url()), backend(&cluster.url()));
    for i in 0..30 {
        let name = format!("k{i}");
        let names = redis_cluster_keys("syncguard", &key(&name)).unwrap();
        assert_eq!(cluster.owner(&names.lock), cluster.owner(&names.fence));
        let lease = take(&ours, &name).await;
        let index = format!("syncguard:id:{}", lease.lock_id.as_str());
        assert_eq!(cluster.run::<String>(cmd("GET").arg(&index)), names.lock);
        assert!(cluster.run::<i64>(cmd("PTTL").arg(&index)) > 29_000);
        assert_eq!(theirs.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap(), Some(lease.clone()));
        assert_done(&theirs.extend(&Owner::from(lease.lock_id), ttl(60_000)).await.unwrap());
        assert!(cluster.run::<i64>(cmd("PTTL").arg(&index)) > 59_000);
        let releaser = if i % 2 == 0 { &ours } else { &theirs };
        assert_done(&releaser.release(&Owner::from(lease.lock_id)).await.unwrap());
        let gone = || cluster.run::<i64>(cmd("EXISTS").arg(&index)) == 0;
        eventually("the pointer is removed behind the release", gone).await;
    }
    // A pointer is never the truth, and what is no pointer is said to be none.
    let lease = take(&ours, "a").await;
    let stranger = LockId::mint();
    let lock = redis_cluster_keys("syncguard", &key("a")).unwrap().lock;
    let index = format!("syncguard:id:{}", stranger.as_str());
    cluster.run::<()>(cmd("SET").arg(&index).arg(&lock));
    assert_eq!(ours.release(&Owner::from(stranger)).await.unwrap(), Mutation::NotFound);
    assert_eq!(ours.lookup(LookupBy::LockId(&stranger)).await.unwrap(), None);
    cluster.run::<()>(cmd("SET").arg(&index).arg("elsewhere"));
    let error = ours.release(&Owner::from(stranger)).await.unwrap_err();
    assert!(error.code() == Code::Internal && error.message().contains("syncguard:id:…"), "{error}");
    assert_eq!(ours.lookup(LookupBy::Key(&key("a"))).await.unwrap(), Some(lease));
}

#[tokio::test]
async fn a_prefix_with_a_hash_tag_keeps_the_original_layout() {
    let cluster = RedisCluster::start();
    let backend = backend_with(&cluster.url(), &[("keyPrefix", text("{app}"))]);
    let lease = take(&backend, "a").await;
    let index = format!("{{app}}:id:{}", lease.lock_id.as_str());
    assert_eq!(cluster.run::<String>(cmd("GET").arg(index)), "{app}:a");
    assert_done(&backend.extend(&Owner::from(lease.lock_id), ttl(60_000)).await.unwrap());
    let lease = backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().unwrap();
    let many = [(Owner::from(lease.clone()), ttl(9000)), (Owner::from(take(&backend, "b").await), ttl(9000))];
    for result in backend.extend_many(&many).await {
        assert_done(&result.unwrap());
    }
    assert_done(&backend.release(&Owner::from(lease.lock_id)).await.unwrap());

    for bad in ["a{b", "a{}b", &"x".repeat(901)] {
        let options = settings(&[("keyPrefix", text(bad))]);
        let config = RedisConfig::from_target(Target::Url(cluster.url()), options, Password::None);
        assert_eq!(config.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn moving_slots_are_followed() {
    let cluster = RedisCluster::start();
    let backend = backend(&cluster.url());
    let lease = take(&backend, "a").await;
    let names = redis_cluster_keys("syncguard", &key("a")).unwrap();
    let (slot, from) = (cluster.slot(&names.lock), cluster.owner(&names.lock));
    let to = (from + 1) % 3;
    let set_slot = |node: usize, words: &[&str]| {
        cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(words).exec(&mut cluster.nodes[node].client()).unwrap();
    };
    set_slot(to, &["IMPORTING", &cluster.id(from)]);
    set_slot(from, &["MIGRATING", &cluster.id(to)]);
    cmd("MIGRATE")
        .arg(&[
            "127.0.0.1",
            &cluster.nodes[to].port.to_string(),
            "",
            "0",
            "5000",
            "KEYS",
            &names.lock,
            &names.fence,
        ])
        .exec(&mut cluster.nodes[from].client())
        .unwrap();
    // The keys are gone from here, but the slot is not: ASK.
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert!(backend.is_locked(&key("a")).await.unwrap());
    assert_done(&backend.extend(&Owner::from(lease.clone()), ttl(40_000)).await.unwrap());
    // MOVED.
    for node in [to, from, 3 - to - from] {
        set_slot(node, &["NODE", &cluster.id(to)]);
    }
    assert_held(&backend.acquire(&request("a")).await.unwrap());
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    take(&backend, "a").await;
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found() {
    let mut cluster = RedisCluster::start();
    let node = cluster.owner(&redis_cluster_keys("syncguard", &key("a")).unwrap().lock);
    cluster.add_replica(node);
    let backend = backend(&cluster.url());
    let first = take(&backend, "a").await;
    assert_done(&backend.release(&Owner::from(first.clone())).await.unwrap());
    cluster.nodes[node].kill();
    for _ in 0..1500 {
        match backend.acquire(&request("a")).await {
            Ok(acquired) => {
                assert!(granted(acquired).fence > first.fence);
                return;
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the replica is never found");
}

#[tokio::test]
async fn a_node_that_is_gone_makes_its_keys_unavailable_until_it_is_back() {
    let mut cluster = RedisCluster::start();
    let backend = backend(&cluster.url());
    let lock = redis_cluster_keys("syncguard", &key("a")).unwrap().lock;
    take(&backend, "a").await;
    let node = cluster.owner(&lock);
    cluster.nodes[node].kill();
    let error = loop {
        match backend.acquire(&request("a")).await {
            Err(error) if !error.is_unknown() => break error,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!((error.code(), error.is_retryable()), (Code::ServiceUnavailable, true), "{error:?}");
    cluster.nodes[node].restart();
    for _ in 0..500 {
        if backend.acquire(&request("a")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came back");
}
