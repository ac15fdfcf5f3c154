//! The contract as rules that every backend obeys, whichever store it talks to.
//!
//! A backend describes its store in a [`Fixture`] and runs the whole suite by one line in a test file,
//! which becomes one test for each rule, so that a failure names the rule:
//!
//! ```ignore
//! syncguard::conformance_suite!(MyFixture::start().await);
//! ```
//!
//! Most rules wait rather than work, so `RUST_TEST_THREADS=16` shortens a run on a real clock manyfold.
//!
//! Rules take time from the fixture and hold for any clock: what can only be judged in time is tried
//! again when the machine was too slow, and nothing asserts that something was fast.

mod fixture;
#[macro_use]
mod suite;
mod trial;

mod acquire;
mod close;
mod extend;
mod extend_many;
mod fence;
mod find;
mod free_in;
mod hand_over;
mod is_locked;
mod keys;
mod lookup;
mod race;
mod release;
mod watch;

pub use fixture::Fixture;
pub use suite::{RULES, Rule, run};
