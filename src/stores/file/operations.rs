//! What the operations mean, under the OS lock of the key.

use std::time::Duration;

use super::clock::Now;
use super::directory::Directory;
use super::names::Kind;
use super::place::Place;
use super::record::{self, Holder, Record};
use crate::backend::{AcquireRequest, Acquired, HandedOver, Mutation, Page, Watch, Yield};
use crate::local::process::{Liveness, ProcessId};
use crate::lock::{Error, Fence, Lease, LockId, Result, TIME_TOLERANCE, Timestamp, Ttl};

/// How often a record that can't be read is looked at before it counts as such.
const LOOKS: u32 = 3;

/// How a backend was configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether a lease ends with its process. It does where both who granted it and who asks say so.
    pub(super) takes_over: bool,
}

/// A record and whether its lease still counts.
struct Found {
    record: Record,
    is_live: bool,
}

impl Rules {
    pub(super) fn acquire(self, place: &Place, request: &AcquireRequest) -> Result<Acquired> {
        let now = Now::read();
        match self.find(place, now)? {
            Some(Found { record, is_live: true }) if record.lease.lock_id == request.lock_id => {
                Ok(Acquired::Granted(record.lease(now)))
            }
            Some(Found { record, is_live: true }) => {
                self.tell_of_death(place, &record);
                let free_at = record.deadline.as_millis().saturating_add(millis(TIME_TOLERANCE));
                let free_in = Timestamp::from_millis(free_at).since(now.boot());
                Ok(Acquired::Held { free_in: Some(free_in) })
            }
            Some(Found { record, is_live: false }) => {
                let new = self.lease(place, request, Some(record.lease.fence), now)?;
                place.replace(&record.lease.lock_id, &new)?;
                granted(place, new)
            }
            None => {
                let new = self.lease(place, request, place.last_fence()?, now)?;
                place.grant(&new)?;
                granted(place, new)
            }
        }
    }

    pub(super) fn hand_over(
        self,
        place: &Place,
        owner: &LockId,
        next: &AcquireRequest,
        yields: Yield,
    ) -> Result<HandedOver> {
        let now = Now::read();
        let others = match yields {
            Yield::Never => 0,
            Yield::IfWatched { own } | Yield::Always { own } => place.waiters()?.saturating_sub(own),
        };
        if others > 0 || matches!(yields, Yield::Always { .. }) {
            let released = self.release(place, owner)?;
            place.ring();
            return Ok(HandedOver { released, next: None, others: Some(others), echo: true });
        }
        match self.find(place, now)? {
            Some(Found { record, is_live: true }) if record.lease.lock_id == *owner => {
                let new = match self.lease(place, next, Some(record.lease.fence), now) {
                    Ok(new) => new,
                    Err(error) => {
                        // The owner wants to be rid of it, whether or not there is a fence for the next.
                        place.free(owner)?;
                        return Err(error);
                    }
                };
                place.replace(owner, &new)?;
                let next = Some(granted(place, new)?);
                Ok(HandedOver { released: Mutation::Done(()), next, others: Some(0), echo: false })
            }
            found => {
                let released = match found {
                    Some(found) if found.record.lease.lock_id == *owner => Mutation::Expired,
                    _ => Mutation::NotFound,
                };
                Ok(HandedOver {
                    released,
                    next: Some(self.acquire(place, next)?),
                    others: Some(0),
                    echo: false,
                })
            }
        }
    }

    pub(super) fn extend(self, place: &Place, id: &LockId, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let now = Now::read();
        self.owned(place, id, now, |record| {
            let (deadline, expires_at) = now.after(ttl);
            let lease = Lease { expires_at, ..record.lease };
            place.update(&Record { lease, deadline, ..record })?;
            Ok(expires_at)
        })
    }

    pub(super) fn release(self, place: &Place, id: &LockId) -> Result<Mutation<()>> {
        self.owned(place, id, Now::read(), |_| place.free(id))
    }

    /// The live lease. With `clean_up_after`, a record that expired longer ago than that is taken away.
    pub(super) fn look(self, place: &Place, clean_up_after: Option<Duration>) -> Result<Option<Lease>> {
        let now = Now::read();
        let Some(Found { record, is_live }) = self.find(place, now)? else { return Ok(None) };
        if !is_live && clean_up_after.is_some_and(|after| now.boot().since(record.deadline) > after) {
            place.free(&record.lease.lock_id)?;
        }
        Ok(is_live.then(|| record.lease(now)))
    }

    /// Live leases in the order of their files' names, which the cursor is one of. Without the OS locks: a record
    /// that changes while it is read is a moment older, or not there.
    pub(super) fn page(self, directory: &Directory, prefix: &str, limit: usize, after: &str) -> Result<Page> {
        let failed = |error| directory.failed("", error);
        let is_held = |name: &String| matches!(Kind::of(name), Some(Kind::Held(_)));
        let mut names: Vec<String> = directory.dir.names().map_err(failed)?.filter(is_held).collect();
        names.retain(|name| name.as_str() > after);
        names.sort_unstable();
        let (now, mut page) = (Now::read(), Page::default());
        for name in names {
            let Some(record) = read_beside(directory, &name) else { continue };
            let fits = record.lease.key.as_str().starts_with(prefix) && record.is_live(now);
            if !fits || self.is_orphaned(directory, &record)? {
                continue;
            }
            if page.leases.len() == limit {
                return Ok(page);
            }
            page.leases.push(record.lease(now));
            page.cursor = Some(name);
        }
        Ok(Page { cursor: None, ..page })
    }

    pub(super) fn watch(self, place: &Place) -> Result<Watch> {
        let watch = place.wakes.watch(place)?;
        if let Ok(Some(Found { record, is_live: true })) = self.find(place, Now::read()) {
            self.tell_of_death(place, &record);
        }
        Ok(watch)
    }

    /// Has whoever waits here told when the process ends that holds the key.
    fn tell_of_death(self, place: &Place, record: &Record) {
        if let Some(owner) =
            self.owner(&place.directory, record).filter(|owner| *owner != place.directory.process)
        {
            place.wakes.tell_of_death(place.names.stem(), owner);
        }
    }

    /// Changes the record of a live lease with this lock id.
    fn owned<T>(
        self,
        place: &Place,
        id: &LockId,
        now: Now,
        change: impl FnOnce(Record) -> Result<T>,
    ) -> Result<Mutation<T>> {
        match self.find(place, now)? {
            Some(found) if found.record.lease.lock_id != *id => Ok(Mutation::NotFound),
            Some(Found { is_live: false, .. }) => Ok(Mutation::Expired),
            Some(Found { record, .. }) => change(record).map(Mutation::Done),
            None => Ok(Mutation::NotFound),
        }
    }

    fn find(self, place: &Place, now: Now) -> Result<Option<Found>> {
        let Some(record) = place.held()? else { return Ok(None) };
        let is_live = record.is_live(now) && !self.is_orphaned(&place.directory, &record)?;
        Ok(Some(Found { record, is_live }))
    }

    fn is_orphaned(self, directory: &Directory, record: &Record) -> Result<bool> {
        match self.owner(directory, record) {
            Some(owner) if owner != directory.process => Ok(owner.is_alive()? == Liveness::Dead),
            _ => Ok(false),
        }
    }

    /// The process with whose death the lease ends.
    fn owner(self, directory: &Directory, record: &Record) -> Option<ProcessId> {
        let Holder { pid, start_time, pid_namespace } = record.owner.filter(|_| self.takes_over)?;
        let boot_id = directory.process.boot_id.clone();
        Some(ProcessId { pid, start_time, boot_id, pid_namespace })
    }

    fn lease(
        self,
        place: &Place,
        request: &AcquireRequest,
        previous: Option<Fence>,
        now: Now,
    ) -> Result<Record> {
        let (deadline, expires_at) = now.after(request.ttl);
        let process = &place.directory.process;
        let holder =
            Holder { pid: process.pid, start_time: process.start_time, pid_namespace: process.pid_namespace };
        Ok(Record {
            lease: Lease {
                key: request.key.clone(),
                lock_id: request.lock_id,
                fence: Fence::next(previous, now.fence_clock())?,
                acquired_at: now.wall(),
                expires_at,
            },
            deadline,
            owner: self.takes_over.then_some(holder),
        })
    }
}

/// The record under a name, while others may be changing it. The file that was opened may become one that is written
/// over just then; what lies under the name by then is whole again.
fn read_beside(directory: &Directory, name: &str) -> Option<Record> {
    (0..LOOKS).find_map(|_| Record::parse(&directory.dir.read(name, record::LONGEST).ok()??))
}

/// What was granted after the caller had gone, because the disk hung meanwhile, is given back before anybody sees it.
fn granted(place: &Place, new: Record) -> Result<Acquired> {
    if place.is_unwanted() {
        place.free(&new.lease.lock_id)?;
        return Err(Error::aborted());
    }
    Ok(Acquired::Granted(new.lease))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
