//! All that differs between operating systems.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Which file it is, whatever its name. As long as somebody has the file open, no other gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Identity {
        use std::os::unix::fs::MetadataExt;
        Identity(metadata.dev(), metadata.ino())
    }

    /// The standard library does not tell the file index, so the time of creation stands for it: callers
    /// compare the content too.
    #[cfg(windows)]
    pub fn of(metadata: &Metadata) -> Identity {
        use std::os::windows::fs::MetadataExt;
        Identity(metadata.creation_time(), 0)
    }

    /// Of what lies at a path, not followed if it is a symlink; `None` when nothing does.
    pub fn at(path: &Path) -> io::Result<Option<Identity>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What changes when anybody writes, truncates, removes, renames or replaces a file, so that an unchanged
/// stamp spares a closer look. Not to be relied on alone: two changes within one tick of the kernel's
/// clock may leave the same stamp, and directories above may be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    links: u64,
    size: i64,
    changed: (i64, i64),
}

impl Stamp {
    #[cfg(unix)]
    pub fn of(file: &File) -> Option<Stamp> {
        // Not the standard library's, whose statx costs twice as much.
        let stat = rustix::fs::fstat(file).ok()?;
        #[allow(clippy::useless_conversion, reason = "narrower on other platforms")]
        let links = u64::from(stat.st_nlink);
        let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
        Some(Stamp { links, size: stat.st_size, changed: (stat.st_ctime, nanos) })
    }

    /// The standard library does not tell the time of the last change there.
    #[cfg(windows)]
    pub fn of(_file: &File) -> Option<Stamp> {
        None
    }
}

#[cfg(unix)]
pub(super) fn kind_name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(windows)]
pub(super) fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() { "a directory" } else { "a link" }
}

/// For reading, and for writing where that is allowed, since some network filesystems lock only what is
/// open for it. The caller has seen a regular file there, but it may have been replaced since.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;
        // A pipe without a writer would block, and a symlink would lead away.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        #[allow(clippy::cast_possible_wrap, reason = "flags are bits, not a number")]
        options.custom_flags(flags.bits() as i32);
    }
    match options.read(true).write(true).open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            options.write(false).open(path)
        }
        opened => opened,
    }
}

/// Whether others can read a file while somebody has its lock. Where not, a lock that is held for long
/// would hide who holds it.
pub(crate) const LOCKED_FILES_CAN_BE_READ: bool = cfg!(not(windows));

/// Whether a file could not be read because somebody has its lock, which nobody has for long.
#[cfg(windows)]
pub(crate) fn is_locked_out(error: &io::Error) -> bool {
    const ERROR_LOCK_VIOLATION: i32 = 33;
    error.raw_os_error() == Some(ERROR_LOCK_VIOLATION)
}

#[cfg(not(windows))]
pub(crate) fn is_locked_out(_error: &io::Error) -> bool {
    false
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// Overwrites bytes in place, by one system call.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    complete(bytes, std::os::unix::fs::FileExt::write_at(file, bytes, offset)?)
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    complete(bytes, std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?)
}

fn complete(bytes: &[u8], written: usize) -> io::Result<()> {
    if written == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// A new file of that name, open for reading and writing; `AlreadyExists` if there is anything.
#[cfg(unix)]
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

#[cfg(windows)]
pub(super) fn create_new(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// The directory and what is missing above it. Not an error when it is there.
#[cfg(unix)]
pub(super) fn create_directories(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

#[cfg(windows)]
pub(super) fn create_directories(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).create(path)
}

/// Lets everybody read, whatever the process's umask.
#[cfg(unix)]
pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(windows)]
pub(super) fn set_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// A file without a name in that directory, which [`name`] can give one; `None` where the filesystem
/// knows no such thing.
#[cfg(target_os = "linux")]
pub(super) fn create_nameless(directory: &Path, mode: u32) -> io::Result<Option<File>> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use rustix::io::Errno;
    // A heartbeat reads before it writes: each would make the filesystem note the time of reading too.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOATIME;
    match openat(CWD, directory, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn create_nameless(_directory: &Path, _mode: u32) -> io::Result<Option<File>> {
    Ok(None)
}

/// Names a nameless file; `AlreadyExists` if there is anything, `NotFound` where `/proc` is not mounted.
#[cfg(target_os = "linux")]
pub(super) fn name(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn name(_file: &File, _path: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// A clock that all processes of a boot share, that nobody sets and that stands still while the machine
/// sleeps; `None` where the platform's is not shared.
#[cfg(target_os = "linux")]
pub(crate) fn monotonic_nanos() -> Option<i64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.checked_mul(1_000_000_000)?.checked_add(now.tv_nsec)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn monotonic_nanos() -> Option<i64> {
    None
}
