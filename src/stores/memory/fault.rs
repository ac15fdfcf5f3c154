//! The faults that a test can script.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::lock::Error;

/// The calls of a backend, for scripting faults and for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `acquire`
    Acquire,
    /// `hand_over`
    HandOver,
    /// `extend`
    Extend,
    /// `extend_many`
    ExtendMany,
    /// `release`
    Release,
    /// `find`
    Find,
    /// `watch`
    Watch,
}

/// What happens to one call. See [`super::ScriptedBackend::script`].
#[derive(Debug)]
pub enum Fault {
    /// Nothing: for a script whose fault comes at a later call.
    Pass,
    /// Fails before anything is applied.
    Fail(Error),
    /// Is applied, but the answer gets lost: a retryable error of unknown outcome.
    LoseReply,
    /// Is never applied and never answers.
    Hang,
    /// Is applied and never answers.
    ApplyThenHang,
    /// Waits for one notification, then is applied and answers. A caller that has gone by then takes the
    /// request with it.
    HoldRequest(Arc<Notify>),
    /// Is applied at once, but its answer waits for one notification.
    HoldReply(Arc<Notify>),
    /// Never answers, but is applied at the notification, whether or not the caller is still there:
    /// a request that is stuck in the network behind a caller's back.
    ApplyLate(Arc<Notify>),
}

impl Fault {
    pub(super) fn lost_reply() -> Error {
        Error::unavailable("the connection to the store broke before its answer arrived").unknown()
    }
}
