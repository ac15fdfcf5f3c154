//! The only acquisition loop, and the only place that sleeps between attempts: it does what [`Head`] says.
//!
//! Order: attempt, subscribe, attempt, then wait for the first of wake-up, backoff timer, the holder's
//! expiry, deadline and abort. The first attempt precedes the subscription because most keys are free;
//! no wake-up is missed, because another attempt follows it.

use std::pin::{Pin, pin};
use std::sync::Arc;

use tokio::time::Instant;

use super::asking::{Asking, Last};
use super::head::{Action, Cause, Event, Head};
use crate::engine::clock::Moment;
use crate::engine::line::subscription::Subscription;
use crate::engine::line::ticket::{Lead, Ticket};
use crate::engine::line::waiter::{Granted, Hint, Standing};
use crate::engine::shared::ended;
use crate::lock::Result;

type Opening = Pin<Box<dyn Future<Output = Option<Arc<Subscription>>> + Send>>;

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

/// Does what [`Head`] says.
async fn as_head(asking: &mut Asking<'_>, ticket: &Ticket, lead: Lead) -> Result<Granted> {
    let waiter = &ticket.waiter;
    let mut ears = Ears { ticket, subscription: lead.subscription, opening: None };
    let now = Moment::now();
    let free_at = lead.free_at.filter(|free_at| *free_at > now);
    if let Some(free_at) = free_at {
        // As far as this process knows.
        asking.last = Some(Last::Held { free_at: Instant::now().checked_add(free_at.since(now)) });
    }
    let (mut head, mut action) = Head::begin(asking.policy.max_retries, free_at.is_some());
    loop {
        let event = match action {
            Action::Ask(_) if !waiter.begin_asking() => Event::Occupied,
            Action::Ask(cause) => {
                if cause == Cause::Timer {
                    asking.past.retries += 1;
                }
                // Like every hint from before this attempt, it is answered by it.
                ears.take_hint();
                if let Some(granted) = ears.meanwhile(ask_for(asking, ticket)).await? {
                    return Ok(granted);
                }
                let retries_left = asking.past.retries < asking.policy.max_retries;
                if matches!(asking.last, Some(Last::Held { .. })) && retries_left {
                    ears.open(asking);
                }
                Event::Refused(cause)
            }
            Action::Stand => match waiter.begin_waiting() {
                Standing::Granted(granted) => return Ok(asking.received(granted)),
                Standing::Receiving => Event::Receiving,
                Standing::Hinted(Hint::Free) => Event::MayBeFree,
                // It may have come already: nobody else has had the time.
                Standing::Hinted(Hint::Yielded { echo }) => {
                    Event::Yielded { echo: !ears.take_hint() && echo }
                }
                Standing::Waiting => Event::Waiting,
            },
            Action::Schedule => Event::Scheduled(asking.next_retry(match &asking.last {
                Some(Last::Held { free_at }) => *free_at,
                _ => None,
            })),
            Action::GiveUpUnlessWoken if ears.take_hint() => Event::MayBeFree,
            Action::GiveUpUnlessWoken => return Err(asking.give_up()),
            Action::Wait(due) => {
                let until = due.map_or(asking.deadline, |due| due.min(asking.deadline));
                tokio::select! {
                    biased;
                    error = ended(asking.shared, asking.cancel) => return Err(error),
                    () = waiter.news() => Event::News,
                    event = ears.hear() => event,
                    () = tokio::time::sleep_until(until) => {
                        if Instant::now() >= asking.deadline {
                            return Err(asking.out_of_time(ticket));
                        }
                        Event::Elapsed
                    }
                }
            }
            Action::AskWhoGoesFirst => Event::HeadStart(ticket.head_start_of_others()),
            Action::Note => {
                waiter.hint(Hint::Free);
                Event::News
            }
        };
        action = head.step(event, Instant::now());
    }
}

/// What the head hears with: the line's subscription, or one that is being opened.
struct Ears<'a> {
    ticket: &'a Ticket,
    subscription: Option<Arc<Subscription>>,
    opening: Option<Opening>,
}

impl Ears<'_> {
    /// Whether a wake-up came that nobody has answered yet.
    fn take_hint(&self) -> bool {
        self.subscription.as_ref().is_some_and(|subscription| subscription.take_hint())
    }

    /// Begins to subscribe, unless that has been done; nothing where the store gives no hints.
    fn open(&mut self, asking: &Asking<'_>) {
        if self.subscription.is_none() && self.opening.is_none() && asking.shared.backend.capabilities().wakes
        {
            let opening = Subscription::open(Arc::clone(asking.shared), asking.request.key.clone());
            self.opening = Some(Box::pin(opening));
        }
    }

    /// Goes on with subscribing while something else is done: another may have, or be the next to get, what that
    /// waits for.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                opened = opened(&mut self.opening) => self.opened(opened),
            }
        }
    }

    /// Waits for a wake-up, or for a subscription that gives them. Cancel safe.
    async fn hear(&mut self) -> Event {
        tokio::select! {
            biased;
            opened = opened(&mut self.opening) => {
                self.opened(opened);
                Event::News
            }
            () = hinted(self.subscription.as_deref()) => {
                self.subscription = self.subscription.take().filter(|subscription| subscription.is_live());
                Event::Woken { live: self.subscription.is_some() }
            }
        }
    }

    fn opened(&mut self, opened: Option<Arc<Subscription>>) {
        self.opening = None;
        if let Some(opened) = opened {
            self.ticket.subscribed(&opened);
            self.subscription = Some(opened);
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

async fn hinted(subscription: Option<&Subscription>) {
    match subscription {
        Some(subscription) => subscription.hint().await,
        None => std::future::pending().await,
    }
}

async fn opened(opening: &mut Option<Opening>) -> Option<Arc<Subscription>> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}
