//! Expired records don't pile up: they are deleted in small steps, beside the work. Fences never are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::pool::Pool;
use super::statements::Sql;
use crate::lock::LockId;

/// How long ago a record must have expired before `isLocked` deletes it.
pub(super) const AGE: Duration = Duration::from_secs(2);
/// Records in one step.
const STEP: i64 = 100;
/// The time between two steps while there is little to do.
const PAUSE: Duration = Duration::from_secs(10);

/// When the next step is due; at once where nothing is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleaner(Arc<Mutex<Option<Instant>>>);

impl Cleaner {
    /// Does a step in the background when one is due. Called with each grant, since only grants make
    /// records that can expire.
    pub(super) fn step(&self, pool: &Pool) {
        // Only on a connection that is free anyway; else with a later grant.
        if self.is_due()
            && let Some(mut lent) = pool.try_lend()
        {
            let cleaner = self.clone();
            cleaner.set(Some(Instant::now() + PAUSE));
            // Nobody waits for it, and where it fails a later step does it.
            tokio::spawn(async move {
                let step = lent.with(async |connection| connection.run(Sql::CleanUp, &[&STEP]).await).await;
                if step.is_ok_and(|rows| i64::try_from(rows.len()) == Ok(STEP)) {
                    cleaner.set(None);
                }
            });
        }
    }

    /// Deletes one record in the background, if it still is as it was seen.
    pub(super) fn remove(pool: &Pool, key: String, lock_id: LockId) {
        let pool = pool.clone();
        tokio::spawn(async move {
            if let Ok(mut lent) = pool.lend().await {
                let id = lock_id.as_str();
                let _ =
                    lent.with(async |connection| connection.run(Sql::CleanUpKey, &[&key, &id]).await).await;
            }
        });
    }

    fn is_due(&self) -> bool {
        let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.is_none_or(|due| due <= Instant::now())
    }

    fn set(&self, due: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }
}
