//! The nouns of a lock, pure: no I/O, no clock of their own, no runtime.

mod error;
mod fence;
mod fence_retention;
mod hash;
mod key;
mod lease;
mod lock_id;
mod storage_key;
mod time;

pub use error::{Code, Error, Outcome, Result};
pub use fence::Fence;
pub use fence_retention::FenceRetention;
pub use hash::hash_key;
pub use key::{Key, MAX_KEY_LENGTH_BYTES};
pub use lease::Lease;
pub use lock_id::LockId;
pub use storage_key::{Limit, StorageKeys, short_form, storage_key, storage_key_of, storage_keys};
pub use time::{MAX_TIME_MS, TIME_TOLERANCE, Timestamp, Ttl, is_live};
