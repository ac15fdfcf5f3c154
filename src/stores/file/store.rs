//! The directory as a backend uses it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::directory::Directory;
use super::names::{self, Names};
use super::place::Place;
use super::record;
use super::shard::{Locked, Shard};
use super::tidy;
use super::wake::Wakes;
use crate::backend::Owner;
use crate::crew::Crew;
use crate::event_loop::stay;
use crate::lock::{Error, Key, Result};

/// How many threads of this process may wait in one directory for OS locks that other processes hold.
const MOST_WAITING: usize = 16;

/// The directory as a backend uses it: opened on first use, and every change under its OS lock.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    open: Mutex<Option<Arc<Directory>>>,
    closed: AtomicBool,
    wakes: Arc<Wakes>,
    /// Whose one thread makes the changes: with more, they would but meet each other on the disk.
    changes: Arc<Crew>,
    /// Whose threads wait for OS locks, so that a stopped process which has one keeps only its rivals waiting.
    waits: Arc<Crew>,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Store {
        Store {
            changes: Crew::of("changes", &root, 1),
            waits: Crew::of("waits", &root, MOST_WAITING),
            root,
            open: Mutex::default(),
            closed: AtomicBool::new(false),
            wakes: Arc::default(),
        }
    }

    /// The open directory.
    ///
    /// # Errors
    /// Those of [`Directory::open`]; `InvalidArgument` once closed.
    pub(super) async fn directory(&self) -> Result<Arc<Directory>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::invalid("this backend is closed; create a new one"));
        }
        if let Some(directory) = &*self.opened() {
            return Ok(Arc::clone(directory));
        }
        let root = self.root.clone();
        let directory = Arc::new(self.waits.run(move || Directory::open(&root)).await?);
        tidy::in_background(&self.waits, self.root.clone(), &directory);
        *self.opened() = Some(Arc::clone(&directory));
        Ok(directory)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.opened().take();
        self.wakes.close();
    }

    /// Runs `change` on a key's files while nobody else, in this process or another, changes them.
    ///
    /// Nothing of it happens on the engine's thread, which a disk that hangs must not hold up. Once the caller has
    /// gone nothing is begun any more.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        key: &Key,
        change: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = Names::of(key);
        let number = names.shard();
        let caller = Caller::default();
        let mut change = Some(change);
        // The directory may have been deleted since it was opened: then it is made anew, once.
        for _ in 0..2 {
            let directory = self.directory().await?;
            let shard = stay(directory.shard(number).lock_owned()).await;
            let place = Place::new(
                Arc::clone(&directory),
                Arc::clone(&self.wakes),
                names.clone(),
                key.clone(),
                Arc::clone(&caller.gone),
            );
            let Some(todo) = change.take() else { break };
            let attempt = match self.changes.run(move || at_once(shard, place, todo)).await? {
                Attempt::MustWait(shard, place, todo) => {
                    self.waits.run(move || in_turn(&shard, &place, todo)).await?
                }
                attempt => attempt,
            };
            match attempt {
                Attempt::Done(answer) => {
                    if directory.litter.is_due() {
                        tidy::in_background(&self.waits, self.root.clone(), &directory);
                    }
                    return Ok(answer);
                }
                Attempt::MustWait(_, _, todo) | Attempt::Deleted(todo) => change = Some(todo),
            }
            self.forget(&directory);
        }
        Err(Error::unavailable("the directory of the locks was deleted while it was in use; try again"))
    }

    /// Runs `look` on the directory as it is, on a thread that makes no changes: there may be many files.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Directory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = self.directory().await?;
        self.waits.run(move || look(&directory)).await
    }

    /// The key that an owner's lease is of; `None` when nobody has it.
    pub(super) async fn key_of(&self, owner: &Owner) -> Result<Option<Key>> {
        let directory = self.directory().await?;
        if let Some(lease) = &owner.lease {
            return Ok(Some(lease.key.clone()));
        }
        let name = names::index(&owner.lock_id);
        let read = move || {
            let found = directory.dir.read(&name, record::LONGEST).map_err(|e| directory.failed(&name, e))?;
            let key = |bytes: Vec<u8>| {
                record::parse_key(&bytes).ok_or_else(|| directory.unreadable(&name, "a lock's record"))
            };
            found.map(key).transpose()
        };
        self.changes.run(read).await
    }

    fn forget(&self, directory: &Arc<Directory>) {
        self.opened().take_if(|open| Arc::ptr_eq(open, directory));
    }

    fn opened(&self) -> MutexGuard<'_, Option<Arc<Directory>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.wakes.close();
    }
}

/// What became of a change.
enum Attempt<T, F> {
    Done(T),
    /// It was not made: another process has the OS lock.
    MustWait(OwnedMutexGuard<Shard>, Place, F),
    /// It was not made: the directory has gone.
    Deleted(F),
}

fn at_once<T, F>(mut shard: OwnedMutexGuard<Shard>, place: Place, change: F) -> Result<Attempt<T, F>>
where
    F: FnOnce(&Place) -> Result<T>,
{
    if place.is_unwanted() {
        return Err(Error::aborted());
    }
    match shard.open(&place.directory.dir, &names::shard(place.names.shard())) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Attempt::Deleted(change)),
        result => result.map_err(|error| place.failed(error))?,
    }
    if let Some(locked) = shard.try_lock().map_err(|error| place.failed(error))? {
        return locked_attempt(locked, &place, change);
    }
    Ok(Attempt::MustWait(shard, place, change))
}

/// Waits for another process to give the OS lock back.
fn in_turn<T, F>(shard: &Shard, place: &Place, change: F) -> Result<Attempt<T, F>>
where
    F: FnOnce(&Place) -> Result<T>,
{
    let locked = shard.lock().map_err(|error| place.failed(error))?;
    if place.is_unwanted() {
        return Err(Error::aborted());
    }
    locked_attempt(locked, place, change)
}

fn locked_attempt<T, F>(locked: Locked<'_>, place: &Place, change: F) -> Result<Attempt<T, F>>
where
    F: FnOnce(&Place) -> Result<T>,
{
    if !locked.is_valid().map_err(|error| place.failed(error))? {
        return Ok(Attempt::Deleted(change));
    }
    let result = change(place);
    drop(locked);
    // Whoever is woken finds the lock free.
    place.ring_if_freed();
    result.map(Attempt::Done)
}

/// Tells a thread that the call it works for was dropped.
#[derive(Default)]
struct Caller {
    gone: Arc<AtomicBool>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
    }
}
