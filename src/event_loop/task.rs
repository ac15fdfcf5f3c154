//! One future on an event loop, which the engine can take over at any moment.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;

use super::executor::Executor;
use super::here::{Waits, observed};

pub(super) struct Task {
    /// `None` once it is done, or somebody else's.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    /// Whether it is in the queue of those that are ready.
    queued: AtomicBool,
    /// Whether the engine is to have it.
    leaving: AtomicBool,
    executor: Weak<Executor>,
}

/// What became of a call's first poll.
pub enum First<T> {
    /// It had nothing to wait for.
    Done(T),
    /// It goes on once it is known what to do with its outcome.
    Pending(Started<T>),
}

/// A call that has been polled once.
pub struct Started<T> {
    call: BoxFuture<'static, T>,
    task: Arc<Task>,
    waits: Waits,
}

impl<T> fmt::Debug for First<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            First::Done(_) => "Done",
            First::Pending(_) => "Pending",
        })
    }
}

impl<T> fmt::Debug for Started<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Started")
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel)
            && let Some(executor) = self.executor.upgrade()
        {
            executor.schedule(Arc::clone(self));
        }
    }
}

impl Task {
    pub(super) fn new(executor: &Arc<Executor>, future: Option<BoxFuture<'static, ()>>) -> Arc<Task> {
        Arc::new(Task {
            future: Mutex::new(future),
            queued: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            executor: Arc::downgrade(executor),
        })
    }

    fn future(&self) -> MutexGuard<'_, Option<BoxFuture<'static, ()>>> {
        self.future.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the event loop's thread. What has to wait for something else goes to the engine.
    pub(super) fn poll(self: &Arc<Self>, executor: &Executor) {
        self.queued.store(false, Ordering::Release);
        let mut slot = self.future();
        let Some(future) = slot.as_mut() else { return };
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        // A panic is a bug of ours, and ends the task alone.
        let polled = catch_unwind(AssertUnwindSafe(|| observed(|| future.as_mut().poll(&mut cx))));
        let (done, waits) = match polled {
            Ok((polled, waits)) => (polled.is_ready(), waits),
            Err(_) => (true, Waits::Here),
        };
        if !done && waits == Waits::Here {
            drop(slot);
            // Whoever wanted it to go while it was polled could not take it.
            if self.leaving.load(Ordering::Acquire) {
                self.leave();
            }
            return;
        }
        let future = slot.take();
        drop(slot);
        executor.forget(self);
        match future {
            Some(future) if !done => drop(executor.runtime().spawn(future)),
            done => drop(done),
        }
    }

    /// Gives it to the engine, from any thread: at once, or where it is being polled right after that.
    pub(super) fn leave(self: &Arc<Self>) {
        self.leaving.store(true, Ordering::Release);
        let future = match self.future.try_lock() {
            Ok(mut slot) => slot.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let (Some(future), Some(executor)) = (future, self.executor.upgrade()) {
            executor.forget(self);
            executor.runtime().spawn(future);
        }
    }
}

impl<T: Send + 'static> Started<T> {
    pub(super) fn first(
        executor: &Arc<Executor>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> First<T> {
        let task = Task::new(executor, None);
        let waker = Waker::from(Arc::clone(&task));
        let mut call: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(call);
        let (polled, waits) = observed(|| call.as_mut().poll(&mut Context::from_waker(&waker)));
        match polled {
            Poll::Ready(outcome) => First::Done(outcome),
            Poll::Pending => First::Pending(Started { call, task, waits }),
        }
    }

    /// Goes on, here or with the engine; `then` gets the outcome where the call ends.
    pub fn then(self, then: impl FnOnce(T) + Send + 'static) {
        let Started { call, task, waits } = self;
        let Some(executor) = task.executor.upgrade() else { return };
        let rest = async move { then(call.await) };
        if waits == Waits::Elsewhere || executor.is_over() {
            executor.runtime().spawn(rest);
            return;
        }
        *task.future() = Some(Box::pin(rest));
        executor.keep(&task);
    }
}

/// A task that somebody may have moved.
#[derive(Clone)]
pub(crate) struct TaskRef(pub(super) Weak<Task>);

impl TaskRef {
    /// Whether its event loop still has it.
    pub(crate) fn is_there(&self) -> bool {
        self.0.upgrade().is_some_and(|task| !task.leaving.load(Ordering::Acquire))
    }

    /// Gives it to the engine.
    pub(crate) fn leave(&self) {
        if let Some(task) = self.0.upgrade() {
            task.leave();
        }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskRef")
    }
}
