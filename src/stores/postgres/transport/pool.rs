//! A few connections, opened on first use, each lent to one statement or transaction at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::connection::Connection;
use super::dial::Dialer;
use crate::lock::{Error, Result};
use crate::stores::postgres::error::{self, Failure, Kind};
use crate::stores::postgres::sql::Statements;

/// How much longer than its `statement_timeout` a statement may take before its connection is given up.
const GRACE: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(in crate::stores::postgres) struct Pool(Arc<Inner>);

struct Inner {
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    /// One permit for each connection that there may be.
    turns: Arc<Semaphore>,
    /// Those who wait for a lock at the server must leave connections to those who don't.
    waits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// When the statements that are under way were sent.
    under_way: Vec<Instant>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.0.dialer.config).finish_non_exhaustive()
    }
}

impl Pool {
    pub(in crate::stores::postgres) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>) -> Pool {
        let size = dialer.config.pool_size;
        Pool(Arc::new(Inner {
            dialer,
            statements,
            turns: Arc::new(Semaphore::new(size)),
            waits: Arc::new(Semaphore::new((size / 2).max(1))),
            idle: Mutex::default(),
        }))
    }

    /// A connection that is free and open right now.
    pub(in crate::stores::postgres) fn try_lend(&self) -> Option<Lent> {
        let turn = Arc::clone(&self.0.turns).try_acquire_owned().ok()?;
        let connection = self.0.take_idle()?;
        Some(Lent { connection: Some(connection), pool: Arc::clone(&self.0), _turn: turn })
    }

    /// Waits for a connection, and opens it where there is none. In order of asking.
    ///
    /// # Errors
    /// Those of [`Dialer::dial`], also of an attempt that failed while waiting; `InvalidArgument` once closed.
    pub(in crate::stores::postgres) async fn lend(&self) -> Result<Lent> {
        let asked = Instant::now();
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.map_err(|_| error::closed())?;
        if let Some(connection) = self.0.take_idle() {
            return Ok(Lent { connection: Some(connection), pool: Arc::clone(&self.0), _turn: turn });
        }
        if let Some(error) = self.0.dialer.failure_since(asked) {
            return Err(error);
        }
        let pool = Arc::clone(&self.0);
        let (answer, answered) = oneshot::channel();
        // A task of its own, so that a connection outlives the caller who was the first to need it.
        tokio::spawn(async move {
            let dialed = pool.dialer.dial(Arc::new(|_| ())).await.map(|session| {
                let connection =
                    Connection::new(session, Arc::clone(&pool.statements), pool.dialer.is_pooled());
                Lent { connection: Some(connection), pool, _turn: turn }
            });
            // Where nobody waits any more, the connection goes to the idle ones.
            let _ = answer.send(dialed);
        });
        answered.await.map_err(|_| error::closed())?
    }

    /// Attempts that begin with `first`, where it is there.
    pub(in crate::stores::postgres) fn tries(&self, first: Option<Lent>) -> Tries<'_> {
        // All that lie idle may be of no use, but not one that is opened anew.
        Tries { pool: self, next: first, left: self.0.dialer.config.pool_size }
    }

    /// A turn among those who wait for a lock at the server.
    pub(in crate::stores::postgres) async fn wait_turn(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0.waits).acquire_owned().await.map_err(|_| error::closed())
    }

    pub(in crate::stores::postgres) fn close(&self) {
        self.0.turns.close();
        self.0.waits.close();
        self.0.idle().connections.clear();
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one used last, so that as few as possible are busy. Those that died are dropped, and so are those that
    /// have not answered since a statement was sent that is overdue: what hangs one connection hangs its neighbours.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let overdue = self.dialer.config.operation_timeout.mul_f32(0.9);
        let hung = idle.under_way.iter().min().copied().filter(|sent| sent.elapsed() >= overdue);
        while let Some(connection) = idle.connections.pop() {
            if !connection.is_over() && hung.is_none_or(|sent| connection.answered > sent) {
                return Some(connection);
            }
        }
        None
    }

    /// Gives up the idle connections that have not answered since.
    fn give_up_before(&self, sent: Instant) {
        self.idle().connections.retain(|connection| connection.answered > sent);
    }
}

/// Notes that a statement is under way, until it is dropped.
struct UnderWay<'a> {
    pool: &'a Inner,
    sent: Instant,
}

impl UnderWay<'_> {
    fn note(pool: &Inner) -> UnderWay<'_> {
        let sent = Instant::now();
        pool.idle().under_way.push(sent);
        UnderWay { pool, sent }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle();
        if let Some(index) = idle.under_way.iter().position(|sent| *sent == self.sent) {
            idle.under_way.swap_remove(index);
        }
    }
}

/// Does something with a connection: with the first where it is there, and with another one for as long as nothing
/// was applied for a reason that others may not share. A macro, because the driver's futures are not general enough
/// for a function that takes a closure.
macro_rules! with_connection {
    ($pool:expr, $first:expr, |$connection:ident| $work:expr) => {{
        let mut tries = $pool.tries($first);
        loop {
            match tries.lend().await {
                Err(error) => break Err(Failure::from(error)),
                Ok(mut lent) => {
                    let outcome = lent.with(async |$connection| $work.await).await;
                    if !tries.go_on(&outcome) {
                        break outcome;
                    }
                }
            }
        }
    }};
}
pub(in crate::stores::postgres) use with_connection;

/// Attempts of one request.
pub(in crate::stores::postgres) struct Tries<'a> {
    pool: &'a Pool,
    next: Option<Lent>,
    left: usize,
}

impl Tries<'_> {
    pub(in crate::stores::postgres) async fn lend(&mut self) -> Result<Lent> {
        match self.next.take() {
            Some(lent) => Ok(lent),
            None => self.pool.lend().await,
        }
    }

    /// Whether there is to be another attempt.
    pub(in crate::stores::postgres) fn go_on<T>(&mut self, outcome: &Result<T, Failure>) -> bool {
        let worth_it = self.left > 0 && outcome.as_ref().is_err_and(Failure::is_worth_another);
        self.left -= usize::from(worth_it);
        worth_it
    }
}

/// A connection on loan; goes back when dropped, unless it is broken.
pub(in crate::stores::postgres) struct Lent {
    connection: Option<Connection>,
    pool: Arc<Inner>,
    _turn: OwnedSemaphorePermit,
}

impl Lent {
    /// Does something with the connection, within the time that a statement may take.
    pub(in crate::stores::postgres) async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(connection) = &mut self.connection else {
            return Err(Failure::from(Error::internal("a connection that broke was used again")));
        };
        let limit = self.pool.dialer.config.operation_timeout.saturating_add(GRACE);
        let under_way = UnderWay::note(&self.pool);
        let sent = connection.sent();
        let outcome = match tokio::time::timeout(limit, work(connection)).await {
            Ok(Err(failure)) if failure.kind == Kind::Broken && connection.sent() == sent => {
                Err(failure.unsent())
            }
            Ok(outcome) => outcome,
            Err(_) => {
                self.pool.give_up_before(under_way.sent);
                Err(error::hung(connection.place()))
            }
        };
        connection.answered = Instant::now();
        if let Err(failure) = &outcome {
            if failure.kind == Kind::LostStatements {
                self.pool.dialer.note_pooler();
            }
            if failure.kind == Kind::Broken || failure.is_worth_another() {
                self.connection = None;
            }
        }
        outcome
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|connection| !connection.is_over()) else {
            return;
        };
        let mut idle = self.pool.idle();
        if !self.pool.turns.is_closed() {
            idle.connections.push(connection);
        }
    }
}
