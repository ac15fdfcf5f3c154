//! The Redis backend against real servers.

mod support;

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/conformance.rs"]
mod conformance;
#[path = "redis/eviction.rs"]
mod eviction;
#[path = "redis/faults.rs"]
mod faults;
#[path = "redis/identity.rs"]
mod identity;
#[path = "redis/keeping.rs"]
mod keeping;
#[path = "redis/memory_full.rs"]
mod memory_full;
#[path = "redis/old_server.rs"]
mod old_server;
#[path = "redis/operations.rs"]
mod operations;
#[path = "redis/records.rs"]
mod records;
#[path = "redis/replicas.rs"]
mod replicas;
#[path = "redis/retention.rs"]
mod retention;
#[path = "redis/rights.rs"]
mod rights;
#[path = "redis/sentinel.rs"]
mod sentinel;
#[path = "redis/strangers.rs"]
mod strangers;
#[path = "redis/targets.rs"]
mod targets;
#[path = "redis/tls.rs"]
mod tls;
#[path = "redis/together.rs"]
mod together;
#[path = "redis/unsent.rs"]
mod unsent;
#[path = "redis/wakes.rs"]
mod wakes;

use syncguard::backend::{AcquireRequest, Acquired, Backend, Mutation};
use syncguard::lock::{Key, Lease, LockId, Ttl};
use syncguard::stores::redis::{RedisBackend, RedisConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Settings, Target};

pub fn settings(values: &[(&str, Setting)]) -> Settings {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub fn text(value: &str) -> Setting {
    Setting::Text(value.to_owned())
}

pub fn backend(url: &str) -> RedisBackend {
    backend_with(url, &[])
}

pub fn backend_with(url: &str, options: &[(&str, Setting)]) -> RedisBackend {
    let config = RedisConfig::from_target(Target::Url(url.to_owned()), settings(options), Password::None);
    RedisBackend::new(config.expect("a good target"))
}

pub fn backend_of(facts: &[(&str, Setting)], options: &[(&str, Setting)]) -> RedisBackend {
    let config = RedisConfig::from_target(Target::Facts(settings(facts)), settings(options), Password::None);
    RedisBackend::new(config.expect("good facts"))
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("a good key")
}

pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a good ttl")
}

pub fn request(name: &str) -> AcquireRequest {
    AcquireRequest { key: key(name), lock_id: LockId::mint(), ttl: ttl(30_000) }
}

/// Acquires what must be free.
pub async fn take(backend: &dyn Backend, name: &str) -> Lease {
    granted(backend.acquire(&request(name)).await.expect("an answer"))
}

pub fn granted(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Granted(lease) => lease,
        Acquired::Held { .. } => panic!("somebody else holds the key"),
    }
}

/// What must be held by somebody else.
pub fn assert_held(acquired: &Acquired) {
    assert!(matches!(acquired, Acquired::Held { .. }), "{acquired:?}");
}

pub fn assert_done<T: std::fmt::Debug>(mutation: &Mutation<T>) {
    assert!(matches!(mutation, Mutation::Done(_)), "{mutation:?}");
}

/// Waits for what happens in the background, and fails when it does not.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happened() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
