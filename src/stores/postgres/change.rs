//! What only the owner of a live lease may do: release and extend, alone or joined with others.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::{Failure, Kind};
use super::joined::{Reply, Request};
use super::record::{Stored, by_number, column, timestamp, ttl_ms};
use super::sql::Sql;
use super::transport::connection::{Connection, Step};
use crate::backend::Mutation;
use crate::lock::{Error, LockId, Result, Timestamp, Ttl};
use crate::stores::batch::Distinct;

#[derive(Debug)]
pub(super) struct Release(pub(super) LockId);

#[derive(Debug)]
pub(super) struct Extend {
    lock_id: LockId,
    ttl_ms: i64,
}

impl Extend {
    pub(super) fn new(lock_id: LockId, ttl: Ttl) -> Extend {
        Extend { lock_id, ttl_ms: ttl_ms(ttl) }
    }
}

impl Release {
    /// No row means that no lease has this lock id.
    pub(super) fn read(row: Option<&Row>) -> Reply<Mutation<()>> {
        read(row, |row| Ok(column::<bool>(row, "done")?.then_some(())))
    }
}

impl Extend {
    fn read(row: Option<&Row>) -> Reply<Mutation<Timestamp>> {
        read(row, |row| match column::<Option<i64>>(row, "extended_to_ms")? {
            None => Ok(None),
            Some(millis) => timestamp(millis)
                .map(Some)
                .ok_or_else(|| Error::internal("PostgreSQL answered a time before 1970").unknown()),
        })
    }
}

fn read<T>(row: Option<&Row>, done: impl Fn(&Row) -> Result<Option<T>>) -> Reply<Mutation<T>> {
    let Some(row) = row else { return Reply::Answer(Ok(Mutation::NotFound)) };
    let outcome = || {
        if let Some(value) = done(row)? {
            return Ok(Reply::Answer(Ok(Mutation::Done(value))));
        }
        let stored = Stored::read(row)?;
        if stored.is_live() {
            // Its lock was busy, or it changed after the look.
            return Ok(Reply::Busy { key: column::<&str>(row, "key")?.to_owned() });
        }
        Ok(Reply::Answer(Ok(Mutation::Expired)))
    };
    outcome().unwrap_or_else(|error: Error| Reply::Answer(Err(error)))
}

impl Distinct for Release {
    fn identity(&self) -> &str {
        self.0.as_str()
    }
}

impl Request for Release {
    type Answer = Mutation<()>;

    async fn send(
        requests: &[&Release],
        connection: &mut Connection,
    ) -> Result<Vec<Reply<Mutation<()>>>, Failure> {
        let outcome = match requests {
            [only] => match connection.run(Sql::Release, &[&only.0.as_str()]).await {
                Ok(rows) => return Ok(vec![Release::read(rows.first())]),
                Err(failure) => Err(failure),
            },
            _ => connection.run(Sql::ReleaseMany, &[&ids(requests)]).await,
        };
        let rows = match outcome {
            // A hint is no reason to keep a lease.
            Err(failure) if failure.kind == Kind::Untold => {
                connection.run(Sql::ReleaseUntold, &[&ids(requests)]).await?
            }
            outcome => outcome?,
        };
        let rows = by_number(rows, requests.len())?;
        Ok(rows.iter().map(|row| Release::read(row.as_ref())).collect())
    }

    async fn send_locked(
        &self,
        key: &str,
        connection: &mut Connection,
    ) -> Result<Reply<Mutation<()>>, Failure> {
        let row = match under_lock(key, connection, Sql::Release, &[&self.0.as_str()]).await {
            Err(failure) if failure.kind == Kind::Untold => {
                let ids = [self.0.as_str()];
                under_lock(key, connection, Sql::ReleaseUntold, &[&ids.as_slice()]).await?
            }
            row => row?,
        };
        Ok(Release::read(row.as_ref()))
    }
}

impl Distinct for Extend {
    fn identity(&self) -> &str {
        self.lock_id.as_str()
    }
}

impl Request for Extend {
    type Answer = Mutation<Timestamp>;

    async fn send(
        requests: &[&Extend],
        connection: &mut Connection,
    ) -> Result<Vec<Reply<Mutation<Timestamp>>>, Failure> {
        if let [only] = requests {
            let rows = connection.run(Sql::Extend, &[&only.lock_id.as_str(), &only.ttl_ms]).await?;
            return Ok(vec![Extend::read(rows.first())]);
        }
        let ids: Vec<&str> = requests.iter().map(|it| it.lock_id.as_str()).collect();
        let ttls: Vec<i64> = requests.iter().map(|it| it.ttl_ms).collect();
        let rows = connection.run(Sql::ExtendMany, &[&ids, &ttls]).await?;
        let rows = by_number(rows, requests.len())?;
        Ok(rows.iter().map(|row| Extend::read(row.as_ref())).collect())
    }

    async fn send_locked(
        &self,
        key: &str,
        connection: &mut Connection,
    ) -> Result<Reply<Mutation<Timestamp>>, Failure> {
        let row = under_lock(key, connection, Sql::Extend, &[&self.lock_id.as_str(), &self.ttl_ms]).await?;
        Ok(Extend::read(row.as_ref()))
    }
}

fn ids<'a>(requests: &[&'a Release]) -> Vec<&'a str> {
    requests.iter().map(|it| it.0.as_str()).collect()
}

async fn under_lock(
    key: &str,
    connection: &mut Connection,
    sql: Sql,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, Failure> {
    let rows = connection.run_locked(key, &[Step { sql, parameters }]).await?;
    Ok(rows.into_iter().flatten().next())
}
