//! What can happen to a waiter between two of its own steps, one step at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::hand_over::{HandingOver, Release, plan_release};
use super::queue::{hint_head, queues_of};
use super::store_key::StoreKey;
use super::ticket::Ticket;
use super::waiter::{Hint, Standing};
use crate::backend::{AcquireRequest, Acquired, BackendExt};
use crate::engine::acquire::undo;
use crate::engine::clock::Moment;
use crate::engine::shared::Shared;
use crate::engine::{ClientOptions, NoEnvironment};
use crate::lock::{Key, Lease, LockId, Ttl};
use crate::stores::memory::{MemoryClock, MemoryStore};

struct Line {
    store: MemoryStore,
    shared: Arc<Shared>,
    place: StoreKey,
}

impl Line {
    fn new() -> Line {
        let store = MemoryStore::new(MemoryClock::of_tokio());
        let (backend, options) = (Arc::new(store.backend()), ClientOptions::default());
        let (environment, runtime) = (Arc::new(NoEnvironment), Handle::current());
        let shared = Arc::new(Shared::new(backend, options, environment, runtime, undo::leftover));
        let place = shared.place(&Key::new("k").unwrap());
        Line { store, shared, place }
    }

    fn join(&self) -> Ticket {
        let (key, ttl) = (self.place.key.clone(), Ttl::from_millis(30_000).unwrap());
        let request = AcquireRequest { key, lock_id: LockId::mint(), ttl };
        Ticket::join(self.place.clone(), request, Arc::clone(&self.shared), None)
    }

    fn hand_over(&self) -> HandingOver {
        match plan_release(&self.place, None) {
            Release::HandOver(handing) => handing,
            Release::Plain => panic!("somebody waits"),
        }
    }

    fn is_plain(&self) -> bool {
        matches!(plan_release(&self.place, None), Release::Plain)
    }

    /// What the store grants this waiter.
    async fn grant(&self, ticket: &Ticket) -> Lease {
        match self.shared.backend.acquire(&ticket.waiter.request).await.unwrap() {
            Acquired::Granted(lease) => lease,
            Acquired::Held { .. } => panic!("the key is free"),
        }
    }

    /// Once everything has been undone that is going to be.
    async fn is_free(&self) -> bool {
        sleep(Duration::from_millis(1)).await;
        !self.store.backend().is_locked(&self.place.key).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_head_that_waits_is_handed_the_lease() {
    let line = Line::new();
    assert!(line.is_plain());
    let (first, _second) = (line.join(), line.join());
    assert!(first.waiter.begin_asking());
    assert!(line.is_plain(), "it asks");
    assert!(matches!(first.waiter.begin_waiting(), Standing::Waiting));
    let handing = line.hand_over();
    assert!(Arc::ptr_eq(&handing.waiter, &first.waiter));
    assert!(line.is_plain(), "one is on its way");
    assert!(!first.waiter.begin_asking());
    assert!(matches!(first.waiter.begin_waiting(), Standing::Receiving));
    let lease = line.grant(&first).await;
    assert!(handing.granted(lease).is_none());
    assert!(line.is_plain(), "it has arrived");
    assert!(!first.waiter.begin_asking());
    assert!(matches!(first.waiter.begin_waiting(), Standing::Granted(_)));
    // Handed over again it would find its waiter gone, and be taken back from under its holder.
    assert!(line.is_plain(), "it is taken");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_that_is_dropped_may_have_happened_since_it_began() {
    let line = Line::new();
    let ticket = line.join();
    let began = Moment::now();
    let handing = line.hand_over();
    sleep(Duration::from_millis(700)).await;
    drop(handing);
    assert!(matches!(ticket.waiter.begin_waiting(), Standing::Hinted(Hint::Free)));
    // Another one grants it; the first may have been the one that did.
    let handing = line.hand_over();
    handing.granted(line.grant(&ticket).await);
    assert_eq!(ticket.waiter.take_granted().unwrap().sent, began);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_with_an_uncertain_hand_over_has_it_undone() {
    for leaves_first in [true, false] {
        let line = Line::new();
        let ticket = line.join();
        let handing = line.hand_over();
        line.grant(&ticket).await;
        if leaves_first {
            drop(ticket);
            handing.uncertain();
        } else {
            handing.uncertain();
            drop(ticket);
        }
        assert!(line.is_free().await);
        assert_eq!(queues_of(&line.place.store), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_with_a_lease_has_it_given_back() {
    let line = Line::new();
    let ticket = line.join();
    let handing = line.hand_over();
    let lease = line.grant(&ticket).await;
    assert!(handing.granted(lease).is_none());
    drop(ticket);
    assert!(line.is_free().await);

    let ticket = line.join();
    let handing = line.hand_over();
    let lease = line.grant(&ticket).await;
    drop(ticket);
    assert!(handing.granted(lease).is_some(), "the one who hands it over has to see to it");
}

#[tokio::test(start_paused = true)]
async fn a_hint_for_whoever_leaves_makes_the_next_one_ask() {
    for told in [true, false] {
        let line = Line::new();
        let (first, second) = (line.join(), line.join());
        first.lead().expect("it is the head");
        assert!(second.lead().is_none());
        if told {
            hint_head(&line.place);
        }
        // What it heard before the hint was answered does not count.
        first.note_taken(Some(Duration::from_secs(30)));
        drop(first);
        assert_eq!(second.lead().expect("it is the head").free_at.is_none(), told);
    }
}
