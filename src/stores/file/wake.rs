//! Hints that a key may be free: somebody rang its bell, or its holder's process ended.
//!
//! Who waits holds the OS lock of one of the key's `wait-N` files, so the kernel forgets the waiters that
//! die, and watches the key's `bell`. Who frees a key opens and closes the bell, which costs a failed
//! system call where nobody ever waited.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::place::Place;
use super::platform::{self, Bells, Death};
use crate::backend::Watch;
use crate::local::process::ProcessId;
use crate::lock::{Error, Result};

/// More processes than this don't wait for one key in turn; they poll.
const MOST_WAITERS: u32 = 4096;

/// What this backend watches.
#[derive(Debug, Default)]
pub(super) struct Wakes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bells: Option<Arc<Bells>>,
    reader: Option<JoinHandle<()>>,
    by_stem: HashMap<Box<str>, Weak<Channel>>,
    by_bell: HashMap<i32, Weak<Channel>>,
}

/// One key that somebody here waits for.
#[derive(Debug)]
struct Channel {
    wakes: Weak<Wakes>,
    stem: Box<str>,
    bell: i32,
    /// Its OS lock says that this process waits.
    _waiter: File,
    watchers: Mutex<Vec<Arc<Notify>>>,
    death: Mutex<Option<(ProcessId, JoinHandle<()>)>>,
}

impl Wakes {
    /// Subscribes to hints about a key. The caller holds the OS lock of its shard.
    pub(super) fn watch(self: &Arc<Self>, place: &Place) -> Result<Watch> {
        let hints = Arc::new(Notify::new());
        let channel = self.channel(place)?;
        channel.watchers().push(Arc::clone(&hints));
        Ok(Watch::new(Arc::clone(&hints), Subscription { channel, hints }))
    }

    /// Hints the watchers of a key when the process that holds it ends. Does nothing where nobody here
    /// watches, or where a process can't be watched.
    pub(super) fn tell_of_death(&self, stem: &str, owner: ProcessId) {
        let channel = self.state().by_stem.get(stem).and_then(Weak::upgrade);
        if let Some(channel) = channel {
            channel.tell_of_death(owner);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        if let Some(reader) = state.reader.take() {
            reader.abort();
        }
        state.bells = None;
        state.by_stem.clear();
        state.by_bell.clear();
    }

    fn channel(self: &Arc<Self>, place: &Place) -> Result<Arc<Channel>> {
        let mut state = self.state();
        let stem = place.names.stem();
        if let Some(channel) = state.by_stem.get(stem).and_then(Weak::upgrade) {
            return Ok(channel);
        }
        let bells = match &state.bells {
            Some(bells) => Arc::clone(bells),
            None => {
                let bells = Arc::new(Bells::new().map_err(unwatchable)?);
                state.reader = Some(tokio::spawn(read(Arc::downgrade(self), Arc::clone(&bells))));
                state.bells.insert(bells).clone()
            }
        };
        let waiter = register(place)?;
        let name = place.names.bell();
        let file = place.directory.dir.open_bell(&name).map_err(|error| place.error(&name, error))?;
        let bell = bells.add(&place.directory.path_of(&name), &file).map_err(unwatchable)?;
        let channel = Arc::new(Channel {
            wakes: Arc::downgrade(self),
            stem: stem.into(),
            bell,
            _waiter: waiter,
            watchers: Mutex::default(),
            death: Mutex::default(),
        });
        state.by_stem.insert(stem.into(), Arc::downgrade(&channel));
        state.by_bell.insert(bell, Arc::downgrade(&channel));
        Ok(channel)
    }

    /// Somebody rang; `None` when it is not known which bell.
    fn rung(&self, bell: Option<i32>) {
        let channels: Vec<Arc<Channel>> = {
            let state = self.state();
            match bell {
                Some(bell) => state.by_bell.get(&bell).and_then(Weak::upgrade).into_iter().collect(),
                None => state.by_bell.values().filter_map(Weak::upgrade).collect(),
            }
        };
        // Outside the lock: the last one to drop a channel takes it.
        channels.iter().for_each(|channel| channel.hint());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the first free place among the key's waiters.
fn register(place: &Place) -> Result<File> {
    for number in 0..MOST_WAITERS {
        let name = place.names.waiter(number);
        let file = place.directory.dir.open_marker(&name).map_err(|error| place.error(&name, error))?;
        if platform::try_lock(&file).map_err(|error| place.error(&name, error))? {
            return Ok(file);
        }
    }
    Err(Error::unavailable("too many processes wait for this key; it is polled instead"))
}

async fn read(wakes: Weak<Wakes>, bells: Arc<Bells>) {
    loop {
        let result = bells.next(|bell| wakes.upgrade().map(|wakes| wakes.rung(bell)).is_some()).await;
        if result.is_err() {
            // Whoever waits must look, now that nothing will tell them.
            if let Some(wakes) = wakes.upgrade() {
                wakes.rung(None);
            }
            return;
        }
    }
}

impl Channel {
    fn hint(&self) {
        self.watchers().iter().for_each(|watcher| watcher.notify_one());
    }

    fn tell_of_death(self: &Arc<Self>, owner: ProcessId) {
        let mut death = self.death.lock().unwrap_or_else(PoisonError::into_inner);
        if death.as_ref().is_some_and(|(watched, task)| *watched == owner && !task.is_finished()) {
            return;
        }
        if let Some((_, task)) = death.take() {
            task.abort();
        }
        let Ok(watched) = Death::of(&owner) else { return };
        let channel = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            watched.comes().await;
            if let Some(channel) = channel.upgrade() {
                channel.hint();
            }
        });
        *death = Some((owner, task));
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<Notify>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let death = self.death.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, task)) = death.take() {
            task.abort();
        }
        let Some(wakes) = self.wakes.upgrade() else { return };
        let mut state = wakes.state();
        // Another channel may have come since nobody held this one; both watch the same bell.
        if state.by_stem.get(&self.stem).is_some_and(|it| it.strong_count() == 0) {
            state.by_stem.remove(&self.stem);
        }
        if state.by_bell.get(&self.bell).is_some_and(|it| it.strong_count() == 0) {
            state.by_bell.remove(&self.bell);
            if let Some(bells) = &state.bells {
                bells.remove(self.bell);
            }
        }
    }
}

/// One watcher's share in a channel.
struct Subscription {
    channel: Arc<Channel>,
    hints: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.watchers().retain(|watcher| !Arc::ptr_eq(watcher, &self.hints));
    }
}

fn unwatchable(error: io::Error) -> Error {
    Error::unavailable("the system has no more watches for files (see fs.inotify); the key is polled instead")
        .because(error)
}
