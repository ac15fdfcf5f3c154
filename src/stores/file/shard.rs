//! The OS locks that serialise changes.

use std::fs::File;
use std::io;

use super::platform::{self, Dir};

/// The OS lock that serialises the changes of some keys. In this process an async mutex around it does
/// the same, so that at most one thread ever waits for it.
#[derive(Debug, Default)]
pub(super) struct Shard(Option<File>);

impl Shard {
    /// Opens its file, once.
    pub(super) fn open(&mut self, dir: &Dir, name: &str) -> io::Result<()> {
        if self.0.is_none() {
            self.0 = Some(dir.open_marker(name)?);
        }
        Ok(())
    }

    /// `None` when another process has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<Locked<'_>>> {
        let file = self.file()?;
        Ok(platform::try_lock(file)?.then_some(Locked(file)))
    }

    /// Blocks this thread until it is free: for microseconds, unless its holder is stopped.
    pub(super) fn lock(&self) -> io::Result<Locked<'_>> {
        let file = self.file()?;
        platform::lock(file)?;
        Ok(Locked(file))
    }

    fn file(&self) -> io::Result<&File> {
        self.0.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Unlocks when dropped.
#[derive(Debug)]
pub(super) struct Locked<'a>(&'a File);

impl Locked<'_> {
    /// False when somebody has deleted the file: others may lock a new one in its place meanwhile.
    pub(super) fn is_valid(&self) -> io::Result<bool> {
        platform::is_linked(self.0)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        platform::unlock(self.0);
    }
}
