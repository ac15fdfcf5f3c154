//! Who watches which channel of a store, written once for all of them: the first watcher has it opened, the last
//! one has it closed, and a hint goes to everybody in between.
//!
//! Watchers come and go at any moment, also while their channel is being opened: whoever leaves, at whatever
//! point, leaves nothing.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::backend::Watch;
use crate::lock::Result;

/// What a store keeps beside its channels, and does when one is no longer needed.
pub(super) trait Source: Send + Sized + 'static {
    type Name: Clone + Eq + Hash + Send + Sync + 'static;
    /// What a store knows of one of its channels.
    type Channel: Send + 'static;

    /// The last watcher has gone. Called with the registry locked, so in one order with every opening.
    fn left(&mut self, name: &Self::Name, number: Number, channel: &mut Self::Channel) -> Left;
}

/// Tells a channel from others of that name, before and after it; a later one has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

/// What becomes of a channel that nobody watches.
pub(super) enum Left {
    /// It is closed.
    Closed,
    /// The store still has to close it, and then forgets it ([`Board::forget`]). Who comes meanwhile finds it.
    Closing,
}

/// The registry of one backend. Clones are the same one.
pub(super) struct Watchers<S: Source>(Arc<Mutex<Board<S>>>);

pub(super) struct WeakWatchers<S: Source>(Weak<Mutex<Board<S>>>);

/// The registry, while nobody else changes it.
pub(super) struct Board<S: Source> {
    pub(super) source: S,
    channels: HashMap<S::Name, Watched<S::Channel>>,
    count: u64,
}

struct Watched<C> {
    number: Number,
    channel: C,
    watchers: Vec<Arc<Notify>>,
}

impl<S: Source> Watchers<S> {
    pub(super) fn new(source: S) -> Watchers<S> {
        Watchers(Arc::new(Mutex::new(Board { source, channels: HashMap::new(), count: 0 })))
    }

    /// One watcher more. `open` is called for the first of a channel.
    ///
    /// # Errors
    /// Those of `open`; then there is neither channel nor watcher.
    pub(super) fn watch(
        &self,
        name: S::Name,
        open: impl FnOnce(&mut S, Number) -> Result<S::Channel>,
    ) -> Result<Share<S>> {
        let hints = Arc::new(Notify::new());
        let mut board = self.lock();
        let board = &mut *board;
        let watched = match board.channels.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                board.count += 1;
                let number = Number(board.count);
                let channel = open(&mut board.source, number)?;
                entry.insert(Watched { number, channel, watchers: Vec::new() })
            }
        };
        watched.watchers.push(Arc::clone(&hints));
        Ok(Share { watchers: self.clone(), name, hints })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Board<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn downgrade(&self) -> WeakWatchers<S> {
        WeakWatchers(Arc::downgrade(&self.0))
    }
}

impl<S: Source> WeakWatchers<S> {
    pub(super) fn upgrade(&self) -> Option<Watchers<S>> {
        self.0.upgrade().map(Watchers)
    }
}

impl<S: Source> Board<S> {
    /// The channel may have something for those who watch it.
    pub(super) fn hint<Q: Eq + Hash + ?Sized>(&self, name: &Q)
    where
        S::Name: Borrow<Q>,
    {
        self.channels.get(name).into_iter().for_each(Watched::hint);
    }

    /// Hints may have been lost, or none will come any more: everybody must look.
    pub(super) fn hint_all(&self) {
        self.channels.values().for_each(Watched::hint);
    }

    pub(super) fn channel<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> Option<&mut S::Channel>
    where
        S::Name: Borrow<Q>,
    {
        self.channels.get_mut(name).map(|watched| &mut watched.channel)
    }

    /// All that are open, opening or closing.
    pub(super) fn channels(&self) -> impl Iterator<Item = (&S::Name, &S::Channel)> {
        self.channels.iter().map(|(name, watched)| (name, &watched.channel))
    }

    /// Whether somebody watches this very channel.
    pub(super) fn is_watched(&self, name: &S::Name, number: Number) -> bool {
        self.channels.get(name).is_some_and(|it| it.number == number && !it.watchers.is_empty())
    }

    /// The store has closed this very channel. It stays where somebody watches it again.
    pub(super) fn forget(&mut self, name: &S::Name, number: Number) {
        if self.channels.get(name).is_some_and(|it| it.number == number && it.watchers.is_empty()) {
            self.channels.remove(name);
        }
    }

    /// Answers the channel that was closed with the last watcher, to be dropped once others may go on.
    fn leave(&mut self, name: &S::Name, hints: &Arc<Notify>) -> Option<Watched<S::Channel>> {
        // None where the store has let everything go meanwhile.
        let watched = self.channels.get_mut(name)?;
        let here = watched.watchers.iter().position(|watcher| Arc::ptr_eq(watcher, hints))?;
        watched.watchers.remove(here);
        if !watched.watchers.is_empty() {
            return None;
        }
        match self.source.left(name, watched.number, &mut watched.channel) {
            Left::Closed => self.channels.remove(name),
            Left::Closing => None,
        }
    }
}

impl<C> Watched<C> {
    fn hint(&self) {
        self.watchers.iter().for_each(|watcher| watcher.notify_one());
    }
}

/// One watcher's share in a channel, for as long as it watches or waits to.
pub(super) struct Share<S: Source> {
    watchers: Watchers<S>,
    name: S::Name,
    hints: Arc<Notify>,
}

impl<S: Source> Share<S> {
    pub(super) fn name(&self) -> &S::Name {
        &self.name
    }

    /// `with` is dropped after the share.
    pub(super) fn into_watch(self, with: impl Send + Sync + 'static) -> Watch {
        Watch::new(Arc::clone(&self.hints), (self, with))
    }
}

impl<S: Source> Drop for Share<S> {
    fn drop(&mut self) {
        let closed = self.watchers.lock().leave(&self.name, &self.hints);
        drop(closed);
    }
}

impl<S: Source> Clone for Watchers<S> {
    fn clone(&self) -> Watchers<S> {
        Watchers(Arc::clone(&self.0))
    }
}

impl<S: Source + Default> Default for Watchers<S> {
    fn default() -> Watchers<S> {
        Watchers::new(S::default())
    }
}

impl<S: Source> fmt::Debug for Watchers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watchers({} channels)", self.lock().channels.len())
    }
}

impl<S: Source> fmt::Debug for WeakWatchers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakWatchers")
    }
}

#[cfg(test)]
mod tests;
