use super::{Fence, Key, LockId, Timestamp};

/// What a holder has. The times are those of the store's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub key: Key,
    pub lock_id: LockId,
    pub fence: Fence,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
}
