//! A connection that comes back: opened on first use, by one task for everybody who waits, and again
//! whenever it breaks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::{Cmd, Pipeline, PushInfo, Value};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::{Connection, Holder};
use super::dial::Dialer;
use super::lane::Lane;
use crate::lock::{Code, Error, Result};
use crate::stores::net::backoff::Backoff;
use crate::stores::redis::error::Refusal;
use crate::stores::redis::wake::Wakes;

/// The pauses between attempts of the link's own, while nobody asks for a connection.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it tries for nobody; afterwards the next request does.
const IDLE_ATTEMPTS: u32 = 8;
/// Over how many connections a request goes that has not left on those before.
const CONNECTIONS: u32 = 3;
/// How long a silent connection may still show that it is well, once another one has been answered.
const GRACE: Duration = Duration::from_millis(100);
/// How long it may then still bring what was asked on it: a network that lost a packet sends it again, and only
/// after a pause that doubles each time.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A connection to one server, or to whichever server the sentinels call master.
#[derive(Clone)]
pub(in crate::stores::redis) struct Link(Arc<Inner>);

#[derive(Clone)]
pub(in crate::stores::redis) struct WeakLink(Weak<Inner>);

/// Hears that a server may be gone, and perhaps another one in its place.
pub(in crate::stores::redis) type OnTrouble = Arc<dyn Fn() + Send + Sync>;

pub(in crate::stores::redis) struct Inner {
    dialer: Arc<Dialer>,
    wakes: Wakes,
    on_trouble: Option<OnTrouble>,
    state: Mutex<State>,
    lane: Lane,
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
    /// Does nothing yet. Links of one store share its wakes.
    pub(in crate::stores::redis) fn new(
        dialer: Dialer,
        wakes: Wakes,
        on_trouble: Option<OnTrouble>,
        lane: Lane,
    ) -> Link {
        let life = CancellationToken::new();
        Link(Arc::new(Inner {
            dialer: Arc::new(dialer),
            wakes,
            on_trouble,
            state: Mutex::new(State::Idle),
            lane,
            _ends_with_link: life.clone().drop_guard(),
            life,
        }))
    }

    pub(in crate::stores::redis) fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }

    /// One request, one reply, which may be an error of the server's.
    ///
    /// # Errors
    /// Not applied where no connection could be had, of unknown outcome where it broke before the reply.
    pub(in crate::stores::redis) async fn request(&self, command: &Cmd) -> Result<Value> {
        let mut connections = 1;
        loop {
            let connection = self.connection().await?;
            match connection.request(command).await {
                Err(error) if !error.is_unknown() && connections < CONNECTIONS => connections += 1,
                reply => {
                    // A master that became a replica: the next request asks again where the master is.
                    if matches!(&reply, Ok(Value::ServerError(error)) if error.code() == "READONLY") {
                        self.leave(&connection);
                    }
                    return reply;
                }
            }
        }
    }

    /// The same for what changes something, by the event loop's own connection where one polls and has one.
    pub(in crate::stores::redis) async fn change(&self, command: &Cmd) -> Result<Value> {
        // Boxed, as it is large, and every future around it would be as large on the way that most calls take.
        let engine = || Box::pin(self.request(command));
        let Some(connection) = self.0.lane.connection(self) else { return engine().await };
        match connection.request_at_home(command).await {
            // It was not sent.
            Err(error) if !error.is_unknown() => engine().await,
            reply => {
                if matches!(&reply, Ok(Value::ServerError(error)) if error.code() == "READONLY") {
                    self.leave_all();
                }
                reply
            }
        }
    }

    /// Whether the event loop that polls has a connection of its own.
    pub(in crate::stores::redis) fn has_lane(&self) -> bool {
        self.0.lane.is_open_here()
    }

    /// Another connection to the server that the live one leads to; `None` where it can't be had now.
    pub(in crate::stores::redis) async fn another(&self, holder: Arc<dyn Holder>) -> Option<Connection> {
        let own = self.live()?;
        let another = tokio::select! {
            another = self.0.dialer.dial(holder) => another.ok()?,
            () = self.0.life.cancelled() => return None,
        };
        if own.leads_to_same(&another).await {
            return Some(another);
        }
        self.leave_all();
        None
    }

    /// Turns away from whatever there is: one of them leads to the wrong server.
    fn leave_all(&self) {
        if let Some(live) = self.live() {
            self.leave(&live);
        }
        self.0.lane.leave();
    }

    /// The same for several at once.
    pub(in crate::stores::redis) async fn request_all(&self, commands: &Pipeline) -> Result<Vec<Value>> {
        let mut connections = 1;
        loop {
            match self.connection().await?.request_all(commands).await {
                Err(error) if !error.is_unknown() && connections < CONNECTIONS => connections += 1,
                replies => return replies,
            }
        }
    }

    /// The live connection, or the one that comes of an attempt. One that was under way before may have met
    /// what is over by now, so its failure is not yet this caller's.
    pub(in crate::stores::redis) async fn connection(&self) -> Result<Connection> {
        let (dialing, own) = match self.live_or_dialing()? {
            Ok(connection) => return Ok(connection),
            Err(dialing) => dialing,
        };
        let dialed = dialing.await;
        if own || !dialed.as_ref().is_err_and(|refusal| refusal.code() == Code::ServiceUnavailable) {
            return dialed.map_err(Refusal::into_error);
        }
        match self.live_or_dialing()? {
            Ok(connection) => Ok(connection),
            Err((dialing, _)) => dialing.await.map_err(Refusal::into_error),
        }
    }

    /// The live connection, or else an attempt, and whether it began just now.
    fn live_or_dialing(&self) -> Result<std::result::Result<Connection, (Dialing, bool)>> {
        match &mut *self.0.state() {
            State::Live(connection) if !connection.is_over() => Ok(Ok(connection.clone())),
            State::Closed => Err(closed().into_error()),
            State::Dialing(dialing) => Ok(Err((dialing.clone(), false))),
            idle => {
                let dialing = self.0.dial();
                *idle = State::Dialing(dialing.clone());
                Ok(Err((dialing, true)))
            }
        }
    }

    /// The connection, if there is one now.
    pub(in crate::stores::redis) fn live(&self) -> Option<Connection> {
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

    pub(in crate::stores::redis) fn downgrade(&self) -> WeakLink {
        WeakLink(Arc::downgrade(&self.0))
    }

    pub(in crate::stores::redis) fn close(&self) {
        *self.0.state() = State::Closed;
        self.0.lane.close();
        self.0.life.cancel();
        self.0.wakes.hint_all();
    }
}

impl WeakLink {
    pub(in crate::stores::redis) fn is(&self, link: &Link) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&link.0))
    }
}

impl fmt::Debug for WeakLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakLink")
    }
}

/// What a link hears of its connections.
struct OfLink {
    link: Weak<Inner>,
    runtime: Handle,
}

impl Holder for OfLink {
    fn pushed(&self, push: &PushInfo) {
        if let Some(link) = self.link.upgrade() {
            link.wakes.deliver(push, link.dialer.signature());
        }
    }

    fn ended(&self, id: u64) {
        if let Some(link) = self.link.upgrade() {
            link.ended(id, &self.runtime);
        }
    }

    fn silent(&self, connection: Connection) -> BoxFuture<'static, ()> {
        let link = self.link.upgrade();
        async move {
            match link {
                Some(link) => link.replace(&connection).await,
                // Nobody holds it any more but those who wait for its replies.
                None => connection.kill(),
            }
        }
        .boxed()
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
        let (holder, to_settle) = (self.holder(), Arc::downgrade(self));
        let attempt = tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = dialer.dial(holder) => outcome,
                () = life.cancelled() => Err(closed()),
            };
            match to_settle.upgrade() {
                Some(link) => link.settle(outcome),
                None => Err(closed()),
            }
        });
        async move { attempt.await.unwrap_or_else(|_| Err(closed())) }.boxed().shared()
    }

    fn holder(self: &Arc<Self>) -> Arc<dyn Holder> {
        Arc::new(OfLink { link: Arc::downgrade(self), runtime: Handle::current() })
    }

    /// Tries another connection beside one that is silent. When that one is answered and the silent one
    /// still is not, it takes its place.
    async fn replace(self: Arc<Self>, silent: &Connection) {
        if !self.is_current(silent.id()) {
            return;
        }
        let reads = silent.traffic().reads();
        let dialed = tokio::select! {
            dialed = self.dialer.dial(self.holder()) => dialed,
            () = silent.ended() => return,
            () = self.life.cancelled() => return,
        };
        let Ok(another) = dialed else { return self.trouble() };
        let _ = tokio::time::timeout(GRACE, silent.ended()).await;
        if silent.traffic().reads() != reads {
            return;
        }
        {
            let mut state = self.state();
            match &*state {
                State::Live(current) if current.id() == silent.id() => {
                    *state = State::Live(another.clone());
                }
                _ => return,
            }
        }
        self.lane.leave();
        self.adopt(&another);
        let _ = tokio::time::timeout(LAST_WORD, silent.ended()).await;
        // Otherwise those who wait for its replies have the last share in it.
        if silent.traffic().reads() == reads {
            silent.kill();
        }
    }

    fn trouble(&self) {
        if let Some(on_trouble) = &self.on_trouble {
            on_trouble();
        }
    }

    /// A connection has become the current one.
    fn adopt(self: &Arc<Self>, connection: &Connection) {
        // It may have ended before it was known here.
        if connection.is_over() {
            self.ended(connection.id(), &Handle::current());
        } else {
            self.wakes.renew(&Link(self.clone()), connection);
            self.look_at(connection.clone());
        }
    }

    /// In a task of its own: nobody waits for it.
    fn look_at(&self, connection: Connection) {
        let (eviction, life) = (self.dialer.eviction().clone(), self.life.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = eviction.look_at(connection) => {}
                () = life.cancelled() => {}
            }
        });
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
                self.adopt(&connection);
                Ok(connection)
            }
            Err(refusal) => {
                *state = State::Idle;
                Err(refusal)
            }
        }
    }

    fn is_current(&self, id: u64) -> bool {
        matches!(&*self.state(), State::Live(connection) if connection.id() == id)
    }

    /// True when this was the current connection.
    fn forget(&self, id: u64) -> bool {
        let mut state = self.state();
        let current = matches!(&*state, State::Live(connection) if connection.id() == id);
        if current {
            *state = State::Idle;
            drop(state);
            self.lane.leave();
        }
        current
    }

    /// A connection is over: gets another one, in time for the next request and for those who wait for
    /// wake-ups.
    fn ended(self: &Arc<Self>, id: u64, runtime: &Handle) {
        if !self.forget(id) {
            return;
        }
        let (link, life) = (Arc::downgrade(self), self.life.clone());
        let _entered = runtime.enter();
        self.trouble();
        tokio::spawn(async move {
            tokio::select! {
                () = redial(link) => {}
                () = life.cancelled() => {}
            }
        });
    }
}

/// Tries until there is a connection. The pauses are this task's own; requests dial at once.
async fn redial(link: Weak<Inner>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
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
        let for_nobody = !inner.wakes.are_at(&Link(inner.clone())) && attempts >= IDLE_ATTEMPTS;
        drop(inner);
        if attempt.await.is_ok() || for_nobody {
            return;
        }
        let Some(inner) = link.upgrade() else { return };
        inner.trouble();
        drop(inner);
        backoff.failed();
        backoff.wait().await;
    }
}

pub(in crate::stores::redis) fn closed() -> Refusal {
    Refusal::from(Error::invalid("the Redis backend is closed; create another one"))
}
