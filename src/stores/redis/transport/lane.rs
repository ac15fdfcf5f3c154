//! The connection of a caller's own event loop, beside the engine's: what has nothing to wait for but a reply goes by it.
//!
//! It is opened once there have been some calls, and lost without a word: whoever finds none takes the engine's. Nothing
//! subscribes on it. It leads to the same server as the engine's, and the one that learns of another closes both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::PushInfo;

use super::connection::{Connection, Holder};
use super::link::Link;
use crate::event_loop::{Executor, here};

/// So many calls from an event loop make a connection of its own worth while.
const CALLS: u32 = 8;
/// How long nobody tries again after a refusal.
const REFUSED: Duration = Duration::from_secs(10);

/// The way of one event loop to one server. A backend has users in one environment only.
#[derive(Debug, Default)]
pub(in crate::stores::redis) struct Lane(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    None {
        calls: u32,
        not_before: Option<Instant>,
    },
    Opening,
    Open(Connection),
    /// There is none for this store, or none any more.
    Closed,
}

impl Default for State {
    fn default() -> State {
        State::None { calls: 0, not_before: None }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// One that is never opened.
    pub(in crate::stores::redis) fn closed() -> Lane {
        Lane(Arc::new(Mutex::new(State::Closed)))
    }

    /// The connection of the event loop that polls, where it has one. Counts towards having one.
    pub(in crate::stores::redis) fn connection(&self, link: &Link) -> Option<Connection> {
        let event_loop = here()?;
        let mut state = lock(&self.0);
        match &mut *state {
            State::Open(connection) if connection.is_driven_here() => return Some(connection.clone()),
            State::Open(connection) if connection.is_moving() => {}
            State::Open(_) => *state = State::default(),
            State::None { not_before: Some(not_before), .. } if Instant::now() < *not_before => {}
            State::None { calls, .. } if *calls < CALLS => *calls += 1,
            State::None { .. } => {
                *state = State::Opening;
                drop(state);
                let opening = open(Arc::clone(&self.0), link.clone(), Arc::downgrade(&event_loop));
                tokio::spawn(opening);
            }
            State::Opening | State::Closed => {}
        }
        None
    }

    /// Whether the event loop that polls has one.
    pub(in crate::stores::redis) fn is_open_here(&self) -> bool {
        matches!(&*lock(&self.0), State::Open(connection) if connection.is_driven_here())
    }

    /// Turns away from it: the engine's connection leads elsewhere now, or has ended. Whoever waits for its replies
    /// still gets them.
    pub(in crate::stores::redis) fn leave(&self) {
        let mut state = lock(&self.0);
        if !matches!(*state, State::Closed) {
            *state = State::default();
        }
    }

    pub(in crate::stores::redis) fn close(&self) {
        if let State::Open(connection) = std::mem::replace(&mut *lock(&self.0), State::Closed) {
            connection.kill();
        }
    }
}

async fn open(state: Arc<Mutex<State>>, link: Link, event_loop: Weak<Executor>) {
    let opened = link.another(Arc::new(OfLane(Arc::downgrade(&state)))).await;
    let mut state = lock(&state);
    // Closed meanwhile, or the link was lost.
    if !matches!(*state, State::Opening) {
        return;
    }
    *state = match (opened, event_loop.upgrade()) {
        (Some(connection), Some(event_loop)) => {
            connection.move_to(&event_loop);
            State::Open(connection)
        }
        _ => State::None { calls: CALLS, not_before: Some(Instant::now() + REFUSED) },
    };
}

/// What a lane hears of its connection.
struct OfLane(Weak<Mutex<State>>);

impl Holder for OfLane {
    fn pushed(&self, _: &PushInfo) {}

    fn ended(&self, id: u64) {
        let Some(state) = self.0.upgrade() else { return };
        let mut state = lock(&state);
        if matches!(&*state, State::Open(connection) if connection.id() == id) {
            *state = State::default();
        }
    }

    fn silent(&self, _: Connection) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
