//! What a store must be able to do. Everything that takes time (retries, waiting, renewal, undo,
//! deadlines) is the engine's.

mod find;
mod store_id;
mod surroundings;
mod warning;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

pub use self::find::{BackendExt, Find, LookupBy, Page, Span};
pub use self::store_id::{Part, StoreId};
pub use self::surroundings::{OPERATION_TIMEOUT, Surroundings};
pub use self::warning::{NoWarnings, Warning, Warnings};
use crate::lock::{Key, Lease, LockId, Result, Timestamp, Ttl};

/// One store, one attempt per call. Never sleeps, retries, renews or logs.
///
/// Every method may be dropped at any await point: the request may then have been applied or not, and
/// the engine undoes it where that matters. An error says whether a retry may help and whether the
/// request may have been applied ([`crate::lock::Error`]).
///
/// There are no default methods, so that a wrapper that forgets one does not compile.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// What this store can do.
    fn capabilities(&self) -> &Capabilities;

    /// Takes the key if it is free or no longer live, and mints the next fence, in one atomic step.
    /// A record that is live under the request's own lock id is granted again, unchanged.
    /// Writes nothing when somebody else holds the key.
    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired>;

    /// Releases `owner`'s lease, and in the same step acquires for `next`, which names the same key.
    async fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver>;

    /// Sets the expiry to the authority's now + `ttl`. Never revives a lease that is no longer live.
    async fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>>;

    /// The same for many leases, in as few round trips as the store allows; one result for each, in order.
    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>>;

    /// Removes `owner`'s lease and wakes whoever waits for its key.
    async fn release(&self, owner: &Owner) -> Result<Mutation<()>>;

    /// Live leases: of a key, of a lock id, or of keys that begin alike, a page at a time. Writes nothing, except that a
    /// backend with clean-up switched on may delete an expired record where it is asked by key; never a fence.
    async fn find(&self, what: Find<'_>) -> Result<Page>;

    /// Subscribes to hints that `key` may be free. When this returns, no later hint is missed, except
    /// by a fault; a hint is never the truth. Only called where [`Capabilities::wakes`] is true.
    async fn watch(&self, key: &Key) -> Result<Watch>;

    /// Ends connections and background tasks. Operations afterwards are `InvalidArgument`.
    async fn close(&self) -> Result<()>;
}

/// What a store can do and what it is called.
#[allow(clippy::struct_excessive_bools, reason = "what a store can do is a list of answers")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `redis`, `postgres`, `firestore`, `file`, …
    pub name: &'static str,
    /// Which store it is: equal for whatever leads to the same locks.
    pub store: StoreId,
    /// Whose clock decides.
    pub time_authority: TimeAuthority,
    /// Whether [`Backend::watch`] delivers hints.
    pub wakes: bool,
    /// Whether [`Backend::hand_over`] takes one step; the engine does not call it otherwise.
    pub hands_over: bool,
    /// Whether a caller's event loop may poll its operations: they then do little on that thread, and never block it.
    pub event_loop: bool,
    /// Whether an acquire may be repeated under its lock id when the first one's outcome is unknown.
    pub repeatable: bool,
}

/// Whose clock says when a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeAuthority {
    /// The store's own.
    Server,
    /// That of the machine that asks.
    Client,
}

/// One attempt to take a lock.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    /// What to lock.
    pub key: Key,
    /// The lease would be known by it.
    pub lock_id: LockId,
    /// How long it would live.
    pub ttl: Ttl,
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is ours.
    Granted(Lease),
    /// Somebody else holds the key. `free_in` is how long, by the authority's clock, until their record
    /// counts as free (tolerance included), if nothing changes; `None` when the store does not tell.
    Held {
        /// From the answer on.
        free_in: Option<Duration>,
    },
}

/// Who asks to extend or release: the lock id, and the lease where this process granted it, so that a
/// backend need not resolve the lock id first. A remembered lease is a hint: the store is the truth.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The right to extend and release.
    pub lock_id: LockId,
    /// As this process was granted it.
    pub lease: Option<Lease>,
}

impl From<LockId> for Owner {
    /// An owner of whom this process knows the lock id only.
    fn from(lock_id: LockId) -> Owner {
        Owner { lock_id, lease: None }
    }
}

impl From<Lease> for Owner {
    fn from(lease: Lease) -> Owner {
        Owner { lock_id: lease.lock_id, lease: Some(lease) }
    }
}

/// The answer to a change that only the owner of a live lease may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation<T> {
    /// It was made.
    Done(T),
    /// The lease is there, but no longer live.
    Expired,
    /// No lease with this lock id.
    NotFound,
}

impl<T> Mutation<T> {
    /// The same with another value, where it was made.
    pub fn map<U>(self, done: impl FnOnce(T) -> U) -> Mutation<U> {
        match self {
            Mutation::Done(value) => Mutation::Done(done(value)),
            Mutation::Expired => Mutation::Expired,
            Mutation::NotFound => Mutation::NotFound,
        }
    }
}

/// A release and the next attempt on the same key, in one step.
#[derive(Debug)]
pub struct HandOver<'a> {
    /// Who releases.
    pub owner: &'a Owner,
    /// Who is next in line here.
    pub next: &'a AcquireRequest,
    /// Whether it is other processes' turn: then release with a wake-up, and do not acquire.
    pub yields: Yield,
}

/// Whether a release gives other processes their turn. `own` is how many subscribers to the key are this
/// process' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yield {
    /// Nobody else is asked.
    Never,
    /// Where more subscribers than our own watch the key, or the store can't tell.
    IfWatched {
        /// This process' subscribers.
        own: u32,
    },
    /// In any case: who polls leaves no mark.
    Always {
        /// This process' subscribers.
        own: u32,
    },
}

/// What a hand-over came to.
#[derive(Debug)]
pub struct HandedOver {
    /// As for a release alone.
    pub released: Mutation<()>,
    /// `None` when the turn went to other processes.
    pub next: Option<Acquired>,
    /// How many subscribers of other processes watch the key, where the turn went to them; `None` where the store
    /// can't tell. They go first, each once, before this process asks at full speed again.
    pub others: Option<u32>,
    /// Where the turn went to others, whether this backend's own watchers hear of it, too.
    pub echo: bool,
}

/// A subscription to hints about one key; dropping it ends the subscription.
///
/// A hint that came since the last [`Watch::hint`] is kept, so none falls between two waits.
pub struct Watch {
    hints: Arc<Notify>,
    _subscription: Box<dyn Any + Send + Sync>,
}

impl Watch {
    /// `hints` gets one `notify_one` a hint; `subscription` is dropped with the watch.
    pub fn new(hints: Arc<Notify>, subscription: impl Any + Send + Sync) -> Watch {
        Watch { hints, _subscription: Box::new(subscription) }
    }

    /// Waits for the next hint. Cancel safe.
    pub async fn hint(&self) {
        self.hints.notified().await;
    }
}

impl Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}
