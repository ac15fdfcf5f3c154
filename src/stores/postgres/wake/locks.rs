//! What the listener's session holds for the keys that are watched, and what its task has to change about that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::stores::watchers::{Board, Left, Number, Source, Watchers};

/// Who watches which key.
pub(in crate::stores::postgres) type Registry = Watchers<Locks>;

/// The shared locks of watched keys. The task changes what is held, watchers come and go.
#[derive(Default)]
pub(in crate::stores::postgres) struct Locks {
    by_hash: HashMap<i32, Vec<Arc<str>>>,
    /// Keys that the task has to look at.
    changed: VecDeque<Arc<str>>,
    /// Watched keys for whose locks the server has no room.
    without_room: Vec<Arc<str>>,
    held: usize,
    /// Tells the task that something has changed.
    news: Arc<Notify>,
}

pub(in crate::stores::postgres) struct Lock {
    number: Number,
    /// Its hash, while the listener's session holds it.
    held: Option<i32>,
}

/// What the session has to do.
#[derive(Default)]
pub(in crate::stores::postgres) struct Change {
    pub(in crate::stores::postgres) free: Vec<Arc<str>>,
    pub(in crate::stores::postgres) hold: Vec<Arc<str>>,
}

impl Source for Locks {
    type Name = Arc<str>;
    type Channel = Lock;

    fn left(&mut self, name: &Arc<str>, _number: Number, _lock: &mut Lock) -> Left {
        self.look_at(Arc::clone(name));
        Left::Closing
    }
}

impl Lock {
    pub(in crate::stores::postgres) fn new(number: Number) -> Lock {
        Lock { number, held: None }
    }
}

impl Locks {
    pub(in crate::stores::postgres) fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// How many locks the session holds.
    pub(in crate::stores::postgres) fn held(&self) -> usize {
        self.held
    }

    /// Has the task look at a key.
    pub(in crate::stores::postgres) fn look_at(&mut self, key: Arc<str>) {
        self.changed.push_back(key);
        self.news.notify_one();
    }

    /// Some room was made: those without get another look.
    pub(in crate::stores::postgres) fn look_again(&mut self) {
        self.changed.extend(self.without_room.drain(..));
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
}

impl Board<Locks> {
    /// How many sessions hold the key's lock, none or one, and for how many watchers.
    pub(in crate::stores::postgres) fn own(&mut self, key: &str) -> (u32, u32) {
        let watchers = u32::try_from(self.watching(key)).unwrap_or(u32::MAX);
        self.channel(key).map_or((0, 0), |lock| (u32::from(lock.held.is_some()), watchers))
    }

    /// What is to be done for at most so many keys that have changed; `None` when there are none.
    pub(in crate::stores::postgres) fn next_change(&mut self, width: usize) -> Option<Change> {
        let mut change = Change::default();
        if self.source.changed.is_empty() {
            return None;
        }
        let names: Vec<_> = self.source.changed.drain(..width.min(self.source.changed.len())).collect();
        for name in names {
            let Some(&mut Lock { number, held }) = self.channel(&name) else { continue };
            match (self.watching(&name), held) {
                (0, held) => {
                    self.forget(&name, number);
                    if let Some(hash) = held {
                        self.source.forget(&name, hash);
                        change.free.push(name);
                    }
                }
                (_, Some(_)) => self.answer(&name, &Ok(())),
                (_, None) if change.hold.contains(&name) => {}
                (_, None) => change.hold.push(name),
            }
        }
        Some(change)
    }

    /// The session holds the key's lock. Where the watchers have left meanwhile, that is a change to come.
    pub(in crate::stores::postgres) fn hold(&mut self, key: &Arc<str>, hash: i32) {
        // Only the task takes a key away, and not before it has freed its lock.
        let Some(lock) = self.channel(key) else { return };
        lock.held = Some(hash);
        self.opened(key);
        self.source.held += 1;
        self.source.by_hash.entry(hash).or_default().push(Arc::clone(key));
    }

    /// There is no room for the key's lock: its watchers go by timer until there is.
    pub(in crate::stores::postgres) fn do_without(&mut self, key: Arc<str>) {
        if self.channel(&key).is_some() {
            self.answer(&key, &Ok(()));
            self.source.without_room.push(key);
        }
    }

    /// The session is over, and all it held: everything has changed.
    pub(in crate::stores::postgres) fn lose(&mut self) {
        self.source.by_hash.clear();
        self.source.held = 0;
        self.source.without_room.clear();
        let names = self.reopen();
        for name in &names {
            self.channel(name).into_iter().for_each(|lock| lock.held = None);
        }
        self.source.changed = names.into();
    }

    pub(in crate::stores::postgres) fn notified(&self, hash: i32) {
        self.source.by_hash.get(&hash).into_iter().flatten().for_each(|key| self.hint(key));
    }
}
