//! `FileLock`: one lease file that keeps others out, as Go's `vormadev/vorma/kit/lockfile` writes and
//! reads it, so that processes of both exclude each other on one path.
//!
//! The file holds one JSON line with its owner and a heartbeat, which the holder renews until it releases.
//! It is held while its owner lives and the heartbeat is younger than the stale threshold; afterwards
//! whoever wants it takes it over, at once where the owner is known to be dead.
//!
//! - **It appears complete**: written without a name, then linked (`O_TMPFILE` and `linkat`; a hard link
//!   where there is no such thing). A heartbeat overwrites its 19 digits in place, through the descriptor
//!   that made the file, so a reader never finds half a record and a file taken over is never revived.
//! - **One of ours wins**: who removes an abandoned file holds the operating system's lock of that very
//!   file and checks that the path still names it. Nothing else is left in the directory. A Go process
//!   compares and then removes without that lock: in the moment of a takeover it can still remove what
//!   another has just made. The one that lost its file notices at its next heartbeat.
//! - **A pid counts only where it means something**: same host, boot and pid namespace. There a process
//!   with another start time is another process.
//! - **Setting the clock steals nothing** within one boot: there a heartbeat's age is told by the
//!   boot's own clock too, and the younger age counts. Between machines, and with
//!   Go's processes, the wall clocks must agree to well within the stale threshold.
//! - **A disk that hangs** holds up the heartbeats of its own directory only. Whose heartbeat could not be
//!   written for the stale threshold is told the loss by a thread that waits for no disk.
//!
//! It is a lease: a process that was stopped for longer than the stale threshold may wake up while another
//! holds the file. Its `on_lost` tells it, not sooner than it runs again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::crew::Crew;
use crate::local::claim_file::{crew, timed_out};
use crate::lock::Result;

mod acquire;
mod error;
mod go_json;
mod heartbeat;
mod judge;
mod lease;
mod options;
mod origin;
mod owner;
mod record;
mod standing;

pub use error::HeldBy;
pub use judge::ProcessProbe;
pub use options::LeaseFileOptions;
pub use origin::Origin;
pub use record::Record;
pub use standing::OnLost;

use lease::FileLease;

/// A way to hold a lease file. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct LeaseFile;

impl LeaseFile {
    /// Whether a path could be that of a lease file. No I/O.
    ///
    /// # Errors
    /// `InvalidArgument` when it is blank, holds U+0000 or can't name a file.
    pub fn check_path(path: impl AsRef<Path>) -> Result<()> {
        acquire::check(path.as_ref())
    }

    /// Takes the file at `path`, making its directory where there is none. Blocks for some system calls;
    /// waits, within `acquire_retry_limit`, only where others are taking or removing the file.
    ///
    /// `probe` answers in place of the operating system whether a process lives. `on_lost` is called at
    /// most once, when the file was taken, removed or changed by others or no heartbeat could be written
    /// for the stale threshold, also while the disk does not answer at all; never because of a release. It is called
    /// on a thread that serves other files too.
    ///
    /// # Errors
    /// - `AcquisitionTimeout` at once when somebody holds it: [`HeldBy::of`] tells who.
    /// - `InvalidArgument` when the path is no file name, or something other than a file is there.
    /// - `AuthFailed` without permission, `ServiceUnavailable` for a full disk and the like.
    pub fn acquire(
        path: impl AsRef<Path>,
        options: LeaseFileOptions,
        probe: Option<Arc<dyn ProcessProbe>>,
        on_lost: Option<OnLost>,
    ) -> Result<HeldLeaseFile> {
        let claim = acquire::acquire(path.as_ref(), &options, probe.as_deref())?;
        let made = claim.written_at();
        let lease = Arc::new(FileLease::new(claim, options.lease_stale_threshold, on_lost));
        let held = HeldLeaseFile { lease, operation_timeout: options.operation_timeout, crew: None };
        // This process may have been stopped between writing the record and showing it.
        if made.elapsed() >= options.lease_heartbeat_interval {
            let is_lost = held.lease.beat().is_some();
            if is_lost || held.lease.stale_at() <= Instant::now() {
                return Err(error::outrun(held.path(), 1));
            }
        }
        heartbeat::keep(&held.lease, options.lease_heartbeat_interval)?;
        Ok(held)
    }

    /// As [`LeaseFile::acquire`], on a thread that works on files, from within a tokio runtime. When the future is
    /// dropped, what it may still get is released.
    ///
    /// # Errors
    /// As [`LeaseFile::acquire`]; `NetworkTimeout` where the disk did not answer within `operation_timeout`.
    pub async fn acquire_async(
        path: PathBuf,
        options: LeaseFileOptions,
        probe: Option<Arc<dyn ProcessProbe>>,
        on_lost: Option<OnLost>,
    ) -> Result<HeldLeaseFile> {
        let path = acquire::checked(&path)?;
        let (limit, crew) = (options.operation_timeout, crew(&path));
        let work = {
            let (path, crew) = (path.clone(), Arc::clone(&crew));
            move || {
                let mut held = LeaseFile::acquire(path, options, probe, on_lost)?;
                held.crew = Some(crew);
                Ok(held)
            }
        };
        let taken = timeout(limit, crew.run(work)).await;
        taken.unwrap_or_else(|_| Err(timed_out("take the lease file", &path, limit)))
    }
}

/// A lease file that this process holds, or held. Dropping it releases it, as far as that works.
pub struct HeldLeaseFile {
    lease: Arc<FileLease>,
    operation_timeout: Duration,
    /// Where it was taken by a thread that must not wait for a disk: who does it.
    crew: Option<Arc<Crew>>,
}

impl HeldLeaseFile {
    /// Whether it was neither released nor found lost. No system call; up to one heartbeat interval late.
    pub fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    /// Whether it was found lost.
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// The file, from the root.
    pub fn path(&self) -> &Path {
        self.lease.path()
    }

    /// Removes the file if it is still ours. `false` when it was released before, lost, or is another
    /// owner's, which is left alone.
    ///
    /// # Errors
    /// `AuthFailed` or `ServiceUnavailable` when the system refuses; the file is then still held, and a
    /// later release may succeed.
    pub fn release(&self) -> Result<bool> {
        self.lease.release()
    }

    /// As [`HeldLeaseFile::release`], on a thread that works on files, from within a tokio runtime. Happens even
    /// when the future is dropped.
    ///
    /// # Errors
    /// As [`HeldLeaseFile::release`]; `NetworkTimeout` where the disk did not answer within `operation_timeout`: it
    /// is then released as soon as the disk lets it.
    pub async fn release_async(&self) -> Result<bool> {
        let (lease, limit) = (Arc::clone(&self.lease), self.operation_timeout);
        let released = timeout(limit, self.crew().run(move || lease.release())).await;
        released.unwrap_or_else(|_| Err(timed_out("release the lease file", self.path(), limit)))
    }

    /// Releases for a process that is about to end, and waits no longer for it than a disk that works would take.
    pub fn leave(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let lease = Arc::clone(&self.lease);
        // What the disk or the system refuses becomes stale by itself.
        let _ = self.crew().run_within(PATIENCE, move || lease.release());
    }

    fn crew(&self) -> Arc<Crew> {
        self.crew.clone().unwrap_or_else(|| crew(self.path()))
    }
}

impl Drop for HeldLeaseFile {
    fn drop(&mut self) {
        let lease = Arc::clone(&self.lease);
        lease.let_go();
        match &self.crew {
            // Whatever drops it, such as a garbage collector, must not wait for a disk.
            Some(crew) => drop(crew.post(move || lease.give_up())),
            None => lease.give_up(),
        }
    }
}

impl fmt::Debug for HeldLeaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLeaseFile").field("path", &self.path()).field("is_held", &self.is_held()).finish()
    }
}
