//! A connection that comes back: opened on first use, by one task for everybody who waits, and again
//! whenever it breaks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::Connection;
use super::dial::Dialer;
use super::error::Refusal;
use super::wake::Wakes;
use super::watchdog::Watchdog;
use crate::lock::{Error, Result};

/// The pauses between attempts of the link's own, while nobody asks for a connection.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it tries for nobody; afterwards the next request does.
const IDLE_ATTEMPTS: u32 = 8;

/// A connection to one server, or to whichever server the sentinels call master.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

pub(super) struct Inner {
    dialer: Arc<Dialer>,
    wakes: Wakes,
    state: Mutex<State>,
    /// Ends every task of this link.
    life: CancellationToken,
    _ends_with_link: DropGuard,
}

enum State {
    Idle,
    Dialing(Dialing),
    Live(Connection),
    Closed,
}

/// The one attempt that is under way, for everybody who waits for it.
type Dialing = Shared<BoxFuture<'static, Result<Connection, Refusal>>>;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.dialer)
    }
}

impl Link {
    /// Does nothing yet.
    pub(super) fn new(dialer: Dialer) -> Link {
        let life = CancellationToken::new();
        Link(Arc::new(Inner {
            dialer: Arc::new(dialer),
            wakes: Wakes::default(),
            state: Mutex::new(State::Idle),
            _ends_with_link: life.clone().drop_guard(),
            life,
        }))
    }

    /// How long the server may take to show a sign of life.
    pub(super) fn patience(&self) -> Duration {
        self.0.dialer.patience()
    }

    pub(super) fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }

    /// One request, one reply, which may be an error of the server's.
    ///
    /// # Errors
    /// Not applied where no connection could be had, of unknown outcome where it broke before the reply.
    pub(super) async fn request(&self, command: &Cmd) -> Result<Value> {
        let connection = self.connection().await?;
        let watchdog = Watchdog::over(&connection, self.patience());
        let reply = connection.request(command).await;
        watchdog.answered();
        // A master that became a replica: the next request asks again where the master is.
        if matches!(&reply, Ok(Value::ServerError(error)) if error.code() == "READONLY") {
            self.leave(&connection);
        }
        reply
    }

    /// The same for several at once.
    pub(super) async fn request_all(&self, commands: &Pipeline) -> Result<Vec<Value>> {
        let connection = self.connection().await?;
        let watchdog = Watchdog::over(&connection, self.patience());
        let replies = connection.request_all(commands).await;
        watchdog.answered();
        replies
    }

    /// The live connection, or the one that comes of the attempt under way.
    pub(super) async fn connection(&self) -> Result<Connection> {
        let dialing = match &mut *self.0.state() {
            State::Live(connection) if !connection.is_over() => return Ok(connection.clone()),
            State::Closed => return Err(closed().into_error()),
            State::Dialing(dialing) => dialing.clone(),
            idle => {
                let dialing = self.0.dial();
                *idle = State::Dialing(dialing.clone());
                dialing
            }
        };
        dialing.await.map_err(Refusal::into_error)
    }

    /// The connection, if there is one now.
    pub(super) fn live(&self) -> Option<Connection> {
        match &*self.0.state() {
            State::Live(connection) => Some(connection.clone()),
            _ => None,
        }
    }

    /// Turns away from a connection that answers, but leads to the wrong server. Requests that wait for its
    /// replies still get them.
    fn leave(&self, connection: &Connection) {
        self.0.ended(connection.id(), &Handle::current());
    }

    pub(super) fn close(&self) {
        *self.0.state() = State::Closed;
        self.0.life.cancel();
        self.0.wakes.hint_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an attempt in a task of its own, so that it survives the caller who caused it.
    fn dial(self: &Arc<Self>) -> Dialing {
        let dialer = self.dialer.clone();
        let life = self.life.clone();
        let (to_push, to_end, to_settle) = (Arc::downgrade(self), Arc::downgrade(self), Arc::downgrade(self));
        let attempt = tokio::spawn(async move {
            let on_push = move |push| {
                if let Some(link) = Weak::upgrade(&to_push) {
                    link.wakes.deliver(&push, link.dialer.signature());
                }
            };
            let runtime = Handle::current();
            let on_end = move |id| {
                if let Some(link) = Weak::upgrade(&to_end) {
                    link.ended(id, &runtime);
                }
            };
            let outcome = tokio::select! {
                outcome = dialer.dial(on_push, on_end) => outcome,
                () = life.cancelled() => Err(closed()),
            };
            match to_settle.upgrade() {
                Some(link) => link.settle(outcome),
                None => Err(closed()),
            }
        });
        async move { attempt.await.unwrap_or_else(|_| Err(closed())) }.boxed().shared()
    }

    fn settle(self: &Arc<Self>, outcome: Result<Connection, Refusal>) -> Result<Connection, Refusal> {
        let mut state = self.state();
        if matches!(*state, State::Closed) {
            return Err(closed());
        }
        match outcome {
            Ok(connection) => {
                *state = State::Live(connection.clone());
                drop(state);
                // It may have ended before it was known here.
                if connection.is_over() {
                    self.ended(connection.id(), &Handle::current());
                } else {
                    self.wakes.renew(&connection);
                }
                Ok(connection)
            }
            Err(refusal) => {
                *state = State::Idle;
                Err(refusal)
            }
        }
    }

    /// True when this was the current connection.
    fn forget(&self, id: u64) -> bool {
        let mut state = self.state();
        let current = matches!(&*state, State::Live(connection) if connection.id() == id);
        if current {
            *state = State::Idle;
        }
        current
    }

    /// A connection is over: gets another one, in time for the next request and for those who wait for
    /// wake-ups.
    fn ended(self: &Arc<Self>, id: u64, runtime: &Handle) {
        if !self.forget(id) {
            return;
        }
        let link = Arc::downgrade(self);
        let life = self.life.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = redial(link) => {}
                () = life.cancelled() => {}
            }
        });
    }
}

/// Tries until there is a connection. The pauses are this task's own; requests dial at once.
async fn redial(link: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    loop {
        let Some(inner) = link.upgrade() else { return };
        let attempt = match &mut *inner.state() {
            State::Live(_) | State::Closed => return,
            State::Dialing(dialing) => dialing.clone(),
            idle @ State::Idle => {
                let dialing = inner.dial();
                *idle = State::Dialing(dialing.clone());
                dialing
            }
        };
        attempts += 1;
        let for_nobody = inner.wakes.is_empty() && attempts >= IDLE_ATTEMPTS;
        drop(inner);
        if attempt.await.is_ok() || for_nobody {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub(super) fn closed() -> Refusal {
    Refusal::from(Error::invalid("the Redis backend is closed; create another one"))
}
