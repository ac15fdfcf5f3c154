//! The requests of one acquisition: what has become of them, since when one of them may have been applied, and
//! with what error it ends.

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
use crate::engine::line::ticket::Ticket;
use crate::engine::line::turn::{Strangers, Turn};
use crate::engine::line::waiter::Granted;
use crate::engine::observer::{Answer, Observed};
use crate::engine::shared::{Shared, check, timed_out};
use crate::lock::{Code, Error, Result};

/// The requests of one acquisition.
pub(super) struct Asking<'a> {
    pub shared: &'a Arc<Shared>,
    pub policy: &'a Policy,
    pub cancel: Option<&'a CancellationToken>,
    pub request: AcquireRequest,
    pub deadline: Instant,
    observed: Observed,
    pub past: Past,
    /// How the last finished attempt ended.
    pub last: Option<Last>,
    /// When the first request was sent that may have been applied: the local deadline counts from there.
    first_sent: Option<Moment>,
    /// A request with this lock id may have been applied. Undone when this is dropped.
    uncertain: bool,
}

pub(super) enum Last {
    Held { free_at: Option<Instant> },
    Failed(Error),
}

impl<'a> Asking<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        policy: &'a Policy,
        cancel: Option<&'a CancellationToken>,
        request: AcquireRequest,
        observed: Observed,
    ) -> Asking<'a> {
        Asking {
            shared,
            policy,
            cancel,
            request,
            deadline: Instant::now() + policy.timeout,
            observed,
            past: Past::default(),
            last: None,
            first_sent: None,
            uncertain: false,
        }
    }

    /// A hand-over since then may have granted the request.
    pub fn uncertain_since(&mut self, since: Moment) {
        self.uncertain = true;
        self.first_sent = Some(self.first_sent.map_or(since, |first| first.min(since)));
    }

    /// One attempt of this acquisition; `None` when it makes sense to go on.
    pub async fn ask(&mut self) -> Result<Option<Granted>> {
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
                self.tell(sent, Answer::Failed(&timed_out(self.policy.timeout)));
                return Err(self.give_up().unknown());
            }
            End::Ended(call, error) => {
                self.leave_behind(call, uncertain);
                self.tell(sent, Answer::Failed(&error));
                return Err(error.unknown());
            }
        };
        self.tell(
            sent,
            match &answer {
                Ok(Acquired::Granted(lease)) => Answer::Granted(&lease.lock_id),
                Ok(Acquired::Held { .. }) => Answer::Held,
                Err(error) => Answer::Failed(error),
            },
        );
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
    pub fn received(&mut self, granted: Granted) -> Granted {
        self.uncertain = false;
        self.tell(granted.sent, Answer::Granted(&granted.lease.lock_id));
        let sent = self.first_sent.map_or(granted.sent, |first| first.min(granted.sent));
        Granted { sent, ..granted }
    }

    fn tell(&self, since: Moment, answer: Answer<'_>) {
        if let Some(observer) = &self.observed {
            observer.asked(answer, Moment::now().since(since));
        }
    }

    /// Who hears of what is done for this acquisition.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Undoes what a call in flight may yet be granted.
    fn leave_behind(&mut self, call: undo::InFlight, uncertain: bool) {
        undo::in_flight(self.shared, &self.request, call, uncertain, self.observed.clone());
        self.uncertain = false;
    }

    /// When a timer causes the next attempt; `None` when none does before the deadline.
    pub fn next_retry(&self, free_at: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        let free_in = free_at.map(|at| at.saturating_duration_since(now));
        match self.policy.next(&self.past, left, free_in, fastrand::f64()) {
            Next::Retry(delay) => Some(now + delay),
            Next::NoMore | Next::GiveUp => None,
        }
    }

    /// Whether it makes sense to go on.
    pub fn check(&self) -> Result<()> {
        check(self.shared, self.cancel)
    }

    /// The error at the end: the store's own where the last finished attempt failed, a timeout where none
    /// finished, contention otherwise.
    pub fn give_up(&mut self) -> Error {
        let error = match self.last.take() {
            Some(Last::Failed(error)) => error,
            Some(Last::Held { .. }) => self.contended(),
            None => timed_out(self.policy.timeout),
        };
        if self.uncertain { error.unknown() } else { error }
    }

    /// The same for one in line, who may have heard from the store only through the heads before.
    pub fn out_of_time(&mut self, ticket: &Ticket) -> Error {
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

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.uncertain {
            undo::uncertain(self.shared, &self.request, self.observed.take());
        }
    }
}
