//! What this client holds: the one place that knows a lease's local deadline and whether it is still
//! ours. A handle's state belongs to its lock id, so whoever extends or releases by lock id moves it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::deadline::{Applied, Deadline, End};
use super::held::{Held, Phase};
use super::renewal::Renewal;
use super::table::{Due, Extending, Table};
use crate::backend::Mutation;
use crate::engine::clock::Moment;
use crate::engine::line::turn::Turn;
use crate::engine::options::KeepPolicy;
use crate::lock::{Lease, LockId, Result, Timestamp, Ttl};

#[derive(Debug, Default)]
pub(in crate::engine) struct Leases {
    table: Mutex<Table>,
    /// Told when something is due earlier than the keeper would look.
    pub wake: Arc<Notify>,
}

/// What a client still had at its end.
#[derive(Debug, Default)]
pub(in crate::engine) struct Drained {
    pub held: Vec<Lease>,
    pub unreleased: Vec<Lease>,
}

/// What a release must know.
#[derive(Debug)]
pub(in crate::engine) struct Releasing {
    pub lease: Lease,
    /// For how long this process has had the key.
    pub turn: Turn,
    /// An earlier release of unknown outcome may have removed it already.
    pub repeated: bool,
}

/// What became of an extend.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum Extended {
    /// The lease is still held, or a release has begun meanwhile and decides.
    Kept,
    /// The store no longer has it.
    Gone(Lease),
    /// Its local deadline passed before the answer came.
    TooLate(Lease),
}

impl Leases {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to watch over a granted lease that was asked for at `sent`. Granted again under the lock id
    /// of a lease that is watched over already, it is the same lease, and its deadline stays.
    pub fn add(&self, lease: Lease, ttl: Ttl, sent: Moment, turn: Turn, keep: Option<KeepPolicy>) {
        let lock_id = lease.lock_id;
        let mut table = self.table();
        let renewal = keep.map(|policy| Box::new(Renewal::new(policy, sent, ttl)));
        if let Some(held) = table.held.get_mut(&lock_id)
            && held.phase == Phase::Held
            && held.lease.fence == lease.fence
        {
            held.renewal = renewal.or(held.renewal.take());
            let due = held.next_look();
            table.reschedule(&lock_id, due);
            self.tell_keeper(&table, due);
            return;
        }
        table.remove(&lock_id);
        let deadline = Deadline::new(End::of(sent, ttl));
        let mut held = Held { lease, turn, ttl, deadline, due: sent, phase: Phase::Held, renewal };
        held.due = held.next_look();
        let due = held.due;
        table.held.insert(lock_id, held);
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
            Some(held) if held.phase == Phase::Held => held.valid_until().remaining(),
            _ => Duration::ZERO,
        }
    }

    /// Begins an extend; `None` when this client holds no such lease, or no longer.
    pub fn begin_extend(&self, lock_id: &LockId, ttl: Ttl) -> Option<Extending> {
        let mut table = self.table();
        let sent = Moment::now();
        if !table.held.get(lock_id)?.is_valid(sent) {
            return None;
        }
        let extending = table.begin_extend(lock_id, sent, ttl)?;
        // One that shortens the lease brings its loss forward.
        let due = table.held.get(lock_id)?.next_look();
        table.reschedule(lock_id, due);
        self.tell_keeper(&table, due);
        Some(extending)
    }

    /// Ends an extend.
    pub fn end_extend(
        &self,
        extending: &Extending,
        result: &Result<Mutation<Timestamp>>,
        by_keeper: bool,
    ) -> Extended {
        let Extending { id, sent, ttl, .. } = *extending;
        let lock_id = &extending.lease.lock_id;
        let mut table = self.table();
        let Some(held) = table.held.get_mut(lock_id) else { return Extended::Kept };
        let now = Moment::now();
        let in_time = held.valid_until() > now;
        let outcome = match result {
            Ok(Mutation::Done(_)) => Applied::Yes,
            Err(error) if error.is_unknown() => Applied::Perhaps,
            _ => Applied::No,
        };
        held.deadline.finish(id, outcome);
        if held.phase != Phase::Held {
            return Extended::Kept;
        }
        match result {
            Ok(Mutation::Expired | Mutation::NotFound) => {
                return table.remove(lock_id).map_or(Extended::Kept, Extended::Gone);
            }
            // Whoever asked since the deadline was told that the lease has ended: it can't come back.
            _ if !in_time => return table.remove(lock_id).map_or(Extended::Kept, Extended::TooLate),
            Ok(Mutation::Done(expires_at)) => {
                held.lease.expires_at = *expires_at;
                if !by_keeper {
                    held.ttl = ttl;
                }
            }
            Err(_) => {}
        }
        if let Some(renewal) = &mut held.renewal {
            match (by_keeper, result.is_ok()) {
                (true, true) => renewal.renewed(sent, held.ttl),
                (true, false) => renewal.failed(sent, now, held.ttl),
                (false, true) => renewal.renewed(sent, ttl),
                (false, false) => {}
            }
        }
        let due = held.next_look();
        table.reschedule(lock_id, due);
        self.tell_keeper(&table, due);
        Extended::Kept
    }

    /// Ends validity and renewal; `None` when this client holds no such lease.
    pub fn begin_release(&self, lock_id: &LockId) -> Option<Releasing> {
        let mut table = self.table();
        let held = table.held.get_mut(lock_id)?;
        let repeated = matches!(held.phase, Phase::Releasing { unknown: true, .. });
        held.phase = Phase::Releasing { in_flight: true, unknown: repeated };
        held.renewal = None;
        let (lease, turn, deadline) = (held.lease.clone(), held.turn, held.deadline.end().deadline);
        table.reschedule(lock_id, deadline);
        Some(Releasing { lease, turn, repeated })
    }

    /// The release failed; a later one may try again.
    pub fn release_failed(&self, lock_id: &LockId, unknown: bool) {
        if let Some(held) = self.table().held.get_mut(lock_id) {
            let before = matches!(held.phase, Phase::Releasing { unknown: true, .. });
            held.phase = Phase::Releasing { in_flight: false, unknown: unknown || before };
        }
    }

    /// Whether the lease's local deadline lies ahead; false when this client does not have it.
    pub fn before_deadline(&self, lock_id: &LockId) -> bool {
        self.table().held.get(lock_id).is_some_and(|held| held.deadline.end().deadline > Moment::now())
    }

    pub fn remove(&self, lock_id: &LockId) -> Option<Lease> {
        self.table().remove(lock_id)
    }

    /// Takes out everything, at the end: what is held, and what a failed release may have left at the store.
    pub fn drain(&self) -> Drained {
        let mut table = self.table();
        table.due.clear();
        let mut drained = Drained::default();
        for (_, held) in table.held.drain() {
            match held.phase {
                Phase::Held => drained.held.push(held.lease),
                Phase::Releasing { in_flight: false, .. } => drained.unreleased.push(held.lease),
                Phase::Releasing { in_flight: true, .. } => {}
            }
        }
        drained
    }

    /// Puts off losses that an answer which was not read yet may prevent; true when there is one.
    pub fn put_off_extended(&self, now: Moment) -> bool {
        self.table().put_off_extended(now)
    }

    /// What is due now, by the state machine of each lease.
    pub fn look(&self, now: Moment, silent_for: Duration) -> Due {
        self.table().look(now, silent_for)
    }
}
