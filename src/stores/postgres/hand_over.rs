//! Release and the next acquire in one step.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::acquire::Acquire;
use super::change::Release;
use super::error::{Failure, Kind};
use super::joined::{Reply, unlocked};
use super::record::column;
use super::sql::Sql;
use super::transport::connection::{Connection, Step};
use super::transport::pool::{Pool, with_connection};
use crate::backend::{Acquired, HandedOver, Mutation};
use crate::lock::{Error, LockId, Result};

pub(super) struct HandOver {
    pub(super) owner: LockId,
    pub(super) next: Acquire,
    /// It is the others' turn where more sessions than these wait for the key.
    pub(super) sessions: Option<i64>,
    /// It is the others' turn in any case.
    pub(super) always: bool,
}

/// What the one statement came to.
enum Verdict {
    Done(HandedOver),
    /// Somebody else is changing this key.
    Busy,
    /// The owner has no live lease of this key, or no fence is left: worth a look at each half.
    Unlike,
}

impl HandOver {
    /// One statement where the owner holds the key; otherwise a transaction under the key's lock.
    pub(super) async fn run(self, pool: Pool) -> Result<HandedOver> {
        let outcome = with_connection!(pool, None, |connection| self.send(connection));
        let busy = match outcome.map_err(|failure| failure.error)? {
            Verdict::Done(handed) => return Ok(handed),
            Verdict::Busy => true,
            Verdict::Unlike => false,
        };
        let _turn = pool.wait_turn().await?;
        if busy {
            let outcome = with_connection!(pool, None, |connection| self.send_locked(connection));
            if let Verdict::Done(handed) = outcome.map_err(|failure| failure.error)? {
                return Ok(handed);
            }
        }
        let halves = with_connection!(pool, None, |connection| self.send_halves(connection));
        halves.map_err(|failure| failure.error)?
    }

    async fn send(&self, connection: &mut Connection) -> Result<Verdict, Failure> {
        match connection.run(Sql::HandOver, &self.parameters().each()).await {
            Err(failure) if failure.kind == Kind::Untold => self.send_untold(connection).await,
            rows => Ok(self.read(rows?.first())?),
        }
    }

    /// It is the others' turn, and they can't be told: then they find out by themselves.
    async fn send_untold(&self, connection: &mut Connection) -> Result<Verdict, Failure> {
        let owner = self.owner.as_str();
        let rows = connection.run(Sql::ReleaseUntold, &[&[owner].as_slice()]).await?;
        match Release::read(rows.first()) {
            Reply::Answer(released) => {
                Ok(Verdict::Done(HandedOver { released: released?, next: None, others: None, echo: false }))
            }
            Reply::Busy { .. } => Ok(Verdict::Busy),
        }
    }

    async fn send_locked(&self, connection: &mut Connection) -> Result<Verdict, Failure> {
        let parameters = self.parameters();
        let parameters = parameters.each();
        let step = Step { sql: Sql::HandOver, parameters: &parameters };
        let rows = connection.run_locked(self.next.key(), &[step]).await?;
        Ok(self.read(rows.first().and_then(|rows| rows.first()))?)
    }

    /// Release, then acquire, in one transaction.
    async fn send_halves(&self, connection: &mut Connection) -> Result<Result<HandedOver>, Failure> {
        let owner = self.owner.as_str();
        let release = Step { sql: Sql::Release, parameters: &[&owner] };
        let (released, acquired) = self.next.send_after(release, connection).await?;
        let Reply::Answer(released) = Release::read(released.first()) else { return Ok(Err(unlocked())) };
        let Reply::Answer(acquired) = acquired else { return Ok(Err(unlocked().unknown())) };
        Ok(released.and_then(|released| {
            Ok(HandedOver {
                released,
                next: Some(acquired.map_err(Error::unknown)?),
                others: Some(0),
                echo: false,
            })
        }))
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters {
            owner: self.owner.as_str(),
            next: self.next.parameters(),
            sessions: self.sessions,
            always: self.always,
        }
    }

    fn read(&self, row: Option<&Row>) -> Result<Verdict> {
        let Some(row) = row else { return Ok(Verdict::Unlike) };
        let others: Option<i64> = column(row, "others")?;
        if let Some(others) = others {
            let others = u32::try_from(others).unwrap_or(1);
            let (released, echo) = (Mutation::Done(()), others > 0);
            return Ok(Verdict::Done(HandedOver { released, next: None, others: Some(others), echo }));
        }
        if let Some(lease) = self.next.taken(row)? {
            let next = Some(Acquired::Granted(lease));
            return Ok(Verdict::Done(HandedOver {
                released: Mutation::Done(()),
                next,
                others: Some(0),
                echo: false,
            }));
        }
        match column::<Option<bool>>(row, "mine")? {
            Some(false) => Ok(Verdict::Busy),
            _ => Ok(Verdict::Unlike),
        }
    }
}

struct Parameters<'a> {
    owner: &'a str,
    next: super::acquire::Parameters<'a>,
    sessions: Option<i64>,
    always: bool,
}

impl Parameters<'_> {
    /// In the order of the statement.
    fn each(&self) -> [&(dyn ToSql + Sync); 8] {
        let next = &self.next;
        [
            &next.key,
            &self.owner,
            &next.lock_id,
            &next.ttl_ms,
            &next.user_key,
            &next.fence_key,
            &self.sessions,
            &self.always,
        ]
    }
}
