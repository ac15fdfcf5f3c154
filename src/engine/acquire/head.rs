//! What the head of a line does next: a pure state machine. Events and times go in, an action comes out; nothing here
//! knows a clock, a store or a random number.
//!
//! Only the head asks the store. It asks because the key may be free (a wake-up, a local release, a lease near its
//! end) or because a timer says so, which costs it a retry.

use std::time::Duration;

use tokio::time::Instant;

/// After other processes got their turn, the local head asks again at the latest after this.
pub(super) const YIELD_AT_MOST: Duration = Duration::from_millis(10);

/// Why the head asks the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It has just become the head, or has reason to believe that the key is free.
    Free,
    /// The wait is over: one of the retries.
    Timer,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The store was asked and did not grant.
    Refused(Cause),
    /// It could not be asked, since a lease is on its way.
    Occupied,
    /// A lease is on its way.
    Receiving,
    /// Somebody said that the key may be free.
    MayBeFree,
    /// The lease went to other processes. With an echo, the next wake-up is of that very release.
    Yielded { echo: bool },
    /// Nothing is known to have changed.
    Waiting,
    /// When a timer causes the next attempt; `None` when none does before the deadline.
    Scheduled(Option<Instant>),
    /// Something changed where the waiter stands.
    News,
    /// A wake-up came over the subscription, which goes on or is over now.
    Woken { live: bool },
    /// By how much other processes go first at this wake-up.
    HeadStart(Duration),
    /// What was waited for until then did not come.
    Elapsed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the store: [`Event::Refused`] or [`Event::Occupied`], unless it grants.
    Ask(Cause),
    /// Find out where the waiter stands: [`Event::Receiving`] to [`Event::Waiting`], unless it has its lease.
    Stand,
    /// Find out when a timer causes the next attempt: [`Event::Scheduled`].
    Schedule,
    /// Give up, unless a wake-up came meanwhile: then [`Event::MayBeFree`].
    GiveUpUnlessWoken,
    /// Wait for [`Event::News`], [`Event::Woken`], or until then for [`Event::Elapsed`].
    Wait(Option<Instant>),
    /// Find out who goes first at this wake-up: [`Event::HeadStart`].
    AskWhoGoesFirst,
    /// Note that the key may be free, for whoever is the head; then [`Event::News`].
    Note,
}

/// The head of a line between its attempts.
#[derive(Debug)]
pub(super) struct Head {
    retries_left: u32,
    /// When a timer causes the next attempt; `None` while that has yet to be found out.
    timer: Option<Option<Instant>>,
    /// Until then others go first.
    yields_until: Option<Instant>,
    /// Whether the next wake-up is of our own release.
    echo: bool,
}

impl Head {
    /// A new head; `taken` when the key is known to be held, so that there is no need to ask.
    pub fn begin(max_retries: u32, taken: bool) -> (Head, Action) {
        let head = Head { retries_left: max_retries, timer: None, yields_until: None, echo: false };
        (head, if taken { Action::Stand } else { Action::Ask(Cause::Free) })
    }

    pub fn step(&mut self, event: Event, now: Instant) -> Action {
        match event {
            Event::Refused(cause) => {
                if cause == Cause::Timer {
                    self.retries_left = self.retries_left.saturating_sub(1);
                }
                self.timer = None;
                self.yields_until = None;
                self.echo = false;
                Action::Stand
            }
            Event::Occupied | Event::News => Action::Stand,
            // What is on its way can't be hurried.
            Event::Receiving => Action::Wait(None),
            Event::MayBeFree => Action::Ask(Cause::Free),
            Event::Yielded { echo } => {
                self.yields_until = Some(now + YIELD_AT_MOST);
                self.echo = echo;
                self.wait()
            }
            Event::Waiting => self.wait(),
            Event::Scheduled(at) => {
                self.timer = Some(at);
                self.wait()
            }
            Event::Woken { live } if std::mem::take(&mut self.echo) && live => Action::Stand,
            Event::Woken { .. } => Action::AskWhoGoesFirst,
            Event::HeadStart(Duration::ZERO) => Action::Note,
            Event::HeadStart(head_start) => {
                self.yields_until = Some(now + head_start);
                Action::Stand
            }
            Event::Elapsed if self.yields_until.take().is_some() => Action::Ask(Cause::Free),
            Event::Elapsed => Action::Ask(Cause::Timer),
        }
    }

    fn wait(&self) -> Action {
        match (self.yields_until, self.timer) {
            // It asks then, whatever is left of its retries.
            (Some(until), _) => Action::Wait(Some(until)),
            (None, Some(at)) => Action::Wait(at),
            (None, None) if self.retries_left > 0 => Action::Schedule,
            (None, None) => Action::GiveUpUnlessWoken,
        }
    }
}

#[cfg(test)]
mod tests;
