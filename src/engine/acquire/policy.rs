//! How long to wait before the next attempt. Pure: what happened goes in, what to do comes out.

use std::time::Duration;

use crate::lock::{MAX_TIME_MS, Result};
use crate::stores::target::Settings;

/// How an acquisition is retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bounds the whole acquisition.
    pub timeout: Duration,
    /// Bounds the attempts that a timer causes; those that a wake-up causes are free.
    pub max_retries: u32,
    /// Before the first retry; what the backoff grows from.
    pub retry_delay: Duration,
    /// How delays grow.
    pub backoff: Backoff,
    /// How much of a delay is random.
    pub jitter: Jitter,
    /// What is done between attempts.
    pub wait: Wait,
}

/// How delays grow from one retry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Each twice the one before.
    Exponential,
    /// All alike.
    Fixed,
}

/// How much of a delay is random ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Half of it.
    Equal,
    /// All of it.
    Full,
    /// Nothing of it.
    None,
}

/// How a waiter learns that the key may be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Queue with the other waiters of this process and be woken.
    Notify,
    /// Try again by timer, alone.
    Poll,
}

impl Policy {
    /// The names of [`Backoff`] in settings.
    pub const BACKOFFS: [&str; 2] = ["exponential", "fixed"];
    /// The names of [`Jitter`] in settings.
    pub const JITTERS: [&str; 3] = ["equal", "full", "none"];
    /// The names of [`Wait`] in settings.
    pub const WAITS: [&str; 2] = ["notify", "poll"];

    /// The least time that the last attempt starts ahead of the deadline.
    const LEAST_LEAD: Duration = Duration::from_millis(20);

    /// Reads `timeoutMs`, `maxRetries`, `retryDelayMs`, `backoff`, `jitter` and `wait`; ignores the rest.
    ///
    /// # Errors
    /// `InvalidArgument` that names the setting.
    pub fn from_settings(mut settings: Settings) -> Result<Policy> {
        let defaults = Policy::default();
        Ok(Policy {
            timeout: settings.take_millis("timeoutMs")?.unwrap_or(defaults.timeout),
            max_retries: settings.take_count("maxRetries", 0, u32::MAX)?.unwrap_or(defaults.max_retries),
            retry_delay: settings.take_millis("retryDelayMs")?.unwrap_or(defaults.retry_delay),
            backoff: match settings.take_choice("backoff", &Self::BACKOFFS)? {
                Some(1) => Backoff::Fixed,
                _ => Backoff::Exponential,
            },
            jitter: match settings.take_choice("jitter", &Self::JITTERS)? {
                Some(1) => Jitter::Full,
                Some(2) => Jitter::None,
                _ => Jitter::Equal,
            },
            wait: match settings.take_choice("wait", &Self::WAITS)? {
                Some(1) => Wait::Poll,
                _ => Wait::Notify,
            },
        })
    }

    /// The delay before retry number `retry`, the first being 1; `random` is in `[0, 1)`.
    pub fn delay(&self, retry: u32, random: f64) -> Duration {
        let longest = Duration::from_millis(MAX_TIME_MS);
        let full = match self.backoff {
            Backoff::Fixed => self.retry_delay,
            Backoff::Exponential => {
                let factor = 1u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX);
                self.retry_delay.saturating_mul(factor)
            }
        }
        .min(longest);
        match self.jitter {
            Jitter::None => full,
            Jitter::Full => full.mul_f64(random),
            Jitter::Equal => full / 2 + (full / 2).mul_f64(random),
        }
    }

    /// How long before the deadline the last attempt starts, so that it can finish.
    pub fn last_attempt_lead(round_trip: Duration) -> Duration {
        round_trip.saturating_mul(2).max(Self::LEAST_LEAD)
    }

    /// When the next attempt that a timer causes is due, from now.
    ///
    /// `left` is the time to the deadline, `free_in` what the store said about the holder's expiry.
    pub fn next(&self, past: &Past, left: Duration, free_in: Option<Duration>, random: f64) -> Next {
        if past.retries >= self.max_retries {
            return Next::GiveUp;
        }
        let delay = self.delay(past.retries + 1, random);
        let delay = free_in.map_or(delay, |free_in| delay.min(free_in));
        let last = left.saturating_sub(Self::last_attempt_lead(past.round_trip));
        match () {
            () if delay <= last => Next::Retry(delay),
            // A later attempt could not finish.
            () if !last.is_zero() => Next::Retry(last),
            () => Next::NoMore,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            timeout: Duration::from_secs(5),
            max_retries: 10,
            retry_delay: Duration::from_millis(100),
            backoff: Backoff::Exponential,
            jitter: Jitter::Equal,
            wait: Wait::Notify,
        }
    }
}

/// What one acquisition has been through.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Attempts that a timer caused.
    pub retries: u32,
    /// Of the last attempt that was answered.
    pub round_trip: Duration,
}

/// What to do after an attempt that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this delay.
    Retry(Duration),
    /// Only a wake-up can cause another attempt before the deadline.
    NoMore,
    /// The retries are used up.
    GiveUp,
}
