//! Everything that happens over time, once for all stores: retries, waiting in line, renewal, the local
//! deadline, the operation timeout, undo. A backend does one attempt; this decides about the next.

mod acquire;
mod client;
mod clock;
mod environment;
mod hold;
mod line;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use acquire::policy::{Backoff, Jitter, KeepPolicy, Next, Past, Policy, Wait};
pub use client::{AcquireOptions, Client, ClientOptions};
pub use environment::{Environment, NoEnvironment};
#[cfg(any(test, feature = "testing"))]
pub use line::queue::queues_of;

use crate::backend::Backend;
use crate::lock::{Error, Key, Result};

/// What all tasks of one client share.
#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    options: ClientOptions,
    environment: Arc<dyn Environment>,
    leases: hold::leases::Leases,
    asked: acquire::asked::Asked,
    runtime: Handle,
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl Shared {
    /// A key of this client's store.
    fn place(&self, key: &Key) -> line::queue::Place {
        line::queue::Place { store: self.backend.capabilities().store.clone(), key: key.clone() }
    }

    /// Runs something in the background that `close` waits for.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The keeper finds out that there is nothing left to watch over.
        self.leases.wake.notify_one();
    }
}

/// One call to the store within the operation timeout.
async fn bounded<T>(shared: &Shared, call: impl Future<Output = Result<T>>) -> Result<T> {
    bounded_until(shared, Instant::now() + shared.options.operation_timeout, call).await
}

/// The same where an earlier call has used up a part of it.
async fn bounded_until<T>(
    shared: &Shared,
    until: Instant,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout_at(until, call).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(shared.options.operation_timeout)),
    }
}

fn timed_out(limit: Duration) -> Error {
    Error::timed_out(format!(
        "the store did not answer within {} ms, so it is unknown whether the request was applied",
        limit.as_millis()
    ))
}

/// The same for what only reads.
fn unanswered(limit: Duration) -> Error {
    Error::timed_out(format!("the store did not answer within {} ms", limit.as_millis()))
}

fn closed() -> Error {
    Error::invalid("the backend was closed; create a new one")
}
