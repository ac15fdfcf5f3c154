//! The stores, each a room of its own, the floor on which they all stand, and the registry that opens any of them.

mod batch;
pub mod file;
pub mod firestore;
pub mod memory;
pub(crate) mod net;
pub mod postgres;
pub mod redis;
mod registry;
pub mod target;
mod watchers;

pub use registry::{Kind, open, set_up};
