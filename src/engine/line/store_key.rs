//! Where somebody waits.

use crate::backend::StoreId;
use crate::lock::Key;

/// A key of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct StoreKey {
    pub store: StoreId,
    pub key: Key,
}
