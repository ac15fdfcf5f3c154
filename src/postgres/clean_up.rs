//! Expired records don't pile up: they are deleted in small steps, beside the work. Fences never are.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::connection::Connection;
use super::error::Failure;
use super::pool::Pool;
use super::statements::Sql;
use crate::lock::LockId;

/// How long ago a record must have expired before `isLocked` deletes it.
pub(super) const AGE: Duration = Duration::from_secs(2);
/// Records in one step.
const STEP: i64 = 100;
/// The time between two steps while there is little to do.
const PAUSE: Duration = Duration::from_secs(60);

/// When the next step is due.
#[derive(Debug, Default)]
pub(super) struct Cleaner(Mutex<Option<Instant>>);

impl Cleaner {
    /// Does a step in the background when one is due. Called with each grant, since only grants make
    /// records that can expire.
    pub(super) fn step(&self, pool: &Pool) {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Not with the first grant, so that a process that lives shortly only does its own work.
        if *due.get_or_insert(now + PAUSE) > now {
            return;
        }
        *due = Some(now + PAUSE);
        drop(due);
        spawn(pool, Work::Step);
    }

    /// Deletes one record, if it still is as it was seen.
    pub(super) fn remove(&self, pool: &Pool, key: String, lock_id: LockId) {
        spawn(pool, Work::Record { key, lock_id });
    }
}

enum Work {
    Step,
    Record { key: String, lock_id: LockId },
}

/// Nobody waits for it, and where it fails the next step does it.
fn spawn(pool: &Pool, work: Work) {
    let pool = pool.clone();
    tokio::spawn(async move {
        if let Ok(mut lent) = pool.lend().await {
            let _ = lent.with(async |connection| work.send(connection).await).await;
        }
    });
}

impl Work {
    async fn send(&self, connection: &mut Connection) -> Result<(), Failure> {
        match self {
            Work::Step => connection.run(Sql::CleanUp, &[&STEP]).await.map(drop),
            Work::Record { key, lock_id } => {
                let parameters: [&(dyn ToSql + Sync); 2] = [key, &lock_id.as_str()];
                connection.run(Sql::CleanUpKey, &parameters).await.map(drop)
            }
        }
    }
}
