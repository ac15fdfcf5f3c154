//! The leases that a client has, in the order in which they must be looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use super::by_lock_id::ByLockId;
use super::deadline::{End, ExtendId};
use super::held::{Held, Phase};
use super::renewal;
use crate::engine::clock::Moment;
use crate::lock::{Lease, LockId, Ttl};

/// The keeper looks at the clock at least this often, because its timer stops while the machine sleeps.
const LONGEST_NAP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Names the next extend.
    pub extends: u64,
    pub held: ByLockId<Held>,
    pub due: BTreeSet<(Moment, LockId)>,
    /// When the keeper looks next; `None` while it sleeps until it is told.
    pub keeper_wakes: Option<Moment>,
}

/// An extend that is about to be sent.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Extending {
    pub id: ExtendId,
    pub lease: Lease,
    pub sent: Moment,
    pub ttl: Ttl,
    /// How long its answer can still matter.
    pub left: Duration,
}

/// What the keeper has to do now.
#[derive(Debug, Default)]
pub(in crate::engine) struct Due {
    pub lost: Vec<Lease>,
    pub renew: Vec<Extending>,
    pub ping: bool,
    /// How long it may sleep; `None`: until it is told.
    pub nap: Option<Duration>,
}

impl Table {
    pub fn remove(&mut self, lock_id: &LockId) -> Option<Lease> {
        let held = self.held.remove(lock_id)?;
        self.due.remove(&(held.due, *lock_id));
        Some(held.lease)
    }

    pub fn begin_extend(&mut self, lock_id: &LockId, sent: Moment, ttl: Ttl) -> Option<Extending> {
        let id = ExtendId(self.extends);
        self.extends += 1;
        let held = self.held.get_mut(lock_id)?;
        held.deadline.begin(id, sent, ttl);
        Some(Extending { id, lease: held.lease.clone(), sent, ttl, left: Duration::MAX })
    }

    pub fn reschedule(&mut self, lock_id: &LockId, due: Moment) {
        if let Some(held) = self.held.get_mut(lock_id) {
            self.due.remove(&(held.due, *lock_id));
            held.due = due;
            self.due.insert((due, *lock_id));
        }
    }

    /// Puts off the loss of leases that are being extended to halfway to their deadlines, and tells whether there is
    /// one: the answer may have come, and only not been read.
    pub fn put_off_extended(&mut self, now: Moment) -> bool {
        let due: Vec<LockId> =
            self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, lock_id)| *lock_id).collect();
        let mut any = false;
        for lock_id in due {
            let Some(held) = self.held.get(&lock_id) else { continue };
            let End { lost_at, deadline } = held.deadline.end();
            let halfway = lost_at.plus(deadline.since(lost_at) / 2);
            if held.phase == Phase::Held
                && held.renewal.is_none()
                && held.deadline.is_extending()
                && lost_at <= now
                && now < halfway
            {
                self.reschedule(&lock_id, halfway);
                any = true;
            }
        }
        any
    }

    /// What is due now, by the state machine of each lease.
    pub fn look(&mut self, now: Moment, silent_for: Duration) -> Due {
        let mut due_now = Due::default();
        while let Some(&(due, lock_id)) = self.due.first() {
            if due > now {
                break;
            }
            let Some(held) = self.held.get_mut(&lock_id) else {
                self.due.pop_first();
                continue;
            };
            let lost_at = held.deadline.end().lost_at;
            let step = match (&mut held.renewal, held.phase) {
                (_, Phase::Releasing { .. }) => {
                    // Its time is up at the store as well: nothing is left to release.
                    self.remove(&lock_id);
                    continue;
                }
                (Some(renewal), _) => renewal.step(now, lost_at, silent_for, held.ttl),
                (None, _) => renewal::watch_only(now, lost_at),
            };
            if step.lost {
                due_now.lost.extend(self.remove(&lock_id));
                continue;
            }
            due_now.ping |= step.ping;
            if step.renew
                && let Some(renewal) = &held.renewal
            {
                let ttl = renewal.ttl(now, held.ttl);
                if let Some(extending) = self.begin_extend(&lock_id, now, ttl) {
                    due_now.renew.push(Extending { left: lost_at.since(now), ..extending });
                }
            }
            self.reschedule(&lock_id, step.look_again);
        }
        // Without a lease for a whole nap the keeper sleeps until it is told; a lease that comes and goes
        // meanwhile, as most do, wakes nobody.
        due_now.nap = match self.due.first() {
            Some(&(due, _)) => Some(due.since(now).min(LONGEST_NAP)),
            None if self.keeper_wakes.is_some_and(|wakes| wakes > now) => Some(LONGEST_NAP),
            None if self.keeper_wakes.is_some() => None,
            None => Some(LONGEST_NAP),
        };
        self.keeper_wakes = due_now.nap.map(|nap| now.plus(nap));
        due_now
    }
}
