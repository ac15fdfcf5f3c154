//! The only acquisition loop, and the only place that sleeps between attempts.
//!
//! Order: attempt, subscribe, attempt, then wait for the first of wake-up, backoff timer, the holder's
//! expiry, deadline and abort. The first attempt precedes the subscription because most keys are free;
//! no wake-up is missed, because another attempt follows it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{End, attempt};
use super::policy::{Next, Past, Policy};
use super::undo;
use crate::backend::{AcquireRequest, Acquired};
use crate::engine::clock::Moment;
use crate::engine::line::queue::Heard;
use crate::engine::line::subscription::Subscription;
use crate::engine::line::ticket::{Lead, Ticket};
use crate::engine::line::turn::{Strangers, Turn};
use crate::engine::line::waiter::{Granted, Hint, Standing};
use crate::engine::shared::{Shared, closed, ended, timed_out};
use crate::lock::{Code, Error, Result};

/// After other processes got their turn, the local head asks again at the latest after this.
const YIELD_AT_MOST: Duration = Duration::from_millis(10);

/// How much later than those who have waited longer a process asks that has just had its turn. Without it
/// the processes that are awake win every race against those that sleep.
const HEAD_START: Duration = Duration::from_millis(2);

type Subscribing = Pin<Box<dyn Future<Output = Option<Arc<Subscription>>> + Send>>;

/// One acquisition on its way.
pub(in crate::engine) struct Search<'a> {
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
    /// A request with this lock id may have been applied. Undone when this is dropped.
    uncertain: bool,
}

enum Last {
    Held { free_at: Option<Instant> },
    Failed(Error),
}

/// Why the head asks the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It has just become the head, or has reason to believe that the key is free.
    Free,
    /// The wait is over: one of the retries.
    Timer,
}

impl<'a> Search<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        policy: &'a Policy,
        cancel: Option<&'a CancellationToken>,
        request: AcquireRequest,
    ) -> Search<'a> {
        Search {
            shared,
            policy,
            cancel,
            request,
            deadline: Instant::now() + policy.timeout,
            past: Past::default(),
            last: None,
            first_sent: None,
            uncertain: false,
        }
    }

    /// By timer only, without the queue.
    pub async fn alone(&mut self) -> Result<Granted> {
        loop {
            if let Some(granted) = self.ask().await? {
                return Ok(granted);
            }
            let Some(retry_at) = self.next_retry(None) else { return Err(self.give_up()) };
            tokio::select! {
                biased;
                error = ended(self.shared, self.cancel) => return Err(error),
                () = tokio::time::sleep_until(retry_at) => self.past.retries += 1,
            }
        }
    }

    /// In line with the other waiters of this process.
    pub async fn in_line(&mut self) -> Result<Granted> {
        let place = self.shared.place(&self.request.key);
        let ticket = Ticket::join(place, self.request.clone(), Arc::clone(self.shared));
        let lead = loop {
            self.check()?;
            if let Some(granted) = ticket.waiter.take_granted() {
                return Ok(self.received(granted));
            }
            if Instant::now() >= self.deadline {
                return Err(self.out_of_time(&ticket));
            }
            if let Some(lead) = ticket.lead() {
                break lead;
            }
            tokio::select! {
                biased;
                error = ended(self.shared, self.cancel) => return Err(error),
                () = ticket.waiter.news() => {}
                () = tokio::time::sleep_until(self.deadline) => {}
            }
        };
        self.as_head(&ticket, lead).await
    }

    async fn as_head(&mut self, ticket: &Ticket, lead: Lead) -> Result<Granted> {
        let waiter = &ticket.waiter;
        let mut subscription = lead.subscription;
        let mut subscribing: Option<Subscribing> = None;
        let now = Moment::now();
        let mut ask = match lead.free_at.filter(|free_at| *free_at > now) {
            // Taken, as far as this process knows: no need to ask.
            Some(free_at) => {
                self.last = Some(Last::Held { free_at: Instant::now().checked_add(free_at.since(now)) });
                None
            }
            None => Some(Cause::Free),
        };
        // When a timer causes the next attempt; `None` inside when none does.
        let mut timer: Option<Option<Instant>> = None;
        let mut yield_until = None;
        // Whether the next hint is of our own release.
        let mut echo = false;
        loop {
            if let Some(cause) = ask.take()
                && waiter.begin_asking()
            {
                if cause == Cause::Timer {
                    self.past.retries += 1;
                }
                timer = None;
                yield_until = None;
                echo = false;
                if let Some(subscription) = &subscription {
                    // Like every hint from before this attempt, it is answered by it.
                    subscription.take_hint();
                }
                let answer = {
                    let mut asking = pin!(self.ask_for(ticket));
                    loop {
                        tokio::select! {
                            biased;
                            answer = &mut asking => break answer?,
                            // It goes on meanwhile: it may have, or be the next to get, what this attempt waits for.
                            opened = opened(&mut subscribing) => {
                                subscribing = None;
                                subscription = opened.inspect(|opened| ticket.subscribed(opened)).or(subscription);
                            }
                        }
                    }
                };
                if let Some(granted) = answer {
                    return Ok(granted);
                }
                let retries_left = self.past.retries < self.policy.max_retries;
                if matches!(self.last, Some(Last::Held { .. })) && retries_left && subscription.is_none() {
                    subscribing = subscribing.or_else(|| self.subscribe());
                }
            }
            let receiving = match waiter.begin_waiting() {
                Standing::Granted(granted) => return Ok(self.received(granted)),
                Standing::Receiving => true,
                Standing::Hinted(Hint::Free) => {
                    ask = Some(Cause::Free);
                    continue;
                }
                Standing::Hinted(Hint::Yielded { echo: echoes }) => {
                    yield_until = Some(Instant::now() + YIELD_AT_MOST);
                    echo = echoes;
                    // It may have come already. Nobody else has had the time.
                    if subscription.as_ref().is_some_and(|subscription| subscription.take_hint()) {
                        echo = false;
                    }
                    false
                }
                Standing::Waiting => false,
            };
            if !receiving && timer.is_none() {
                if self.past.retries >= self.policy.max_retries {
                    // A wake-up during the last attempt still causes another.
                    if subscription.as_ref().is_some_and(|subscription| subscription.take_hint()) {
                        ask = Some(Cause::Free);
                        continue;
                    }
                    return Err(self.give_up());
                }
                let free_at = match &self.last {
                    Some(Last::Held { free_at }) => *free_at,
                    _ => None,
                };
                timer = Some(self.next_retry(free_at));
            }
            // What is on its way can't be hurried.
            let due = if receiving { None } else { yield_until.or(timer.flatten()) };
            tokio::select! {
                biased;
                error = ended(self.shared, self.cancel) => return Err(error),
                () = waiter.news() => {}
                opened = opened(&mut subscribing) => {
                    subscribing = None;
                    subscription = opened.inspect(|opened| ticket.subscribed(opened)).or(subscription);
                }
                () = hinted(subscription.as_deref()) => {
                    subscription = subscription.filter(|subscription| subscription.is_live());
                    if std::mem::take(&mut echo) && subscription.is_some() {
                        continue;
                    }
                    if ticket.lets_others_first() {
                        yield_until = Some(Instant::now() + HEAD_START);
                    } else {
                        waiter.hint(Hint::Free);
                    }
                }
                () = tokio::time::sleep_until(due.map_or(self.deadline, |due| due.min(self.deadline))) => {
                    if Instant::now() >= self.deadline {
                        return Err(self.out_of_time(ticket));
                    }
                    ask = Some(if yield_until.take().is_some() { Cause::Free } else { Cause::Timer });
                }
            }
        }
    }

    /// One attempt as the head, of which those behind it hear.
    async fn ask_for(&mut self, ticket: &Ticket) -> Result<Option<Granted>> {
        if let Some(since) = ticket.waiter.take_uncertain() {
            self.uncertain = true;
            self.first_sent = Some(self.first_sent.map_or(since, |first| first.min(since)));
        }
        if Instant::now() >= self.deadline {
            return Err(self.out_of_time(ticket));
        }
        let mut answer = self.ask().await;
        match (&mut answer, &self.last) {
            (Ok(Some(granted)), _) => {
                let until = granted.sent.plus(self.request.ttl.as_duration());
                ticket.note_granted(granted, until);
            }
            (_, Some(Last::Failed(error))) => ticket.note_failure(error),
            (Ok(None), Some(Last::Held { free_at })) => {
                ticket.note_taken(free_at.map(|at| at.saturating_duration_since(Instant::now())));
            }
            _ => {}
        }
        answer
    }

    /// One attempt of this acquisition; `None` when it makes sense to go on.
    async fn ask(&mut self) -> Result<Option<Granted>> {
        self.check()?;
        let sent = Moment::now();
        let first_sent = *self.first_sent.get_or_insert(sent);
        // Until it is answered; a caller who goes away meanwhile leaves it so.
        let uncertain = std::mem::replace(&mut self.uncertain, true);
        let repeatable = self.shared.backend.capabilities().repeatable;
        let answer = match attempt(self.shared, &self.request, Some(self.deadline), self.cancel).await {
            End::Answered(answer) => {
                self.uncertain = uncertain;
                answer
            }
            End::Hung(_) if repeatable => Err(timed_out(self.shared.options.operation_timeout)),
            End::Hung(call) => {
                self.leave_behind(call, uncertain);
                Err(timed_out(self.shared.options.operation_timeout))
            }
            End::Deadline(call) => {
                self.leave_behind(call, uncertain);
                return Err(self.give_up().unknown());
            }
            End::Ended(call, error) => {
                self.leave_behind(call, uncertain);
                return Err(error.unknown());
            }
        };
        match answer {
            Ok(Acquired::Granted(lease)) => {
                self.uncertain = false;
                let turn = Turn::new(first_sent, &Strangers::default());
                Ok(Some(Granted { lease, sent: first_sent, turn }))
            }
            Ok(Acquired::Held { free_in }) => {
                self.past.round_trip = Moment::now().since(sent);
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
                self.uncertain |= error.is_unknown();
                if !self.uncertain {
                    self.first_sent = None;
                }
                self.last = Some(Last::Failed(error.clone()));
                if error.is_retryable() && (repeatable || !error.is_unknown()) {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The lease was handed over. An own request that was never answered may have taken it before.
    fn received(&mut self, granted: Granted) -> Granted {
        self.uncertain = false;
        let sent = self.first_sent.map_or(granted.sent, |first| first.min(granted.sent));
        Granted { sent, ..granted }
    }

    /// Undoes what a call in flight may yet be granted.
    fn leave_behind(&mut self, call: undo::InFlight, uncertain: bool) {
        undo::in_flight(self.shared, &self.request, call, uncertain);
        self.uncertain = false;
    }

    /// When a timer causes the next attempt; `None` when none does before the deadline.
    fn next_retry(&self, free_at: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let free_in = free_at.map(|at| at.saturating_duration_since(now));
        match self.policy.next(&self.past, left, free_in, fastrand::f64()) {
            Next::Retry(delay) => Some(now + delay),
            Next::NoMore | Next::GiveUp => None,
        }
    }

    /// Hints about the key; `None` when the store gives none.
    fn subscribe(&self) -> Option<Subscribing> {
        let wakes = self.shared.backend.capabilities().wakes;
        let open = || Subscription::open(Arc::clone(self.shared), self.request.key.clone());
        wakes.then(|| Box::pin(open()) as Subscribing)
    }

    fn check(&self) -> Result<()> {
        match self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(Error::aborted()),
            _ if self.shared.closed.is_cancelled() => Err(closed()),
            _ => Ok(()),
        }
    }

    /// The error at the end: the store's own where the last finished attempt failed, a timeout where none
    /// finished, contention otherwise.
    fn give_up(&mut self) -> Error {
        let error = match self.last.take() {
            Some(Last::Failed(error)) => error,
            Some(Last::Held { .. }) => self.contended(),
            None => timed_out(self.policy.timeout),
        };
        if self.uncertain { error.unknown() } else { error }
    }

    /// The same for one in line, who may have heard from the store only through the heads before.
    fn out_of_time(&mut self, ticket: &Ticket) -> Error {
        if self.last.is_some() {
            return self.give_up();
        }
        match ticket.heard() {
            Heard::Failure(error) => error,
            Heard::Answer => self.contended(),
            Heard::Nothing => timed_out(self.policy.timeout),
        }
    }

    fn contended(&self) -> Error {
        let Policy { timeout, max_retries, .. } = self.policy;
        let (timeout, retries) = (timeout.as_millis(), self.past.retries);
        let why =
            if retries < *max_retries { "Timeout reached before next retry" } else { "No retries are left" };
        Error::new(
            Code::AcquisitionTimeout,
            format!(
                "Failed to acquire lock, which somebody else held: {why} ({retries} of {max_retries} retries, timeoutMs {timeout})"
            ),
        )
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if self.uncertain {
            undo::uncertain(self.shared, &self.request);
        }
    }
}

async fn hinted(subscription: Option<&Subscription>) {
    match subscription {
        Some(subscription) => subscription.hint().await,
        None => std::future::pending().await,
    }
}

async fn opened(subscribing: &mut Option<Subscribing>) -> Option<Arc<Subscription>> {
    match subscribing {
        Some(subscribing) => subscribing.await,
        None => std::future::pending().await,
    }
}
