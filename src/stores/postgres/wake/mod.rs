//! Hints that a key may be free: who watches which key here, and what the listener's session holds for them.
//!
//! A watcher LISTENs and then holds a shared advisory lock of the key; a release notifies where it can't
//! get that lock alone. So commits carry notifications, which serialise them, only where somebody waits.

mod listener;
mod locks;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::listener::Listener;
use self::locks::{Lock, Registry};
use super::error;
use super::names::storage_keys;
use super::sql::Statements;
use super::transport::dial::Dialer;
use crate::backend::Watch;
use crate::lock::{Key, Result};
use crate::stores::watchers::Standing;

/// The watchers of a backend.
#[derive(Clone)]
pub(super) struct Wakes(Arc<Shared>);

struct Shared {
    registry: Registry,
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    /// The listener's, once there is one.
    task: Mutex<Option<JoinHandle<()>>>,
    closed: CancellationToken,
    _ends: DropGuard,
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wakes({} keys)", self.0.registry.lock().len())
    }
}

impl Wakes {
    pub(super) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>) -> Wakes {
        let closed = CancellationToken::new();
        Wakes(Arc::new(Shared {
            registry: Registry::default(),
            dialer,
            statements,
            task: Mutex::default(),
            _ends: closed.clone().drop_guard(),
            closed,
        }))
    }

    /// Answers once no later release of the key can be missed; also where the server has no room for another
    /// watched key, or a pooler lets no hints through: then waiters look again by timer.
    ///
    /// # Errors
    /// Those of connecting, and of the server's refusals; `InvalidArgument` once closed.
    pub(super) async fn watch(&self, key: &Key) -> Result<Watch> {
        if self.0.closed.is_cancelled() {
            return Err(error::closed());
        }
        if self.0.dialer.is_pooled() {
            return Ok(Watch::new(Arc::default(), ()));
        }
        let name: Arc<str> = storage_keys(key)?.lock.into();
        let mut share =
            self.0.registry.watch(name, |_, number| Ok((Lock::new(number), Standing::Opening)))?;
        if share.waits() {
            self.0.registry.lock().source.look_at(Arc::clone(share.name()));
        }
        self.listen();
        tokio::select! {
            biased;
            answer = share.opened() => answer.ok_or_else(error::closed)??,
            () = self.0.closed.cancelled() => return Err(error::closed()),
        }
        Ok(share.into_watch(()))
    }

    /// Whether hints reach this backend: not through a pooler.
    pub(super) fn reach(&self) -> bool {
        !self.0.dialer.is_pooled()
    }

    /// How many sessions of this backend's hold the key's shared lock, and for how many watchers.
    pub(super) fn own(&self, key: &str) -> (u32, u32) {
        self.0.registry.lock().own(key)
    }

    pub(super) fn close(&self) {
        self.0.closed.cancel();
    }

    /// Sees to it that the listener's task runs.
    fn listen(&self) {
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let registry = self.0.registry.clone();
        // What a task held that ended with its runtime went with its session.
        registry.lock().lose();
        let (dialer, statements) = (Arc::clone(&self.0.dialer), Arc::clone(&self.0.statements));
        let (listener, closed) = (Listener::new(dialer, statements, registry), self.0.closed.clone());
        *task = Some(tokio::spawn(async move {
            tokio::select! {
                () = listener.run() => {}
                () = closed.cancelled() => {}
            }
        }));
    }
}
