//! Which stores there are, and how to open one by its kind. A new store is one line here, beside where it is found.

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

/// The kinds, and how a backend of each is made from a target.
macro_rules! stores {
    ($($(#[$doc:meta])+ $kind:ident = $name:literal: $config:ident => $backend:ident,)+) => {
        /// Which store, or way to find one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])+ $kind,)+
            /// Files in this user's own directory ([`FileConfig::default_directory`]), whatever the target is.
            Default,
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)+ Kind::Default];

            /// As [`FromStr`] reads it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)+
                    Kind::Default => "default",
                }
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
                $(Kind::$kind => {
                    let config = $config::from_target(target, options, password)?;
                    Arc::new($backend::new(config.within(surroundings)))
                })+
                Kind::Default => {
                    let config = FileConfig::in_directory(FileConfig::default_directory()?, options)?;
                    Arc::new(FileBackend::new(config.within(surroundings)))
                }
            })
        }
    };
}

stores! {
    /// A Redis server, cluster or sentinels.
    Redis = "redis": RedisConfig => RedisBackend,
    /// A PostgreSQL database.
    Postgres = "postgres": PostgresConfig => PostgresBackend,
    /// A Firestore database.
    Firestore = "firestore": FirestoreConfig => FirestoreBackend,
    /// Files in a directory.
    File = "file": FileConfig => FileBackend,
    /// This process's memory.
    Memory = "memory": MemoryConfig => MemoryBackend,
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Kind> {
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name);
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
