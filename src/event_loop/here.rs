//! Where a future is being polled.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{EnterGuard, Handle};

use super::executor::Executor;

thread_local! {
    static HERE: RefCell<Option<Arc<Executor>>> = const { RefCell::new(None) };
    static STAYS: Cell<bool> = const { Cell::new(false) };
    static LEAVES: Cell<bool> = const { Cell::new(false) };
}

/// While this is there, this thread polls for an event loop; what needs a runtime finds the engine's.
pub(super) struct Entered<'a> {
    before: Option<Arc<Executor>>,
    _runtime: EnterGuard<'a>,
}

impl<'a> Entered<'a> {
    pub(super) fn new(executor: &Arc<Executor>, runtime: &'a Handle) -> Entered<'a> {
        let before = HERE.replace(Some(Arc::clone(executor)));
        Entered { before, _runtime: runtime.enter() }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        HERE.set(self.before.take());
    }
}

/// What a task that was polled and is not done waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Something that comes to this loop.
    Here,
    Elsewhere,
}

/// Polls once, and tells what an unfinished task waits for.
pub(super) fn observed<T>(poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, Waits) {
    STAYS.set(false);
    LEAVES.set(false);
    let polled = poll();
    (polled, if STAYS.get() && !LEAVES.get() { Waits::Here } else { Waits::Elsewhere })
}

/// The event loop that polls; `None` on the engine's thread.
pub(crate) fn here() -> Option<Arc<Executor>> {
    HERE.with_borrow(Clone::clone)
}

/// Whether an event loop polls.
pub fn is_here() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// Whether this one does.
pub(super) fn is(executor: &Executor) -> bool {
    HERE.with_borrow(|here| here.as_ref().is_some_and(|here| std::ptr::eq(Arc::as_ptr(here), executor)))
}

/// Waits for something that comes to this event loop, so that its task need not leave. On the engine's thread it is
/// any wait.
pub(crate) async fn stay<T>(wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    poll_fn(|cx| {
        let polled = wait.as_mut().poll(cx);
        if polled.is_pending() {
            STAYS.set(true);
        }
        polled
    })
    .await
}

/// Goes on with the engine, whose thread no user's code can block.
pub(crate) async fn leave() {
    poll_fn(|_| {
        if !is_here() {
            return Poll::Ready(());
        }
        LEAVES.set(true);
        Poll::Pending
    })
    .await;
}

/// Lets the other tasks that are ready go first, here or on the engine's thread.
pub(crate) async fn yield_now() {
    stay(tokio::task::yield_now()).await;
}

/// Runs a task beside the one that is polled, on the same executor. Answers false where there is none.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> bool {
    if let Some(here) = here() {
        here.spawn(task);
        return true;
    }
    let Ok(runtime) = Handle::try_current() else { return false };
    runtime.spawn(task);
    true
}
