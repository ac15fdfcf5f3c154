//! A regular file whose presence claims something: it appears complete or not at all, and only one of
//! many racing processes takes an abandoned one away. `FileLock` and `guard` are built on it.
//!
//! Taking away is "compare, then remove", which two processes could both do, one of them removing what
//! the other has just put there. So whoever removes a claim first takes the operating system's lock of
//! that very file and then makes sure that the path still names it. Nothing else stays in the directory.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::crew::Crew;
use crate::step;

mod draft;
mod error;
mod platform;

pub(crate) use draft::Draft;
pub(crate) use error::{not_a_file, refused, timed_out};
pub(crate) use platform::{
    Identity, LOCKED_FILES_CAN_BE_READ, Stamp, is_locked_out, monotonic_nanos, write_at,
};

/// No claim is longer. What lies beyond is not read.
const MAX_BYTES: u64 = 1 << 20;

/// How many threads work on the claims of one directory.
const MOST_THREADS: usize = 4;

/// The threads for the claims beside this one, none of which may hold up the engine's.
pub(crate) fn crew(path: &Path) -> Arc<Crew> {
    Crew::of("claims", path.parent().unwrap_or(path), MOST_THREADS)
}

/// What lies at a path.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    File(Existing),
    /// A directory, symlink, pipe, … which is not followed, opened or touched; holds the kind's name.
    Other(&'static str),
}

/// A regular file that was there, open for reading.
#[derive(Debug)]
pub(crate) struct Existing {
    file: File,
    identity: Identity,
    pub metadata: Metadata,
}

/// Opens what is there, without following a symlink and without waiting for a pipe's writer.
pub(crate) fn look(path: &Path) -> io::Result<Found> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if !kind.is_file() {
        return Ok(Found::Other(platform::kind_name(kind)));
    }
    let file = match platform::open_existing(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Found::Other(platform::kind_name(metadata.file_type())));
    }
    Ok(Found::File(Existing { identity: Identity::of(&metadata), file, metadata }))
}

impl Existing {
    pub fn read(&self) -> io::Result<Vec<u8>> {
        read(&self.file)
    }

    /// Whether the path still names this file.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(Identity::at(path)? == Some(self.identity))
    }

    /// Takes the right to remove the file, which nobody else has until the answer is dropped; `None`
    /// when somebody has it.
    pub fn try_lock(&self) -> io::Result<Option<Removal<'_>>> {
        try_lock(&self.file)
    }
}

/// The operating system's lock of a claim: held by whoever removes it, gone when its process ends.
#[derive(Debug)]
pub(crate) struct Removal<'a>(&'a File);

pub(crate) fn try_lock(file: &File) -> io::Result<Option<Removal<'_>>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Removal(file))),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

impl Removal<'_> {
    /// Removes the path if it still names the locked file.
    pub fn remove(&self, path: &Path) -> io::Result<bool> {
        remove_locked(self.0, path)
    }
}

/// Removes the path if it still names the file, of which the caller has the operating system's lock.
pub(crate) fn remove_locked(file: &File, path: &Path) -> io::Result<bool> {
    if Identity::at(path)? != Some(Identity::of(&file.metadata()?)) {
        return Ok(false);
    }
    step::reached("claim: compared");
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        // Closing the file would unlock it too; there is nothing to do about a failure.
        let _ = self.0.unlock();
    }
}

/// The whole content, from the start, wherever the descriptor's position is.
pub(crate) fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; 1024];
    let mut length = 0;
    loop {
        let room = content.len() - length;
        let count = match platform::read_at(file, &mut content[length..], length as u64) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += count;
        // A regular file gives less than there is room for at its end only.
        if count < room || length as u64 >= MAX_BYTES {
            content.truncate(length);
            return Ok(content);
        }
        content.resize(length * 2, 0);
    }
}
