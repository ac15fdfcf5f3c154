//! What to tell when the file system refuses.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use crate::lock::{Code, Error};

/// What to tell when the operating system refused something, by its error number.
///
/// `action` completes "can't …".
pub(crate) fn refused(action: &str, path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let (code, advice, retryable) = match error.kind() {
        ErrorKind::PermissionDenied => (
            Code::AuthFailed,
            "this user may not; check the owner and permissions of it and its directory",
            false,
        ),
        ErrorKind::NotFound => (Code::InvalidArgument, "a directory on the way does not exist", false),
        ErrorKind::NotADirectory => (Code::InvalidArgument, "what should be its directory is none", false),
        ErrorKind::InvalidFilename => {
            (Code::InvalidArgument, "the name is too long or not allowed there", false)
        }
        ErrorKind::InvalidInput => {
            (Code::InvalidArgument, "the path is not one that can be used there", false)
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Code::ServiceUnavailable, "there is no space left; free some", true)
        }
        ErrorKind::ReadOnlyFilesystem => {
            (Code::ServiceUnavailable, "the filesystem is read-only; use a writable one", false)
        }
        _ => (Code::ServiceUnavailable, "the operating system reported an error; see the cause", true),
    };
    let failed = Error::new(code, format!("can't {action} {path}: {advice}")).because(error);
    if retryable { failed.retryable() } else { failed }
}

/// What to tell when the disk did not answer in time. What was begun goes on in the background.
pub(crate) fn timed_out(action: &str, path: &Path, limit: Duration) -> Error {
    Error::timed_out(format!(
        "can't {action} {}: the disk did not answer within {} ms; try again when it works",
        path.display(),
        limit.as_millis()
    ))
}

/// What to tell when something else than a regular file is in the way.
pub(crate) fn not_a_file(path: &Path, kind: &str) -> Error {
    Error::invalid(format!(
        "{} is {kind}, which is neither followed nor removed; use another path or move it away",
        path.display()
    ))
}
