//! Bugs of acquire and hand_over.

use std::time::Duration;

use syncguard::backend::{AcquireRequest, Acquired, Backend, HandOver, HandedOver, Mutation, Owner, Yield};
use syncguard::lock::{Code, Error, Fence, Lease, LockId, Result, TIME_TOLERANCE, Ttl};
use tokio::task::yield_now;

use crate::Bug;
use crate::broken::{Broken, lock, overdue};

/// How much longer than it should a record lives under [`Bug::LivesTooLong`].
pub const TOO_LONG: Duration = Duration::from_secs(5);

impl Broken {
    pub async fn broken_acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        if self.is(Bug::RepliesGetMixed) {
            // One queue of replies, whose head goes to whoever asks next.
            let reply = self.inner.acquire(request).await;
            lock(&self.replies).push_back(reply);
            yield_now().await;
            return lock(&self.replies).pop_front().expect("one was pushed");
        }
        let original = request;
        let request = &AcquireRequest {
            key: self.filed(&original.key),
            lock_id: original.lock_id,
            ttl: self.cut(original.ttl),
        };
        self.before_acquire(request).await;
        let answer = match self.instead_of_acquire(request) {
            Some(answer) => answer,
            None => self.inner.acquire(request).await,
        };
        match self.after_acquire(request, answer).await? {
            Acquired::Granted(lease) => {
                lock(&self.shared.leases).entry(lease.lock_id).or_insert_with(|| lease.clone());
                lock(&self.granted).insert(lease.lock_id, lease.clone());
                Ok(Acquired::Granted(Lease { key: original.key.clone(), ..self.disguised(lease) }))
            }
            held => Ok(held),
        }
    }

    /// What a bug does to the store before the acquire.
    async fn before_acquire(&self, request: &AcquireRequest) {
        let holder = self.holder(&request.key).await;
        let own = holder.as_ref().is_some_and(|lease| lease.lock_id == request.lock_id);
        match (self.bug, holder) {
            (Bug::AcquireIgnoresTheHolder, Some(lease)) if !own => self.drop_lease(&lease).await,
            (Bug::NoTolerance, Some(lease)) if overdue(&lease, self.now()) => self.drop_lease(&lease).await,
            (Bug::RepeatMintsAgain, Some(lease)) if own => self.drop_lease(&lease).await,
            (Bug::ContentionExtendsTheHolder, Some(lease)) if !own => {
                self.inner.extend(&Owner::from(lease), request.ttl).await.expect("extend answers");
            }
            (Bug::ContentionStoresTheLockId, Some(lease)) if !own => {
                lock(&self.shared.leases).insert(request.lock_id, lease);
            }
            (Bug::ContentionMints, Some(_)) if !own => {
                let counter = lock(&self.shared.counters).get(&request.key).copied().unwrap_or(0);
                self.shared.set_counter(&request.key, Fence::new(counter + 1));
                self.store().set_fence(&request.key, Fence::new(counter + 3));
            }
            (Bug::AcquireLooksThenWrites, None) => {
                yield_now().await;
                if let Some(lease) = self.holder(&request.key).await {
                    self.drop_lease(&lease).await;
                }
            }
            (Bug::RepeatLooksThenWrites, None) => {
                yield_now().await;
                if let Some(lease) = self.holder(&request.key).await
                    && lease.lock_id == request.lock_id
                {
                    self.drop_lease(&lease).await;
                }
            }
            (Bug::FenceForgetsTheCounter, None) => self.store().set_fence(&request.key, None),
            (Bug::KeyNamesTheIndex, _) => {
                if let Some(id) = request.key.as_str().strip_prefix("id:")
                    && let Ok(id) = LockId::parse(id)
                {
                    self.inner.release(&Owner::from(id)).await.expect("release answers");
                }
            }
            _ => {}
        }
    }

    /// The answer of a bug that does not ask the store.
    fn instead_of_acquire(&self, request: &AcquireRequest) -> Option<Result<Acquired>> {
        let known = lock(&self.shared.leases).get(&request.lock_id).cloned();
        match self.bug {
            Bug::AcquireWritesNothing => {
                let (now, fence) = (self.now(), Fence::new(Fence::clock(self.now()))?);
                let expires_at = now.plus(request.ttl);
                let (key, lock_id) = (request.key.clone(), request.lock_id);
                Some(Ok(Acquired::Granted(Lease { key, lock_id, fence, acquired_at: now, expires_at })))
            }
            Bug::AcquireFailsOnNonAscii if !request.key.as_str().is_ascii() => {
                Some(Err(Error::internal("the key is no ASCII")))
            }
            Bug::RepeatIsRefused if known.is_some() => Some(Ok(Acquired::Held { free_in: None })),
            Bug::RepeatAnswersFromMemory => known.map(|lease| Ok(Acquired::Granted(lease))),
            Bug::LivesTooLong => {
                let lingers = self.lingering(&request.key).is_some();
                lingers.then_some(Ok(Acquired::Held { free_in: Some(TOO_LONG) }))
            }
            _ => None,
        }
    }

    async fn after_acquire(&self, request: &AcquireRequest, answer: Result<Acquired>) -> Result<Acquired> {
        match (self.bug, answer) {
            (Bug::StartsAfreshOnInternal, Err(error)) if error.code() == Code::Internal => {
                self.store().lose_everything();
                self.inner.acquire(request).await
            }
            (Bug::FenceLimitComesAfterTheWrite, Err(error)) => {
                self.store().set_fence(&request.key, None);
                self.inner.acquire(request).await?;
                Err(error)
            }
            (Bug::FenceLimitIsOffByOne, Ok(Acquired::Granted(lease))) if lease.fence >= Fence::MAX => {
                self.drop_lease(&lease).await;
                Err(Error::internal("the next fence would exceed the limit"))
            }
            (Bug::FreeInForgetsTheTolerance, Ok(Acquired::Held { free_in })) => {
                Ok(Acquired::Held { free_in: free_in.map(|free_in| free_in.saturating_sub(TIME_TOLERANCE)) })
            }
            (Bug::FreeInIsAWholeMinute, Ok(Acquired::Held { .. })) => {
                Ok(Acquired::Held { free_in: Some(Duration::from_secs(60)) })
            }
            (Bug::FreeInOf32Bits, Ok(Acquired::Held { free_in })) => {
                let cut = |free_in: Duration| free_in.min(Duration::from_millis(u32::MAX.into()));
                Ok(Acquired::Held { free_in: free_in.map(cut) })
            }
            (Bug::FenceForgetsTheClock, Ok(Acquired::Granted(lease))) => {
                if !lock(&self.shared.fences).contains_key(&lease.lock_id) {
                    let mut counters = lock(&self.shared.counters);
                    let counter = counters.entry(lease.key.clone()).or_default();
                    *counter += 1;
                    let fence = Fence::new(*counter).expect("few grants");
                    lock(&self.shared.fences).insert(lease.lock_id, fence);
                }
                Ok(Acquired::Granted(lease))
            }
            (_, answer) => answer,
        }
    }

    pub async fn broken_hand_over(&self, request: &HandOver<'_>) -> Result<HandedOver> {
        let HandOver { owner, next, yields } = *request;
        if self.is(Bug::OwnersNeedAMemory) && owner.lease.is_none() {
            return Ok(HandedOver {
                released: Mutation::NotFound,
                next: Some(self.inner.acquire(next).await?),
                others: Some(0),
                echo: false,
            });
        }
        match self.bug {
            Bug::HandOverOnlyAcquires => {
                let next = self.inner.acquire(next).await?;
                Ok(HandedOver {
                    released: Mutation::Done(()),
                    next: Some(next),
                    others: Some(0),
                    echo: false,
                })
            }
            Bug::HandOverStopsWithoutAnOwner => {
                let released = self.inner.release(owner).await?;
                let done = released == Mutation::Done(());
                let next = if done { Some(self.inner.acquire(next).await?) } else { None };
                Ok(HandedOver { released, next, others: Some(0), echo: false })
            }
            Bug::HandOverForgetsTheOwnerCheck => {
                if let Some(lease) = self.holder(&next.key).await {
                    self.drop_lease(&lease).await;
                }
                let next = self.inner.acquire(next).await?;
                Ok(HandedOver {
                    released: Mutation::NotFound,
                    next: Some(next),
                    others: Some(0),
                    echo: false,
                })
            }
            Bug::HandOverAlwaysSaysDone => {
                let handed = self.inner.hand_over(request).await?;
                Ok(HandedOver { released: Mutation::Done(()), ..handed })
            }
            Bug::HandOverMintsAgain => {
                self.inner.release(&Owner::from(next.lock_id)).await?;
                self.inner.hand_over(request).await
            }
            Bug::HandOverTakesTwoSteps => {
                let released = self.inner.release(owner).await?;
                yield_now().await;
                Ok(HandedOver {
                    released,
                    next: Some(self.inner.acquire(next).await?),
                    others: Some(0),
                    echo: false,
                })
            }
            Bug::HandOverNeverYields => {
                self.inner.hand_over(&HandOver { owner, next, yields: Yield::Never }).await
            }
            Bug::HandOverAlwaysYields if yields != Yield::Never => Ok(HandedOver {
                released: self.inner.release(owner).await?,
                next: None,
                others: Some(0),
                echo: false,
            }),
            Bug::HandOverYieldsToWatchersOnly => {
                let yields = match yields {
                    Yield::Always { own } => Yield::IfWatched { own },
                    other => other,
                };
                self.inner.hand_over(&HandOver { owner, next, yields }).await
            }
            Bug::HandOverYieldsSilently => {
                self.store().lose_hints(true);
                let handed = self.inner.hand_over(request).await;
                self.store().lose_hints(false);
                handed
            }
            _ => self.inner.hand_over(request).await,
        }
    }

    pub async fn drop_lease(&self, lease: &Lease) {
        self.inner.release(&Owner::from(lease.clone())).await.expect("release answers");
    }

    pub fn cut(&self, ttl: Ttl) -> Ttl {
        let millis = match self.bug {
            Bug::TtlOf32Bits => ttl.as_millis().min(i32::MAX as u64),
            Bug::TtlInSeconds => ttl.as_millis().next_multiple_of(1000),
            _ => return ttl,
        };
        Ttl::from_millis(millis).expect("a valid TTL")
    }

    /// The lease as it looks where the fence forgets the clock.
    pub fn disguised(&self, lease: Lease) -> Lease {
        let fence = lock(&self.shared.fences).get(&lease.lock_id).copied();
        Lease { fence: fence.unwrap_or(lease.fence), ..lease }
    }
}
