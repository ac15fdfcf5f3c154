//! Under which names a key's rows lie in the two tables.

use crate::lock::{self, Key, Limit, Result, StorageKeys};

/// How long a name may be.
pub const LIMIT: Limit = Limit { bytes: 1700, reserve: 0 };

/// A key's names: of its lock in one table, of its fence counter in the other.
///
/// # Errors
/// None that a valid key can cause; the signature is that of the rule.
pub fn storage_keys(key: &Key) -> Result<StorageKeys> {
    lock::storage_keys("", key, LIMIT, false)
}
