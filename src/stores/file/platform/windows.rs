//! Files by path, with the standard library. Who may open them is up to the profile's access list.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Below the home directory.
pub(crate) const STATE_DIRECTORY: &str = r"AppData\Local\syncguard\locks";

/// A directory, by its path.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

/// Why a directory can't be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "other platforms find out")]
pub(crate) enum Distrust {
    NotOurs,
    WritableByOthers,
}

impl Dir {
    pub(crate) fn make_all(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        if fs::metadata(path)?.is_dir() {
            Ok(Dir(path.to_owned()))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    pub(crate) fn make_dir(&self, name: &str) -> io::Result<()> {
        match fs::create_dir(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    pub(crate) fn open_dir(&self, name: &str) -> io::Result<Dir> {
        let path = self.0.join(name);
        if fs::symlink_metadata(&path)?.is_dir() {
            Ok(Dir(path))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "other platforms may fail")]
    pub(crate) fn distrust(&self) -> io::Result<Option<Distrust>> {
        Ok(None)
    }

    /// No two boots are alive at once here, so nobody tidies away what is in use.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "other platforms lock")]
    pub(crate) fn hold(&self) -> io::Result<()> {
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "other platforms lock")]
    pub(crate) fn is_alone(&self) -> io::Result<bool> {
        Ok(true)
    }

    #[allow(clippy::unnecessary_wraps, reason = "other platforms may fail")]
    pub(crate) fn is_linked(&self) -> io::Result<bool> {
        Ok(self.0.is_dir())
    }

    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.find(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.find(name)?;
        fs::write(self.0.join(name), bytes)
    }

    pub(crate) fn open_marker(&self, name: &str) -> io::Result<File> {
        self.find(name)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.0.join(name))
    }

    pub(crate) fn find_marker(&self, name: &str) -> io::Result<Option<File>> {
        match self.find(name)? {
            None => Ok(None),
            Some(path) => OpenOptions::new().read(true).write(true).open(path).map(Some),
        }
    }

    pub(crate) fn open_bell(&self, name: &str) -> io::Result<File> {
        self.open_marker(name)
    }

    /// Wakes whoever watches a file for being written.
    pub(crate) fn ring(&self, name: &str) {
        // Nobody to wake, or nothing to be done about it: a hint may be lost.
        if let Ok(Some(path)) = self.find(name) {
            let _ = fs::write(path, b"!");
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    pub(crate) fn exchange(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename(from, to)
    }

    pub(crate) fn link(&self, name: &str, second: &str) -> io::Result<bool> {
        match fs::hard_link(self.0.join(name), self.0.join(second)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => Ok(false),
        }
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.0.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove_dir(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.0.join(name))
    }

    pub(crate) fn names(&self) -> io::Result<impl Iterator<Item = String>> {
        Ok(fs::read_dir(&self.0)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
    }

    pub(crate) fn age_in_seconds(&self, name: &str) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.0.join(name)).ok().filter(fs::Metadata::is_file)?;
        SystemTime::now().duration_since(metadata.modified().ok()?).ok().map(|age| age.as_secs())
    }

    /// The path of a regular file; `None` where there is nothing.
    fn find(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let path = self.0.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(path)),
            Ok(_) => Err(io::ErrorKind::IsADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(crate) fn lock(file: &File) -> io::Result<()> {
    file.lock()
}

pub(crate) fn unlock(file: &File) {
    let _ = file.unlock();
}

/// An open file can't lose its name here.
#[allow(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn is_linked(_file: &File) -> io::Result<bool> {
    Ok(true)
}

pub(crate) fn account_home() -> Option<PathBuf> {
    std::env::home_dir()
}

/// The path part of `file:///C:/path`.
pub(crate) fn path_of_url(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// Counts from boot and runs on during sleep.
pub(crate) fn since_boot() -> Duration {
    // SAFETY: it takes nothing and only reads a counter; the standard library has no call for it.
    #[allow(unsafe_code, reason = "see above")]
    let millis = unsafe { windows_sys::Win32::System::SystemInformation::GetTickCount64() };
    Duration::from_millis(millis)
}

/// Drives are local, shares have a name of their own: `\\server\share`.
#[allow(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn network_filesystem(directory: &Dir) -> io::Result<Option<&'static str>> {
    use std::path::{Component, Prefix};
    let is_share = match directory.0.components().next() {
        Some(Component::Prefix(prefix)) => matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..)),
        _ => false,
    };
    Ok(is_share.then_some("a network share"))
}
