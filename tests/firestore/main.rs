//! The Firestore backend against the real emulator.

mod auth;
mod broken;
mod conformance;
mod contention;
mod emulator;
mod gate;
mod keys;
#[path = "../support/needs.rs"]
mod needs;
mod raw;
mod records;
mod relay;
mod targets;
mod token_server;
mod trips;
mod wakes;

use syncguard::backend::{AcquireRequest, Acquired, Backend};
use syncguard::lock::{Key, Lease, LockId, Ttl};
pub use syncguard::stores::firestore::{FirestoreBackend, FirestoreConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Settings, Target};

pub fn settings(values: &[(&str, Setting)]) -> Settings {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub fn text(value: &str) -> Setting {
    Setting::Text(value.to_owned())
}

pub fn backend_of(facts: &[(&str, Setting)], options: &[(&str, Setting)]) -> FirestoreBackend {
    let target = Target::Facts(settings(facts));
    let config = FirestoreConfig::from_target(target, settings(options), Password::None);
    FirestoreBackend::new(config.expect("good facts"))
}

/// A backend on a project of the emulator that the tests share.
pub fn backend_on(project: &str, options: &[(&str, Setting)]) -> FirestoreBackend {
    backend_at(emulator::shared(), project, options)
}

pub fn backend_at(host: &str, project: &str, options: &[(&str, Setting)]) -> FirestoreBackend {
    backend_of(&[("projectId", text(project)), ("host", text(host)), ("ssl", Setting::Flag(false))], options)
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

/// Acquires, and fails the test unless it is granted.
pub async fn take(backend: &FirestoreBackend, name: &str) -> Lease {
    match backend.acquire(&request(name)).await {
        Ok(Acquired::Granted(lease)) => lease,
        other => panic!("{name} must be granted, got {other:?}"),
    }
}

/// Whether an acquire is refused.
pub async fn held(backend: &FirestoreBackend, name: &str) -> bool {
    match backend.acquire(&request(name)).await.expect("an answer") {
        Acquired::Granted(_) => false,
        Acquired::Held { .. } => true,
    }
}
