//! Taking a key, alone or joined with others.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::joined::{Reply, Request};
use super::names::storage_keys;
use super::record::{Stored, by_number, column, timestamp, ttl_ms};
use super::sql::Sql;
use super::transport::connection::{Connection, Step};
use crate::backend::{AcquireRequest, Acquired};
use crate::lock::{Error, Fence, Lease, Result, StorageKeys, TIME_TOLERANCE};
use crate::stores::batch::Distinct;

#[derive(Debug)]
pub(super) struct Acquire {
    request: AcquireRequest,
    keys: StorageKeys,
    ttl_ms: i64,
}

impl Acquire {
    pub(super) fn new(request: &AcquireRequest) -> Result<Acquire> {
        Ok(Acquire {
            keys: storage_keys(&request.key)?,
            ttl_ms: ttl_ms(request.ttl),
            request: request.clone(),
        })
    }

    pub(super) fn key(&self) -> &str {
        &self.keys.lock
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        Parameters {
            key: &self.keys.lock,
            lock_id: self.request.lock_id.as_str(),
            ttl_ms: self.ttl_ms,
            user_key: self.request.key.as_str(),
            fence_key: &self.keys.fence,
        }
    }

    /// Sends it in a transaction that holds the key's lock, after another step.
    pub(super) async fn send_after(
        &self,
        first: Step<'_>,
        connection: &mut Connection,
    ) -> Result<(Vec<Row>, Reply<Acquired>), Failure> {
        let parameters = Many::of(&[self]);
        let second = Step { sql: Sql::AcquireMany, parameters: &parameters.each() };
        let mut rows = connection.run_locked(&self.keys.lock, &[first, second]).await?;
        let reply = rows.pop().and_then(|rows| rows.first().map(|row| self.read(row)));
        Ok((rows.pop().unwrap_or_default(), reply.ok_or_else(missing)?))
    }

    fn read(&self, row: &Row) -> Reply<Acquired> {
        match self.try_read(row) {
            Ok(Some(acquired)) => Reply::Answer(Ok(acquired)),
            Ok(None) => Reply::Busy { key: self.keys.lock.clone() },
            Err(error) => Reply::Answer(Err(error)),
        }
    }

    /// What another request for the same key found, who may have been granted it just before.
    fn read_behind(&self, first: &Acquire, row: &Row) -> Reply<Acquired> {
        match first.taken(row) {
            Ok(Some(lease)) => {
                let free_in = lease.expires_at.since(lease.acquired_at) + TIME_TOLERANCE;
                Reply::Answer(Ok(Acquired::Held { free_in: Some(free_in) }))
            }
            Ok(None) => self.read(row),
            Err(error) => Reply::Answer(Err(error)),
        }
    }

    /// `None` when look and upsert disagree, or somebody else was changing the key.
    fn try_read(&self, row: &Row) -> Result<Option<Acquired>> {
        if let Some(lease) = self.taken(row)? {
            return Ok(Some(Acquired::Granted(lease)));
        }
        match column::<Option<bool>>(row, "mine")? {
            Some(true) if !column::<bool>(row, "minted")? => Err(Error::internal(format!(
                "the next fence of {:?} would exceed {}; this key's fence counter must be reset by hand",
                self.keys.fence,
                Fence::MAX
            ))),
            Some(_) => Ok(None),
            None if column::<Option<&str>>(row, "holder")?.is_none() => Ok(None),
            None => {
                let stored = Stored::read(row)?;
                if !stored.is_live() {
                    return Ok(None);
                }
                if stored.lease.lock_id == self.request.lock_id {
                    return Ok(Some(Acquired::Granted(stored.lease)));
                }
                Ok(Some(Acquired::Held { free_in: Some(stored.free_in()) }))
            }
        }
    }

    /// The lease that was written, if one was.
    pub(super) fn taken(&self, row: &Row) -> Result<Option<Lease>> {
        let Some(fence) = column::<Option<&str>>(row, "taken_fence")? else { return Ok(None) };
        let written = (
            Fence::parse(fence),
            timestamp(column(row, "taken_at_ms")?),
            timestamp(column(row, "taken_expires_at_ms")?),
        );
        match written {
            (Some(fence), Some(acquired_at), Some(expires_at)) => Ok(Some(Lease {
                key: self.request.key.clone(),
                lock_id: self.request.lock_id,
                fence,
                acquired_at,
                expires_at,
            })),
            _ => Err(Error::internal("PostgreSQL answered a lease that was not asked for").unknown()),
        }
    }
}

/// What an acquire tells PostgreSQL.
pub(super) struct Parameters<'a> {
    pub(super) key: &'a str,
    pub(super) lock_id: &'a str,
    pub(super) ttl_ms: i64,
    pub(super) user_key: &'a str,
    pub(super) fence_key: &'a str,
}

impl Parameters<'_> {
    /// In the order of the statement.
    fn each(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.key, &self.lock_id, &self.ttl_ms, &self.user_key, &self.fence_key]
    }
}

/// The same of several.
struct Many<'a> {
    keys: Vec<&'a str>,
    lock_ids: Vec<&'a str>,
    ttls_ms: Vec<i64>,
    user_keys: Vec<&'a str>,
    fence_keys: Vec<&'a str>,
}

impl<'a> Many<'a> {
    fn of(requests: &[&'a Acquire]) -> Many<'a> {
        let all = || requests.iter().map(|it| it.parameters());
        Many {
            keys: all().map(|it| it.key).collect(),
            lock_ids: all().map(|it| it.lock_id).collect(),
            ttls_ms: all().map(|it| it.ttl_ms).collect(),
            user_keys: all().map(|it| it.user_key).collect(),
            fence_keys: all().map(|it| it.fence_key).collect(),
        }
    }

    fn each(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.keys, &self.lock_ids, &self.ttls_ms, &self.user_keys, &self.fence_keys]
    }
}

impl Distinct for Acquire {
    fn identity(&self) -> &str {
        self.request.lock_id.as_str()
    }
}

impl Request for Acquire {
    type Answer = Acquired;

    async fn send(
        requests: &[&Acquire],
        connection: &mut Connection,
    ) -> Result<Vec<Reply<Acquired>>, Failure> {
        if let [only] = requests {
            let rows = connection.run(Sql::Acquire, &only.parameters().each()).await?;
            let row = rows.first().ok_or_else(missing)?;
            return Ok(vec![only.read(row)]);
        }
        // A statement takes a key once: the first request asks, and the others hear what that found.
        let mut numbers = HashMap::with_capacity(requests.len());
        let mut asking: Vec<&Acquire> = Vec::with_capacity(requests.len());
        for request in requests {
            numbers.entry(request.key()).or_insert_with(|| {
                asking.push(request);
                asking.len() - 1
            });
        }
        let rows = connection.run(Sql::AcquireMany, &Many::of(&asking).each()).await?;
        let rows = by_number(rows, asking.len())?;
        let answer = |request: &&Acquire| {
            let number = numbers[request.key()];
            let row = rows[number].as_ref().ok_or_else(missing)?;
            let asked = asking[number];
            Ok(if std::ptr::eq(asked, *request) { asked.read(row) } else { request.read_behind(asked, row) })
        };
        requests.iter().map(answer).collect()
    }

    async fn send_locked(&self, key: &str, connection: &mut Connection) -> Result<Reply<Acquired>, Failure> {
        let parameters = Many::of(&[self]);
        let step = Step { sql: Sql::AcquireMany, parameters: &parameters.each() };
        let rows = connection.run_locked(key, &[step]).await?;
        let row = rows.first().and_then(|rows| rows.first()).ok_or_else(missing)?;
        Ok(self.read(row))
    }
}

fn missing() -> Failure {
    Error::internal("PostgreSQL answered no row to an acquire").unknown().into()
}
