//! Hints that a key may be free: who watches which key here, and what the listener's session holds for them.
//!
//! A watcher LISTENs and then holds a shared advisory lock of the key; a release notifies where it can't
//! get that lock alone. So commits carry notifications, which serialise them, only where somebody waits.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::Dialer;
use super::error;
use super::listener::Listener;
use super::names::storage_keys;
use super::statements::Statements;
use super::watchers::{Registry, Subscription};
use crate::backend::Watch;
use crate::lock::{Key, Result};

/// The watchers of a backend.
#[derive(Clone)]
pub(super) struct Wakes(Arc<Shared>);

struct Shared {
    registry: Arc<Registry>,
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    /// The listener's, once there is one.
    task: Mutex<Option<JoinHandle<()>>>,
    closed: CancellationToken,
    _ends: DropGuard,
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wakes({} keys)", self.0.registry.keys().count_watched())
    }
}

impl Wakes {
    pub(super) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>) -> Wakes {
        let closed = CancellationToken::new();
        Wakes(Arc::new(Shared {
            registry: Arc::default(),
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
        let hints = Arc::new(Notify::new());
        if self.0.dialer.is_pooled() {
            return Ok(Watch::new(hints, ()));
        }
        let name: Arc<str> = storage_keys(key)?.lock.into();
        let answered = self.0.registry.add(&name, &hints);
        let subscription = Subscription::new(Arc::clone(&self.0.registry), name, Arc::clone(&hints));
        self.listen();
        if let Some(answered) = answered {
            tokio::select! {
                answer = answered => answer.map_err(|_| error::closed())??,
                () = self.0.closed.cancelled() => return Err(error::closed()),
            }
        }
        Ok(Watch::new(hints, subscription))
    }

    /// Whether hints reach this backend: not through a pooler.
    pub(super) fn reach(&self) -> bool {
        !self.0.dialer.is_pooled()
    }

    /// How many sessions of this backend's hold the key's shared lock, and for how many watchers.
    pub(super) fn own(&self, key: &str) -> (u32, u32) {
        self.0.registry.keys().own(key)
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
        let registry = Arc::clone(&self.0.registry);
        // What a task held that ended with its runtime went with its session.
        registry.keys().lose();
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
