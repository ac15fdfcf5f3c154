//! The Firestore backend against the real emulator.

#[path = "../support/asking.rs"]
mod asking;
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

pub use asking::*;
use syncguard::backend::{Acquired, Backend};
pub use syncguard::stores::firestore::{FirestoreBackend, FirestoreConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

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

/// Whether an acquire is refused.
pub async fn held(backend: &FirestoreBackend, name: &str) -> bool {
    match backend.acquire(&request(name)).await.expect("an answer") {
        Acquired::Granted(_) => false,
        Acquired::Held { .. } => true,
    }
}
