//! Who holds a lease file, as the cause of a refusal.

use std::fmt;
use std::time::Duration;

use super::record::Record;
use crate::lock::{Code, Error};

/// Who holds a lease file: the cause of the error with which `acquire` refuses, found by
/// `error.cause()` and `downcast_ref::<HeldBy>()`, or by [`HeldBy::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBy {
    pid: Option<u64>,
    host: Option<String>,
    heartbeat_age: Option<Duration>,
    is_local: bool,
}

impl HeldBy {
    pub(super) fn owner(record: &Record, age: Duration, is_local: bool) -> HeldBy {
        HeldBy { pid: Some(record.pid), host: record.origin.host.clone(), heartbeat_age: Some(age), is_local }
    }

    /// By somebody who has not written its record yet, or whose record can't be read.
    pub(super) fn unknown() -> HeldBy {
        HeldBy { pid: None, host: None, heartbeat_age: None, is_local: false }
    }

    /// Who is meant by an error of `acquire`; `None` when it is another kind of error.
    pub fn of(error: &Error) -> Option<&HeldBy> {
        error.cause()?.downcast_ref()
    }

    /// The holder's pid, as its own pid namespace counts; `None` while the record can't be read.
    pub fn pid(&self) -> Option<u64> {
        self.pid
    }

    /// The machine or container that the holder runs on; Go's processes do not tell.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// How long ago the holder last wrote its heartbeat.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        self.heartbeat_age
    }

    /// Whether the pid is one of this machine and pid namespace, so that it can be looked up here.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a process that can't be told (its record can't be read yet)");
        };
        write!(f, "process {pid}")?;
        match &self.host {
            Some(host) if !self.is_local => write!(f, " of {host}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for HeldBy {}

/// The lease file is somebody else's. `AcquisitionTimeout`, the code for contention, since an acquire
/// that may not wait has run out of time at once; a later attempt may succeed.
pub(super) fn held(path: &std::path::Path, holder: HeldBy) -> Error {
    let message = format!("{} is held by {holder}; try again when it has ended", path.display());
    Error::new(Code::AcquisitionTimeout, message).retryable().because(holder)
}

/// Others were faster in every attempt, and nobody stayed long enough to be named.
pub(super) fn outrun(path: &std::path::Path, attempts: u32) -> Error {
    Error::new(
        Code::AcquisitionTimeout,
        format!(
            "{} was being taken or removed by others in each of {attempts} attempts; try again or raise acquireRetryLimit",
            path.display()
        ),
    )
    .retryable()
}

pub(super) fn lost(path: &std::path::Path, reason: &str) -> Error {
    Error::new(
        Code::LeaseLost,
        format!("the lease file {} is lost: {reason}; stop the work that it guards", path.display()),
    )
}
