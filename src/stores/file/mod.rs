//! A directory of files: locks between the processes of one machine, without a server.
//!
//! ```text
//! DIR/                      0700, ours
//!   BOOTID/                 the records of this boot; other boots' are ignored and tidied away
//!     shard-00 … shard-3f   empty; an OS lock on one serialises every change of the keys in its shard
//!     floor-00 … floor-3f   the highest fence that was tidied away in that shard
//!     NAME.held             the record of a key that is held (or was, and expired)
//!     NAME.free             the last record of a key that is free: it keeps the fence
//!     NAME.next             junk: the file that the next record will be written into
//!     NAME.bell             exists once somebody has waited; opening it wakes whoever waits now
//!     NAME.wait-0, -1, …    each is locked by one waiting process
//!     HASH.index            a second name of the record that was made for a lock id: leads to its key
//! ```
//! `names` knows these names, `place` the steps by which a key's files change, `operations` what a lock
//! means, `directory` what may be trusted, `shard` the OS locks, `wake` the hints, `tidy` the clean-up.
//! Nothing is synced to disk: after a power cut the boot id is another one.

mod backend;
mod clock;
mod config;
mod directory;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fixture;
mod names;
mod operations;
mod place;
mod platform;
mod record;
mod shard;
mod store;
mod tidy;
mod wake;

pub use backend::FileBackend;
pub use config::{FileConfig, OwnerDeath};
#[cfg(any(test, feature = "testing"))]
pub use fixture::FileFixture;
