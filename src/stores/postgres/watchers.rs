//! The registry of watchers. They come and go at any moment; the listener's task makes what its session holds follow.
//! So whoever leaves, at whatever point, leaves nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::lock::Result;

/// Who watches what. The task changes what is held, watchers come and go.
#[derive(Default)]
pub(super) struct Registry {
    keys: Mutex<Keys>,
    /// Tells the task that something has changed.
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct Keys {
    by_name: HashMap<Arc<str>, Watched>,
    by_hash: HashMap<i32, Vec<Arc<str>>>,
    /// Keys that the task has to look at.
    changed: VecDeque<Arc<str>>,
    /// Watched keys for whose locks the server has no room.
    without_room: Vec<Arc<str>>,
    held: usize,
    /// How many keys have been watched so far.
    count: u64,
}

#[derive(Default)]
struct Watched {
    /// Which of the watched keys it was: those that came first go first.
    number: u64,
    hints: Vec<Arc<Notify>>,
    /// Those who want to know when the lock is held.
    waiting: Vec<oneshot::Sender<Result<()>>>,
    /// The hash of the lock that the listener's session holds.
    held: Option<i32>,
}

/// What the session has to do.
#[derive(Default)]
pub(super) struct Change {
    pub(super) free: Vec<Arc<str>>,
    pub(super) hold: Vec<Arc<str>>,
}

impl Registry {
    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what to wait for, unless the key's lock is held already.
    pub(super) fn add(&self, key: &Arc<str>, hints: &Arc<Notify>) -> Option<oneshot::Receiver<Result<()>>> {
        let mut keys = self.keys();
        keys.count += 1;
        let number = keys.count;
        let new = || Watched { number, ..Watched::default() };
        let watched = keys.by_name.entry(Arc::clone(key)).or_insert_with(new);
        watched.hints.push(Arc::clone(hints));
        if watched.held.is_some() {
            return None;
        }
        let (done, answered) = oneshot::channel();
        watched.waiting.push(done);
        keys.changed.push_back(Arc::clone(key));
        drop(keys);
        self.changed.notify_one();
        Some(answered)
    }

    fn remove(&self, key: &Arc<str>, hints: &Arc<Notify>) {
        let mut keys = self.keys();
        let Some(watched) = keys.by_name.get_mut(key) else { return };
        watched.hints.retain(|it| !Arc::ptr_eq(it, hints));
        if watched.hints.is_empty() {
            keys.changed.push_back(Arc::clone(key));
            drop(keys);
            self.changed.notify_one();
        }
    }
}

impl Keys {
    pub(super) fn count_watched(&self) -> usize {
        self.by_name.len()
    }

    /// How many sessions hold the key's lock, none or one, and for how many watchers.
    pub(super) fn own(&self, key: &str) -> (u32, u32) {
        match self.by_name.get(key) {
            None => (0, 0),
            Some(watched) => {
                let watchers = u32::try_from(watched.hints.len()).unwrap_or(u32::MAX);
                (u32::from(watched.held.is_some()), watchers)
            }
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.by_name.values().any(|watched| !watched.hints.is_empty())
    }

    /// How many locks the session holds.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What is to be done for at most so many keys that have changed; `None` when there are none.
    pub(super) fn next_change(&mut self, width: usize) -> Option<Change> {
        let mut change = Change::default();
        if self.changed.is_empty() {
            return None;
        }
        let names: Vec<_> = self.changed.drain(..width.min(self.changed.len())).collect();
        for name in names {
            let Some(watched) = self.by_name.get_mut(&name) else { continue };
            match (watched.hints.is_empty(), watched.held) {
                (true, held) => {
                    self.by_name.remove(&name);
                    if let Some(hash) = held {
                        self.forget(&name, hash);
                        change.free.push(name);
                    }
                }
                (false, Some(_)) => watched.settle(&Ok(())),
                (false, None) if change.hold.contains(&name) => {}
                (false, None) => change.hold.push(name),
            }
        }
        Some(change)
    }

    fn forget(&mut self, key: &str, hash: i32) {
        self.held -= 1;
        if let Some(keys) = self.by_hash.get_mut(&hash) {
            keys.retain(|it| **it != *key);
            if keys.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
    }

    /// The session holds the key's lock. Where the watchers have left meanwhile, that is a change to come.
    pub(super) fn hold(&mut self, key: &Arc<str>, hash: i32) {
        let watched = self.by_name.entry(Arc::clone(key)).or_default();
        watched.held = Some(hash);
        watched.settle(&Ok(()));
        self.held += 1;
        self.by_hash.entry(hash).or_default().push(Arc::clone(key));
    }

    /// There is no room for the key's lock: its watchers go by timer until there is.
    pub(super) fn do_without(&mut self, key: Arc<str>) {
        if let Some(watched) = self.by_name.get_mut(&key) {
            watched.settle(&Ok(()));
            self.without_room.push(key);
        }
    }

    /// Some room was made: those without get another look.
    pub(super) fn look_again(&mut self) {
        let names = std::mem::take(&mut self.without_room);
        self.changed.extend(names);
    }

    /// The session is over, and all it held: everything has changed.
    pub(super) fn lose(&mut self) {
        self.by_hash.clear();
        self.held = 0;
        self.without_room.clear();
        self.by_name.retain(|_, watched| !watched.hints.is_empty());
        self.by_name.values_mut().for_each(|watched| watched.held = None);
        let mut names: Vec<_> = self.by_name.iter().map(|(name, it)| (it.number, Arc::clone(name))).collect();
        names.sort_unstable_by_key(|(number, _)| *number);
        self.changed = names.into_iter().map(|(_, name)| name).collect();
    }

    /// Answers all who wait.
    pub(super) fn settle(&mut self, outcome: &Result<()>) {
        self.by_name.values_mut().for_each(|watched| watched.settle(outcome));
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

    fn settle(&mut self, outcome: &Result<()>) {
        for waiting in self.waiting.drain(..) {
            // Who waited may have gone.
            let _ = waiting.send(outcome.clone());
        }
    }
}

/// One watcher's share in a key.
pub(super) struct Subscription {
    registry: Arc<Registry>,
    name: Arc<str>,
    hints: Arc<Notify>,
}

impl Subscription {
    /// Of what was added to the registry.
    pub(super) fn new(registry: Arc<Registry>, name: Arc<str>, hints: Arc<Notify>) -> Subscription {
        Subscription { registry, name, hints }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.registry.remove(&self.name, &self.hints);
    }
}
