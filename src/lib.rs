//! Distributed locks with fencing tokens: the core of `syncguard`, without Node.js.
//!
//! `lock` holds the nouns, `backend` the trait that every store implements, `engine` everything that
//! happens over time (retries, waiting, renewal, undo). ARCHITECTURE.md is the map.

pub mod backend;
mod claim_file;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod crew;
pub mod engine;
pub mod file;
pub mod firestore;
pub mod guard;
mod joined;
pub mod lease_file;
pub mod lock;
pub mod memory;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod secret;
pub mod settings;
mod step;
