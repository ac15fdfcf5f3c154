//! From the operating system's error numbers to the errors of a lock.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::lock::{Code, Error};

/// While the directory is made and checked: what the user chose can't be used.
pub(super) fn unusable(path: &Path, error: io::Error) -> Error {
    let place = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => {
            failed(path, path, error)
        }
        _ if is_exhausted(&error) => failed(path, path, error),
        ErrorKind::PermissionDenied => Error::invalid(format!(
            "{place} can't be used for locks: permission denied; choose a directory of this user's"
        ))
        .because(error),
        ErrorKind::ReadOnlyFilesystem => Error::invalid(format!(
            "{place} can't be used for locks: its filesystem is read-only; choose another directory"
        ))
        .because(error),
        _ => {
            let reason = error.to_string();
            Error::invalid(format!("{place} can't be used for locks ({reason}); choose another directory"))
                .because(error)
        }
    }
}

/// During an operation. Every change becomes visible in a single system call, so one that failed was
/// not applied.
///
/// Names `directory`, and `file` only where that one must be looked at: its name may hold the key.
pub(super) fn failed(directory: &Path, file: &Path, error: io::Error) -> Error {
    let place = directory.display();
    let result = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::unavailable(format!("{place} can't be written: the disk is full; make room"))
        }
        ErrorKind::PermissionDenied => Error::new(
            Code::AuthFailed,
            format!("{place} can't be used: permission denied; it must belong to this user"),
        ),
        ErrorKind::ReadOnlyFilesystem => Error::new(
            Code::ServiceUnavailable,
            format!("{place} can't be written: its filesystem is read-only; choose another directory"),
        ),
        _ if is_exhausted(&error) => Error::unavailable(format!(
            "{place} can't be used: this process or system has too many files open"
        )),
        _ if is_out_of_place(&error) => return out_of_place(file).because(error),
        _ => Error::unavailable(format!("{place} can't be used: the operating system reports a failure")),
    };
    result.because(error)
}

/// A link, a pipe or a directory where one of our files should be.
fn out_of_place(path: &Path) -> Error {
    Error::internal(format!(
        "{} is not a regular file of this user's, which a lock must be; it was left as it is: look who put it there, then remove it",
        path.display()
    ))
}

pub(super) fn unreadable(path: &Path, expected: &str) -> Error {
    Error::internal(format!(
        "{} can't be read: {expected} was expected; it counts as held and was left as it is",
        path.display()
    ))
}

fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::NOLCK)
        )
    }
    #[cfg(not(unix))]
    {
        error.kind() == ErrorKind::OutOfMemory
    }
}

/// What opening, renaming or linking answers when something else is in the place of a file of ours.
fn is_out_of_place(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(
            Errno::from_io_error(error),
            Some(Errno::LOOP | Errno::ISDIR | Errno::NOTDIR | Errno::NXIO | Errno::NOTEMPTY | Errno::EXIST)
        )
    }
    #[cfg(not(unix))]
    {
        matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists)
    }
}
