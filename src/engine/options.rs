//! What a caller may ask for: limits of a client, one acquisition, how its lease is kept. How it is retried is
//! `acquire::policy`.

use std::sync::Arc;
use std::time::Duration;

use super::observer::Observer;
use crate::backend::OPERATION_TIMEOUT;
use crate::lock::{Error, Key, Result, Ttl};
use crate::stores::target::Settings;

/// Limits that hold for every operation of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// An operation that the store has not answered by then is `NetworkTimeout`, outcome unknown.
    pub operation_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { operation_timeout: OPERATION_TIMEOUT }
    }
}

/// What an acquisition asks for.
#[derive(Clone, Debug)]
pub struct AcquireOptions {
    /// What to lock.
    pub key: Key,
    /// How long the lease lives unless it is extended.
    pub ttl: Ttl,
    /// Renews the lease until it is released.
    pub keep: Option<KeepPolicy>,
    /// Hears of what is done at the store; nobody when `None`. Only for [`Client::lock`](super::Client::lock).
    pub observer: Option<Arc<dyn Observer>>,
}

/// How a lease is kept (`autoExtend`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Between renewals; a third of the TTL when `None`.
    pub interval: Option<Duration>,
    /// How long the lease may be held in all.
    pub max_hold: Option<Duration>,
    /// How long the environment may be silent before renewing stops.
    pub stall: Duration,
}

impl KeepPolicy {
    /// Reads `intervalMs`, `maxHoldMs` and `stallMs`; ignores the rest.
    ///
    /// # Errors
    /// `InvalidArgument` that names the setting.
    pub fn from_settings(mut settings: Settings) -> Result<KeepPolicy> {
        let interval = settings.take_millis("intervalMs")?;
        let max_hold = settings.take_millis("maxHoldMs")?;
        let stall = settings.take_millis("stallMs")?.unwrap_or(KeepPolicy::default().stall);
        Ok(KeepPolicy { interval, max_hold, stall })
    }

    /// # Errors
    /// `InvalidArgument` when the interval is not shorter than the TTL.
    pub fn check(&self, ttl: Duration) -> Result<()> {
        match self.interval {
            Some(interval) if interval >= ttl => Err(Error::invalid(format!(
                "autoExtend.intervalMs must be shorter than ttlMs ({}); {} was given",
                ttl.as_millis(),
                interval.as_millis()
            ))),
            _ => Ok(()),
        }
    }
}

impl Default for KeepPolicy {
    fn default() -> Self {
        KeepPolicy { interval: None, max_hold: None, stall: Duration::from_secs(30) }
    }
}
