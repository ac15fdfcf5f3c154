//! A suite that never failed proves nothing: here every rule must fail, each on a backend that breaks it.
//!
//! [`bugs::MUTANTS`] says which rules catch which bug. All of them must, and the list must name every rule.

mod broken;
mod bugs;
mod grants;
mod looks;
mod owners;
mod wakes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use syncguard::backend::Backend;
use syncguard::conformance::{Fixture, RULES, Rule};
use syncguard::lock::{Fence, Key, Timestamp};
use syncguard::stores::memory::{MemoryFixture, MemoryStore};

pub use bugs::Bug;

use broken::{Broken, Shared};
use bugs::MUTANTS;

struct Laboratory {
    memory: MemoryFixture,
    bug: Bug,
    shared: Arc<Shared>,
}

impl Laboratory {
    fn new(bug: Bug) -> Laboratory {
        Laboratory { memory: MemoryFixture::by_hand(), bug, shared: Arc::default() }
    }

    fn open(&self, clean_up: bool) -> Arc<dyn Backend> {
        let store: &MemoryStore = self.memory.store();
        let inner = if clean_up { store.backend_with_clean_up() } else { store.backend() };
        Arc::new(Broken::new(inner, self.bug, clean_up, self.shared.clone()))
    }
}

#[async_trait]
impl Fixture for Laboratory {
    async fn backend(&self) -> Arc<dyn Backend> {
        self.open(false)
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        self.open(true)
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        self.shared.set_counter(key, fence);
        self.memory.set_fence(key, fence).await;
    }

    async fn spoil(&self, key: &Key) {
        self.memory.spoil(key).await;
    }

    fn tolerance(&self) -> Duration {
        self.memory.tolerance()
    }

    fn now(&self) -> Timestamp {
        self.memory.now()
    }

    async fn advance(&self, time: Duration) {
        self.memory.advance(time).await;
    }
}

/// Whether the bug breaks the rule, on a runtime whose time is paused, so that a hint that never comes
/// costs no waiting.
fn breaks(bug: Bug, rule: &'static Rule) -> bool {
    let trial = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(rule.check(Laboratory::new(bug)));
    });
    trial.join().is_err()
}

fn rule(name: &str) -> &'static Rule {
    RULES.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("there is no rule {name}"))
}

#[test]
fn the_wrapper_without_a_bug_obeys_every_rule() {
    let broken: Vec<_> = RULES.iter().filter(|rule| breaks(Bug::None, rule)).collect();
    assert!(broken.is_empty(), "broken without a bug: {broken:?}");
}

#[test]
fn every_bug_is_caught_by_the_rules_that_are_meant_for_it() {
    let mut missed = Vec::new();
    for (bug, rules) in MUTANTS {
        assert!(!rules.is_empty(), "{bug:?} is caught by nothing");
        missed.extend(rules.iter().filter(|name| !breaks(*bug, rule(name))).map(|name| (bug, name)));
    }
    assert!(missed.is_empty(), "bugs that got past the rule meant for them: {missed:#?}");
}

#[test]
fn every_rule_catches_a_bug() {
    let caught: BTreeSet<&str> = MUTANTS.iter().flat_map(|(_, rules)| rules.iter().copied()).collect();
    let idle: Vec<_> = RULES.iter().filter(|rule| !caught.contains(rule.name)).collect();
    assert!(idle.is_empty(), "rules that no bug breaks: {idle:?}");
}
