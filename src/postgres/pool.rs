//! A few connections, opened on first use, each lent to one statement or transaction at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::connection::Connection;
use super::dial::Dialer;
use super::error::{self, Failure, Kind};
use super::statements::Statements;
use crate::lock::{Error, Result};

/// How much longer than its `statement_timeout` a statement may take before its connection is given up.
const GRACE: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    /// One permit for each connection that there may be.
    turns: Arc<Semaphore>,
    /// Those who wait for a lock at the server must leave connections to those who don't.
    waits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.0.dialer.config).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>) -> Pool {
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
    pub(super) fn try_lend(&self) -> Option<Lent> {
        let turn = Arc::clone(&self.0.turns).try_acquire_owned().ok()?;
        let connection = self.0.take_idle()?;
        Some(Lent { connection: Some(connection), pool: Arc::clone(&self.0), _turn: turn })
    }

    /// Waits for a connection, and opens it where there is none. In order of asking.
    ///
    /// # Errors
    /// Those of [`Dialer::dial`], also of an attempt that failed while waiting; `InvalidArgument` once closed.
    pub(super) async fn lend(&self) -> Result<Lent> {
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

    /// A turn among those who wait for a lock at the server.
    pub(super) async fn wait_turn(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0.waits).acquire_owned().await.map_err(|_| error::closed())
    }

    pub(super) fn close(&self) {
        self.0.turns.close();
        self.0.waits.close();
        self.0.idle().clear();
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one used last, so that as few as possible are busy; those that died are dropped.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some(connection) = idle.pop() {
            if !connection.is_over() {
                return Some(connection);
            }
        }
        None
    }
}

/// A connection on loan; goes back when dropped, unless it is broken.
pub(super) struct Lent {
    connection: Option<Connection>,
    pool: Arc<Inner>,
    _turn: OwnedSemaphorePermit,
}

impl Lent {
    /// Does something with the connection, within the time that a statement may take.
    pub(super) async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(connection) = &mut self.connection else {
            return Err(Failure::from(Error::internal("a connection that broke was used again")));
        };
        let limit = self.pool.dialer.config.operation_timeout.saturating_add(GRACE);
        let place = connection.place().to_owned();
        let outcome = match tokio::time::timeout(limit, work(connection)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(error::hung(&place)),
        };
        if let Err(failure) = &outcome {
            if failure.kind == Kind::LostStatements {
                self.pool.dialer.note_pooler();
            }
            if failure.kind == Kind::Broken || failure.is_stale() {
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
            idle.push(connection);
        }
    }
}
