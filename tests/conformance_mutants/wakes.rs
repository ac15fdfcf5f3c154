//! Bugs of watch and close, and of the hints that a release gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Owner, Watch};
use syncguard::lock::{Error, Key, Result};
use tokio::sync::Notify;

use crate::Bug;
use crate::broken::{Broken, lock};

impl Broken {
    /// Releases; the hint goes where the bug lets it.
    pub async fn silently_or_not(&self, owner: &Owner) -> Result<Mutation<()>> {
        let holder = self.inner.lookup(LookupBy::LockId(&owner.lock_id)).await?;
        let early = matches!(self.bug, Bug::HintsComeTooEarly | Bug::HintsComeWithALockedKey);
        if let Some(lease) = &holder
            && early
        {
            self.store().hint(&lease.key);
            if self.is(Bug::HintsComeTooEarly) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        self.store().lose_hints(early || self.is(Bug::NoHints));
        let released = self.inner.release(owner).await;
        self.store().lose_hints(false);
        released
    }

    pub async fn broken_watch(&self, key: &Key) -> Result<Watch> {
        let source = self.inner.watch(key).await?;
        let bug = self.bug;
        if !matches!(
            bug,
            Bug::HintsForItsOwnOnly
                | Bug::HintsGetLostBetweenWaits
                | Bug::HintsComeOnce
                | Bug::HintsForOneWatcherOnly
                | Bug::WatchesEndTogether
        ) {
            return Ok(source);
        }
        let hints = Arc::new(Notify::new());
        let alive = lock(&self.shared.alive).entry(key.clone()).or_default().clone();
        let first = !alive.swap(true, Ordering::Relaxed);
        let (target, flag) = (hints.clone(), alive.clone());
        let own = lock(&self.granted).values().any(|lease| lease.key == *key);
        let forwarding = tokio::spawn(async move {
            loop {
                source.hint().await;
                match bug {
                    Bug::HintsGetLostBetweenWaits => target.notify_waiters(),
                    Bug::HintsForOneWatcherOnly if !first => {}
                    Bug::HintsForItsOwnOnly if !own => {}
                    Bug::WatchesEndTogether if !flag.load(Ordering::Relaxed) => {}
                    _ => target.notify_one(),
                }
                if bug == Bug::HintsComeOnce {
                    return;
                }
            }
        });
        Ok(Watch::new(hints, Forwarding { task: forwarding.abort_handle(), alive }))
    }

    pub async fn broken_close(&self) -> Result<()> {
        match self.bug {
            Bug::CloseDoesNothing => Ok(()),
            Bug::CloseFailsTheSecondTime if self.closed.swap(true, Ordering::Relaxed) => {
                Err(Error::invalid("this backend is closed"))
            }
            Bug::CloseFreesEverything => {
                self.store().lose_everything();
                self.inner.close().await
            }
            _ => self.inner.close().await,
        }
    }
}

struct Forwarding {
    task: tokio::task::AbortHandle,
    alive: Arc<AtomicBool>,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.task.abort();
        // An unsubscription that arrives late, behind the next subscription to the same key.
        let alive = self.alive.clone();
        tokio::spawn(async move {
            alive.store(false, Ordering::Relaxed);
        });
    }
}
