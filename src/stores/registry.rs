//! Which stores there are, and how to open one by its kind. A new store is one kind here.

use std::str::FromStr;
use std::sync::Arc;

use super::file::{FileBackend, FileConfig};
use super::firestore::{FirestoreBackend, FirestoreConfig};
use super::memory::{MemoryBackend, MemoryConfig};
use super::postgres::{PostgresBackend, PostgresConfig};
use super::redis::{RedisBackend, RedisConfig};
use super::target::{Password, Settings, Target};
use crate::backend::{Backend, Surroundings};
use crate::lock::{Error, Result};

/// Which store, or way to find one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Redis server, cluster or sentinels.
    Redis,
    /// A PostgreSQL database.
    Postgres,
    /// A Firestore database.
    Firestore,
    /// Files in a directory.
    File,
    /// This process's memory.
    Memory,
    /// Files in this user's own directory ([`FileConfig::default_directory`]), whatever the target is.
    Default,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::Redis, Kind::Postgres, Kind::Firestore, Kind::File, Kind::Memory, Kind::Default];

    /// As [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Redis => "redis",
            Kind::Postgres => "postgres",
            Kind::Firestore => "firestore",
            Kind::File => "file",
            Kind::Memory => "memory",
            Kind::Default => "default",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Kind> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| Error::invalid(format!("there is no backend {name:?}")))
    }
}

/// Makes at a store what a backend of this kind needs there. Idempotent. Does no I/O before it is polled.
///
/// # Errors
/// `InvalidArgument` as [`open`], and for a store that needs nothing; when it is polled, the store's own.
pub fn set_up(
    kind: Kind,
    target: Target,
    options: Settings,
    password: Password,
    surroundings: &Surroundings,
) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
    match kind {
        Kind::Postgres => {
            let config = PostgresConfig::from_target(target, options, password)?;
            Ok(PostgresBackend::setup_schema(config.within(surroundings)))
        }
        _ => Err(Error::invalid(format!("{} needs nothing to be set up", kind.name()))),
    }
}

/// A backend of this kind. Does no I/O and needs no runtime.
///
/// # Errors
/// `InvalidArgument` for whatever is malformed, contradictory or unknown. No message shows a secret.
pub fn open(
    kind: Kind,
    target: Target,
    options: Settings,
    password: Password,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>> {
    Ok(match kind {
        Kind::Redis => {
            let config = RedisConfig::from_target(target, options, password)?;
            Arc::new(RedisBackend::new(config.within(surroundings)))
        }
        Kind::Postgres => {
            let config = PostgresConfig::from_target(target, options, password)?;
            Arc::new(PostgresBackend::new(config.within(surroundings)))
        }
        Kind::Firestore => {
            let config = FirestoreConfig::from_target(target, options, password)?;
            Arc::new(FirestoreBackend::new(config.within(surroundings)))
        }
        Kind::File => {
            let config = FileConfig::from_target(target, options, password)?;
            Arc::new(FileBackend::new(config.within(surroundings)))
        }
        Kind::Memory => {
            let config = MemoryConfig::from_target(target, options, password)?;
            Arc::new(MemoryBackend::new(config.within(surroundings)))
        }
        Kind::Default => {
            let config = FileConfig::in_directory(FileConfig::default_directory()?, options)?;
            Arc::new(FileBackend::new(config.within(surroundings)))
        }
    })
}
