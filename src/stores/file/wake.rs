//! Hints that a key may be free: somebody rang its bell, or its holder's process ended.
//!
//! Who waits holds the OS lock of one of the key's `wait-N` files, so the kernel forgets the waiters that
//! die, and watches the key's `bell`. Who frees a key opens and closes the bell, which costs a failed
//! system call where nobody ever waited.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::place::Place;
use super::platform::{self, Bells, Death};
use crate::backend::Watch;
use crate::local::process::ProcessId;
use crate::lock::{Error, Result};
use crate::stores::watchers::{Left, Number, Source, Standing, Watchers, WeakWatchers};

/// More processes than this don't wait for one key in turn; they poll.
const MOST_WAITERS: u32 = 4096;

/// What this backend watches, by the stem of a key's files.
#[derive(Debug, Default)]
pub(super) struct Wakes(Watchers<Belfry>);

#[derive(Debug, Default)]
struct Belfry {
    bells: Option<Arc<Bells>>,
    reader: Option<JoinHandle<()>>,
    /// Whose bell has which number.
    stems: HashMap<i32, Arc<str>>,
}

/// One key that somebody here waits for.
#[derive(Debug)]
struct Channel {
    bell: i32,
    /// Its OS lock says that this process waits.
    _waiter: File,
    death: Option<(ProcessId, JoinHandle<()>)>,
}

impl Source for Belfry {
    type Name = Arc<str>;
    type Channel = Channel;

    fn left(&mut self, _name: &Arc<str>, _number: Number, channel: &mut Channel) -> Left {
        if self.stems.remove(&channel.bell).is_some()
            && let Some(bells) = &self.bells
        {
            bells.remove(channel.bell);
        }
        Left::Closed
    }
}

impl Wakes {
    /// Subscribes to hints about a key. The caller holds the OS lock of its shard.
    pub(super) fn watch(&self, place: &Place) -> Result<Watch> {
        let stem: Arc<str> = place.names.stem().into();
        let wakes = self.0.downgrade();
        let open = |belfry: &mut Belfry, _| Ok((belfry.open(place, &stem, wakes)?, Standing::Open));
        Ok(self.0.watch(Arc::clone(&stem), open)?.into_watch(()))
    }

    /// Hints the watchers of a key when the process that holds it ends. Does nothing where nobody here
    /// watches, or where a process can't be watched.
    pub(super) fn tell_of_death(&self, stem: &str, owner: ProcessId) {
        let (wakes, name) = (self.0.downgrade(), stem.to_owned());
        if let Some(channel) = self.0.lock().channel(stem) {
            channel.tell_of_death(owner, move || {
                if let Some(wakes) = wakes.upgrade() {
                    wakes.lock().hint(name.as_str());
                }
            });
        }
    }

    pub(super) fn close(&self) {
        let belfry = std::mem::take(&mut self.0.lock().source);
        if let Some(reader) = belfry.reader {
            reader.abort();
        }
    }
}

impl Belfry {
    fn open(&mut self, place: &Place, stem: &Arc<str>, wakes: WeakWatchers<Belfry>) -> Result<Channel> {
        let bells = match &self.bells {
            Some(bells) => Arc::clone(bells),
            None => {
                let bells = Arc::new(Bells::new().map_err(unwatchable)?);
                self.reader = Some(tokio::spawn(read(wakes, Arc::clone(&bells))));
                self.bells.insert(bells).clone()
            }
        };
        let waiter = register(place)?;
        let name = place.names.bell();
        let file = place.directory.dir.open_bell(&name).map_err(|error| place.error(&name, error))?;
        let bell = bells.add(&place.directory.path_of(&name), &file).map_err(unwatchable)?;
        self.stems.insert(bell, Arc::clone(stem));
        Ok(Channel { bell, _waiter: waiter, death: None })
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

/// Somebody rang; `None` when it is not known which bell.
fn rung(wakes: &Watchers<Belfry>, bell: Option<i32>) {
    let board = wakes.lock();
    match bell {
        Some(bell) => board.source.stems.get(&bell).into_iter().for_each(|stem| board.hint(stem)),
        None => board.hint_all(),
    }
}

async fn read(wakes: WeakWatchers<Belfry>, bells: Arc<Bells>) {
    loop {
        let result = bells.next(|bell| wakes.upgrade().map(|wakes| rung(&wakes, bell)).is_some()).await;
        if result.is_err() {
            // Whoever waits must look, now that nothing will tell them.
            if let Some(wakes) = wakes.upgrade() {
                rung(&wakes, None);
            }
            return;
        }
    }
}

impl Channel {
    fn tell_of_death(&mut self, owner: ProcessId, hint: impl FnOnce() + Send + 'static) {
        if self.death.as_ref().is_some_and(|(watched, task)| *watched == owner && !task.is_finished()) {
            return;
        }
        if let Some((_, task)) = self.death.take() {
            task.abort();
        }
        let Ok(watched) = Death::of(&owner) else { return };
        let task = tokio::spawn(async move {
            watched.comes().await;
            hint();
        });
        self.death = Some((owner, task));
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some((_, task)) = self.death.take() {
            task.abort();
        }
    }
}

fn unwatchable(error: io::Error) -> Error {
    Error::unavailable("the system has no more watches for files (see fs.inotify); the key is polled instead")
        .because(error)
}
