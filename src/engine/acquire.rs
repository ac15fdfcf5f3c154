//! The only acquisition loop, and the only place that sleeps between attempts.
//!
//! Order: attempt, subscribe, attempt, then wait for the first of wake-up, backoff timer, the holder's
//! expiry, deadline and abort. The first attempt precedes the subscription because most keys are free;
//! the wait never does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::AcquireOptions;
use super::clock::Moment;
use super::policy::{KeepPolicy, Next, Past, Policy, Wait};
use super::queue::{Granted, Hint, Place, Ticket};
use super::undo::{self, InFlight};
use super::{Shared, closed, timed_out};
use crate::backend::{AcquireRequest, Acquired, Watch};
use crate::lock::{Code, Error, Lease, LockId, Result, TIME_TOLERANCE};

/// After other processes got their turn, the local head asks again at the latest after this.
const YIELD_AT_MOST: Duration = Duration::from_millis(10);

/// How much later than those who have waited longer a process asks that has just had its turn. Without it
/// the processes that are awake win every race against those that sleep.
const HEAD_START: Duration = Duration::from_millis(2);

/// One attempt.
pub(super) async fn once(
    shared: &Arc<Shared>,
    options: AcquireOptions,
    cancel: Option<&CancellationToken>,
) -> Result<Acquired> {
    let undo_here = options.lock_id.is_none();
    let (request, keep) = request(options);
    let sent = Moment::now();
    match attempt(shared, &request, None, cancel).await {
        Attempt::Answered(Ok(Acquired::Granted(lease))) => {
            Ok(Acquired::Granted(deliver(shared, &request, keep, Granted { lease, sent })?))
        }
        Attempt::Answered(Ok(held)) => Ok(held),
        Attempt::Answered(Err(error)) => {
            if undo_here && error.is_unknown() {
                undo::uncertain(shared, request.lock_id);
            }
            Err(error)
        }
        Attempt::Hung(call) | Attempt::Deadline(call) => {
            if undo_here {
                undo::in_flight(shared, request.lock_id, call, false);
            }
            Err(timed_out(shared.options.operation_timeout))
        }
        Attempt::Cancelled(call) => {
            undo::in_flight(shared, request.lock_id, call, false);
            Err(Error::aborted().unknown())
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
    let (request, keep) = request(options);
    let mut search = Search {
        shared,
        policy,
        cancel,
        request: request.clone(),
        deadline: Instant::now() + policy.timeout,
        past: Past::default(),
        last: None,
        first_sent: None,
        uncertain: false,
    };
    let found = match policy.wait {
        Wait::Notify if policy.max_retries > 0 => search.in_line().await,
        _ => search.alone().await,
    };
    match found {
        Ok(granted) => deliver(shared, &request, keep, granted),
        Err(error) => {
            if search.uncertain {
                undo::uncertain(shared, request.lock_id);
            }
            Err(error)
        }
    }
}

fn request(options: AcquireOptions) -> (AcquireRequest, Option<KeepPolicy>) {
    let lock_id = options.lock_id.unwrap_or_else(LockId::mint);
    (AcquireRequest { key: options.key, lock_id, ttl: options.ttl }, options.keep)
}

/// Starts to watch over what was granted. A client that was closed meanwhile gives it back.
fn deliver(
    shared: &Arc<Shared>,
    request: &AcquireRequest,
    keep: Option<KeepPolicy>,
    granted: Granted,
) -> Result<Lease> {
    if shared.closed.is_cancelled() {
        undo::granted(shared, granted.lease);
        return Err(closed());
    }
    shared.leases.add(granted.lease.clone(), request.ttl, granted.sent, keep);
    Ok(granted.lease)
}

enum Attempt {
    Answered(Result<Acquired>),
    /// The operation timeout passed.
    Hung(InFlight),
    /// The acquisition's own deadline passed.
    Deadline(InFlight),
    Cancelled(InFlight),
}

async fn attempt(
    shared: &Arc<Shared>,
    request: &AcquireRequest,
    deadline: Option<Instant>,
    cancel: Option<&CancellationToken>,
) -> Attempt {
    let mut call: InFlight = Box::pin({
        let (backend, request) = (Arc::clone(&shared.backend), request.clone());
        async move { backend.acquire(&request).await }
    });
    let limit = Instant::now() + shared.options.operation_timeout;
    let until = deadline.map_or(limit, |deadline| deadline.min(limit));
    tokio::select! {
        biased;
        answer = &mut call => Attempt::Answered(answer),
        () = cancelled(cancel) => Attempt::Cancelled(call),
        () = tokio::time::sleep_until(until) => {
            if deadline == Some(until) { Attempt::Deadline(call) } else { Attempt::Hung(call) }
        }
    }
}

async fn cancelled(cancel: Option<&CancellationToken>) {
    match cancel {
        Some(cancel) => cancel.cancelled().await,
        None => std::future::pending().await,
    }
}

/// One acquisition on its way.
struct Search<'a> {
    shared: &'a Arc<Shared>,
    policy: &'a Policy,
    cancel: Option<&'a CancellationToken>,
    request: AcquireRequest,
    deadline: Instant,
    past: Past,
    /// How the last finished attempt ended.
    last: Option<Last>,
    /// When the first request was sent that may have been applied: the local deadline counts from there.
    first_sent: Option<Moment>,
    /// A request with this lock id may have been applied.
    uncertain: bool,
}

enum Last {
    Held { free_at: Option<Instant> },
    Failed(Error),
}

impl Search<'_> {
    /// By timer only, without the queue.
    async fn alone(&mut self) -> Result<Granted> {
        loop {
            if let Some(granted) = self.ask().await? {
                return Ok(granted);
            }
            let retry_at = match self.next_retry() {
                Some(retry_at) => retry_at,
                None => return Err(self.give_up()),
            };
            tokio::select! {
                biased;
                () = cancelled(self.cancel) => return Err(Error::aborted()),
                () = self.shared.closed.cancelled() => return Err(closed()),
                () = tokio::time::sleep_until(retry_at) => self.past.retries += 1,
            }
        }
    }

    /// In line with the other waiters of this process.
    async fn in_line(&mut self) -> Result<Granted> {
        let place = Place {
            store: Arc::clone(&self.shared.backend.capabilities().store),
            key: self.request.key.clone(),
        };
        let ticket = Ticket::join(place, self.request.clone(), Arc::clone(self.shared));
        let lead = loop {
            if let Some(granted) = ticket.waiter.take_granted() {
                return Ok(self.received(granted));
            }
            if let Some(lead) = ticket.lead() {
                break lead;
            }
            tokio::select! {
                biased;
                () = ticket.waiter.news() => {}
                () = cancelled(self.cancel) => return Err(Error::aborted()),
                () = self.shared.closed.cancelled() => return Err(closed()),
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(ticket.failure().unwrap_or_else(|| self.contended()));
                }
            }
        };
        // Taken, as far as this process knows: no need to ask.
        let now = Moment::now();
        let taken_for = lead.taken_until.filter(|until| *until > now).map(|until| until.since(now));
        if let Some(taken_for) = taken_for {
            self.last = Some(Last::Held { free_at: Instant::now().checked_add(taken_for + TIME_TOLERANCE) });
        }
        let result = self.as_head(&ticket, lead.watch, taken_for.is_none()).await;
        if let Err(error) = &result
            && !matches!(error.code(), Code::AcquisitionTimeout | Code::Aborted)
        {
            ticket.note_failure(error);
        }
        self.uncertain |= result.is_err() && ticket.waiter.uncertain_since().is_some();
        result
    }

    async fn as_head(
        &mut self,
        ticket: &Ticket,
        mut watch: Option<Arc<Watch>>,
        mut ask: bool,
    ) -> Result<Granted> {
        let waiter = &ticket.waiter;
        let mut retry_at = None;
        let mut retry_known = false;
        let mut yield_until = None;
        loop {
            if ask && waiter.begin_asking() {
                retry_known = false;
                yield_until = None;
                // A hint from before this attempt is answered by it.
                waiter.take_hint();
                self.note_uncertain(waiter.uncertain_since());
                if let Some(granted) = self.ask().await? {
                    ticket.note_granted(granted.sent.plus(self.request.ttl.as_duration()));
                    return Ok(granted);
                }
                match &self.last {
                    Some(Last::Failed(error)) => ticket.note_failure(error),
                    Some(Last::Held { free_at }) => {
                        ticket.note_taken(free_at.map(|at| at.saturating_duration_since(Instant::now())));
                        if watch.is_none() && self.past.retries < self.policy.max_retries {
                            watch = self.subscribe().await?;
                            if let Some(watch) = &watch {
                                ticket.keep_watch(watch);
                                // What happened before the subscription may have been missed.
                                ask = true;
                                continue;
                            }
                        }
                    }
                    None => {}
                }
            }
            ask = false;
            waiter.begin_waiting();
            if let Some(granted) = waiter.take_granted() {
                return Ok(self.received(granted));
            }
            match waiter.take_hint() {
                Some(Hint::Free) => {
                    ask = true;
                    continue;
                }
                Some(Hint::Yielded) => yield_until = Some(Instant::now() + YIELD_AT_MOST),
                None => {}
            }
            if !retry_known {
                if self.past.retries >= self.policy.max_retries {
                    return Err(self.give_up());
                }
                retry_at = self.next_retry();
                retry_known = true;
            }
            let timer = yield_until.or(retry_at).unwrap_or(self.deadline).min(self.deadline);
            tokio::select! {
                biased;
                () = cancelled(self.cancel) => return Err(Error::aborted()),
                () = self.shared.closed.cancelled() => return Err(closed()),
                () = waiter.news() => {}
                () = hinted(watch.as_deref()) => {
                    if ticket.lets_others_first() {
                        yield_until = Some(Instant::now() + HEAD_START);
                    } else {
                        ask = true;
                    }
                }
                () = tokio::time::sleep_until(timer) => {
                    if Instant::now() >= self.deadline {
                        return Err(self.give_up());
                    }
                    ask = true;
                    if yield_until.take().is_none() {
                        self.past.retries += 1;
                        retry_known = false;
                    }
                }
            }
        }
    }

    /// One attempt of this acquisition; `None` when it makes sense to go on.
    async fn ask(&mut self) -> Result<Option<Granted>> {
        let sent = Moment::now();
        let first_sent = *self.first_sent.get_or_insert(sent);
        let answer = match attempt(self.shared, &self.request, Some(self.deadline), self.cancel).await {
            Attempt::Answered(answer) => answer,
            Attempt::Hung(_) => Err(timed_out(self.shared.options.operation_timeout)),
            Attempt::Deadline(call) => {
                undo::in_flight(self.shared, self.request.lock_id, call, self.uncertain);
                self.uncertain = false;
                return Err(self.give_up());
            }
            Attempt::Cancelled(call) => {
                undo::in_flight(self.shared, self.request.lock_id, call, self.uncertain);
                self.uncertain = false;
                return Err(Error::aborted().unknown());
            }
        };
        self.past.round_trip = Moment::now().since(sent);
        match answer {
            Ok(Acquired::Granted(lease)) => {
                self.uncertain = false;
                Ok(Some(Granted { lease, sent: first_sent }))
            }
            Ok(Acquired::Held { free_in }) => {
                // Refused for certain: the next request with this lock id is the first that may apply.
                if !self.uncertain {
                    self.first_sent = None;
                }
                // A store that counts whole milliseconds may be up to one late.
                let free_at = free_in.and_then(|free_in| {
                    Instant::now().checked_add(free_in.saturating_add(Duration::from_millis(1)))
                });
                self.last = Some(Last::Held { free_at });
                Ok(None)
            }
            Err(error) => {
                let repeatable = self.shared.backend.capabilities().repeatable;
                self.uncertain |= error.is_unknown() && repeatable;
                if !error.is_retryable() || (error.is_unknown() && !repeatable) {
                    return Err(error);
                }
                if !self.uncertain {
                    self.first_sent = None;
                }
                self.last = Some(Last::Failed(error));
                Ok(None)
            }
        }
    }

    /// When a timer causes the next attempt; `None` when none does before the deadline.
    fn next_retry(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let free_in = match &self.last {
            Some(Last::Held { free_at }) => free_at.map(|at| at.saturating_duration_since(now)),
            _ => None,
        };
        match self.policy.next(&self.past, left, free_in, fastrand::f64()) {
            Next::Retry(delay) => Some(now + delay),
            Next::NoMore | Next::GiveUp => None,
        }
    }

    /// Hints about the key; `None` when the store gives none. Failing to subscribe costs only delay.
    async fn subscribe(&self) -> Result<Option<Arc<Watch>>> {
        if !self.shared.backend.capabilities().wakes {
            return Ok(None);
        }
        let until = self.deadline.min(Instant::now() + self.shared.options.operation_timeout);
        tokio::select! {
            biased;
            watch = self.shared.backend.watch(&self.request.key) => Ok(watch.ok().map(Arc::new)),
            () = cancelled(self.cancel) => Err(Error::aborted()),
            () = tokio::time::sleep_until(until) => Ok(None),
        }
    }

    fn received(&mut self, granted: Granted) -> Granted {
        let sent = self.first_sent.map_or(granted.sent, |first| first.min(granted.sent));
        self.uncertain = false;
        Granted { sent, ..granted }
    }

    fn note_uncertain(&mut self, since: Option<Moment>) {
        if let Some(since) = since {
            self.uncertain = true;
            self.first_sent = Some(self.first_sent.map_or(since, |first| first.min(since)));
        }
    }

    /// The error at the end: the store's own where the last finished attempt failed, a timeout where none
    /// finished, contention otherwise.
    fn give_up(&mut self) -> Error {
        match self.last.take() {
            Some(Last::Failed(error)) => error,
            Some(Last::Held { .. }) => self.contended(),
            None => timed_out(self.policy.timeout),
        }
    }

    fn contended(&self) -> Error {
        Error::new(
            Code::AcquisitionTimeout,
            format!(
                "somebody else held the lock: not acquired within timeoutMs ({}) and maxRetries ({})",
                self.policy.timeout.as_millis(),
                self.policy.max_retries
            ),
        )
    }
}

async fn hinted(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.hint().await,
        None => std::future::pending().await,
    }
}
