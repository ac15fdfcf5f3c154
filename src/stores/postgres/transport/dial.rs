//! Getting a session: which host, how often to try, and what became of the last attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::session::{OnNotification, Session};
use crate::lock::{Code, Error, Result};
use crate::stores::net::backoff::Backoff;
use crate::stores::postgres::config::host::Host;
use crate::stores::postgres::config::{PostgresConfig, SessionKind};

/// The pauses after attempts that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Opens sessions for the pool and the listener.
#[derive(Debug)]
pub(in crate::stores::postgres) struct Dialer {
    pub(in crate::stores::postgres) config: Arc<PostgresConfig>,
    past: Mutex<Past>,
    /// Set once a pooler was met: from then on every session counts as shared.
    pooled: AtomicBool,
}

#[derive(Debug)]
struct Past {
    backoff: Backoff,
    last_failure: Option<(Instant, Error)>,
}

impl Dialer {
    pub(in crate::stores::postgres) fn new(config: PostgresConfig) -> Dialer {
        let pooled = AtomicBool::new(config.pooler == Some(true));
        let past = Past { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), last_failure: None };
        Dialer { config: Arc::new(config), past: Mutex::new(past), pooled }
    }

    pub(in crate::stores::postgres) fn is_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    /// Prepared statements vanished: there is a pooler after all.
    pub(in crate::stores::postgres) fn note_pooler(&self) {
        self.pooled.store(true, Ordering::Relaxed);
    }

    /// What the last attempt ended with, if it ended after `since` and nothing worked after it.
    pub(in crate::stores::postgres) fn failure_since(&self, since: Instant) -> Option<Error> {
        self.past().last_failure.as_ref().filter(|(at, _)| *at > since).map(|(_, error)| error.clone())
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session with the first host that suits, after a pause where the last attempt failed.
    /// For tasks of the backend's own: a caller who waits for it may go.
    ///
    /// # Errors
    /// The last host's, or `AuthFailed` at once.
    pub(in crate::stores::postgres) async fn dial(&self, on_notification: OnNotification) -> Result<Session> {
        let turn = self.past().backoff.wait();
        turn.await;
        let outcome = self.attempt(on_notification).await;
        let mut past = self.past();
        match &outcome {
            Ok(session) => {
                past.backoff.succeeded();
                past.last_failure = None;
                if session.pooled {
                    self.note_pooler();
                }
            }
            Err(error) => {
                past.backoff.failed();
                past.last_failure = Some((Instant::now(), error.clone()));
            }
        }
        outcome
    }

    async fn attempt(&self, on_notification: OnNotification) -> Result<Session> {
        let mut hosts: Vec<&Host> = self.config.hosts.iter().collect();
        if self.config.shuffle {
            fastrand::shuffle(&mut hosts);
        }
        let passes: &[SessionKind] = match self.config.session {
            SessionKind::PreferStandby => &[SessionKind::Standby, SessionKind::Any],
            ref kind => std::slice::from_ref(kind),
        };
        let mut last = None;
        let deadline = Instant::now() + self.config.connect_timeout;
        let mut left = u32::try_from(passes.len() * hosts.len()).unwrap_or(u32::MAX);
        for kind in passes {
            for host in &hosts {
                // None may use up the time of those after it.
                let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
                left -= 1;
                let opening =
                    Session::open(&self.config, host, self.is_pooled(), Arc::clone(&on_notification));
                match tokio::time::timeout(share, opening).await {
                    Ok(Ok(session)) if session.suits(*kind) => return Ok(session),
                    Ok(Ok(_)) => {
                        last = Some(Error::unavailable(format!(
                            "PostgreSQL at {host} is not of the kind that target_session_attrs asks for (read-write where several hosts are named)"
                        )));
                    }
                    // The next server would be asked with the same user and password.
                    Ok(Err(error)) if error.code() == Code::AuthFailed => return Err(error),
                    Ok(Err(error)) => last = Some(error),
                    Err(_) => {
                        let message = format!(
                            "PostgreSQL at {host} accepted no session within its share of connectTimeoutMs; check the address and firewalls"
                        );
                        last = Some(Error::new(Code::NetworkTimeout, message).retryable());
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::invalid("the target names no host")))
    }
}
