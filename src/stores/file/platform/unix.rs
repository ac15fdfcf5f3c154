//! Files by name in an open directory. Nothing here follows a symbolic link, waits for a pipe's other
//! end, or trusts a file that belongs to somebody else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

/// Why a directory can't be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    NotOurs,
    WritableByOthers,
}

const OURS: Mode = Mode::from_raw_mode(0o600);

fn safely(flags: OFlags) -> OFlags {
    flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

impl Dir {
    /// Makes a directory for this user alone, with those above it, where they are missing.
    pub(crate) fn make_all(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Follows symbolic links: the user names the path.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    pub(crate) fn make_dir(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn open_dir(&self, name: &str) -> io::Result<Dir> {
        let flags = safely(OFlags::RDONLY | OFlags::DIRECTORY);
        Ok(Dir(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    pub(crate) fn distrust(&self) -> io::Result<Option<Distrust>> {
        let stat = rustix::fs::fstat(&self.0)?;
        Ok(if stat.st_uid != geteuid().as_raw() {
            Some(Distrust::NotOurs)
        } else if stat.st_mode & 0o022 != 0 {
            Some(Distrust::WritableByOthers)
        } else {
            None
        })
    }

    /// Waits until nobody has it alone, and keeps others from that until it is closed.
    pub(crate) fn hold(&self) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(&self.0, FlockOperation::LockShared))?)
    }

    /// True when nobody else holds it open; then nobody can until it is closed.
    pub(crate) fn is_alone(&self) -> io::Result<bool> {
        match rustix::io::retry_on_intr(|| {
            rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive)
        }) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the directory still has a name.
    pub(crate) fn is_linked(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(&self.0)?.st_nlink > 0)
    }

    /// A file's bytes, `limit` at most; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) => return absent(error),
        };
        let size = usize::try_from(check(&file)?.st_size).unwrap_or(limit).min(limit);
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// Makes `bytes` the content of a file, which is made where it is missing. Not atomic: for names that
    /// nobody reads yet.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, size) = match self.open_file(name, OFlags::RDWR) {
            Ok(file) => {
                let size = check(&file)?.st_size;
                (file, u64::try_from(size).unwrap_or(0))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?, 0)
            }
            Err(error) => return Err(error),
        };
        file.write_all_at(bytes, 0)?;
        if size > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Opens an empty file for its OS lock, and makes it where it is missing. Not to write: a filesystem
    /// with files open to write can't be made read-only.
    pub(crate) fn open_marker(&self, name: &str) -> io::Result<File> {
        let file = self.open_file(name, OFlags::RDONLY | OFlags::CREATE)?;
        check(&file)?;
        Ok(file)
    }

    /// As [`Dir::open_marker`], but `None` where it is missing.
    pub(crate) fn find_marker(&self, name: &str) -> io::Result<Option<File>> {
        match self.open_file(name, OFlags::RDONLY) {
            Ok(file) => check(&file).map(|_| Some(file)),
            Err(error) => absent(error),
        }
    }

    /// Opens an empty file for its events, and makes it where it is missing. To write, which is not heard
    /// as [`Dir::ring`] is.
    pub(crate) fn open_bell(&self, name: &str) -> io::Result<File> {
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE)?;
        check(&file)?;
        Ok(file)
    }

    /// Wakes whoever watches a file: on Linux for being opened to read and closed, elsewhere for being
    /// written.
    pub(crate) fn ring(&self, name: &str) {
        // Nobody to wake, or nothing to be done about it: a hint may be lost.
        if cfg!(target_os = "linux") {
            let _ = self.open_file(name, OFlags::RDONLY);
        } else if let Ok(bell) = self.open_file(name, OFlags::RDWR) {
            let _ = bell.write_all_at(b"!", 0);
        }
    }

    /// Replaces what has the name `to`.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// As [`Dir::rename`]; the file that had the name `to` gets the name `from` where the filesystem can
    /// do that. Replacing a file makes ext4 write the new one to disk first, exchanging two does not.
    pub(crate) fn exchange(&self, from: &str, to: &str) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.0, from, &self.0, to, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.rename(from, to),
            result => Ok(result?),
        }
    }

    /// Gives a file a second name. False where the filesystem has no such names or no more of them.
    pub(crate) fn link(&self, name: &str, second: &str) -> io::Result<bool> {
        match rustix::fs::linkat(&self.0, name, &self.0, second, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; true if it was there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory if it is empty.
    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// The names in it that are UTF-8, as all of ours are.
    pub(crate) fn names(&self) -> io::Result<impl Iterator<Item = String>> {
        let entries = rustix::fs::Dir::read_from(&self.0)?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned)))
    }

    /// Seconds of the wall clock since a file was last written; `None` for what is no file of ours.
    pub(crate) fn age_in_seconds(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if !is_ours(&stat) {
            return None;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        u64::try_from(now.saturating_sub(stat.st_mtime)).ok()
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        Ok(File::from(rustix::fs::openat(&self.0, name, safely(flags), OURS)?))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// That an open file is a regular one and ours.
fn check(file: &File) -> io::Result<Stat> {
    let stat = rustix::fs::fstat(file)?;
    // The error that opening a device or socket gives: something else than a file is in this place.
    if is_ours(&stat) { Ok(stat) } else { Err(Errno::NXIO.into()) }
}

fn is_ours(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_uid == geteuid().as_raw()
}

fn absent<T>(error: io::Error) -> io::Result<Option<T>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

/// Takes the OS lock of an open file, if nobody else has it. It goes with the file, however that is
/// closed, also by the end of the process.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits for it.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::LockExclusive))?)
}

pub(crate) fn unlock(file: &File) {
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}

/// Whether an open file still has a name.
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink > 0)
}

/// The home of the account that this process runs as, from the system's password database.
pub(crate) fn account_home() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
    Some(user.dir)
}

/// The path part of `file:///path`.
pub(crate) fn path_of_url(path: &str) -> &str {
    path
}
