//! Acquiring: once, or until granted, and what happens to a lease that nobody waits for any more.

mod asking;
mod attempt;
mod head;
pub(super) mod policy;
mod search;
pub(super) mod undo;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::asking::Asking;
use self::attempt::{End, attempt};
use self::policy::{Policy, Wait};
use self::undo::Unheard;
use crate::backend::{AcquireRequest, Acquired};
use crate::engine::clock::Moment;
use crate::engine::line::turn::{Strangers, Turn};
use crate::engine::line::waiter::Granted;
use crate::engine::observer::Observed;
use crate::engine::options::{AcquireOptions, KeepPolicy};
use crate::engine::shared::{Shared, check, timed_out};
use crate::event_loop::leave;
use crate::lock::{Lease, LockId, Result};

/// One attempt.
pub(super) async fn once(
    shared: &Arc<Shared>,
    options: AcquireOptions,
    cancel: Option<&CancellationToken>,
) -> Result<Acquired> {
    let _busy = shared.tasks.token();
    let (request, keep) = request(options);
    if keep.is_some() {
        leave().await;
    }
    let sent = Moment::now();
    let mut unheard = Unheard::new(shared, &request);
    let end = attempt(shared, &request, None, cancel).await;
    unheard.undo = matches!(&end, End::Answered(Err(error)) if error.is_unknown());
    match end {
        End::Answered(Ok(Acquired::Granted(lease))) => {
            let turn = Turn::new(sent, &Strangers::default());
            let granted = Granted { lease, sent, turn };
            deliver(shared, &request, keep, granted, cancel, None).map(Acquired::Granted)
        }
        End::Answered(answer) => answer,
        End::Hung(call) | End::Deadline(call) => {
            undo::in_flight(shared, &request, call, false, None);
            Err(timed_out(shared.options.operation_timeout))
        }
        End::Ended(call, error) => {
            undo::in_flight(shared, &request, call, false, None);
            Err(error.unknown())
        }
    }
}

/// Attempts until granted or the policy's limits are reached.
pub(super) async fn lock(
    shared: &Arc<Shared>,
    options: AcquireOptions,
    policy: &Policy,
    cancel: Option<&CancellationToken>,
) -> Result<Lease> {
    let _busy = shared.tasks.token();
    let observed = options.observer.clone();
    let (request, keep) = request(options);
    if keep.is_some() {
        leave().await;
    }
    let mut asking = Asking::new(shared, policy, cancel, request.clone(), observed.clone());
    let granted = match policy.wait {
        Wait::Notify if policy.max_retries > 0 => search::in_line(&mut asking).await,
        _ => search::alone(&mut asking).await,
    }?;
    deliver(shared, &request, keep, granted, cancel, observed)
}

/// What is kept is watched over from its grant on, also where the caller's event loop is blocked: the engine asks.
fn request(options: AcquireOptions) -> (AcquireRequest, Option<KeepPolicy>) {
    (AcquireRequest { key: options.key, lock_id: LockId::mint(), ttl: options.ttl }, options.keep)
}

/// Starts to watch over what was granted. It is given back where the caller or the client has gone meanwhile.
fn deliver(
    shared: &Arc<Shared>,
    request: &AcquireRequest,
    keep: Option<KeepPolicy>,
    granted: Granted,
    cancel: Option<&CancellationToken>,
    observed: Observed,
) -> Result<Lease> {
    let Granted { lease, sent, turn } = granted;
    shared.leases.add(lease.clone(), request.ttl, sent, turn, keep);
    // Asked after it is in the table, so that whoever closes the client finds it there or here.
    let Err(error) = check(shared, cancel) else { return Ok(lease) };
    shared.leases.remove(&lease.lock_id);
    undo::granted(shared, lease, observed);
    Err(error)
}
