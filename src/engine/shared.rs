//! What all tasks of one client share, and the limits within which they call the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::environment::Environment;
use super::hold::leases::Leases;
use super::line::store_key::StoreKey;
use super::observer::Observed;
use super::options::ClientOptions;
use crate::backend::{AcquireRequest, Backend};
use crate::event_loop::timeout_at;
use crate::lock::{Error, Key, Lease, Result};

#[derive(Debug)]
pub(in crate::engine) struct Shared {
    pub backend: Arc<dyn Backend>,
    pub options: ClientOptions,
    pub environment: Arc<dyn Environment>,
    pub leases: Leases,
    pub runtime: Handle,
    pub tasks: TaskTracker,
    pub closed: CancellationToken,
    /// Given from above: a release may hand a lease on in the line, and what comes back from there is released.
    undo: Undo,
}

/// Sees in the background to what nobody waits for any more.
pub(in crate::engine) type Undo = fn(&Arc<Shared>, Leftover<'_>);

/// What somebody who has gone left at the store; who hears of its end.
pub(in crate::engine) struct Leftover<'a> {
    pub what: Left<'a>,
    pub observed: Observed,
}

pub(in crate::engine) enum Left<'a> {
    /// A lease that was granted to him.
    Granted(Lease),
    /// What his request may have taken.
    Uncertain(&'a AcquireRequest),
}

impl Shared {
    pub fn new(
        backend: Arc<dyn Backend>,
        options: ClientOptions,
        environment: Arc<dyn Environment>,
        runtime: Handle,
        undo: Undo,
    ) -> Shared {
        Shared {
            backend,
            options,
            environment,
            leases: Leases::default(),
            runtime,
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
            undo,
        }
    }

    /// A key of this client's store.
    pub fn place(&self, key: &Key) -> StoreKey {
        StoreKey { store: self.backend.capabilities().store.clone(), key: key.clone() }
    }

    /// Runs something in the background that `close` waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    pub fn undo(self: &Arc<Self>, leftover: Leftover<'_>) {
        (self.undo)(self, leftover);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The keeper finds out that there is nothing left to watch over.
        self.leases.wake.notify_one();
    }
}

/// Whether it makes sense to go on.
///
/// # Errors
/// `Aborted` when the caller has, `InvalidArgument` when the client was closed.
pub(in crate::engine) fn check(shared: &Shared, cancel: Option<&CancellationToken>) -> Result<()> {
    match cancel {
        Some(cancel) if cancel.is_cancelled() => Err(Error::aborted()),
        _ if shared.closed.is_cancelled() => Err(closed()),
        _ => Ok(()),
    }
}

/// Waits for the caller's abort or the end of the client; answers the error to end with, as [`check`].
pub(in crate::engine) async fn ended(shared: &Shared, cancel: Option<&CancellationToken>) -> Error {
    let Some(cancel) = cancel else {
        shared.closed.cancelled().await;
        return closed();
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Error::aborted(),
        () = shared.closed.cancelled() => closed(),
    }
}

/// One call to the store within the operation timeout.
pub(in crate::engine) async fn bounded<T>(
    shared: &Shared,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    bounded_until(shared, Instant::now() + shared.options.operation_timeout, call).await
}

/// The same where an earlier call has used up a part of it.
pub(in crate::engine) async fn bounded_until<T>(
    shared: &Shared,
    until: Instant,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout_at(until, call).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(shared.options.operation_timeout)),
    }
}

pub(in crate::engine) fn timed_out(limit: Duration) -> Error {
    Error::timed_out(format!(
        "the store did not answer within {} ms, so it is unknown whether the request was applied",
        limit.as_millis()
    ))
}

/// The same for what only reads.
pub(in crate::engine) fn unanswered(limit: Duration) -> Error {
    Error::timed_out(format!("the store did not answer within {} ms", limit.as_millis()))
}

pub(in crate::engine) fn closed() -> Error {
    Error::invalid("the backend was closed; create a new one")
}
