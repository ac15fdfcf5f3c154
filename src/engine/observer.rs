//! Who hears of what an acquisition does at the store: telemetry.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Mutation;
use crate::lock::{Error, LockId, Result};

/// Hears of what one acquisition does at the store, on the engine's thread; must not block. Dropped when there is
/// nothing left to hear.
pub trait Observer: Debug + Send + Sync + 'static {
    /// A request for the key ended.
    fn asked(&self, answer: Answer<'_>, took: Duration);

    /// A grant that nobody waited for any more, or a request that may have been granted, was released, or could not
    /// be.
    fn undone(&self, lock_id: &LockId, result: &Result<Mutation<()>>, took: Duration);
}

/// How a request for a key ended.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// It was granted, or another holder of this process handed its lease over.
    Granted(&'a LockId),
    /// Somebody else has the key.
    Held,
    /// It failed, or was given up.
    Failed(&'a Error),
}

/// Mostly nobody.
pub(in crate::engine) type Observed = Option<Arc<dyn Observer>>;
