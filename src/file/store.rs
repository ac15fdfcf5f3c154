use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use super::directory::Directory;
use super::names::{self, Names};
use super::pace::Pace;
use super::place::Place;
use super::record;
use super::shard::{Locked, Shard};
use super::tidy;
use super::wake::Wakes;
use crate::backend::Owner;
use crate::lock::{Error, Key, Result};

/// The directory as a backend uses it: opened on first use, and every change under its OS lock.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    open: Mutex<Option<Arc<Directory>>>,
    closed: AtomicBool,
    wakes: Arc<Wakes>,
    pace: Pace,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Store {
        Store {
            root,
            open: Mutex::default(),
            closed: AtomicBool::new(false),
            wakes: Arc::default(),
            pace: Pace::default(),
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
        let directory = Arc::new(blocking(move || Directory::open(&root)).await?);
        tidy::in_background(self.root.clone(), &directory);
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
    /// Where the OS lock is free, which it nearly always is, the change runs right here: a few system
    /// calls on a local filesystem cost less than a trip to another thread. A thread of its own waits for a
    /// lock, so that a stopped process which has it keeps nobody but its rivals waiting, and for a disk
    /// that was slow lately.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        key: &Key,
        change: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let names = Names::of(key);
        let number = names.shard();
        let file = names::shard(number);
        let mut change = Some(change);
        // The directory may have been deleted since it was opened: then it is made anew, once.
        for fresh in [false, true] {
            let directory = self.directory().await?;
            let mut shard = directory.shard(number).lock_owned().await;
            match shard.open(&directory.dir, &file) {
                Err(error) if error.kind() == ErrorKind::NotFound && !fresh => {
                    self.forget(&directory);
                    continue;
                }
                result => result.map_err(|error| directory.failed(&file, error))?,
            }
            let place =
                Place::new(Arc::clone(&directory), Arc::clone(&self.wakes), names.clone(), key.clone());
            let Some(todo) = change.take() else { break };
            let attempt = match self.at_once(&shard, &place, todo)? {
                Attempt::MustWait(todo) => in_turn(shard, place, todo).await?,
                attempt => attempt,
            };
            match attempt {
                Attempt::Done(answer) => {
                    if directory.litter.is_due() {
                        tidy::in_background(self.root.clone(), &directory);
                    }
                    return Ok(answer);
                }
                Attempt::MustWait(todo) | Attempt::Deleted(todo) => change = Some(todo),
            }
            self.forget(&directory);
        }
        Err(Error::unavailable("the directory of the locks was deleted while it was in use; try again"))
    }

    /// On this thread, if nothing is to be waited for.
    fn at_once<T, F: FnOnce(&Place) -> Result<T>>(
        &self,
        shard: &Shard,
        place: &Place,
        change: F,
    ) -> Result<Attempt<T, F>> {
        if self.pace.is_slow() {
            return Ok(Attempt::MustWait(change));
        }
        match shard.try_lock().map_err(|error| place.failed(error))? {
            None => Ok(Attempt::MustWait(change)),
            Some(locked) => {
                let started = Instant::now();
                let attempt = locked_attempt(locked, place, change);
                self.pace.note(started);
                attempt
            }
        }
    }

    /// The key that an owner's lease is of; `None` when nobody has it.
    pub(super) async fn key_of(&self, owner: &Owner) -> Result<Option<Key>> {
        let directory = self.directory().await?;
        if let Some(lease) = &owner.lease {
            return Ok(Some(lease.key.clone()));
        }
        let name = names::index(&owner.lock_id);
        let found = directory.dir.read(&name, record::LONGEST).map_err(|e| directory.failed(&name, e))?;
        found
            .map(|bytes| {
                record::parse_key(&bytes).ok_or_else(|| directory.unreadable(&name, "a lock's record"))
            })
            .transpose()
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
    /// It was not made: somebody has the OS lock, or the disk is slow.
    MustWait(F),
    /// It was not made: the directory has gone.
    Deleted(F),
}

/// Waits on a thread for another process to give the OS lock back.
async fn in_turn<T, F>(shard: OwnedMutexGuard<Shard>, place: Place, change: F) -> Result<Attempt<T, F>>
where
    T: Send + 'static,
    F: FnOnce(&Place) -> Result<T> + Send + 'static,
{
    let caller = Caller::default();
    let gone = Arc::clone(&caller.gone);
    blocking(move || {
        let locked = shard.lock().map_err(|error| place.failed(error))?;
        // Whoever asked may have given up while this thread waited: then nothing may happen any more.
        if gone.load(Ordering::Acquire) {
            return Err(Error::aborted());
        }
        locked_attempt(locked, &place, change)
    })
    .await
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a thread of the file backend ended early; this is a bug")
            .unknown()
            .because(error)),
    }
}
