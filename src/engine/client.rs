//! What a user of locks calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::acquire::policy::Policy;
use super::acquire::{self, undo};
use super::environment::Environment;
use super::hold::leases::Drained;
use super::hold::{extend, keeper, release};
use super::options::{AcquireOptions, ClientOptions};
use super::shared::{self, Shared, unanswered};
use crate::backend::{Acquired, Backend, BackendExt, Capabilities, Find, LookupBy, Mutation, Page, Span};
use crate::lock::{Error, Key, Lease, LockId, Result, Timestamp, Ttl};

/// A backend with everything that happens over time: what a user of locks calls.
///
/// Cheap to clone. Every method is bounded by the operation timeout (or the policy's), and aborts at once
/// when `cancel` fires; what was on its way to the store is then undone in the background.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Background tasks run on `runtime`; `environment` hears of lost leases.
    pub fn new(
        backend: Arc<dyn Backend>,
        options: ClientOptions,
        environment: Arc<dyn Environment>,
        runtime: Handle,
    ) -> Client {
        let shared = Arc::new(Shared::new(backend, options, environment, runtime, undo::leftover));
        shared.runtime.spawn(keeper::run(Arc::downgrade(&shared)));
        Client { shared }
    }

    /// What the store can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.shared.backend.capabilities()
    }

    /// What it was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// One attempt, past the queue.
    ///
    /// # Errors
    /// What the store answered; `NetworkTimeout` (unknown) when it did not; `Aborted`. After an unknown
    /// outcome the request is undone in the background.
    pub async fn acquire(
        &self,
        options: AcquireOptions,
        cancel: Option<&CancellationToken>,
    ) -> Result<Acquired> {
        self.check(cancel)?;
        acquire::once(&self.shared, options, cancel).await
    }

    /// Acquires with retries, in line with the other waiters of this process.
    ///
    /// # Errors
    /// `AcquisitionTimeout` when somebody else held the key until the policy's limits; the last error
    /// where there was one; `Aborted`.
    pub async fn lock(
        &self,
        options: AcquireOptions,
        policy: &Policy,
        cancel: Option<&CancellationToken>,
    ) -> Result<Lease> {
        self.check(cancel)?;
        acquire::lock(&self.shared, options, policy, cancel).await
    }

    /// Releases by lock id.
    ///
    /// # Errors
    /// As the store answered; unknown after a lost reply. A later call may then try again.
    pub async fn release(&self, lock_id: LockId, cancel: Option<&CancellationToken>) -> Result<Mutation<()>> {
        self.check(cancel)?;
        let call = release::release(Arc::clone(&self.shared), lock_id);
        match cancel {
            None => call.await,
            Some(cancel) => self.detached(Box::pin(call), cancel).await,
        }
    }

    /// Sets the expiry to the store's now + `ttl`. With `only_if_held`, answers `NotFound` without asking
    /// the store when this client no longer holds the lease.
    ///
    /// # Errors
    /// As the store answered; after an unknown outcome the earlier deadline stays.
    pub async fn extend(
        &self,
        lock_id: LockId,
        ttl: Ttl,
        only_if_held: bool,
        cancel: Option<&CancellationToken>,
    ) -> Result<Mutation<Timestamp>> {
        self.check(cancel)?;
        let call = extend::extend(Arc::clone(&self.shared), lock_id, ttl, only_if_held);
        match cancel {
            None => call.await,
            Some(cancel) => self.detached(Box::pin(call), cancel).await,
        }
    }

    /// The live lease of a key or a lock id.
    ///
    /// # Errors
    /// As the store answered.
    pub async fn lookup(
        &self,
        by: LookupBy<'_>,
        cancel: Option<&CancellationToken>,
    ) -> Result<Option<Lease>> {
        self.read(cancel, self.shared.backend.lookup(by)).await
    }

    /// Whether somebody holds the key.
    ///
    /// # Errors
    /// As the store answered.
    pub async fn is_locked(&self, key: &Key, cancel: Option<&CancellationToken>) -> Result<bool> {
        self.read(cancel, self.shared.backend.is_locked(key)).await
    }

    /// A page of the leases whose keys begin so.
    ///
    /// # Errors
    /// As the store answered; `InvalidArgument` for a cursor that is none of this store's.
    pub async fn list(&self, span: Span<'_>, cancel: Option<&CancellationToken>) -> Result<Page> {
        self.read(cancel, self.shared.backend.find(Find::Prefix(span))).await
    }

    /// How long the lease is certainly still ours, by the local clock and without I/O; zero when it was
    /// released, lost, or is not this client's.
    pub fn remaining(&self, lock_id: &LockId) -> Duration {
        self.shared.leases.remaining(lock_id)
    }

    /// The backend below, for wrappers.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.shared.backend
    }

    /// Ends what waits and renewals (their leases count as lost), waits for what is on its way or still being
    /// undone (for two operation timeouts at most), and closes the connections. Idempotent.
    ///
    /// # Errors
    /// As the backend answered.
    pub async fn close(&self) -> Result<()> {
        if self.shared.closed.is_cancelled() {
            return Ok(());
        }
        for lease in self.end().held {
            extend::unwatched(&self.shared, &lease);
        }
        self.shared.tasks.close();
        let limit = self.shared.options.operation_timeout * 2;
        let _ = tokio::time::timeout(limit, self.shared.tasks.wait()).await;
        self.shared.backend.close().await
    }

    /// The environment has ended: what waits and renewals stop, and its leases are released in the background.
    /// Operations afterwards are `InvalidArgument`.
    pub fn abandon(&self) {
        let drained = self.end();
        for lease in drained.held.into_iter().chain(drained.unreleased) {
            undo::granted(&self.shared, lease, None);
        }
    }

    fn end(&self) -> Drained {
        self.shared.closed.cancel();
        self.shared.leases.wake.notify_one();
        self.shared.leases.drain()
    }

    fn check(&self, cancel: Option<&CancellationToken>) -> Result<()> {
        shared::check(&self.shared, cancel)
    }

    /// What only reads has changed nothing, however it ends.
    async fn read<T>(
        &self,
        cancel: Option<&CancellationToken>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.check(cancel)?;
        let limit = self.shared.options.operation_timeout;
        let call =
            async { tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(unanswered(limit))) };
        until_cancelled(cancel, call).await.map_err(Error::not_applied)
    }

    /// Runs a change to its end, whatever becomes of the caller.
    async fn detached<T: Send + 'static>(
        &self,
        mut call: BoxFuture<'static, Result<T>>,
        cancel: &CancellationToken,
    ) -> Result<T> {
        tokio::select! {
            biased;
            result = &mut call => result,
            () = cancel.cancelled() => {
                self.shared.spawn(async move { drop(call.await) });
                Err(Error::aborted().unknown())
            }
        }
    }
}

async fn until_cancelled<T>(
    cancel: Option<&CancellationToken>,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(cancel) = cancel else { return call.await };
    tokio::select! {
        biased;
        result = call => result,
        () = cancel.cancelled() => Err(Error::aborted()),
    }
}
