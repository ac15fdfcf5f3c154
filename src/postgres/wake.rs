//! Hints that a key may be free: who watches which key here, and what the listener's session holds for them.
//!
//! A watcher LISTENs and then holds a shared advisory lock of the key; a release notifies where it can't
//! get that lock alone. So commits carry notifications, which serialise them, only where somebody waits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::Dialer;
use super::error;
use super::listener;
use super::statements::Statements;
use crate::backend::Watch;
use crate::lock::{Key, Result, postgres_keys};

/// The watchers of a backend.
#[derive(Clone)]
pub(super) struct Wakes(Arc<Shared>);

struct Shared {
    registry: Arc<Registry>,
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    /// To the listener's task, once there is one.
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
    closed: CancellationToken,
    _ends: DropGuard,
}

/// What the listener's task is told.
pub(super) enum Order {
    /// Take the key's shared lock, and say when it is had.
    Watch { key: Arc<str>, done: oneshot::Sender<Result<()>> },
    /// Nobody may be watching the key any more.
    Forget { key: Arc<str> },
}

/// Who watches what. The task changes what is held, watchers come and go.
#[derive(Default)]
pub(super) struct Registry(Mutex<Keys>);

#[derive(Default)]
pub(super) struct Keys {
    by_name: HashMap<Arc<str>, Watched>,
    by_hash: HashMap<i32, Vec<Arc<str>>>,
}

#[derive(Default)]
struct Watched {
    hints: Vec<Arc<Notify>>,
    /// The hash of the lock that the listener's session holds.
    held: Option<i32>,
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wakes({} keys)", self.0.registry.keys().by_name.len())
    }
}

impl Wakes {
    pub(super) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>) -> Wakes {
        let closed = CancellationToken::new();
        Wakes(Arc::new(Shared {
            registry: Arc::default(),
            dialer,
            statements,
            orders: Mutex::default(),
            _ends: closed.clone().drop_guard(),
            closed,
        }))
    }

    /// Answers once no later release of the key can be missed.
    ///
    /// # Errors
    /// Those of connecting, and of the server's refusals; `InvalidArgument` once closed.
    pub(super) async fn watch(&self, key: &Key) -> Result<Watch> {
        if self.0.closed.is_cancelled() {
            return Err(error::closed());
        }
        let hints = Arc::new(Notify::new());
        if self.0.dialer.is_pooled() {
            // LISTEN reaches nobody through a pooler; waiters look again by timer.
            return Ok(Watch::new(hints, ()));
        }
        let name: Arc<str> = postgres_keys(key)?.lock.into();
        let held = self.0.registry.keys().add(&name, &hints);
        let orders = self.orders();
        let subscription = Subscription {
            registry: Arc::clone(&self.0.registry),
            orders: orders.clone(),
            name: Arc::clone(&name),
            hints: Arc::clone(&hints),
        };
        if !held {
            let (done, answered) = oneshot::channel();
            // Without a task there is no answer either.
            let _ = orders.send(Order::Watch { key: name, done });
            answered.await.map_err(|_| error::closed())??;
        }
        Ok(Watch::new(hints, subscription))
    }

    /// How many sessions of this backend's hold the key's shared lock, and for how many watchers.
    pub(super) fn own(&self, key: &str) -> (u32, u32) {
        let keys = self.0.registry.keys();
        match keys.by_name.get(key) {
            None => (0, 0),
            Some(watched) => {
                let watchers = u32::try_from(watched.hints.len()).unwrap_or(u32::MAX);
                (u32::from(watched.held.is_some()), watchers)
            }
        }
    }

    pub(super) fn close(&self) {
        self.0.closed.cancel();
    }

    /// The way to the listener's task, which is started where there is none.
    fn orders(&self) -> mpsc::UnboundedSender<Order> {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref().filter(|orders| !orders.is_closed()) {
            return orders.clone();
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let listener = listener::Listener::new(
            Arc::clone(&self.0.dialer),
            Arc::clone(&self.0.statements),
            Arc::clone(&self.0.registry),
        );
        let closed = self.0.closed.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = listener.run(receiver) => {}
                () = closed.cancelled() => {}
            }
        });
        *orders = Some(sender.clone());
        sender
    }
}

impl Registry {
    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// True where the key's lock is held already.
    fn add(&mut self, key: &Arc<str>, hints: &Arc<Notify>) -> bool {
        let watched = self.by_name.entry(Arc::clone(key)).or_default();
        watched.hints.push(Arc::clone(hints));
        watched.held.is_some()
    }

    fn remove(&mut self, key: &str, hints: &Arc<Notify>) -> bool {
        let Some(watched) = self.by_name.get_mut(key) else { return false };
        watched.hints.retain(|it| !Arc::ptr_eq(it, hints));
        watched.hints.is_empty()
    }

    pub(super) fn is_held(&self, key: &str) -> bool {
        self.by_name.get(key).is_some_and(|watched| watched.held.is_some())
    }

    /// The keys that somebody watches; those that nobody does are forgotten.
    pub(super) fn wanted(&mut self) -> Vec<Arc<str>> {
        self.by_name.retain(|_, watched| !watched.hints.is_empty());
        self.by_name.keys().cloned().collect()
    }

    pub(super) fn hold(&mut self, key: &Arc<str>, hash: i32) {
        // The entry stays also where the watcher has gone: its order to forget comes later.
        self.by_name.entry(Arc::clone(key)).or_default().held = Some(hash);
        self.by_hash.entry(hash).or_default().push(Arc::clone(key));
    }

    /// Forgets a key that nobody watches; true when its lock is held.
    pub(super) fn forget(&mut self, key: &str) -> bool {
        if self.by_name.get(key).is_none_or(|watched| !watched.hints.is_empty()) {
            return false;
        }
        let held = self.by_name.remove(key).and_then(|watched| watched.held);
        if let Some(hash) = held
            && let Some(keys) = self.by_hash.get_mut(&hash)
        {
            keys.retain(|it| **it != *key);
            if keys.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        held.is_some()
    }

    /// The session is over, and all it held.
    pub(super) fn lose(&mut self) {
        self.by_hash.clear();
        self.by_name.values_mut().for_each(|watched| watched.held = None);
    }

    pub(super) fn hint(&self, hash: i32) {
        let keys = self.by_hash.get(&hash).into_iter().flatten();
        keys.filter_map(|key| self.by_name.get(key)).for_each(Watched::hint);
    }

    /// For those who may have missed something.
    pub(super) fn hint_all(&self) {
        self.by_name.values().for_each(Watched::hint);
    }
}

impl Watched {
    fn hint(&self) {
        self.hints.iter().for_each(|hints| hints.notify_one());
    }
}

/// One watcher's share in a key.
struct Subscription {
    registry: Arc<Registry>,
    orders: mpsc::UnboundedSender<Order>,
    name: Arc<str>,
    hints: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.registry.keys().remove(&self.name, &self.hints) {
            let _ = self.orders.send(Order::Forget { key: Arc::clone(&self.name) });
        }
    }
}
