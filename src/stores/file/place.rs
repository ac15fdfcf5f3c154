//! One key's files, and the steps by which they change. Every caller holds the OS lock of the key's shard.
//!
//! What counts is in two names: `held` is the record of whoever has the key; where it is missing the key is
//! free, and `free` keeps the last fence. A change writes the new record into a file that nobody reads
//! (`next` while the key is free, `free` while it is held) and makes it visible by one rename, so a process
//! that dies at any instruction leaves the old record or the new one. The files are used again and again:
//! making one costs ten times as much as renaming it.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::Directory;
use super::names::{self, Names};
use super::platform;
use super::record::{self, Record};
use super::wake::Wakes;
use crate::lock::{Error, Fence, Key, LockId, Result};
use crate::step;

#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: Arc<Directory>,
    pub(super) wakes: Arc<Wakes>,
    pub(super) names: Names,
    key: Key,
    freed: Cell<bool>,
    caller_gone: Arc<AtomicBool>,
}

impl Place {
    pub(super) fn new(
        directory: Arc<Directory>,
        wakes: Arc<Wakes>,
        names: Names,
        key: Key,
        caller_gone: Arc<AtomicBool>,
    ) -> Place {
        Place { directory, wakes, names, key, freed: Cell::new(false), caller_gone }
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.caller_gone.load(Ordering::Acquire)
    }

    /// The record of whoever has the key, or had it until it expired.
    ///
    /// # Errors
    /// `Internal` when it can't be read or is no file.
    pub(super) fn held(&self) -> Result<Option<Record>> {
        self.read(&self.names.held())
    }

    /// The last fence of a key that is free; `None` when it never had one.
    ///
    /// # Errors
    /// As [`Place::held`].
    pub(super) fn last_fence(&self) -> Result<Option<Fence>> {
        if let Some(record) = self.read(&self.names.free())? {
            return Ok(Some(record.lease.fence));
        }
        self.directory.litter.count_new_key();
        let name = names::floor(self.names.shard());
        let Some(bytes) = self.directory.dir.read(&name, 64).map_err(|error| self.error(&name, error))?
        else {
            return Ok(None);
        };
        let fence = bytes.strip_suffix(b"\n").and_then(|text| Fence::parse(std::str::from_utf8(text).ok()?));
        match fence {
            Some(fence) => Ok(Some(fence)),
            None => Err(self.directory.unreadable(&name, "a fence of 15 digits")),
        }
    }

    /// Free → held.
    pub(super) fn grant(&self, record: &Record) -> Result<()> {
        let (next, held) = (self.names.next(), self.names.held());
        self.write(&next, record)?;
        step::reached("grant: written");
        self.index(&next, &record.lease.lock_id)?;
        step::reached("grant: indexed");
        let shown = self.directory.dir.rename(&next, &held);
        step::reached("grant: shown");
        self.shown(shown, &held, None, &record.lease.lock_id)
    }

    /// Held → held by another lease.
    pub(super) fn replace(&self, old: &LockId, record: &Record) -> Result<()> {
        let (free, held) = (self.names.free(), self.names.held());
        self.write(&free, record)?;
        step::reached("replace: written");
        self.index(&free, &record.lease.lock_id)?;
        step::reached("replace: indexed");
        let shown = self.directory.dir.exchange(&free, &held);
        step::reached("replace: shown");
        self.shown(shown, &held, Some(old), &record.lease.lock_id)
    }

    /// Held → held by the same lease with another expiry. The index stays: it leads to the key.
    pub(super) fn update(&self, record: &Record) -> Result<()> {
        let (free, held) = (self.names.free(), self.names.held());
        self.write(&free, record)?;
        step::reached("update: written");
        self.directory.dir.exchange(&free, &held).map_err(|error| self.error(&held, error))?;
        step::reached("update: shown");
        Ok(())
    }

    /// Held → free. The record keeps the fence.
    pub(super) fn free(&self, old: &LockId) -> Result<()> {
        let (free, held) = (self.names.free(), self.names.held());
        match self.directory.dir.rename(&free, &self.names.next()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.error(&free, error)),
            _ => {}
        }
        step::reached("free: made room");
        self.directory.dir.rename(&held, &free).map_err(|error| self.error(&held, error))?;
        self.freed.set(true);
        step::reached("free: shown");
        self.drop_index(old);
        step::reached("free: index dropped");
        Ok(())
    }

    /// Once the OS lock is given back.
    pub(super) fn ring_if_freed(&self) {
        if self.freed.get() {
            self.directory.dir.ring(&self.names.bell());
            step::reached("free: rung");
        }
    }

    /// Wakes the waiters though this key was not freed by a release of ours.
    pub(super) fn ring(&self) {
        self.freed.set(true);
    }

    /// How many processes (backends, to be exact) wait for the key.
    pub(super) fn waiters(&self) -> Result<u32> {
        let mut count = 0;
        for number in 0.. {
            let name = self.names.waiter(number);
            let found = self.directory.dir.find_marker(&name).map_err(|error| self.error(&name, error))?;
            let Some(file) = found else { break };
            count += u32::from(!platform::try_lock(&file).map_err(|error| self.error(&name, error))?);
        }
        Ok(count)
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        self.error(&names::shard(self.names.shard()), error)
    }

    pub(super) fn error(&self, name: &str, error: io::Error) -> Error {
        self.directory.failed(name, error)
    }

    fn read(&self, name: &str) -> Result<Option<Record>> {
        let bytes =
            self.directory.dir.read(name, record::LONGEST).map_err(|error| self.error(name, error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        match Record::parse(&bytes) {
            Some(record) if record.lease.key == self.key => Ok(Some(record)),
            _ => Err(self.directory.unreadable(name, "this key's record, one complete line of JSON")),
        }
    }

    fn write(&self, name: &str, record: &Record) -> Result<()> {
        self.directory.dir.write(name, record.to_line().as_bytes()).map_err(|error| self.error(name, error))
    }

    /// Gives the file that is about to be shown a second name, by the lock id.
    fn index(&self, name: &str, id: &LockId) -> Result<()> {
        let dir = &self.directory.dir;
        let index = names::index(id);
        let linked = match dir.link(name, &index) {
            // Left by a process that died, or by an earlier lease with the same lock id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                dir.remove(&index).and_then(|_| dir.link(name, &index))
            }
            result => result,
        };
        match linked {
            Ok(true) => Ok(()),
            // No links here: a copy leads to the key as well.
            Ok(false) => match dir.read(name, record::LONGEST) {
                Ok(bytes) => dir.write(&index, &bytes.unwrap_or_default()),
                Err(error) => Err(error),
            }
            .map_err(|error| self.error(&index, error)),
            Err(error) => Err(self.error(&index, error)),
        }
    }

    fn shown(&self, shown: io::Result<()>, held: &str, old: Option<&LockId>, new: &LockId) -> Result<()> {
        match shown {
            Ok(()) => {
                if let Some(old) = old.filter(|old| *old != new) {
                    self.drop_index(old);
                }
                Ok(())
            }
            Err(error) => {
                self.drop_index(new);
                Err(self.error(held, error))
            }
        }
    }

    /// What stays behind leads to a key whose record names another lock id, and is tidied away.
    fn drop_index(&self, id: &LockId) {
        let _ = self.directory.dir.remove(&names::index(id));
    }
}
