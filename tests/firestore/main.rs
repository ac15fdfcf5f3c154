//! The Firestore backend against the real emulator.

mod conformance;
mod emulator;
mod raw;

use syncguard::firestore::{FirestoreBackend, FirestoreConfig};
use syncguard::secret::Password;
use syncguard::settings::{Setting, Settings, Target};

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
