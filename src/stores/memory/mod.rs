//! A store in this process's memory: the target `memory:`, for the tests of those who use locks, with the same
//! semantics as every other store.
//!
//! For our own tests (feature `testing`) it is the server that nothing is hidden of: `ScriptedBackend` lets the
//! engine see every fault that a real store can cause, at the call where the test wants it.

mod backend;
#[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "for our own tests"))]
mod clock;
mod config;
#[cfg(any(test, feature = "testing"))]
mod fault;
#[cfg(any(test, feature = "testing"))]
mod fixture;
#[cfg(any(test, feature = "testing"))]
mod hooks;
#[cfg(any(test, feature = "testing"))]
mod scripted;
#[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "for our own tests"))]
mod state;
#[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "for our own tests"))]
mod store;

pub use backend::MemoryBackend;
pub use clock::MemoryClock;
pub use config::MemoryConfig;
#[cfg(any(test, feature = "testing"))]
pub use fault::{Fault, Operation};
#[cfg(any(test, feature = "testing"))]
pub use fixture::MemoryFixture;
#[cfg(any(test, feature = "testing"))]
pub use scripted::ScriptedBackend;
pub use store::MemoryStore;
