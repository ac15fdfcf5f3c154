//! One held file: its heartbeat, its loss, its release. Each takes the same mutex, so none meets another.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use super::error::lost;
use super::owner::unix_nanos;
use super::record::heartbeat_digits;
use crate::claim_file::{Identity, Stamp, read, refused, remove_locked, try_lock, write_at};
use crate::lock::{Error, Result};

/// What is called once when the lease is lost: on the thread that writes all heartbeats, so it must not
/// wait. The error's code is `LeaseLost`.
pub type OnLost = Box<dyn FnOnce(Error) + Send>;

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

pub struct Lease {
    path: PathBuf,
    identity: Identity,
    line: Vec<u8>,
    digits: Range<usize>,
    stale_threshold: Duration,
    state: Mutex<State>,
}

enum State {
    Held { file: File, heartbeat: Heartbeat, on_lost: Option<OnLost> },
    Lost,
    Released,
}

/// The last one that was written.
struct Heartbeat {
    at: Instant,
    /// How the file was right afterwards.
    stamp: Option<Stamp>,
    /// How many were written on the strength of the stamp alone.
    since_look: u32,
}

/// One heartbeat in so many looks at path and content even where the stamp says that nothing happened.
const LOOK_EVERY: u32 = 8;

/// What came of a heartbeat.
pub enum Beat {
    /// Written, or it may be at the next try.
    Goes,
    /// There is no lease to write one for.
    Ended,
    /// The lease was lost just now: to be told, without any lock held.
    Lost(Option<OnLost>, Error),
}

enum Trouble {
    NotOurs(&'static str),
    Refused(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Refused(error)
    }
}

impl Lease {
    pub fn new(claim: Claim, stale_threshold: Duration, on_lost: Option<OnLost>) -> Lease {
        let Claim { path, file, identity, line, digits, written_at } = claim;
        let heartbeat = Heartbeat { at: written_at, stamp: None, since_look: 0 };
        let state = Mutex::new(State::Held { file, heartbeat, on_lost });
        Lease { path, identity, line, digits, stale_threshold, state }
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub fn is_held(&self) -> bool {
        matches!(*self.lock(), State::Held { .. })
    }

    pub fn is_lost(&self) -> bool {
        matches!(*self.lock(), State::Lost)
    }

    /// Writes the heartbeat, if the file is still ours.
    pub fn beat(&self) -> Beat {
        let mut state = self.lock();
        let State::Held { file, heartbeat, on_lost } = &mut *state else { return Beat::Ended };
        let error = match self.write_heartbeat(file, heartbeat) {
            Ok(()) => return Beat::Goes,
            Err(Trouble::Refused(_)) if heartbeat.at.elapsed() < self.stale_threshold => return Beat::Goes,
            Err(Trouble::Refused(error)) => {
                lost(&self.path, "its heartbeat could not be written for the stale threshold").because(error)
            }
            Err(Trouble::NotOurs(reason)) => lost(&self.path, reason),
        };
        let on_lost = on_lost.take();
        *state = State::Lost;
        Beat::Lost(on_lost, error)
    }

    /// Through the descriptor that made the file, never by path: where the file was taken over, this
    /// writes into one that has no name any more.
    fn write_heartbeat(&self, file: &File, last: &mut Heartbeat) -> Result<(), Trouble> {
        let untouched = last.stamp.is_some() && last.stamp == Stamp::of(file);
        if untouched && last.since_look + 1 < LOOK_EVERY {
            last.since_look += 1;
        } else {
            self.look(file)?;
            last.since_look = 0;
        }
        let digits = heartbeat_digits(unix_nanos(SystemTime::now()));
        write_at(file, digits.as_bytes(), self.digits.start as u64)?;
        last.at = Instant::now();
        last.stamp = Stamp::of(file);
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

    /// Removes the file if it is still ours; `false` when there was nothing to release. After an error
    /// the lease is still held and may be released again.
    pub fn release(&self) -> Result<bool> {
        let mut state = self.lock();
        let State::Held { file, .. } = &*state else { return Ok(false) };
        let removed =
            self.remove(file).map_err(|error| refused("remove the lease file", &self.path, error))?;
        *state = State::Released;
        Ok(removed)
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

    /// As [`Lease::release`], and whatever comes of it, there will be no heartbeat any more.
    pub fn give_up(&self) {
        // The owner is gone, so nobody is there to be told of an error; others take the file over.
        let _ = self.release();
        *self.lock() = State::Released;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
