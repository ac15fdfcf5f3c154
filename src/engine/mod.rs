//! Everything that happens over time, once for all stores: retries, waiting in line, renewal, the local
//! deadline, the operation timeout, undo. A backend does one attempt; this decides about the next.

mod acquire;
mod client;
mod clock;
mod environment;
mod hold;
mod line;
mod observer;
mod options;
mod shared;

pub use acquire::policy::{Backoff, Jitter, Next, Past, Policy, Wait};
pub use client::Client;
pub use environment::{Environment, NoEnvironment};
#[cfg(any(test, feature = "testing"))]
pub use line::queue::queues_of;
pub use observer::{Answer, Observer};
pub use options::{AcquireOptions, ClientOptions, KeepPolicy};
