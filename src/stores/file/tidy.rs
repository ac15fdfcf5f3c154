//! Clearing away what nobody needs any more, in small steps behind the operations' back: the records of
//! other boots, what dead processes left, and fences that the clock has overtaken.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clock::Now;
use super::directory::{Directory, open_root};
use super::names::{self, Kind, Names};
use super::platform::{self, Dir};
use super::record::{self, Record};
use super::shard::Shard;
use crate::crew::Crew;
use crate::lock::{Fence, Result};

/// How many files one step removes at least, if there are so many.
const STEP: usize = 500;
/// How long a key's files are left alone after they were last written.
const IDLE_SECONDS: u64 = 3600;

/// When the next step is due: after so many new keys that looking at all files costs each of them little,
/// and removing more than they have added keeps their number bounded.
#[derive(Debug)]
pub(super) struct Litter {
    new_keys: AtomicUsize,
    due_at: AtomicUsize,
}

impl Default for Litter {
    fn default() -> Litter {
        Litter { new_keys: AtomicUsize::new(0), due_at: AtomicUsize::new(STEP) }
    }
}

impl Litter {
    pub(super) fn count_new_key(&self) {
        self.new_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// True once for each step.
    pub(super) fn is_due(&self) -> bool {
        let new = self.new_keys.load(Ordering::Relaxed);
        new >= self.due_at.load(Ordering::Relaxed)
            && self.new_keys.compare_exchange(new, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn has_seen(&self, files: usize) {
        self.due_at.store((files / 4).max(STEP), Ordering::Relaxed);
    }

    /// A key has two files, and two more where somebody waited.
    fn limit(&self) -> usize {
        self.due_at.load(Ordering::Relaxed).saturating_mul(5)
    }
}

/// One step on a thread that makes no changes; nobody waits for it.
pub(super) fn in_background(crew: &Crew, root: PathBuf, directory: &Arc<Directory>) {
    let directory = Arc::clone(directory);
    // What fails is tried again by the next step.
    let _ = crew.post(move || {
        let _ = step(&root, &directory, IDLE_SECONDS, directory.litter.limit());
    });
}

/// Answers how many files it removed: `most`, or a few more.
fn step(root: &Path, directory: &Directory, idle_seconds: u64, most: usize) -> Result<usize> {
    let mut left = most;
    let above = open_root(root)?;
    if let Ok(boots) = above.names() {
        let current = &*directory.process.boot_id;
        for boot in boots.filter(|name| names::is_boot(name) && name != current) {
            let _ = other_boot(&above, &boot, &mut left);
        }
    }
    let _ = this_boot(directory, idle_seconds, &mut left);
    Ok(most - left)
}

/// Nobody holds a lock of another boot, unless two are alive at once (system containers can have one each): where
/// nobody has its directory open it goes, except for what this backend never made.
fn other_boot(above: &Dir, boot: &str, left: &mut usize) -> io::Result<()> {
    let dir = above.open_dir(boot)?;
    if dir.distrust()?.is_some() || !dir.is_alone()? {
        return Ok(());
    }
    for name in dir.names()?.filter(|name| Kind::of(name).is_some()).take(*left) {
        if dir.age_in_seconds(&name).is_some() && dir.remove(&name)? {
            *left -= 1;
        }
    }
    above.remove_dir(boot)
}

fn this_boot(directory: &Directory, idle_seconds: u64, left: &mut usize) -> io::Result<()> {
    let dir = &directory.dir;
    let is_idle = |name: &str| dir.age_in_seconds(name).is_some_and(|age| age >= idle_seconds);
    let mut stems: HashSet<String> = HashSet::new();
    let mut seen = 0;
    for name in dir.names()? {
        seen += 1;
        if stems.len() >= *left {
            continue;
        }
        match Kind::of(&name) {
            Some(Kind::Free(stem) | Kind::Next(stem) | Kind::Bell(stem) | Kind::Waiter(stem))
                if !stems.contains(stem) && is_idle(&name) =>
            {
                stems.insert(stem.to_owned());
            }
            Some(Kind::Index) if is_idle(&name) => stale_index(dir, &name, left)?,
            _ => {}
        }
    }
    directory.litter.has_seen(seen);
    for stem in stems {
        if *left == 0 {
            break;
        }
        idle_key(dir, &Names::from_stem(&stem), idle_seconds, left)?;
    }
    Ok(())
}

/// An index whose key's record has another lock id was left by a process that died.
fn stale_index(dir: &Dir, index: &str, left: &mut usize) -> io::Result<()> {
    let Some(bytes) = dir.read(index, record::LONGEST)? else { return Ok(()) };
    let Some(key) = record::parse_key(&bytes) else { return Ok(()) };
    let names = Names::of(&key);
    alone(dir, &names, || {
        let held = dir.read(&names.held(), record::LONGEST)?;
        let is_used = match held.as_deref().map(Record::parse) {
            None => false,
            // What can't be read is left alone, and what belongs to it.
            Some(None) => true,
            Some(Some(record)) => names::index(&record.lease.lock_id) == index,
        };
        if !is_used && *left > 0 && dir.remove(index)? {
            *left -= 1;
        }
        Ok(())
    })
}

/// The files of a key that is free, that nobody waits for and nobody has used for long. Its fence is kept
/// in the shard's floor, below which no key of that shard starts again.
fn idle_key(dir: &Dir, names: &Names, idle_seconds: u64, left: &mut usize) -> io::Result<()> {
    alone(dir, names, || {
        let (free, next) = (names.free(), names.next());
        let is_busy = |name: &str| dir.age_in_seconds(name).is_some_and(|age| age < idle_seconds);
        if dir.read(&names.held(), 1)?.is_some() || is_busy(&free) || is_busy(&next) {
            return Ok(());
        }
        let mut waiters = Vec::new();
        for number in 0.. {
            let name = names.waiter(number);
            let Some(file) = dir.find_marker(&name)? else { break };
            if !platform::try_lock(&file)? {
                return Ok(());
            }
            waiters.push((name, file));
        }
        if let Some(bytes) = dir.read(&free, record::LONGEST)? {
            let Some(record) = Record::parse(&bytes) else { return Ok(()) };
            // A fence that is ahead of the clock would carry the others of its shard along.
            let clock = Fence::new(Now::read().fence_clock());
            if clock.is_none_or(|clock| record.lease.fence > clock) {
                return Ok(());
            }
            raise_floor(dir, names.shard(), record.lease.fence)?;
        }
        let rest = [free, next, names.bell()].into_iter();
        for name in rest.chain(waiters.iter().map(|(name, _)| name.clone())) {
            if dir.remove(&name)? {
                *left = left.saturating_sub(1);
            }
        }
        Ok(())
    })
}

fn raise_floor(dir: &Dir, shard: usize, fence: Fence) -> io::Result<()> {
    let name = names::floor(shard);
    let unreadable = || io::Error::from(io::ErrorKind::InvalidData);
    if let Some(bytes) = dir.read(&name, 64)? {
        let text = bytes.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok());
        if text.and_then(Fence::parse).ok_or_else(unreadable)? >= fence {
            return Ok(());
        }
    }
    let draft = names::floor_draft(shard);
    dir.write(&draft, format!("{fence}\n").as_bytes())?;
    dir.rename(&draft, &name)
}

/// Runs `work` under the OS lock of a key's shard, unless somebody else has it just now.
fn alone(dir: &Dir, names: &Names, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mut shard = Shard::default();
    shard.open(dir, &names::shard(names.shard()))?;
    match shard.try_lock()? {
        Some(locked) if locked.is_valid()? => work(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
