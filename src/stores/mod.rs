//! The stores, each a room of its own, and the floor on which they all stand.

mod batch;
pub mod file;
pub mod firestore;
pub mod memory;
mod net;
pub mod postgres;
pub mod redis;
pub mod target;
