//! Hints that a key may be free: one listen stream for all the keys of a backend that somebody waits for.
//!
//! A target starts with the document's present state and goes on with every change, so when a target is
//! current no later change is missed, and one that was missed while the stream was broken shows in the
//! state that the next stream starts with. Nobody needs resume tokens.

mod listener;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::documents::Stored;
use super::transport::connection::Server;
use super::transport::proto::Document;
use crate::backend::Watch;
use crate::lock::{Error, Result, is_live};
use crate::stores::watchers::{Left, Number, Source, Standing, Watchers};

/// The documents that somebody watches, and the task that listens to them.
pub(super) struct Wakes {
    server: Arc<Server>,
    listened: Listened,
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wakes")
    }
}

/// Who watches which document.
pub(super) type Listened = Watchers<Targets>;

#[derive(Default)]
pub(super) struct Targets {
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

impl Source for Targets {
    type Name = Arc<str>;
    type Channel = TargetId;

    fn left(&mut self, _name: &Arc<str>, _number: Number, id: &mut TargetId) -> Left {
        self.names.remove(id);
        self.order(Order::Remove(*id));
        Left::Closed
    }
}

impl Wakes {
    pub(super) fn new(server: Arc<Server>) -> Wakes {
        Wakes { server, listened: Listened::default() }
    }

    /// Subscribes to a document; answers once no later change can be missed.
    ///
    /// # Errors
    /// What the stream failed with before that.
    pub(super) async fn watch(&self, name: String) -> Result<Watch> {
        let name: Arc<str> = name.into();
        let mut share = self.listened.watch(Arc::clone(&name), |targets, _| {
            if targets.orders.is_none() {
                let (orders, incoming) = mpsc::unbounded_channel();
                targets.orders = Some(orders);
                targets.broken = None;
                tokio::spawn(listener::run(Arc::clone(&self.server), self.listened.clone(), incoming));
            }
            Ok(targets.add(&name))
        })?;
        share.opened().await.ok_or_else(super::error::closed)??;
        Ok(share.into_watch(()))
    }
}

impl Listened {
    /// A new stream begins: answers everything that it must listen to, which takes care of `orders`.
    pub(super) fn begin(&self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Vec<(TargetId, Arc<str>)> {
        let mut board = self.lock();
        while orders.try_recv().is_ok() {}
        board.source.broken = None;
        board.reopen();
        board.source.names.iter().map(|(id, name)| (*id, Arc::clone(name))).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    /// Ends the listening task, unless somebody has come to watch.
    pub(super) fn retire(&self) -> bool {
        let mut board = self.lock();
        let idle = board.is_empty();
        if idle {
            board.source.orders = None;
        }
        idle
    }

    /// No later change of these will be missed.
    pub(super) fn current(&self, ids: impl Iterator<Item = TargetId>) {
        let mut board = self.lock();
        for id in ids {
            if let Some(name) = board.source.name(id) {
                board.opened(&name);
            }
        }
    }

    /// The server will not listen to these. Whoever waits for one is told why; answers whether it did
    /// listen to one before, which a new stream may bring back.
    pub(super) fn refused(&self, ids: impl Iterator<Item = TargetId>, error: &Error) -> bool {
        let mut board = self.lock();
        let mut interrupted = false;
        for id in ids {
            if let Some(name) = board.source.name(id) {
                interrupted |= board.failed(&name, error);
            }
        }
        interrupted
    }

    /// There is no stream. Whoever waits for one to begin is told why; the others keep their hope.
    pub(super) fn broken(&self, error: &Error) {
        let mut board = self.lock();
        board.source.broken = Some(error.clone());
        board.all_failed(error);
    }

    /// The backend is closed.
    pub(super) fn end(&self) {
        let mut board = self.lock();
        board.end();
        board.source = Targets::default();
    }

    /// The key may be free.
    pub(super) fn hint(&self, ids: impl Iterator<Item = TargetId>) {
        let board = self.lock();
        ids.filter_map(|id| board.source.names.get(&id)).for_each(|name| board.hint(name));
    }
}

/// Whether a lock's document, as it is now, leaves its key free.
pub(super) fn is_free(server: &Server, document: &Document) -> bool {
    // Whoever can't read it should look for themselves, and say so.
    Stored::read(document).map_or(true, |stored| !is_live(stored.lease.expires_at, server.clock.now()))
}

impl Targets {
    /// Has the stream listen to a document, at once or when there is one again.
    fn add(&mut self, name: &Arc<str>) -> (TargetId, Standing) {
        let id = self.next_id();
        self.names.insert(id, Arc::clone(name));
        self.order(Order::Add(id, Arc::clone(name)));
        (id, self.broken.clone().map_or(Standing::Opening, Standing::Failed))
    }

    fn name(&self, id: TargetId) -> Option<Arc<str>> {
        self.names.get(&id).cloned()
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
