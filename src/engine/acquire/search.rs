//! The only acquisition loop, and the only place that sleeps between attempts.
//!
//! Order: attempt, subscribe, attempt, then wait for the first of wake-up, backoff timer, the holder's
//! expiry, deadline and abort. The first attempt precedes the subscription because most keys are free;
//! no wake-up is missed, because another attempt follows it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::asking::{Asking, Last};
use crate::engine::clock::Moment;
use crate::engine::line::subscription::Subscription;
use crate::engine::line::ticket::{Lead, Ticket};
use crate::engine::line::waiter::{Granted, Hint, Standing};
use crate::engine::shared::ended;
use crate::lock::Result;

/// After other processes got their turn, the local head asks again at the latest after this.
const YIELD_AT_MOST: Duration = Duration::from_millis(10);

type Subscribing = Pin<Box<dyn Future<Output = Option<Arc<Subscription>>> + Send>>;

/// Why the head asks the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It has just become the head, or has reason to believe that the key is free.
    Free,
    /// The wait is over: one of the retries.
    Timer,
}

/// By timer only, without the queue.
pub(super) async fn alone(asking: &mut Asking<'_>) -> Result<Granted> {
    loop {
        if let Some(granted) = asking.ask().await? {
            return Ok(granted);
        }
        let Some(retry_at) = asking.next_retry(None) else { return Err(asking.give_up()) };
        tokio::select! {
            biased;
            error = ended(asking.shared, asking.cancel) => return Err(error),
            () = tokio::time::sleep_until(retry_at) => asking.past.retries += 1,
        }
    }
}

/// In line with the other waiters of this process.
pub(super) async fn in_line(asking: &mut Asking<'_>) -> Result<Granted> {
    let place = asking.shared.place(&asking.request.key);
    let ticket = Ticket::join(place, asking.request.clone(), Arc::clone(asking.shared), asking.observed());
    let lead = loop {
        asking.check()?;
        if let Some(granted) = ticket.waiter.take_granted() {
            return Ok(asking.received(granted));
        }
        if Instant::now() >= asking.deadline {
            return Err(asking.out_of_time(&ticket));
        }
        if let Some(lead) = ticket.lead() {
            break lead;
        }
        tokio::select! {
            biased;
            error = ended(asking.shared, asking.cancel) => return Err(error),
            () = ticket.waiter.news() => {}
            () = tokio::time::sleep_until(asking.deadline) => {}
        }
    };
    as_head(asking, &ticket, lead).await
}

async fn as_head(asking: &mut Asking<'_>, ticket: &Ticket, lead: Lead) -> Result<Granted> {
    let waiter = &ticket.waiter;
    let mut subscription = lead.subscription;
    let mut subscribing: Option<Subscribing> = None;
    let now = Moment::now();
    let mut ask = match lead.free_at.filter(|free_at| *free_at > now) {
        // Taken, as far as this process knows: no need to ask.
        Some(free_at) => {
            asking.last = Some(Last::Held { free_at: Instant::now().checked_add(free_at.since(now)) });
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
                asking.past.retries += 1;
            }
            timer = None;
            yield_until = None;
            echo = false;
            if let Some(subscription) = &subscription {
                // Like every hint from before this attempt, it is answered by it.
                subscription.take_hint();
            }
            let answer = {
                let mut answering = pin!(ask_for(asking, ticket));
                loop {
                    tokio::select! {
                        biased;
                        answer = &mut answering => break answer?,
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
            let retries_left = asking.past.retries < asking.policy.max_retries;
            if matches!(asking.last, Some(Last::Held { .. })) && retries_left && subscription.is_none() {
                subscribing = subscribing.or_else(|| subscribe(asking));
            }
        }
        let receiving = match waiter.begin_waiting() {
            Standing::Granted(granted) => return Ok(asking.received(granted)),
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
            if asking.past.retries >= asking.policy.max_retries {
                // A wake-up during the last attempt still causes another.
                if subscription.as_ref().is_some_and(|subscription| subscription.take_hint()) {
                    ask = Some(Cause::Free);
                    continue;
                }
                return Err(asking.give_up());
            }
            let free_at = match &asking.last {
                Some(Last::Held { free_at }) => *free_at,
                _ => None,
            };
            timer = Some(asking.next_retry(free_at));
        }
        // What is on its way can't be hurried.
        let due = if receiving { None } else { yield_until.or(timer.flatten()) };
        tokio::select! {
            biased;
            error = ended(asking.shared, asking.cancel) => return Err(error),
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
                match ticket.head_start_of_others() {
                    Duration::ZERO => waiter.hint(Hint::Free),
                    head_start => yield_until = Some(Instant::now() + head_start),
                }
            }
            () = tokio::time::sleep_until(due.map_or(asking.deadline, |due| due.min(asking.deadline))) => {
                if Instant::now() >= asking.deadline {
                    return Err(asking.out_of_time(ticket));
                }
                ask = Some(if yield_until.take().is_some() { Cause::Free } else { Cause::Timer });
            }
        }
    }
}

/// One attempt as the head, of which those behind it hear.
async fn ask_for(asking: &mut Asking<'_>, ticket: &Ticket) -> Result<Option<Granted>> {
    if let Some(since) = ticket.waiter.take_uncertain() {
        asking.uncertain_since(since);
    }
    if Instant::now() >= asking.deadline {
        return Err(asking.out_of_time(ticket));
    }
    let mut answer = asking.ask().await;
    match (&mut answer, &asking.last) {
        (Ok(Some(granted)), _) => {
            let until = granted.sent.plus(asking.request.ttl.as_duration());
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

/// Hints about the key; `None` when the store gives none.
fn subscribe(asking: &Asking<'_>) -> Option<Subscribing> {
    let wakes = asking.shared.backend.capabilities().wakes;
    let open = || Subscription::open(Arc::clone(asking.shared), asking.request.key.clone());
    wakes.then(|| Box::pin(open()) as Subscribing)
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
