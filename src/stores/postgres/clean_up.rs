//! Expired records don't pile up: they are deleted in small steps, beside the work. So are fence counters that say
//! nothing any more, where the user allows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::sql::Sql;
use super::transport::pool::Pool;
use crate::lock::{FenceRetention, LockId};

/// How long ago a record must have expired before `isLocked` deletes it.
pub(super) const AGE: Duration = Duration::from_secs(2);
/// Records in one step.
const STEP: i64 = 100;
/// The time between two steps while there is little to do.
const PAUSE: Duration = Duration::from_secs(10);

/// Each of so many grants, which may all have made a counter, pays for a look at some older ones.
const GRANTS: u64 = 32;
/// Counters that a step deletes at most, and blocks of the table that it looks at. A block holds about 75 counters,
/// so several are looked at for each grant, and the table holds little more than the retention asks for.
const FENCES: i64 = 128;
const BLOCKS: (u64, u64) = (4, 16);

#[derive(Clone, Debug)]
pub(super) struct Cleaner(Arc<State>);

#[derive(Debug)]
struct State {
    /// When the next step is due; at once where nothing is said.
    due: Mutex<Option<Instant>>,
    retention: Option<FenceRetention>,
    /// Grants since the last step among the counters.
    grants: AtomicU64,
    /// Whether such a step is under way.
    busy: AtomicBool,
}

impl Cleaner {
    pub(super) fn new(retention: Option<FenceRetention>) -> Cleaner {
        let (due, grants, busy) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Cleaner(Arc::new(State { due, retention, grants, busy }))
    }

    /// Does a step in the background when one is due. Called with each grant, since only grants make
    /// records that can expire.
    pub(super) fn step(&self, pool: &Pool) {
        self.step_among_fences(pool);
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

    fn step_among_fences(&self, pool: &Pool) {
        let Some(retention) = self.0.retention else { return };
        let grants = self.0.grants.fetch_add(1, Ordering::Relaxed) + 1;
        if grants < GRANTS || self.0.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.grants.fetch_sub(grants, Ordering::Relaxed);
        let blocks = (grants / (GRANTS / BLOCKS.0)).min(BLOCKS.1);
        let (cleaner, pool) = (self.clone(), pool.clone());
        tokio::spawn(async move {
            let ticks = i64::try_from(retention.as_millis().saturating_mul(10)).unwrap_or(i64::MAX);
            let blocks = i64::try_from(blocks).unwrap_or(i64::MAX);
            // Takes its turn: where no connection is ever free, counters are made fast.
            if let Ok(mut lent) = pool.lend().await {
                let parameters: [&(dyn ToSql + Sync); 3] = [&ticks, &blocks, &FENCES];
                let _ =
                    lent.with(async |connection| connection.run(Sql::CleanUpFences, &parameters).await).await;
            }
            cleaner.0.busy.store(false, Ordering::Release);
        });
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
        let due = *self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.is_none_or(|due| due <= Instant::now())
    }

    fn set(&self, due: Option<Instant>) {
        *self.0.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }
}
