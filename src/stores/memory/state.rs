//! What the store holds and how each operation changes it, given the time: no clock, no waiting.

use std::collections::HashMap;
use std::time::Duration;

use crate::backend::{AcquireRequest, Acquired, Find, Mutation, Owner, Page, Span};
use crate::lock::{
    Error, Fence, FenceRetention, Key, Lease, LockId, Result, TIME_TOLERANCE, Timestamp, Ttl, is_live,
};

/// How long after its expiry clean-up may delete a record.
const CLEAN_UP_AFTER: Duration = Duration::from_millis(2000);

#[derive(Debug, Default)]
pub(super) struct State {
    records: HashMap<Key, Record>,
    keys: HashMap<LockId, Key>,
    fences: HashMap<Key, Fence>,
    /// Whether a record vanishes at its expiry, without the tolerance, as in Redis.
    vanishing: bool,
}

#[derive(Debug)]
enum Record {
    Lease(Lease),
    Unreadable,
}

impl State {
    pub fn new(vanishing: bool) -> State {
        State { vanishing, ..State::default() }
    }

    pub fn acquire(&mut self, request: &AcquireRequest, now: Timestamp) -> Result<Acquired> {
        if let Some(lease) = self.live(&request.key, now)? {
            return Ok(if lease.lock_id == request.lock_id {
                Acquired::Granted(lease.clone())
            } else {
                Acquired::Held { free_in: Some(self.free_in(lease, now)) }
            });
        }
        let fence = Fence::next(self.fences.get(&request.key).copied(), Fence::clock(now))?;
        let lease = Lease {
            key: request.key.clone(),
            lock_id: request.lock_id,
            fence,
            acquired_at: now,
            expires_at: now.plus(request.ttl),
        };
        self.remove(&request.key);
        self.fences.insert(request.key.clone(), fence);
        self.keys.insert(request.lock_id, request.key.clone());
        self.records.insert(request.key.clone(), Record::Lease(lease.clone()));
        Ok(Acquired::Granted(lease))
    }

    pub fn extend(&mut self, owner: &Owner, ttl: Ttl, now: Timestamp) -> Result<Mutation<Timestamp>> {
        Ok(self.owned(&owner.lock_id, now)?.map(|lease| {
            lease.expires_at = now.plus(ttl);
            lease.expires_at
        }))
    }

    /// Answers the released key, for those who wait for it.
    pub fn release(&mut self, owner: &Owner, now: Timestamp) -> Result<Mutation<Key>> {
        let released = self.owned(&owner.lock_id, now)?.map(|lease| lease.key.clone());
        if let Mutation::Done(key) = &released {
            self.remove(key);
        }
        Ok(released)
    }

    pub fn find(&self, what: Find<'_>, now: Timestamp) -> Result<Page> {
        match what {
            Find::Key { key, .. } => Ok(self.live(key, now)?.cloned().into()),
            Find::LockId(id) => match self.keys.get(id) {
                None => Ok(Page::default()),
                Some(key) => Ok(self.live(key, now)?.cloned().into()),
            },
            Find::Prefix(span) => Ok(self.page(span, now)),
        }
    }

    /// In the order of their keys; the cursor is the last one.
    fn page(&self, span: Span<'_>, now: Timestamp) -> Page {
        let mut keys: Vec<&Key> = self.records.keys().collect();
        keys.retain(|key| {
            key.as_str().starts_with(span.prefix) && span.cursor.is_none_or(|after| key.as_str() > after)
        });
        keys.sort_unstable_by_key(|key| key.as_str());
        let live = |key: &&Key| self.live(key, now).ok().flatten().cloned();
        let mut leases: Vec<Lease> = keys.iter().filter_map(live).take(span.limit + 1).collect();
        let more = leases.len() > span.limit;
        leases.truncate(span.limit);
        let last = leases.last().map(|lease| lease.key.as_str().to_owned());
        Page { leases, cursor: last.filter(|_| more) }
    }

    pub fn clean_up(&mut self, key: &Key, now: Timestamp) {
        if let Some(Record::Lease(lease)) = self.records.get(key)
            && now.since(lease.expires_at) > CLEAN_UP_AFTER
        {
            self.remove(key);
        }
    }

    /// Only when the table is about to grow, so that a grant costs the same whatever is stored.
    pub fn shed_fences(&mut self, retention: FenceRetention, now: Timestamp) {
        if self.fences.len() == self.fences.capacity() {
            self.fences.retain(|_, fence| retention.ends_at(*fence) > now);
        }
    }

    pub fn set_fence(&mut self, key: &Key, fence: Option<Fence>) {
        match fence {
            Some(fence) => self.fences.insert(key.clone(), fence),
            None => self.fences.remove(key),
        };
    }

    pub fn spoil(&mut self, key: &Key) {
        self.remove(key);
        self.records.insert(key.clone(), Record::Unreadable);
    }

    /// Forgets everything, fences too, as a store without persistence does in a crash.
    pub fn lose_everything(&mut self) {
        *self = State::new(self.vanishing);
    }

    fn live(&self, key: &Key, now: Timestamp) -> Result<Option<&Lease>> {
        match self.records.get(key) {
            None => Ok(None),
            Some(Record::Unreadable) => Err(unreadable(key)),
            Some(Record::Lease(lease)) => Ok(Some(lease).filter(|lease| self.lives(lease, now))),
        }
    }

    /// The lease under this lock id, to change it.
    fn owned(&mut self, id: &LockId, now: Timestamp) -> Result<Mutation<&mut Lease>> {
        let vanishing = self.vanishing;
        let Some(key) = self.keys.get(id) else { return Ok(Mutation::NotFound) };
        match self.records.get_mut(key) {
            Some(Record::Unreadable) => Err(unreadable(key)),
            Some(Record::Lease(lease)) if vanishing && lease.expires_at <= now => Ok(Mutation::NotFound),
            Some(Record::Lease(lease)) if !is_live(lease.expires_at, now) => Ok(Mutation::Expired),
            Some(Record::Lease(lease)) => Ok(Mutation::Done(lease)),
            None => Ok(Mutation::NotFound),
        }
    }

    fn lives(&self, lease: &Lease, now: Timestamp) -> bool {
        if self.vanishing { lease.expires_at > now } else { is_live(lease.expires_at, now) }
    }

    fn free_in(&self, lease: &Lease, now: Timestamp) -> Duration {
        let left = lease.expires_at.since(now);
        if self.vanishing {
            return left;
        }
        let overdue = now.since(lease.expires_at);
        left + TIME_TOLERANCE.saturating_sub(overdue)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Record::Lease(lease)) = self.records.remove(key) {
            self.keys.remove(&lease.lock_id);
        }
    }
}

fn unreadable(key: &Key) -> Error {
    Error::internal(format!("the record at {:?} can't be read: a lease was expected", key.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_say_nothing_any_more_make_room_and_fences_rise_all_the_same() {
        let (mut state, retention) = (State::default(), FenceRetention::unchecked_from_millis(1000));
        let ttl = Ttl::from_millis(10).unwrap();
        let at = |round: u64| Timestamp::from_millis(1_763_683_200_000 + 100 * round);
        let mut grant = |name: &str, round| {
            let request = AcquireRequest { key: Key::new(name).unwrap(), lock_id: LockId::mint(), ttl };
            state.shed_fences(retention, at(round));
            let Acquired::Granted(lease) = state.acquire(&request, at(round)).unwrap() else {
                panic!("free")
            };
            state.release(&lease.clone().into(), at(round)).unwrap();
            (lease.fence, state.fences.len())
        };
        let (first, _) = grant("again", 0);
        let most = (1..5000).map(|round| grant(&format!("once {round}"), round).1).max();
        assert!(most < Some(100), "{most:?} counters were kept, of which 10 are young");
        assert!(grant("again", 5000).0 > first);
    }
}
