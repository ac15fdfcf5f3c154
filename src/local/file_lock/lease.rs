//! One held file: its heartbeat, its loss, its release. What works on the file takes a mutex, so none meets another;
//! nothing else does, so that how the lease stands is known, and told, while the disk does not answer.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::error::lost;
use super::heartbeat::later;
use super::owner::unix_nanos;
use super::record::heartbeat_digits;
use super::standing::{Loss, OnLost, Standing};
use crate::local::claim_file::{Identity, Stamp, read, refused, remove_locked, try_lock, write_at};
use crate::lock::Result;

/// A lease file that has just been made.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
    identity: Identity,
    line: Vec<u8>,
    digits: Range<usize>,
    written_at: Instant,
}

impl Claim {
    /// `written_at` is a moment not later than the heartbeat in the line.
    pub fn new(
        path: PathBuf,
        file: File,
        line: Vec<u8>,
        digits: Range<usize>,
        written_at: Instant,
    ) -> io::Result<Claim> {
        let identity = Identity::of(&file.metadata()?);
        Ok(Claim { path, file, identity, line, digits, written_at })
    }

    pub fn written_at(&self) -> Instant {
        self.written_at
    }
}

pub struct FileLease {
    path: PathBuf,
    identity: Identity,
    line: Vec<u8>,
    digits: Range<usize>,
    stale_threshold: Duration,
    standing: Standing,
    /// Whether a heartbeat has been asked for and nothing came of it yet.
    is_asked: AtomicBool,
    /// As long as there may be something of ours at the path.
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    /// How the file was right after the last heartbeat.
    stamp: Option<Stamp>,
    /// How many were written on the strength of the stamp alone.
    since_look: u32,
}

/// One heartbeat in so many looks at path and content even where the stamp says that nothing happened.
const LOOK_EVERY: u32 = 8;

enum Trouble {
    NotOurs(&'static str),
    Refused(io::Error),
    /// Found lost while this heartbeat was on its way.
    Late,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Refused(error)
    }
}

/// The right to write the next heartbeat, which nobody else has until it is dropped.
pub struct Asked(Arc<FileLease>);

impl Asked {
    /// Writes the heartbeat, if the file is still ours. Waits for the disk.
    pub fn beat(&self) {
        if let Some(loss) = self.0.beat() {
            loss.tell();
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Ordering::Release);
    }
}

impl FileLease {
    pub fn new(claim: Claim, stale_threshold: Duration, on_lost: Option<OnLost>) -> FileLease {
        let Claim { path, file, identity, line, digits, written_at } = claim;
        let standing = Standing::held(written_at, on_lost);
        let open = Mutex::new(Some(Open { file, stamp: None, since_look: 0 }));
        let is_asked = AtomicBool::new(false);
        FileLease { path, identity, line, digits, stale_threshold, standing, is_asked, open }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_held(&self) -> bool {
        self.standing.is_held()
    }

    pub fn is_lost(&self) -> bool {
        self.standing.is_lost()
    }

    pub fn heartbeat_at(&self) -> Instant {
        self.standing.heartbeat_at()
    }

    /// From when on others take the file for abandoned, unless another heartbeat is written.
    pub fn stale_at(&self) -> Instant {
        later(self.heartbeat_at(), self.stale_threshold)
    }

    /// `None` while the last one that was asked for is on its way.
    pub fn ask(self: &Arc<FileLease>) -> Option<Asked> {
        (!self.is_asked.swap(true, Ordering::AcqRel)).then(|| Asked(Arc::clone(self)))
    }

    /// Ends the lease for want of a heartbeat. Does not wait for the disk, which may never answer.
    pub fn lose_stale(&self) -> Option<Loss> {
        let error = lost(&self.path, "its heartbeat could not be written for the stale threshold");
        self.standing.lose(match self.standing.refusal() {
            Some(refusal) => error.because(refusal),
            None => error,
        })
    }

    /// As [`Asked::beat`]. The loss that it may find is the caller's to tell.
    pub fn beat(&self) -> Option<Loss> {
        let mut open = self.open();
        let file = open.as_mut().filter(|_| self.is_held())?;
        match self.write_heartbeat(file) {
            Ok(()) | Err(Trouble::Late) => None,
            Err(Trouble::Refused(error)) => {
                self.standing.refused(error);
                None
            }
            Err(Trouble::NotOurs(reason)) => {
                *open = None;
                self.standing.lose(lost(&self.path, reason))
            }
        }
    }

    /// Through the descriptor that made the file, never by path: where the file was taken over, this
    /// writes into one that has no name any more.
    fn write_heartbeat(&self, open: &mut Open) -> Result<(), Trouble> {
        let untouched = open.stamp.is_some() && open.stamp == Stamp::of(&open.file);
        if untouched && open.since_look + 1 < LOOK_EVERY {
            open.since_look += 1;
        } else {
            self.look(&open.file)?;
            open.since_look = 0;
        }
        // A look that hung for long must not make what is lost look alive.
        if !self.is_held() {
            return Err(Trouble::Late);
        }
        let at = Instant::now();
        let digits = heartbeat_digits(unix_nanos(SystemTime::now()));
        write_at(&open.file, digits.as_bytes(), self.digits.start as u64)?;
        self.standing.written(at);
        open.stamp = Stamp::of(&open.file);
        Ok(())
    }

    fn look(&self, file: &File) -> Result<(), Trouble> {
        match Identity::at(&self.path)? {
            None => Err(Trouble::NotOurs("it was removed")),
            Some(identity) if identity != self.identity => {
                Err(Trouble::NotOurs("another file is in its place"))
            }
            Some(_) if !self.is_our_record(&read(file)?) => Err(Trouble::NotOurs("its content was changed")),
            Some(_) => Ok(()),
        }
    }

    /// All but the heartbeat must be as we wrote it.
    fn is_our_record(&self, content: &[u8]) -> bool {
        let Range { start, end } = self.digits;
        content.len() == self.line.len()
            && content[..start] == self.line[..start]
            && content[end..] == self.line[end..]
    }

    /// Removes the file if it is still ours; `false` when there was nothing to release, or it was lost. After an
    /// error the lease is still held and may be released again.
    pub fn release(&self) -> Result<bool> {
        let mut open = self.open();
        let Some(Open { file, .. }) = &*open else { return Ok(false) };
        let removed =
            self.remove(file).map_err(|error| refused("remove the lease file", &self.path, error))?;
        *open = None;
        Ok(self.standing.release() && removed)
    }

    /// Whoever has the lock has judged the file abandoned: it will be theirs, or they find that it is not.
    fn remove(&self, file: &File) -> io::Result<bool> {
        const PATIENCE: u32 = 50;
        for _ in 0..PATIENCE {
            let removal = match try_lock(file) {
                Ok(None) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                locked => locked,
            };
            // A filesystem that knows no locks must not keep what is ours from being removed.
            let removed = self.is_our_record(&read(file)?) && remove_locked(file, &self.path)?;
            drop(removal);
            return Ok(removed);
        }
        Ok(false)
    }

    /// From now on there is no heartbeat and no loss to be told. Does not wait for the disk.
    pub fn let_go(&self) {
        self.standing.release();
    }

    /// As [`FileLease::release`], after [`FileLease::let_go`].
    pub fn give_up(&self) {
        // The owner is gone, so nobody is there to be told of an error; others take the file over.
        let _ = self.release();
        *self.open() = None;
    }

    /// Whoever has this may be waiting for the disk.
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        // Nothing in here panics half way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
