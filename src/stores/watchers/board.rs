//! The channels themselves: what a store tells of them, and what it asks.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::watched::{Standing, Watched};
use super::{Left, Number, Source};
use crate::lock::{Error, Result};

/// The registry, while nobody else changes it.
pub(in crate::stores) struct Board<S: Source> {
    pub(in crate::stores) source: S,
    pub(super) channels: HashMap<S::Name, Watched<S::Channel>>,
    count: u64,
}

impl<S: Source> Board<S> {
    pub(super) fn new(source: S) -> Board<S> {
        Board { source, channels: HashMap::new(), count: 0 }
    }

    /// Answers what the new watcher has to wait for, if it has to.
    pub(super) fn join(
        &mut self,
        name: &S::Name,
        hints: Arc<Notify>,
        open: impl FnOnce(&mut S, Number) -> Result<(S::Channel, Standing)>,
    ) -> Result<Option<oneshot::Receiver<Result<()>>>> {
        let watched = match self.channels.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.count += 1;
                let number = Number(self.count);
                let (channel, standing) = open(&mut self.source, number)?;
                entry.insert(Watched::new(number, channel, standing))
            }
        };
        Ok(watched.add(hints))
    }

    /// The channel may have something for those who watch it.
    pub(in crate::stores) fn hint<Q: Eq + Hash + ?Sized>(&self, name: &Q)
    where
        S::Name: Borrow<Q>,
    {
        self.channels.get(name).into_iter().for_each(Watched::hint);
    }

    /// Hints may have been lost, or none will come any more: everybody must look.
    pub(in crate::stores) fn hint_all(&self) {
        self.channels.values().for_each(Watched::hint);
    }

    pub(in crate::stores) fn channel<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> Option<&mut S::Channel>
    where
        S::Name: Borrow<Q>,
    {
        self.channels.get_mut(name).map(|watched| &mut watched.channel)
    }

    /// A later hint on this channel is heard; those who wait for that are told.
    pub(in crate::stores) fn opened(&mut self, name: &S::Name) {
        if let Some(watched) = self.channels.get_mut(name) {
            watched.standing = Standing::Open;
            watched.answer(&Ok(()));
        }
    }

    /// There is nothing to hear on this channel for now. Those who wait for it are told why, the others keep
    /// their hope; answers whether it was open.
    pub(in crate::stores) fn failed(&mut self, name: &S::Name, error: &Error) -> bool {
        let Some(watched) = self.channels.get_mut(name) else { return false };
        watched.answer(&Err(error.clone()));
        matches!(std::mem::replace(&mut watched.standing, Standing::Failed(error.clone())), Standing::Open)
    }

    /// The same for all.
    pub(in crate::stores) fn all_failed(&mut self, error: &Error) {
        for watched in self.channels.values_mut() {
            watched.answer(&Err(error.clone()));
            watched.standing = Standing::Failed(error.clone());
        }
    }

    /// Tells those who wait for a channel now, whatever becomes of it for those who come later.
    pub(in crate::stores) fn answer(&mut self, name: &S::Name, answer: &Result<()>) {
        self.channels.get_mut(name).into_iter().for_each(|watched| watched.answer(answer));
    }

    /// The same for all.
    pub(in crate::stores) fn answer_all(&mut self, answer: &Result<()>) {
        self.channels.values_mut().for_each(|watched| watched.answer(answer));
    }

    /// Whatever was open has ended, and everything that is watched is to be opened again: answers that, in the
    /// order in which it came to be watched.
    pub(in crate::stores) fn reopen(&mut self) -> Vec<S::Name> {
        self.channels.retain(|_, watched| !watched.watchers.is_empty());
        self.channels.values_mut().for_each(|watched| watched.standing = Standing::Opening);
        let mut names: Vec<_> = self.channels.iter().map(|(name, it)| (it.number, name.clone())).collect();
        names.sort_unstable_by_key(|(number, _)| *number);
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// No hint will come any more, and nothing is to be closed: everybody must look, and nobody is left.
    pub(in crate::stores) fn end(&mut self) {
        self.hint_all();
        self.channels.clear();
    }

    /// Whether there is no channel, not even one to be closed.
    pub(in crate::stores) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// How many there are.
    pub(in crate::stores) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether anybody watches anything.
    pub(in crate::stores) fn is_wanted(&self) -> bool {
        self.channels.values().any(|watched| !watched.watchers.is_empty())
    }

    /// How many watch a channel here.
    pub(in crate::stores) fn watching<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> usize
    where
        S::Name: Borrow<Q>,
    {
        self.channels.get(name).map_or(0, |watched| watched.watchers.len())
    }

    /// All that are open, opening or closing.
    pub(in crate::stores) fn channels(&self) -> impl Iterator<Item = (&S::Name, &S::Channel)> {
        self.channels.iter().map(|(name, watched)| (name, &watched.channel))
    }

    /// Whether somebody watches this very channel.
    pub(in crate::stores) fn is_watched(&self, name: &S::Name, number: Number) -> bool {
        self.channels.get(name).is_some_and(|it| it.number == number && !it.watchers.is_empty())
    }

    /// The store has closed this very channel. It stays where somebody watches it again.
    pub(in crate::stores) fn forget(&mut self, name: &S::Name, number: Number) {
        if self.channels.get(name).is_some_and(|it| it.number == number && it.watchers.is_empty()) {
            self.channels.remove(name);
        }
    }

    /// Answers the channel that was closed with the last watcher, to be dropped once others may go on.
    pub(super) fn leave(&mut self, name: &S::Name, hints: &Arc<Notify>) -> Option<Watched<S::Channel>> {
        // None where the store has let everything go meanwhile.
        let watched = self.channels.get_mut(name)?;
        if !watched.remove(hints) || !watched.watchers.is_empty() {
            return None;
        }
        match self.source.left(name, watched.number, &mut watched.channel) {
            Left::Closed => self.channels.remove(name),
            Left::Closing => None,
        }
    }
}
