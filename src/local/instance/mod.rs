//! At most one instance of an application, as with the npm package `pidlock`.
//!
//! The claim is a file `DIR/NAME` that says which process made it. Its holder keeps the operating
//! system's lock of that file, which no death of the process survives and which other pid namespaces and
//! other users see too. A file whose lock is free was left behind by a process that ended without
//! clean-up, and is replaced, unless its record names a process that lives for certain: so the guard also
//! stands where locks are not shared, as in some mounts of virtual machines. (On Windows a locked file
//! can't be read, so there the record decides alone.)
//!
//! Processes are known by pid, start time, boot and pid namespace, so neither a recycled pid nor another
//! command line steals or blocks anything. Whoever loses leaves nothing behind. What is no file of ours is
//! an error and stays as it is.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::crew::Crew;
use crate::local::claim_file::{
    Draft, Existing, Found, LOCKED_FILES_CAN_BE_READ, crew, look, not_a_file, refused, remove_locked,
    timed_out,
};
use crate::local::process::{Liveness, ProcessId};
use crate::lock::{Error, Result, Timestamp};

mod command_line;
mod error;
mod record;

pub use error::Holder;
use error::{held, outrun, stray};
use record::Record;

/// Everybody may read who the holder is.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// How often to look again where others are just taking an abandoned claim over, and after how long.
const ATTEMPTS: u32 = 100;
const DELAY: Duration = Duration::from_millis(5);

/// How a call of [`guard`] went, under the names that `pidlock` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody was there.
    Ok,
    /// A claim of a process that has ended was replaced.
    StaleLockRemoved,
    /// Another instance lives: it has the claim. Only in errors, see [`state_of`].
    ConfirmedToNotStart,
}

impl State {
    /// Its name in texts and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::StaleLockRemoved => "OK_STALE_LOCK_REMOVED",
            State::ConfirmedToNotStart => "CONFIRMED_TO_NOT_START",
        }
    }
}

/// `CONFIRMED_TO_NOT_START` for an error that says that another instance lives, `None` for others: then it
/// is not known whether one does.
pub fn state_of(error: &Error) -> Option<State> {
    Holder::of(error).map(|_| State::ConfirmedToNotStart)
}

/// Makes this process the only instance under that name in that directory, until [`Guard::cleanup`] or
/// its end. The directory is made where there is none. Never waits for another instance to end.
///
/// # Errors
/// - `AcquisitionTimeout` when an instance lives, be it in this very process: [`Holder::of`] tells which.
/// - `InvalidArgument` for a name that is none, and when something else is at that place.
/// - `AuthFailed` without permission, `ServiceUnavailable` for a full disk and the like.
pub fn guard(directory: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<Guard> {
    let path = checked(directory.as_ref(), name.as_ref())?;
    let process = ProcessId::current()?;
    for attempt in 0..ATTEMPTS {
        if attempt > 1 {
            std::thread::sleep(DELAY);
        }
        match attempt_once(&path, &process)? {
            Attempt::Claimed { file, replaced } => {
                let state = if replaced { State::StaleLockRemoved } else { State::Ok };
                return Ok(Guard { path, state, file: Arc::new(Mutex::new(Some(file))), crew: None });
            }
            Attempt::Outrun => {}
        }
    }
    Err(outrun(&path))
}

/// How long [`guard_async`] and [`Guard::cleanup_async`] may take.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// As [`guard`], on a thread that works on files, from within a tokio runtime. When the future is dropped, what it
/// may still get is given up.
///
/// # Errors
/// As [`guard`]; `NetworkTimeout` where the disk did not answer within [`OPERATION_TIMEOUT`].
pub async fn guard_async(directory: PathBuf, name: OsString) -> Result<Guard> {
    let path = checked(&directory, &name)?;
    let crew = crew(&path);
    let work = {
        let crew = Arc::clone(&crew);
        move || {
            let mut claimed = guard(directory, name)?;
            claimed.crew = Some(crew);
            Ok(claimed)
        }
    };
    let claimed = timeout(OPERATION_TIMEOUT, crew.run(work)).await;
    claimed.unwrap_or_else(|_| Err(timed_out("take", &path, OPERATION_TIMEOUT)))
}

/// A name that is one entry of the directory and nothing else.
fn checked(directory: &Path, name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_encoded_bytes();
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    let mut components = Path::new(name).components();
    let is_plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    if !is_plain || bytes.contains(&0) || bytes.iter().any(is_separator) {
        let given = name.to_string_lossy();
        return Err(Error::invalid(format!(
            "name must be a file name that is not empty, not \".\" or \"..\" and without path separators and U+0000; {given:?} was given"
        )));
    }
    if directory.as_os_str().is_empty() || directory.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::invalid("dir must name a directory; an empty path or one with U+0000 was given"));
    }
    let path = directory.join(OsString::from(name));
    std::path::absolute(&path).map_err(|error| refused("find the directory of", &path, error))
}

enum Attempt {
    Claimed { file: File, replaced: bool },
    Outrun,
}

fn attempt_once(path: &Path, process: &ProcessId) -> Result<Attempt> {
    match look(path).map_err(|error| refused("read", path, error))? {
        Found::Nothing => claim(path, process, false),
        Found::Other(kind) => Err(not_a_file(path, kind)),
        Found::File(existing) => judge(path, process, &existing),
    }
}

fn judge(path: &Path, process: &ProcessId, existing: &Existing) -> Result<Attempt> {
    let failed = |error| refused("take over", path, error);
    let removal = existing.try_lock().map_err(failed)?;
    let record = Record::decode(&existing.read().map_err(failed)?);
    // What was moved away meanwhile says nothing about what is there now.
    if !existing.is_at(path).map_err(failed)? {
        return Ok(Attempt::Outrun);
    }
    let Some(record) = record else { return Err(stray(path)) };
    let liveness = record.process.is_alive()?;
    match removal {
        // It ended, and somebody else is about to replace its claim.
        None if liveness == Liveness::Dead => Ok(Attempt::Outrun),
        None => Err(held(path, &record)),
        Some(_) if liveness == Liveness::Alive && !has_left(&record, process) && is_certain(&record) => {
            Err(held(path, &record))
        }
        Some(removal) => {
            if !removal.remove(path).map_err(failed)? {
                return Ok(Attempt::Outrun);
            }
            claim(path, process, true)
        }
    }
}

/// Our own claim, but without its lock, is from before this process became another program by `exec`.
fn has_left(record: &Record, process: &ProcessId) -> bool {
    LOCKED_FILES_CAN_BE_READ && record.process == *process
}

/// `Alive` is also said of what can't be told, as with `hidepid`; then the free lock decides.
fn is_certain(record: &Record) -> bool {
    command_line::of(&record.process).is_some()
}

fn claim(path: &Path, process: &ProcessId, replaced: bool) -> Result<Attempt> {
    let failed = |error| refused("create", path, error);
    let line = Record { process: process.clone(), since: Timestamp::now() }.encode();
    let draft = Draft::write_with_directory(path, FILE_MODE, DIRECTORY_MODE, || line.clone())
        .and_then(|draft| draft.settle(FILE_MODE))
        .and_then(Draft::lock)
        .map_err(failed)?;
    Ok(match draft.publish(path).map_err(failed)? {
        Some(file) => Attempt::Claimed { file, replaced },
        None => Attempt::Outrun,
    })
}

/// The right to be the only instance. Dropping it cleans up, as far as that works.
pub struct Guard {
    path: PathBuf,
    state: State,
    file: Arc<Mutex<Option<File>>>,
    /// Where it was taken by a thread that must not wait for a disk: who does it.
    crew: Option<Arc<Crew>>,
}

impl Guard {
    /// [`State::Ok`] or [`State::StaleLockRemoved`].
    pub fn state(&self) -> State {
        self.state
    }

    /// The file that is the claim, from the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets another instance start. The second time it does nothing. A file that somebody else put in the
    /// place of ours stays.
    ///
    /// # Errors
    /// `AuthFailed` or `ServiceUnavailable` when the system refuses to remove the file; this process then
    /// remains the only instance, and a later call may succeed.
    pub fn cleanup(&self) -> Result<()> {
        clean_up(&self.file, &self.path)
    }

    /// As [`Guard::cleanup`], on a thread that works on files, from within a tokio runtime. Happens even when the
    /// future is dropped.
    ///
    /// # Errors
    /// As [`Guard::cleanup`]; `NetworkTimeout` where the disk did not answer within [`OPERATION_TIMEOUT`].
    pub async fn cleanup_async(&self) -> Result<()> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let crew = self.crew.clone().unwrap_or_else(|| crew(&self.path));
        let cleaned = timeout(OPERATION_TIMEOUT, crew.run(move || clean_up(&file, &path))).await;
        cleaned.unwrap_or_else(|_| Err(timed_out("remove", &self.path, OPERATION_TIMEOUT)))
    }
}

fn clean_up(file: &Mutex<Option<File>>, path: &Path) -> Result<()> {
    let mut held = file.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(file) = held.as_ref() else { return Ok(()) };
    remove_locked(file, path).map_err(|error| refused("remove", path, error))?;
    // Closing the file is what frees its lock.
    *held = None;
    Ok(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody is there to be told of an error, and closing the file frees its lock in any case.
        match &self.crew {
            // Whatever drops it, such as a garbage collector, must not wait for a disk.
            Some(crew) => {
                let (file, path) = (Arc::clone(&self.file), self.path.clone());
                drop(crew.post(move || drop(clean_up(&file, &path))));
            }
            None => drop(self.cleanup()),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("path", &self.path).field("state", &self.state).finish()
    }
}
