//! One lease that a client has: until when it is ours, and when it must be looked at.

use super::deadline::Deadline;
use super::renewal::Renewal;
use crate::engine::clock::Moment;
use crate::engine::line::turn::Turn;
use crate::lock::{Lease, Ttl};

#[derive(Debug)]
pub(super) struct Held {
    pub lease: Lease,
    /// For how long this process has had the key.
    pub turn: Turn,
    pub ttl: Ttl,
    pub deadline: Deadline,
    pub due: Moment,
    pub phase: Phase,
    pub renewal: Option<Box<Renewal>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Held,
    /// A release is in flight, or failed: no longer valid, but not known to be gone.
    Releasing {
        in_flight: bool,
        unknown: bool,
    },
}

impl Held {
    /// Until when it is certainly ours.
    pub fn valid_until(&self) -> Moment {
        let deadline = self.deadline.end().deadline;
        let stop_at = self.renewal.as_ref().and_then(|renewal| renewal.stop_at());
        stop_at.map_or(deadline, |stop_at| stop_at.min(deadline))
    }

    pub fn is_valid(&self, now: Moment) -> bool {
        self.phase == Phase::Held && self.valid_until() > now
    }

    /// When the keeper must look at it.
    pub fn next_look(&self) -> Moment {
        let lost_at = self.deadline.end().lost_at;
        self.renewal.as_ref().map_or(lost_at, |renewal| renewal.first_look(lost_at))
    }
}
