//! Firestore: two documents for each key, changed by commits with preconditions. No transactions, so nobody
//! queues behind anybody's.
//!
//! `config` says what a target may hold, `auth` brings tokens, `transport` talks to the server, `backend`, `acquiring`,
//! `owning` and `reading` are the operations, `wake` turns a listen stream into hints, and `clock` tells the server's
//! time.

mod acquiring;
mod auth;
mod backend;
mod clock;
mod config;
mod documents;
mod error;
mod grants;
mod names;
mod owning;
mod reading;
mod transport;
mod wake;

pub use backend::FirestoreBackend;
pub use config::FirestoreConfig;
pub use names::{LIMIT, storage_keys};
