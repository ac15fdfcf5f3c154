//! Hints that a key may be free: one listen stream for all the keys of a backend that somebody waits for.
//!
//! A target starts with the document's present state and goes on with every change, so when a target is
//! current no later change is missed, and one that was missed while the stream was broken shows in the
//! state that the next stream starts with. Nobody needs resume tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::connection::Server;
use super::documents::Stored;
use super::listener;
use super::proto::Document;
use crate::backend::Watch;
use crate::lock::{Error, Result, is_live};

/// The documents that somebody watches, and the task that listens to them.
pub(super) struct Wakes {
    server: Arc<Server>,
    board: Arc<Board>,
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wakes")
    }
}

#[derive(Default)]
pub(super) struct Board(Mutex<Targets>);

#[derive(Default)]
pub(super) struct Targets {
    by_name: HashMap<Arc<str>, Target>,
    names: HashMap<TargetId, Arc<str>>,
    last_id: i32,
    /// To the listening task; `None` when there is none.
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// Why there is no stream, until the next one begins.
    broken: Option<Error>,
}

/// What Firestore calls one of the things that a stream listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TargetId(pub(super) i32);

/// What the listening task is to tell the server.
#[derive(Debug)]
pub(super) enum Order {
    Add(TargetId, Arc<str>),
    Remove(TargetId),
}

struct Target {
    id: TargetId,
    watchers: Vec<Arc<Notify>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
enum State {
    /// The server has not yet told the document's present state.
    Pending,
    Current,
    /// The stream broke before it was current.
    Failed(Error),
}

impl Wakes {
    pub(super) fn new(server: Arc<Server>) -> Wakes {
        Wakes { server, board: Arc::default() }
    }

    /// Subscribes to a document; answers once no later change can be missed.
    ///
    /// # Errors
    /// What the stream failed with before that.
    pub(super) async fn watch(&self, name: String) -> Result<Watch> {
        let hints = Arc::new(Notify::new());
        let (subscription, mut state) = self.subscribe(name.into(), &hints);
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Current => return Ok(Watch::new(hints, subscription)),
                State::Failed(error) => return Err(error),
                State::Pending => {}
            }
            if state.changed().await.is_err() {
                return Err(super::error::closed());
            }
        }
    }

    fn subscribe(&self, name: Arc<str>, hints: &Arc<Notify>) -> (Subscription, watch::Receiver<State>) {
        let mut targets = self.board.targets();
        if targets.orders.is_none() {
            let (orders, incoming) = mpsc::unbounded_channel();
            targets.orders = Some(orders);
            targets.broken = None;
            tokio::spawn(listener::run(Arc::clone(&self.server), Arc::clone(&self.board), incoming));
        }
        let state = targets.add(&name, hints);
        (Subscription { board: Arc::clone(&self.board), name, hints: Arc::clone(hints) }, state)
    }
}

impl Board {
    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream begins: answers everything that it must listen to, which takes care of `orders`.
    pub(super) fn begin(&self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Vec<(TargetId, Arc<str>)> {
        let mut targets = self.targets();
        while orders.try_recv().is_ok() {}
        targets.broken = None;
        for target in targets.by_name.values() {
            target.state.send_replace(State::Pending);
        }
        targets.names.iter().map(|(id, name)| (*id, Arc::clone(name))).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.targets().by_name.is_empty()
    }

    /// Ends the listening task, unless somebody has come to watch.
    pub(super) fn retire(&self) -> bool {
        let mut targets = self.targets();
        let idle = targets.by_name.is_empty();
        if idle {
            targets.orders = None;
        }
        idle
    }

    /// No later change of these will be missed.
    pub(super) fn current(&self, ids: impl Iterator<Item = TargetId>) {
        let targets = self.targets();
        for target in ids.filter_map(|id| targets.get(id)) {
            target.state.send_replace(State::Current);
        }
    }

    /// The server will not listen to these. Whoever waits for one is told why; answers whether it did
    /// listen to one before, which a new stream may bring back.
    pub(super) fn refused(&self, ids: impl Iterator<Item = TargetId>, error: &Error) -> bool {
        let targets = self.targets();
        let mut interrupted = false;
        for target in ids.filter_map(|id| targets.get(id)) {
            interrupted |= matches!(*target.state.borrow(), State::Current);
            target.state.send_replace(State::Failed(error.clone()));
        }
        interrupted
    }

    /// There is no stream. Whoever waits for one to begin is told why; the others keep their hope.
    pub(super) fn broken(&self, error: &Error) {
        let mut targets = self.targets();
        targets.broken = Some(error.clone());
        for target in targets.by_name.values() {
            target.state.send_replace(State::Failed(error.clone()));
        }
    }

    /// The backend is closed.
    pub(super) fn end(&self) {
        let mut targets = self.targets();
        targets.by_name.values().for_each(Target::hint);
        *targets = Targets::default();
    }

    /// The key may be free.
    pub(super) fn hint(&self, ids: impl Iterator<Item = TargetId>) {
        let targets = self.targets();
        ids.filter_map(|id| targets.get(id)).for_each(Target::hint);
    }
}

/// Whether a lock's document, as it is now, leaves its key free.
pub(super) fn is_free(server: &Server, document: &Document) -> bool {
    // Whoever can't read it should look for themselves, and say so.
    Stored::read(document).map_or(true, |stored| !is_live(stored.lease.expires_at, server.clock.now()))
}

impl Targets {
    /// A watcher's share in the target of that name.
    fn add(&mut self, name: &Arc<str>, hints: &Arc<Notify>) -> watch::Receiver<State> {
        if let Some(target) = self.by_name.get_mut(name) {
            target.watchers.push(Arc::clone(hints));
            return target.state.subscribe();
        }
        let id = self.next_id();
        let state = self.broken.clone().map_or(State::Pending, State::Failed);
        let (state, receiver) = watch::channel(state);
        self.by_name.insert(Arc::clone(name), Target { id, watchers: vec![Arc::clone(hints)], state });
        self.names.insert(id, Arc::clone(name));
        self.order(Order::Add(id, Arc::clone(name)));
        receiver
    }

    fn get(&self, id: TargetId) -> Option<&Target> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// Positive, as Firestore wants it, and not in use.
    fn next_id(&mut self) -> TargetId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.names.contains_key(&TargetId(self.last_id)) {
                return TargetId(self.last_id);
            }
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A task that has ended leaves nothing to order.
            let _ = orders.send(order);
        }
    }
}

impl Target {
    fn hint(&self) {
        self.watchers.iter().for_each(|watcher| watcher.notify_one());
    }
}

/// One watcher's share in a target. The last one to go takes the target with it.
struct Subscription {
    board: Arc<Board>,
    name: Arc<str>,
    hints: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut targets = self.board.targets();
        let Some(target) = targets.by_name.get_mut(&self.name) else { return };
        target.watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.hints));
        if target.watchers.is_empty() {
            let id = target.id;
            targets.by_name.remove(&self.name);
            targets.names.remove(&id);
            targets.order(Order::Remove(id));
        }
    }
}
