//! PostgreSQL: one statement per operation, on a small pool of connections, and one session that listens.
//!
//! `config` says what a target may hold; `transport` keeps connections; `joined` joins requests that are in flight at
//! the same time; `acquire`, `change` and `hand_over` send the statements of `sql` and read their answers; `wake` turns
//! notifications into hints. Needs PostgreSQL 12 or later.

mod acquire;
mod backend;
mod change;
mod clean_up;
mod config;
mod error;
mod hand_over;
mod joined;
mod names;
mod record;
mod schema;
mod sql;
mod transport;
mod wake;

pub use backend::PostgresBackend;
pub use config::PostgresConfig;
pub use names::{LIMIT, storage_keys};
