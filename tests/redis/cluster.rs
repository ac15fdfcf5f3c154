//! A Redis Cluster: the contract's rules, and slots that move.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::conformance::Fixture;
use syncguard::lock::{Code, Fence, Key, LockId};
use syncguard::stores::redis::{RedisConfig, cluster_keys};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

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
        let name = cluster_keys(&self.prefix, key).unwrap().fence;
        match fence {
            Some(fence) => self.cluster.run::<()>(cmd("SET").arg(name).arg(fence.value())),
            None => self.cluster.run::<()>(cmd("DEL").arg(name)),
        }
    }

    async fn spoil(&self, key: &Key) {
        let name = cluster_keys(&self.prefix, key).unwrap().lock;
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
        let names = cluster_keys("syncguard", &key(&name)).unwrap();
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
        let gone = async || cluster.run::<i64>(cmd("EXISTS").arg(&index)) == 0;
        eventually("the pointer is removed behind the release", gone).await;
    }
    // A pointer is never the truth, and what is no pointer is said to be none.
    let lease = take(&ours, "a").await;
    let stranger = LockId::mint();
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
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
    let names = cluster_keys("syncguard", &key("a")).unwrap();
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
    let node = cluster.owner(&cluster_keys("syncguard", &key("a")).unwrap().lock);
    cluster.add_replica(node);
    let backend = backend(&cluster.url());
    let first = take(&backend, "a").await;
    assert_done(&backend.release(&Owner::from(first.clone())).await.unwrap());
    cluster.nodes[node].kill();
    // Under one lock id: a grant whose pointer could not be written is of unknown outcome.
    assert!(acquire_in_the_end(&backend, "a").await.fence > first.fence);
}

#[tokio::test]
async fn a_node_that_is_gone_makes_its_keys_unavailable_until_it_is_back() {
    let mut cluster = RedisCluster::start();
    let backend = backend(&cluster.url());
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
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

/// A slot goes to another node with its keys, while both take requests.
fn migrate(cluster: &RedisCluster, slot: u16, from: usize, to: usize) {
    let set_slot = |node: usize, words: &[&str]| {
        cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(words).exec(&mut cluster.nodes[node].client()).unwrap();
    };
    set_slot(to, &["IMPORTING", &cluster.id(from)]);
    set_slot(from, &["MIGRATING", &cluster.id(to)]);
    let mut source = cluster.nodes[from].client();
    loop {
        let keys: Vec<String> =
            cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(10).query(&mut source).unwrap();
        if keys.is_empty() {
            break;
        }
        let port = cluster.nodes[to].port.to_string();
        let moved = cmd("MIGRATE")
            .arg(&["127.0.0.1", &port, "", "0", "5000", "REPLACE", "KEYS"])
            .arg(&keys)
            .exec(&mut source);
        moved.unwrap();
    }
    for node in [to, from, 3 - to - from] {
        set_slot(node, &["NODE", &cluster.id(to)]);
    }
}

/// Until it succeeds, as the engine does; whatever fails meanwhile may be tried again.
async fn acquire_in_the_end(backend: &dyn Backend, name: &str) -> syncguard::lock::Lease {
    let request = request(name);
    for _ in 0..1500 {
        match backend.acquire(&request).await {
            Ok(acquired) => return granted(acquired),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never succeeds");
}

#[tokio::test]
async fn slots_that_were_unassigned_at_first_are_found_once_they_are_assigned() {
    let cluster = RedisCluster::start();
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
    let (slot, owner) = (cluster.slot(&lock), cluster.owner(&lock));
    // Nobody demands that every slot is served, so that the cluster works without this one.
    for node in &cluster.nodes {
        let mut client = node.client();
        let config = ["SET", "cluster-require-full-coverage", "no"];
        cmd("CONFIG").arg(&config).exec(&mut client).unwrap();
        cmd("CLUSTER").arg("DELSLOTS").arg(slot).exec(&mut client).unwrap();
    }
    let backend = backend(&cluster.url());
    for _ in 0..3 {
        let error = backend.acquire(&request("a")).await.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (Code::ServiceUnavailable, true), "{error:?}");
        assert!(!error.is_unknown(), "{error:?}");
    }
    cmd("CLUSTER").arg("ADDSLOTS").arg(slot).exec(&mut cluster.nodes[owner].client()).unwrap();
    acquire_in_the_end(&backend, "a").await;
}

#[tokio::test]
async fn a_slot_that_moves_while_it_is_in_use_excludes_as_ever() {
    let cluster = Arc::new(RedisCluster::start());
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
    let (slot, from) = (cluster.slot(&lock), cluster.owner(&lock));
    let inside = Arc::new(AtomicU32::new(0));
    let done = Arc::new(AtomicU32::new(0));
    let stop = tokio_util::sync::CancellationToken::new();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let backend = backend(&cluster.url());
            let (inside, done, stop) = (inside.clone(), done.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let asked = request("a");
                    let lease = match backend.acquire(&asked).await {
                        Ok(syncguard::backend::Acquired::Granted(lease)) => lease,
                        Ok(_) => {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            continue;
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            // What was granted in spite of it must not stay.
                            while let Err(error) = backend.release(&Owner::from(asked.lock_id)).await {
                                assert!(error.is_retryable(), "{error:?}");
                            }
                            continue;
                        }
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    loop {
                        match backend.release(&Owner::from(lease.clone())).await {
                            Ok(_) => break,
                            Err(error) => assert!(error.is_retryable(), "{error:?}"),
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let moving = {
        let cluster = cluster.clone();
        tokio::task::spawn_blocking(move || {
            let mut at = from;
            for _ in 0..6 {
                let to = (at + 1) % 3;
                migrate(&cluster, slot, at, to);
                at = to;
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    };
    moving.await.unwrap();
    let before = done.load(Ordering::SeqCst);
    eventually("it goes on where the slot has come to rest", async || {
        done.load(Ordering::SeqCst) > before + 20
    })
    .await;
    stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_was_reset_or_forgotten_is_not_believed() {
    for forget in [false, true] {
        let cluster = RedisCluster::start();
        let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
        let from = cluster.owner(&lock);
        let to = (from + 1) % 3;
        // First among those who are asked.
        let mut ports: Vec<_> = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        ports.swap(0, from);
        let backend = backend(&format!("redis-cluster://{}", ports.join(",")));
        let lease = take(&backend, "a").await;
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        // All of its slots, of which one holds something: a reverse mapping, which lies anywhere, may go a little later.
        eventually("only the fence is left", async || {
            cmd("DBSIZE").query::<usize>(&mut cluster.nodes[from].client()).unwrap() == 1
        })
        .await;
        // A master without slots stays one.
        for node in &cluster.nodes {
            let stay = ["SET", "cluster-allow-replica-migration", "no"];
            cmd("CONFIG").arg(&stay).exec(&mut node.client()).unwrap();
        }
        migrate(&cluster, cluster.slot(&lock), from, to);
        let (first, last) = (from * 5462, ((from + 1) * 5462).min(16384) - 1);
        let slots: Vec<usize> =
            (first..=last).filter(|slot| *slot != usize::from(cluster.slot(&lock))).collect();
        for node in [to, from, 3 - to - from] {
            let mut pipeline = redis::pipe();
            for slot in &slots {
                pipeline.cmd("CLUSTER").arg("SETSLOT").arg(*slot).arg("NODE").arg(cluster.id(to)).ignore();
            }
            pipeline.exec(&mut cluster.nodes[node].client()).unwrap();
        }
        let gone = &cluster.nodes[from];
        cmd("FLUSHALL").exec(&mut gone.client()).unwrap();
        let id = cluster.id(from);
        if forget {
            for (node, server) in cluster.nodes.iter().enumerate() {
                if node != from {
                    cmd("CLUSTER").arg("FORGET").arg(&id).exec(&mut server.client()).unwrap();
                }
            }
        } else {
            cmd("CLUSTER").arg("RESET").arg("HARD").exec(&mut gone.client()).unwrap();
        }
        acquire_in_the_end(&backend, "a").await;
        acquire_in_the_end(&crate::backend(&format!("redis-cluster://{}", ports.join(","))), "b").await;
    }
}

#[tokio::test]
async fn a_seed_that_hangs_costs_a_fraction_of_the_time() {
    let cluster = RedisCluster::start();
    let frozen = RedisCluster::start();
    let hosts = |cluster: &RedisCluster| -> Vec<String> {
        cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect()
    };
    frozen.nodes.iter().for_each(|node| node.signal(rustix::process::Signal::STOP));
    // More that hang than are asked at a time would take a share of the time each; here they take none.
    let seeds = [&hosts(&frozen)[..], &hosts(&cluster)[..1]].concat().join(",");
    let backend = backend(&format!("redis-cluster://{seeds}"));
    let start = std::time::Instant::now();
    take(&backend, "a").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    frozen.nodes.iter().for_each(|node| node.signal(rustix::process::Signal::CONT));
}

#[tokio::test]
async fn subscribers_move_with_their_slot() {
    let cluster = RedisCluster::start();
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
    let (slot, from) = (cluster.slot(&lock), cluster.owner(&lock));
    let to = (from + 1) % 3;
    let (holder, waiter) = (backend(&cluster.url()), backend(&cluster.url()));
    let lease = take(&holder, "a").await;
    let watch = waiter.watch(&key("a")).await.unwrap();
    let subscribers = |node: usize| -> usize {
        let (_, count): (String, usize) = cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(format!("{lock}:wake"))
            .query(&mut cluster.nodes[node].client())
            .unwrap();
        count
    };
    assert_eq!((subscribers(from), subscribers(to)), (1, 0));
    migrate(&cluster, slot, from, to);
    // Whatever it asks next shows it that the slot has moved.
    assert!(waiter.is_locked(&key("a")).await.unwrap());
    eventually("the subscriber is where the key is", async || (subscribers(from), subscribers(to)) == (0, 1))
        .await;
    let _ = tokio::time::timeout(Duration::from_millis(50), watch.hint()).await;
    assert_done(&holder.release(&Owner::from(lease)).await.unwrap());
    tokio::time::timeout(Duration::from_secs(5), watch.hint()).await.expect("a hint");
    drop(watch);
    eventually("nobody is subscribed", async || (subscribers(from), subscribers(to)) == (0, 0)).await;
}

#[tokio::test]
async fn a_frozen_master_is_left_for_its_successor() {
    let mut cluster = RedisCluster::start();
    let node = cluster.owner(&cluster_keys("syncguard", &key("a")).unwrap().lock);
    cluster.add_replica(node);
    let backend = backend(&cluster.url());
    let first = take(&backend, "a").await;
    assert_done(&backend.release(&Owner::from(first.clone())).await.unwrap());
    cluster.nodes[node].signal(rustix::process::Signal::STOP);
    let start = std::time::Instant::now();
    loop {
        let asked = request("a");
        match tokio::time::timeout(Duration::from_millis(500), backend.acquire(&asked)).await {
            Ok(Ok(acquired)) => {
                assert!(granted(acquired).fence > first.fence);
                break;
            }
            Ok(Err(error)) => assert!(error.is_retryable(), "{error:?}"),
            Err(_) => {}
        }
        assert!(start.elapsed() < Duration::from_secs(25), "the successor is never found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.nodes[node].signal(rustix::process::Signal::CONT);
}

#[tokio::test]
async fn however_many_ask_the_slots_are_read_once_and_not_again_at_once() {
    let cluster = RedisCluster::start();
    let lock = cluster_keys("syncguard", &key("a")).unwrap().lock;
    let slot = cluster.slot(&lock);
    for node in &cluster.nodes {
        let mut client = node.client();
        cmd("CONFIG").arg(&["SET", "cluster-require-full-coverage", "no"]).exec(&mut client).unwrap();
        cmd("CLUSTER").arg("DELSLOTS").arg(slot).exec(&mut client).unwrap();
        cmd("CONFIG").arg("RESETSTAT").exec(&mut client).unwrap();
    }
    let backend = Arc::new(backend(&cluster.url()));
    let start = std::time::Instant::now();
    let asking: Vec<_> = (0..200)
        .map(|_| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.acquire(&request("a")).await.unwrap_err() })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.unwrap().is_retryable());
    }
    let pauses = start.elapsed().as_millis() as usize / 50;
    for node in &cluster.nodes {
        let stats: String = cmd("INFO").arg("commandstats").query(&mut node.client()).unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_cluster|slots:")).unwrap();
        let calls: usize = line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert!(calls <= 1 + pauses, "{calls} readings in {pauses} pauses");
    }
}
