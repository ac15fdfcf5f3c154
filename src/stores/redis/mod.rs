//! Redis: one Lua script per operation, one multiplexed connection per backend.
//!
//! `config` says what a target may hold, `transport` keeps the connection, `backend` and what is beside it call the
//! `scripts` and read their answers, `wake` turns messages into hints. Needs Redis 5 or later; wake-ups need 6.

mod acquiring;
mod backend;
mod config;
mod error;
mod eviction;
mod joined;
mod listing;
mod names;
mod owning;
mod pointer;
mod reading;
mod record;
mod replicas;
mod reply;
mod scripts;
mod transport;
mod wake;

pub use backend::RedisBackend;
pub use config::RedisConfig;
pub use names::{LIMIT, cluster_keys, storage_keys};
