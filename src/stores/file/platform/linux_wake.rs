//! inotify for the bells, a pidfd for a holder's death.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::local::process::{Liveness, ProcessId};

/// Files that somebody may open to read and close again.
#[derive(Debug)]
pub(crate) struct Bells(AsyncFd<OwnedFd>);

impl Bells {
    pub(crate) fn new() -> io::Result<Bells> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Bells(readable(fd)?))
    }

    /// Watches an open file; the same file gets the same number.
    pub(crate) fn add(&self, _path: &Path, bell: &File) -> io::Result<i32> {
        // By descriptor, so that no other file can be in its place.
        let path = format!("/proc/self/fd/{}", bell.as_raw_fd());
        // Waiters open a bell to write, who rings it opens it to read: only that is heard.
        Ok(inotify::add_watch(self.0.get_ref(), path, WatchFlags::CLOSE_NOWRITE)?)
    }

    pub(crate) fn remove(&self, number: i32) {
        let _ = inotify::remove_watch(self.0.get_ref(), number);
    }

    /// Waits until something was rung, and tells `rung` the numbers; `None` when some were lost.
    ///
    /// # Errors
    /// When `rung` answers false, since then nobody listens any more, and those of inotify.
    pub(crate) async fn next(&self, mut rung: impl FnMut(Option<i32>) -> bool) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.0.get_ref(), &mut buffer);
        loop {
            let bell = match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => None,
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => continue,
                Ok(event) => Some(event.wd()),
                Err(Errno::WOULDBLOCK) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            if !rung(bell) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
}

/// The end of a process, to come or come already.
#[derive(Debug)]
pub(crate) struct Death(Option<AsyncFd<OwnedFd>>);

impl Death {
    /// # Errors
    /// When it can't be watched from here.
    pub(crate) fn of(process: &ProcessId) -> io::Result<Death> {
        let unseen = || io::Error::from(io::ErrorKind::Unsupported);
        match process.is_alive() {
            Ok(Liveness::Dead) => return Ok(Death(None)),
            Ok(Liveness::Alive) => {}
            _ => return Err(unseen()),
        }
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or_else(unseen)?;
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Err(Errno::SRCH) => return Ok(Death(None)),
            result => result?,
        };
        // The pid may have become another process's before it was opened.
        if process.is_alive().is_ok_and(|alive| alive == Liveness::Dead) {
            return Ok(Death(None));
        }
        Ok(Death(Some(readable(fd)?)))
    }

    pub(crate) async fn comes(&self) {
        if let Some(fd) = &self.0 {
            // An error can't tell more than that somebody must look.
            let _ = fd.readable().await;
        }
    }
}

#[allow(
    deprecated,
    reason = "its successor is unsafe, for types that may close their descriptor early; this one can't"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
