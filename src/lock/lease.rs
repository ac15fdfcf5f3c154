//! What a holder has.

use super::{Fence, Key, LockId, Timestamp};

/// What a holder has. The times are those of the store's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is locked.
    pub key: Key,
    /// The right to extend and release it: a secret.
    pub lock_id: LockId,
    /// Greater than that of every earlier lease on the key.
    pub fence: Fence,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it ends unless it is extended.
    pub expires_at: Timestamp,
}
