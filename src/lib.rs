//! Distributed locks with fencing tokens: the core of `syncguard`, without Node.js.
//!
//! `lock` holds the nouns, `backend` the trait that every store implements, `stores` what implements it, `engine`
//! everything that happens over time (retries, waiting, renewal, undo). ARCHITECTURE.md is the map.

// Here, not in Cargo.toml: programs in tests/ have public items, too.
#![warn(missing_docs)]

pub mod backend;
mod clock;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod crew;
pub mod engine;
pub mod event_loop;
pub mod local;
pub mod lock;
mod step;
pub mod stores;
