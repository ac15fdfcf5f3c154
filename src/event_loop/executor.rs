//! The tasks of one event loop.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::runtime::Handle;

use super::here::{self, Entered};
use super::readiness::Readiness;
use super::task::{First, Started, Task, TaskRef};
use super::timers::Timers;

/// What an event loop can do. All but [`Reactor::wake`] is called on its thread only.
pub trait Reactor: Send + Sync + 'static {
    /// Has [`Executor::run`] called soon. From any thread.
    fn wake(&self);

    /// Has [`Executor::fire`] called at a time, instead of the one that was asked for before.
    fn fire_at(&self, when: Instant);

    /// Tells `readiness` whenever there is something to read; must not hold the loop.
    ///
    /// # Errors
    /// The loop's own, where it can't watch this socket.
    fn watch(&self, socket: Arc<Socket>, readiness: Arc<Readiness>) -> io::Result<Box<dyn Watch>>;
}

/// A socket that an event loop watches. Dropping it, on any thread, ends that; the loop closes its share of the socket.
pub trait Watch: Send + Sync {
    /// Tells once when there is room to write. On the loop's thread.
    fn until_writable(&self);
}

/// The tasks of one event loop, from its first call to its end.
pub struct Executor {
    reactor: Box<dyn Reactor>,
    /// The engine's.
    runtime: Handle,
    ready: Mutex<VecDeque<Arc<Task>>>,
    /// All that are not done, by their addresses.
    tasks: Mutex<HashMap<usize, Arc<Task>>>,
    pub(super) timers: Mutex<Timers>,
    sockets: Mutex<Vec<Weak<Readiness>>>,
    over: AtomicBool,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Executor")
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// What leaves the event loop goes on in `runtime`.
    pub fn new(reactor: impl Reactor, runtime: Handle) -> Arc<Executor> {
        Arc::new(Executor {
            reactor: Box::new(reactor),
            runtime,
            ready: Mutex::default(),
            tasks: Mutex::default(),
            timers: Mutex::default(),
            sockets: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    /// Polls a call for the first time, on the loop's thread.
    pub fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> First<T> {
        let _here = Entered::new(self, &self.runtime);
        Started::first(self, call)
    }

    /// Polls whatever is ready, on the loop's thread.
    pub fn run(self: &Arc<Self>) {
        let mut ready = std::mem::take(&mut *lock(&self.ready));
        if ready.is_empty() {
            return;
        }
        let _here = Entered::new(self, &self.runtime);
        while !ready.is_empty() {
            for task in ready.drain(..) {
                task.poll(self);
            }
            std::mem::swap(&mut ready, &mut lock(&self.ready));
        }
    }

    /// A socket may be read or written now; on the loop's thread, before [`Executor::run`].
    pub fn is_ready(self: &Arc<Self>, socket: &Readiness, read: bool, write: bool) {
        let _here = Entered::new(self, &self.runtime);
        socket.set(read, write);
    }

    /// A time that was asked for has come: first whatever lies in the sockets is read, since a reply that is there is
    /// in time, however long this thread was busy.
    pub fn fire(self: &Arc<Self>) {
        let _here = Entered::new(self, &self.runtime);
        lock(&self.sockets).retain(|socket| {
            let socket = socket.upgrade();
            socket.as_ref().inspect(|socket| socket.set(true, false)).is_some()
        });
        self.run();
        let next = lock(&self.timers).fire(Instant::now());
        if let Some(next) = next {
            self.reactor.fire_at(next);
        }
        self.run();
    }

    /// The event loop ends: everything goes on with the engine. From any thread; no task begins here any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.pass_on();
    }

    /// Gives what is under way to the engine. From any thread: where this one's is blocked, others may wait for it.
    pub fn pass_on(&self) {
        let tasks: Vec<_> = lock(&self.tasks).values().cloned().collect();
        for task in tasks {
            task.leave();
        }
    }

    /// Whether anything is under way here.
    pub fn is_busy(&self) -> bool {
        !lock(&self.tasks).is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs a task here, from any thread; with the engine once the loop has ended.
    pub(crate) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) -> TaskRef {
        let task = Task::new(self, Some(Box::pin(future)));
        self.keep(&task);
        std::task::Wake::wake_by_ref(&task);
        TaskRef(Arc::downgrade(&task))
    }

    /// Watches a socket, on the loop's thread.
    pub(crate) fn watch(
        &self,
        socket: Arc<Socket>,
        readiness: &Arc<Readiness>,
    ) -> io::Result<Box<dyn Watch>> {
        let watch = self.reactor.watch(socket, Arc::clone(readiness))?;
        lock(&self.sockets).push(Arc::downgrade(readiness));
        Ok(watch)
    }

    pub(super) fn schedule(&self, task: Arc<Task>) {
        lock(&self.ready).push_back(task);
        // Whoever polls for this loop goes on until nothing is ready.
        if !here::is(self) {
            self.reactor.wake();
        }
    }

    pub(super) fn keep(&self, task: &Arc<Task>) {
        lock(&self.tasks).insert(Arc::as_ptr(task) as usize, Arc::clone(task));
        // It may have ended meanwhile.
        if self.is_over() {
            task.leave();
        }
    }

    pub(super) fn forget(&self, task: &Arc<Task>) {
        lock(&self.tasks).remove(&(Arc::as_ptr(task) as usize));
    }

    /// Sets a timer; on the loop's thread.
    pub(super) fn fire_at(&self, when: Instant) {
        self.reactor.fire_at(when);
    }
}

/// How late a timer may be before the thread counts as having been blocked.
pub(super) const PUNCTUAL: Duration = Duration::from_millis(20);
