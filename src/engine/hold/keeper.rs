//! The task that watches over a client's leases: tells of losses ahead of time and renews what is kept.
//! It runs on the engine's thread, so a blocked event loop does not starve it.

use std::sync::{Arc, Weak};

use super::extend::{self, DEADLINE_PASSED};
use super::table::Extending;
use crate::backend::Owner;
use crate::engine::clock::Moment;
use crate::engine::shared::{Shared, timed_out};
use crate::lock::Ttl;

/// As many renewals go into one request to the store.
const MOST_TOGETHER: usize = 256;

pub(in crate::engine) async fn run(shared: Weak<Shared>) {
    let Some(wake) = shared.upgrade().map(|shared| Arc::clone(&shared.leases.wake)) else { return };
    loop {
        let nap = {
            let Some(shared) = shared.upgrade() else { return };
            if shared.closed.is_cancelled() {
                return;
            }
            let now = Moment::now();
            if shared.environment.is_busy() && shared.leases.put_off_extended(now) {
                // Its event loop may be blocked, and the answer lie there unread.
                shared.environment.pass_on();
            }
            let due = shared.leases.look(now, shared.environment.silent_for());
            for lease in &due.lost {
                extend::lost(&shared, lease, DEADLINE_PASSED);
            }
            if due.ping {
                shared.environment.ping();
            }
            for chunk in due.renew.chunks(MOST_TOGETHER) {
                let (task, chunk) = (Arc::clone(&shared), chunk.to_vec());
                shared.spawn(async move { renew(&task, &chunk).await });
            }
            due.nap
        };
        match nap {
            // Nothing is due before, but the clock has to be looked at: tokio's stops during sleep.
            Some(nap) => drop(tokio::time::timeout(nap, wake.notified()).await),
            None => wake.notified().await,
        }
    }
}

/// Waits for the answer as long as it matters to one of them: what the store extended is not lost because the
/// way back is long. Where it hangs, the next renewal has long been sent.
async fn renew(shared: &Arc<Shared>, renewals: &[Extending]) {
    let left = renewals.iter().map(|renewal| renewal.left).max().unwrap_or_default();
    let limit = left.min(shared.options.operation_timeout);
    let owners: Vec<(Owner, Ttl)> =
        renewals.iter().map(|renewal| (Owner::from(renewal.lease.clone()), renewal.ttl)).collect();
    let results = match tokio::time::timeout(limit, shared.backend.extend_many(&owners)).await {
        Ok(results) => results,
        Err(_) => owners.iter().map(|_| Err(timed_out(limit))).collect(),
    };
    for (renewal, result) in renewals.iter().zip(results) {
        extend::end(shared, renewal, &result, true);
    }
}
