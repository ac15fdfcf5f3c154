//! The directory of this boot's records.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error;
use super::names::SHARDS;
use super::platform::{self, Dir, Distrust};
use super::shard::Shard;
use super::tidy::Litter;
use crate::local::process::{ProcessId, check_boot_id};
use crate::lock::{Error, Result};

/// The directory of this boot's records, made, checked and open.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) dir: Dir,
    path: PathBuf,
    pub(super) process: ProcessId,
    shards: Vec<Arc<tokio::sync::Mutex<Shard>>>,
    pub(super) litter: Litter,
}

impl Directory {
    /// Makes `DIR` and `DIR/BOOTID` where they are missing, and checks both.
    ///
    /// # Errors
    /// `InvalidArgument` when it can't be used or trusted; `ServiceUnavailable` when the disk is full.
    pub(super) fn open(root: &Path) -> Result<Directory> {
        let process = this_process()?;
        let unusable = |error: io::Error| error::unusable(root, error);
        Dir::make_all(root).map_err(unusable)?;
        let above = open_root(root)?;
        let path = root.join(&*process.boot_id);
        let dir = open_boot(&above, &process.boot_id).map_err(unusable)?;
        trusted(&dir, &path)?;
        let shards = (0..SHARDS).map(|_| Arc::default()).collect();
        Ok(Directory { dir, path, process, shards, litter: Litter::default() })
    }

    pub(super) fn shard(&self, number: usize) -> Arc<tokio::sync::Mutex<Shard>> {
        Arc::clone(&self.shards[number % SHARDS])
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What an operation on one of its files failed with. Names the file only where it must be looked at:
    /// its name may hold the key.
    pub(super) fn failed(&self, name: &str, error: io::Error) -> Error {
        error::failed(&self.path, &self.path.join(name), error)
    }

    pub(super) fn unreadable(&self, name: &str, expected: &str) -> Error {
        error::unreadable(&self.path.join(name), expected)
    }
}

/// A boot's own directory, held open: as long as anybody has it so, no process of another boot tidies it away.
fn open_boot(above: &Dir, name: &str) -> io::Result<Dir> {
    // Whoever tidies it away needs no more than a moment, and does so once.
    for _ in 0..100 {
        above.make_dir(name)?;
        let dir = match above.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result?,
        };
        dir.hold()?;
        if dir.is_linked()? {
            return Ok(dir);
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

#[cfg(not(any(test, feature = "testing")))]
fn this_process() -> Result<ProcessId> {
    let process = ProcessId::current()?;
    check_boot_id(&process.boot_id)?;
    Ok(process)
}

/// A test can have a child process believe that it is of another boot.
#[cfg(any(test, feature = "testing"))]
fn this_process() -> Result<ProcessId> {
    let process = ProcessId::current()?;
    match std::env::var("SYNCGUARD_TEST_BOOT_ID") {
        Ok(boot_id) => Ok(ProcessId { boot_id: boot_id.into(), ..process }),
        Err(_) => check_boot_id(&process.boot_id).map(|()| process),
    }
}

/// `DIR` itself, which is there; also for the clean-up of other boots.
pub(super) fn open_root(root: &Path) -> Result<Dir> {
    let unusable = |error: io::Error| error::unusable(root, error);
    let dir = Dir::open(root).map_err(unusable)?;
    if let Some(filesystem) = platform::network_filesystem(&dir).map_err(unusable)? {
        return Err(Error::invalid(format!(
            "{} lies on a filesystem ({filesystem}) that other machines may share, where file locks exclude nobody reliably; choose a directory on a local disk",
            root.display()
        )));
    }
    trusted(&dir, root)?;
    Ok(dir)
}

fn trusted(dir: &Dir, path: &Path) -> Result<()> {
    let why = match dir.distrust().map_err(|error| error::unusable(path, error))? {
        None => return Ok(()),
        Some(Distrust::NotOurs) => "belongs to another user",
        Some(Distrust::WritableByOthers) => "can be written by other users (chmod go-w would help)",
    };
    Err(Error::invalid(format!(
        "{} {why}, so locks in it could be forged; choose a directory that only this user can write",
        path.display()
    )))
}
