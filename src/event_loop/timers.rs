//! Deadlines on an event loop. Nearly all of them are forgotten before they come, so that one timer of the loop's for
//! the earliest is enough, and it is not moved when that one goes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::executor::{Executor, PUNCTUAL, lock};
use super::here;

/// The deadlines of one event loop.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// When the loop will look.
    armed: Option<Instant>,
}

#[derive(Debug)]
enum Entry {
    Set { at: Instant, waker: Waker, given_back: bool },
    Fired,
}

impl Timers {
    /// Answers its place, and when the loop must look, where that is earlier than it would.
    fn set(&mut self, at: Instant, waker: Waker) -> (usize, Option<Instant>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[place] = Some(Entry::Set { at, waker, given_back: false });
        let earlier = self.armed.is_none_or(|armed| at < armed);
        if earlier {
            self.armed = Some(at);
        }
        (place, earlier.then_some(at))
    }

    fn remove(&mut self, place: usize) {
        self.entries[place] = None;
        self.free.push(place);
    }

    /// Wakes those whose time has come. Who is very late was kept by this thread, not by what he waits for, and gets
    /// that time back once. Answers when to look again.
    pub(super) fn fire(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for entry in self.entries.iter_mut().flatten() {
            let Entry::Set { at, waker, given_back } = entry else { continue };
            let late = now.saturating_duration_since(*at);
            if late > PUNCTUAL && !*given_back {
                *given_back = true;
                *at = now + late.min(MOST_GIVEN_BACK);
            } else if *at <= now {
                waker.wake_by_ref();
                *entry = Entry::Fired;
                continue;
            }
            next = Some(next.map_or(*at, |next| next.min(*at)));
        }
        self.armed = next;
        next
    }
}

/// A thread that was blocked for longer is not worth waiting for twice.
const MOST_GIVEN_BACK: std::time::Duration = std::time::Duration::from_secs(1);

/// A deadline on one event loop.
struct Deadline {
    executor: Arc<Executor>,
    until: Instant,
    place: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Passed,
    /// Its task goes on elsewhere.
    Moved,
}

impl Future for Deadline {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        if !here::is(&self.executor) {
            return Poll::Ready(Ended::Moved);
        }
        let executor = Arc::clone(&self.executor);
        let mut timers = lock(&executor.timers);
        let Some(place) = self.place else {
            let (place, look) = timers.set(self.until, cx.waker().clone());
            drop(timers);
            self.place = Some(place);
            if let Some(look) = look {
                executor.fire_at(look);
            }
            return Poll::Pending;
        };
        match &mut timers.entries[place] {
            Some(Entry::Set { waker, .. }) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(Ended::Passed),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            lock(&self.executor.timers).remove(place);
        }
    }
}

/// Waits until then, wherever it is polled. On an event loop that is no reason to stay.
pub(crate) async fn sleep_until(until: tokio::time::Instant) {
    if let Some(executor) = here::here() {
        let deadline = Deadline { executor, until: until.into_std(), place: None };
        if deadline.await == Ended::Passed {
            return;
        }
    }
    tokio::time::sleep_until(until).await;
}

/// Waits for `work` until then.
pub(crate) async fn timeout_at<T>(
    until: tokio::time::Instant,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let (mut work, mut sleep) = (pin!(work), pin!(sleep_until(until)));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// The time was up.
#[derive(Debug)]
pub(crate) struct Elapsed;
