//! What the engine asks and tells the place where its user lives.

use std::fmt::Debug;
use std::time::Duration;

use crate::lock::{Error, LockId};

/// Where a client's user lives: one JavaScript environment (a thread with its event loop), or nothing.
pub trait Environment: Debug + Send + Sync + 'static {
    /// Tells that a lease is lost. Called once a lease, from the engine's thread; must not block.
    fn lost(&self, lock_id: &LockId, error: Error);

    /// Asks the event loop for a sign of life, unless it still owes one. Must not block.
    fn ping(&self);

    /// Whether calls are under way on the event loop itself.
    fn is_busy(&self) -> bool;

    /// Has calls that are under way there go on with the engine: others wait for what becomes of them. Must not block.
    fn pass_on(&self);

    /// For how long the last ping has gone unanswered; zero when it was answered.
    fn silent_for(&self) -> Duration;
}

/// An environment that is always responsive and hears nothing, for users of this crate from Rust.
#[derive(Debug)]
pub struct NoEnvironment;

impl Environment for NoEnvironment {
    fn lost(&self, _: &LockId, _: Error) {}
    fn ping(&self) {}
    fn is_busy(&self) -> bool {
        false
    }
    fn pass_on(&self) {}
    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }
}
