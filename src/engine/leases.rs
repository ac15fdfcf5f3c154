//! What this client holds: the one place that knows a lease's local deadline and whether it is still
//! ours. A handle's state belongs to its lock id, so whoever extends or releases by lock id moves it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Moment;
use super::keep::{self, Keeping};
use super::policy::KeepPolicy;
use crate::backend::{Mutation, Owner};
use crate::lock::{Lease, LockId, Result, Timestamp, Ttl};

/// The keeper looks at the clock at least this often, because its timer stops while the machine sleeps.
const LONGEST_NAP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Leases {
    table: Mutex<Table>,
    /// Told when something is due earlier than the keeper would look.
    pub wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    held: HashMap<LockId, Held, BuildHasherDefault<RandomBits>>,
    due: BTreeSet<(Moment, LockId)>,
    /// When the keeper looks next; `None` while it sleeps until it is told.
    keeper_wakes: Option<Moment>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    ttl: Ttl,
    deadline: Moment,
    due: Moment,
    phase: Phase,
    keeping: Option<Box<Keeping>>,
    /// Extends in flight, and whether two have overlapped: their order at the store is then unknown.
    extends: u32,
    overlapped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held,
    /// A release is in flight, or failed: no longer valid, but not known to be gone.
    Releasing {
        unknown: bool,
    },
}

/// What the keeper has to do now.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub lost: Vec<Lease>,
    pub renew: Vec<(Owner, Ttl)>,
    pub ping: bool,
    /// How long it may sleep; `None`: until it is told.
    pub nap: Option<Duration>,
}

/// What a release must know.
#[derive(Debug)]
pub(super) struct Releasing {
    pub lease: Lease,
    /// An earlier release of unknown outcome may have removed it already.
    pub repeated: bool,
}

impl Leases {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to watch over a granted lease whose local deadline is `deadline`.
    pub fn add(&self, lease: Lease, ttl: Ttl, deadline: Moment, keep: Option<KeepPolicy>) {
        let keeping: Option<Box<Keeping>> = keep.map(|policy| {
            let granted = deadline.minus(ttl.as_duration());
            Box::new(Keeping::new(policy, granted, ttl))
        });
        let lost_at = lost_at(deadline, ttl);
        let due = keeping.as_ref().map_or(lost_at, |keeping| keeping.first_look(lost_at));
        let lock_id = lease.lock_id;
        let phase = Phase::Held;
        let held = Held { lease, ttl, deadline, due, phase, keeping, extends: 0, overlapped: false };
        let mut table = self.table();
        if let Some(old) = table.held.insert(lock_id, held) {
            table.due.remove(&(old.due, lock_id));
        }
        table.due.insert((due, lock_id));
        self.tell_keeper(&table, due);
    }

    fn tell_keeper(&self, table: &Table, due: Moment) {
        if table.keeper_wakes.is_none_or(|wakes| due < wakes) {
            self.wake.notify_one();
        }
    }

    /// How long the lease is certainly still ours; zero when it is not.
    pub fn remaining(&self, lock_id: &LockId) -> Duration {
        match self.table().held.get(lock_id) {
            Some(held) if held.phase == Phase::Held => held.deadline.remaining(),
            _ => Duration::ZERO,
        }
    }

    /// Begins an extend; `None` when this client holds no such lease.
    pub fn begin_extend(&self, lock_id: &LockId) -> Option<Lease> {
        let mut table = self.table();
        let held = table.held.get_mut(lock_id).filter(|held| held.phase == Phase::Held)?;
        held.extends += 1;
        held.overlapped |= held.extends > 1;
        Some(held.lease.clone())
    }

    /// Ends an extend that was sent at `sent`. Answers the lease when that showed that it is lost.
    pub fn end_extend(
        &self,
        lock_id: &LockId,
        sent: Moment,
        ttl: Ttl,
        result: &Result<Mutation<Timestamp>>,
        by_keeper: bool,
    ) -> Option<Lease> {
        let mut table = self.table();
        let held = table.held.get_mut(lock_id)?;
        let overlapped = held.overlapped;
        held.extends = held.extends.saturating_sub(1);
        held.overlapped &= held.extends > 0;
        if held.phase != Phase::Held {
            return None; // A release has begun meanwhile; it decides.
        }
        let reached = sent.plus(ttl.as_duration());
        match result {
            Ok(Mutation::Done(expires_at)) => {
                held.deadline = if overlapped { reached.min(held.deadline) } else { reached };
                held.lease.expires_at = *expires_at;
                if !by_keeper {
                    held.ttl = ttl;
                }
            }
            Ok(Mutation::Expired | Mutation::NotFound) => return table.remove(lock_id),
            Err(error) if error.is_unknown() => held.deadline = reached.min(held.deadline),
            Err(_) => {}
        }
        let now = Moment::now();
        if let Some(keeping) = &mut held.keeping {
            match (by_keeper, result.is_ok()) {
                (true, true) => keeping.renewed(sent, held.ttl),
                (true, false) => keeping.failed(now, held.ttl),
                (false, true) => keeping.extended(sent, ttl),
                (false, false) => {}
            }
        }
        let lost_at = lost_at(held.deadline, held.ttl);
        let due = held.keeping.as_ref().map_or(lost_at, |keeping| keeping.first_look(lost_at));
        table.reschedule(lock_id, due);
        self.tell_keeper(&table, due);
        None
    }

    /// Ends validity and renewal; `None` when this client holds no such lease.
    pub fn begin_release(&self, lock_id: &LockId) -> Option<Releasing> {
        let mut table = self.table();
        let held = table.held.get_mut(lock_id)?;
        let repeated = held.phase == Phase::Releasing { unknown: true };
        held.phase = Phase::Releasing { unknown: repeated };
        held.keeping = None;
        let (lease, deadline) = (held.lease.clone(), held.deadline);
        table.reschedule(lock_id, deadline);
        Some(Releasing { lease, repeated })
    }

    /// The release failed; a later one may try again.
    pub fn release_failed(&self, lock_id: &LockId, unknown: bool) {
        if let Some(held) = self.table().held.get_mut(lock_id) {
            let before = held.phase == Phase::Releasing { unknown: true };
            held.phase = Phase::Releasing { unknown: unknown || before };
        }
    }

    /// Whether the lease's local deadline lies ahead; false when this client does not have it.
    pub fn before_deadline(&self, lock_id: &LockId) -> bool {
        self.table().held.get(lock_id).is_some_and(|held| held.deadline > Moment::now())
    }

    pub fn remove(&self, lock_id: &LockId) -> Option<Lease> {
        self.table().remove(lock_id)
    }

    /// Takes out everything, at the end.
    pub fn drain(&self) -> Vec<Lease> {
        let mut table = self.table();
        table.due.clear();
        table.held.drain().filter(|(_, held)| held.phase == Phase::Held).map(|(_, held)| held.lease).collect()
    }

    /// What is due now, by the state machine of each lease.
    pub fn turn(&self, now: Moment, silent_for: Duration) -> Turn {
        let mut table = self.table();
        let table = &mut *table;
        let mut turn = Turn::default();
        while let Some(&(due, lock_id)) = table.due.first() {
            if due > now {
                break;
            }
            let Some(held) = table.held.get_mut(&lock_id) else {
                table.due.pop_first();
                continue;
            };
            let lost_at = lost_at(held.deadline, held.ttl);
            let step = match (&mut held.keeping, held.phase) {
                (_, Phase::Releasing { .. }) => {
                    // Its time is up at the store as well: nothing is left to release.
                    table.remove(&lock_id);
                    continue;
                }
                (Some(keeping), _) => keeping.step(now, lost_at, silent_for),
                (None, _) => keep::watch_only(now, lost_at),
            };
            if step.lost {
                turn.lost.extend(table.remove(&lock_id));
                continue;
            }
            turn.ping |= step.ping;
            if step.renew {
                held.extends += 1;
                held.overlapped |= held.extends > 1;
                let ttl = held.keeping.as_ref().map_or(held.ttl, |keeping| keeping.ttl(now, held.ttl));
                turn.renew.push((Owner::from(held.lease.clone()), ttl));
            }
            table.reschedule(&lock_id, step.look_again);
        }
        // Without a lease for a whole nap the keeper sleeps until it is told; a lease that comes and goes
        // meanwhile, as most do, wakes nobody.
        turn.nap = match table.due.first() {
            Some(&(due, _)) => Some(due.since(now).min(LONGEST_NAP)),
            None if table.keeper_wakes.is_some_and(|wakes| wakes > now) => Some(LONGEST_NAP),
            None if table.keeper_wakes.is_some() => None,
            None => Some(LONGEST_NAP),
        };
        table.keeper_wakes = turn.nap.map(|nap| now.plus(nap));
        turn
    }
}

impl Table {
    fn remove(&mut self, lock_id: &LockId) -> Option<Lease> {
        let held = self.held.remove(lock_id)?;
        self.due.remove(&(held.due, *lock_id));
        Some(held.lease)
    }

    fn reschedule(&mut self, lock_id: &LockId, due: Moment) {
        if let Some(held) = self.held.get_mut(lock_id) {
            self.due.remove(&(held.due, *lock_id));
            held.due = due;
            self.due.insert((due, *lock_id));
        }
    }
}

fn lost_at(deadline: Moment, ttl: Ttl) -> Moment {
    deadline.minus(keep::loss_lead(ttl))
}

/// Lock ids are random bits already: the first eight bytes are hash enough.
#[derive(Default)]
struct RandomBits(u64);

impl Hasher for RandomBits {
    fn write(&mut self, bytes: &[u8]) {
        // Each character has six random bits and its highest are nearly constant: rotate them together.
        for byte in bytes.iter().take(22) {
            self.0 = self.0.rotate_left(7) ^ u64::from(*byte);
        }
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
