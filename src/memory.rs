//! A backend in memory, for tests: of the conformance suite, and of the engine, which it lets see
//! every fault that a real store can cause, at the call where the test wants it.
//!
//! One [`MemoryStore`] is the server; each [`MemoryBackend`] on it is a process that talks to it.

mod backend;
mod clock;
mod fault;
mod fixture;
mod state;
mod store;

pub use backend::MemoryBackend;
pub use clock::MemoryClock;
pub use fault::{Fault, Operation};
pub use fixture::MemoryFixture;
pub use store::MemoryStore;
