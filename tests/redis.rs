//! The Redis backend against real servers.

mod support;

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/conformance.rs"]
mod conformance;
#[cfg(target_os = "linux")]
#[path = "redis/event_loop.rs"]
mod event_loop;
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

pub use support::asking::*;
use syncguard::stores::redis::{RedisBackend, RedisConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

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
