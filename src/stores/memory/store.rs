//! The state of a memory store.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::backend::MemoryBackend;
use super::clock::MemoryClock;
use super::state::State;
use crate::backend::{
    AcquireRequest, Acquired, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page, Part, StoreId,
    TimeAuthority, Watch, Yield,
};
use crate::lock::{FenceRetention, Key, Result, Timestamp, Ttl};
use crate::stores::watchers::{Left, Number, Source, Standing, Watchers};

/// The server's side: what is stored, its clock, and who waits for a hint. Clones are the same store.
#[derive(Clone, Debug)]
pub struct MemoryStore(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    id: StoreId,
    pub(super) clock: MemoryClock,
    state: Mutex<State>,
    watchers: Watchers<Subscribers>,
    #[cfg(any(test, feature = "testing"))]
    pub(super) losing_hints: AtomicBool,
    views: AtomicU64,
}

/// The views that watch each key. What several watchers of one view watch is one channel.
#[derive(Debug, Default)]
struct Subscribers(HashMap<Key, BTreeSet<u64>>);

impl Source for Subscribers {
    type Name = (Key, u64);
    type Channel = ();

    fn left(&mut self, (key, view): &(Key, u64), _number: Number, (): &mut ()) -> Left {
        if let Some(views) = self.0.get_mut(key) {
            views.remove(view);
            if views.is_empty() {
                self.0.remove(key);
            }
        }
        Left::Closed
    }
}

impl MemoryStore {
    /// An empty store that goes by this clock.
    pub fn new(clock: MemoryClock) -> MemoryStore {
        MemoryStore::with(clock, State::new(false))
    }

    pub(super) fn with(clock: MemoryClock, state: State) -> MemoryStore {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        MemoryStore(Arc::new(Shared {
            id: StoreId::new("memory", [Part::from(number)]),
            clock,
            state: Mutex::new(state),
            watchers: Watchers::default(),
            #[cfg(any(test, feature = "testing"))]
            losing_hints: AtomicBool::new(false),
            views: AtomicU64::new(0),
        }))
    }

    /// The one of this process with this name.
    pub(super) fn of_process(name: &str) -> MemoryStore {
        static STORES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.entry(name.to_owned()).or_insert_with(|| MemoryStore::new(MemoryClock::real())).clone()
    }

    /// A new view of it, which claims other capabilities perhaps.
    pub(super) fn view_that(&self, clean_up: bool, change: impl FnOnce(&mut Capabilities)) -> MemoryBackend {
        let mut capabilities = Capabilities {
            name: "memory",
            store: self.0.id.clone(),
            time_authority: TimeAuthority::Server,
            wakes: true,
            hands_over: true,
            event_loop: false,
            repeatable: true,
        };
        change(&mut capabilities);
        MemoryBackend::of(self.clone(), self.0.views.fetch_add(1, Ordering::Relaxed), capabilities, clean_up)
    }

    /// Gives a hint though nothing changed, as stores may.
    pub fn hint(&self, key: &Key) {
        #[cfg(any(test, feature = "testing"))]
        if self.0.losing_hints.load(Ordering::SeqCst) {
            return;
        }
        let board = self.0.watchers.lock();
        for view in board.source.0.get(key).into_iter().flatten() {
            board.hint(&(key.clone(), *view));
        }
    }

    /// How many backends watch the key. Several watches of one backend are one subscriber.
    pub fn subscribers(&self, key: &Key) -> usize {
        self.0.watchers.lock().source.0.get(key).map_or(0, BTreeSet::len)
    }

    /// Lets counters go that say nothing any more.
    pub(super) fn shed_fences(&self, retention: FenceRetention) {
        let mut state = self.state();
        let now = self.now();
        state.shed_fences(retention, now);
    }

    pub(super) fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let mut state = self.state();
        let now = self.now();
        state.acquire(request, now)
    }

    pub(super) fn hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let mut state = self.state();
        let now = self.now();
        let key = &request.next.key;
        let released = state.release(request.owner, now)?;
        let (own, always) = match request.yields {
            Yield::Never => (u32::MAX, false),
            Yield::IfWatched { own } => (own, false),
            Yield::Always { own } => (own, true),
        };
        let others = u32::try_from(self.subscribers(key)).unwrap_or(u32::MAX).saturating_sub(own);
        let others_turn = always || others > 0;
        let next = if others_turn { None } else { Some(state.acquire(request.next, now)?) };
        drop(state);
        if others_turn {
            self.hint(key);
        }
        Ok(HandedOver { released: released.map(|_| ()), next, others: Some(others), echo: others_turn })
    }

    pub(super) fn extend(&self, owner: &Owner, ttl: Ttl) -> Result<Mutation<Timestamp>> {
        let mut state = self.state();
        let now = self.now();
        state.extend(owner, ttl, now)
    }

    pub(super) fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let released = {
            let mut state = self.state();
            let now = self.now();
            state.release(owner, now)?
        };
        if let Mutation::Done(key) = &released {
            self.hint(key);
        }
        Ok(released.map(|_| ()))
    }

    pub(super) fn find(&self, what: Find<'_>, cleans_up: bool) -> Result<Page> {
        let mut state = self.state();
        let now = self.now();
        let page = state.find(what, now)?;
        if let Find::Key { key, clean_up: true } = what
            && cleans_up
        {
            state.clean_up(key, now);
        }
        Ok(page)
    }

    pub(super) fn watch(&self, view: u64, key: &Key) -> Result<Watch> {
        let share = self.0.watchers.watch((key.clone(), view), |subscribers, _| {
            subscribers.0.entry(key.clone()).or_default().insert(view);
            Ok(((), Standing::Open))
        })?;
        Ok(share.into_watch(()))
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    // A test that fails while it holds a lock must not hide its own message behind the poison's.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
