//! Who watches which channel of a store, written once for all of them: the first watcher has it opened, the last
//! one has it closed, and a hint goes to everybody in between.
//!
//! Watchers come and go at any moment, also while their channel is being opened: whoever leaves, at whatever
//! point, leaves nothing.

mod board;
mod share;
mod watched;

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

pub(super) use self::board::Board;
pub(super) use self::share::Share;
pub(super) use self::watched::Standing;
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

impl<S: Source> Watchers<S> {
    pub(super) fn new(source: S) -> Watchers<S> {
        Watchers(Arc::new(Mutex::new(Board::new(source))))
    }

    /// One watcher more. `open` is called for the first of a channel.
    ///
    /// # Errors
    /// Those of `open`; then there is neither channel nor watcher.
    pub(super) fn watch(
        &self,
        name: S::Name,
        open: impl FnOnce(&mut S, Number) -> Result<(S::Channel, Standing)>,
    ) -> Result<Share<S>> {
        let hints = Arc::new(Notify::new());
        let opened = self.lock().join(&name, Arc::clone(&hints), open)?;
        Ok(Share::new(self.clone(), name, hints, opened))
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
        write!(f, "Watchers({} channels)", self.lock().len())
    }
}

impl<S: Source> fmt::Debug for WeakWatchers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakWatchers")
    }
}

#[cfg(test)]
mod tests;
