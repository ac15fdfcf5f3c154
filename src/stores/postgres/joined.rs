//! Requests of one kind, joined into one statement while all connections are busy.

use super::error::{Failure, Kind};
use super::transport::connection::Connection;
use super::transport::detached::Detached;
use super::transport::pool::{Lent, Pool, with_connection};
use crate::lock::{Error, Result};
use crate::stores::batch::{self, Carrier, Distinct, DistinctBacklog, Job};

/// A request that can be joined with others of its kind, though never with one of the same identity.
pub(super) trait Request: Distinct + Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// All of them in one statement; one answer for each, in order.
    fn send(
        requests: &[&Self],
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Vec<Reply<Self::Answer>>, Failure>> + Send;

    /// One in a transaction that first waits for the key's advisory lock.
    fn send_locked(
        &self,
        key: &str,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Reply<Self::Answer>, Failure>> + Send;
}

/// What became of a request.
pub(super) enum Reply<A> {
    Answer(Result<A>),
    /// Somebody else is changing this key, so nothing can be said; worth a second look under its lock.
    Busy {
        key: String,
    },
}

/// The statements for one kind of request. Once one was sent, giving up changes nothing any more.
pub(super) struct Joined<R> {
    pool: Pool,
    kind: std::marker::PhantomData<fn(R)>,
}

impl<R> Joined<R> {
    pub(super) fn new(pool: Pool) -> Joined<R> {
        Joined { pool, kind: std::marker::PhantomData }
    }
}

impl<R: Request> Carrier for Joined<R> {
    type Request = R;
    type Answer = R::Answer;
    type Trip = Lent;
    /// The key that is being changed.
    type Reason = String;
    type Backlog = DistinctBacklog<Job<Self>>;

    const WIDTH: usize = 128;
    const GATHERS: bool = false;

    fn try_trip(&self) -> Option<Lent> {
        self.pool.try_lend()
    }

    async fn trip(&self) -> Result<Lent> {
        self.pool.lend().await
    }

    async fn alone(&self, lent: Option<Lent>, request: R) -> Result<R::Answer> {
        let pool = self.pool.clone();
        Detached::new(async move { alone(&pool, lent, request).await }).await
    }

    async fn together(&self, lent: Lent, requests: &[&R]) -> Result<Vec<batch::Reply<Self>>> {
        let pool = &self.pool;
        match with_connection!(pool, Some(lent), |connection| R::send(requests, connection)) {
            Ok(replies) => Ok(replies.into_iter().map(batch::Reply::from).collect()),
            // The server refuses the values of one of them.
            Err(failure) if failure.kind == Kind::Value && requests.len() > 1 => {
                Ok(requests.iter().map(|_| batch::Reply::Alone).collect())
            }
            Err(failure) => Err(failure.error),
        }
    }

    async fn again(&self, key: &String, request: &R) -> Result<R::Answer> {
        locked(&self.pool, key, request).await
    }
}

impl<R: Request> From<Reply<R::Answer>> for batch::Reply<Joined<R>> {
    fn from(reply: Reply<R::Answer>) -> batch::Reply<Joined<R>> {
        match reply {
            Reply::Answer(answer) => batch::Reply::Answer(answer),
            Reply::Busy { key } => batch::Reply::Patience(key),
        }
    }
}

/// One request, and under the key's lock where somebody else was changing it.
async fn alone<R: Request>(pool: &Pool, lent: Option<Lent>, request: R) -> Result<R::Answer> {
    let outcome = with_connection!(pool, lent, |connection| R::send(&[&request], connection));
    let replies = outcome.map_err(|failure| failure.error)?;
    match replies.into_iter().next() {
        Some(Reply::Answer(answer)) => answer,
        Some(Reply::Busy { key }) => locked(pool, &key, &request).await,
        None => Err(Error::internal("PostgreSQL answered no row to a request").unknown()),
    }
}

/// The second look, under the key's lock.
async fn locked<R: Request>(pool: &Pool, key: &str, request: &R) -> Result<R::Answer> {
    let _turn = pool.wait_turn().await?;
    let outcome = with_connection!(pool, None, |connection| request.send_locked(key, connection));
    match outcome.map_err(|failure| failure.error)? {
        Reply::Answer(answer) => answer,
        Reply::Busy { .. } => Err(unlocked()),
    }
}

/// Of a key whose lock we have.
pub(super) fn unlocked() -> Error {
    Error::unavailable("another client changes this key without taking its advisory lock; try again")
}
