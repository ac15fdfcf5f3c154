//! An event loop for tests: a thread that polls its sockets, and can be blocked.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::Socket;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::executor::lock;
use super::{Executor, First, Reactor, Readiness, Watch};

type Job = Box<dyn FnOnce(&Arc<Executor>) + Send>;

/// A thread with an event loop. Dropping it ends both.
pub struct Poller {
    shared: Arc<Shared>,
    executor: Arc<Executor>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    woken: OwnedFd,
    jobs: Mutex<Vec<Job>>,
    sockets: Mutex<Vec<Arc<Watched>>>,
    fire_at: Mutex<Option<Instant>>,
    over: AtomicBool,
}

struct Watched {
    socket: Arc<Socket>,
    readiness: Arc<Readiness>,
    writes: AtomicBool,
    gone: AtomicBool,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller")
    }
}

impl Poller {
    /// Starts it; what leaves it goes on in `runtime`.
    ///
    /// # Panics
    /// Where the system grants no thread or descriptor.
    pub fn start(runtime: Handle) -> Poller {
        let shared = Arc::new(Shared {
            woken: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("a descriptor"),
            jobs: Mutex::default(),
            sockets: Mutex::default(),
            fire_at: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let executor = Executor::new(OfShared(Arc::clone(&shared)), runtime);
        let (own, runs) = (Arc::clone(&shared), Arc::clone(&executor));
        let thread = std::thread::Builder::new().name("poller".into()).spawn(move || own.run(&runs));
        Poller { shared, executor, thread: Some(thread.expect("a thread")) }
    }

    /// The executor of this loop.
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// Begins a call on the loop's thread, sends what it asks for, and answers its outcome, and whether that was
    /// reached there.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<(T, bool)> {
        let (answer, answered) = oneshot::channel();
        self.post(move |executor| {
            let own = std::thread::current().id();
            let then = move |outcome| drop(answer.send((outcome, std::thread::current().id() == own)));
            match executor.begin(call) {
                First::Done(outcome) => then(outcome),
                First::Pending(started) => {
                    started.then(then);
                    executor.run();
                }
            }
        });
        answered
    }

    /// Does something on the loop's thread, which does nothing else meanwhile.
    pub fn post(&self, job: impl FnOnce(&Arc<Executor>) + Send + 'static) {
        lock(&self.shared.jobs).push(Box::new(job));
        self.shared.wake();
    }

    /// Blocks it for so long, beginning now.
    pub fn block(&self, time: Duration) {
        let (begun, begins) = std::sync::mpsc::channel();
        self.post(move |_| {
            let _ = begun.send(());
            std::thread::sleep(time);
        });
        let _ = begins.recv();
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.executor.end();
    }
}

impl Shared {
    fn wake(&self) {
        let _ = rustix::io::write(&self.woken, &1u64.to_ne_bytes());
    }

    fn run(&self, executor: &Arc<Executor>) {
        while !self.over.load(Ordering::Acquire) {
            for job in std::mem::take(&mut *lock(&self.jobs)) {
                job(executor);
            }
            executor.run();
            // As libuv: timers before sockets.
            let due = lock(&self.fire_at).take_if(|at| *at <= Instant::now()).is_some();
            if due {
                executor.fire();
            }
            self.wait(executor);
            executor.run();
        }
    }

    /// Until something is ready.
    fn wait(&self, executor: &Arc<Executor>) {
        let sockets = {
            let mut sockets = lock(&self.sockets);
            sockets.retain(|socket| !socket.gone.load(Ordering::Acquire));
            sockets.clone()
        };
        let mut asked = vec![PollFd::new(&self.woken, PollFlags::IN)];
        for watched in &sockets {
            let writes = watched.writes.load(Ordering::Acquire);
            let flags = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            asked.push(PollFd::from_borrowed_fd(watched.socket.as_fd(), flags));
        }
        let limit = lock(&self.fire_at).map(|at| at.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let _ = poll(&mut asked, limit.as_ref());
        let _ = rustix::io::read(&self.woken, &mut [0; 8]);
        for (watched, asked) in sockets.iter().zip(&asked[1..]) {
            let events = asked.revents();
            let writable = events.contains(PollFlags::OUT);
            if writable {
                watched.writes.store(false, Ordering::Release);
            }
            let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
            let (readable, ended) = (events.contains(PollFlags::IN), events.intersects(ended));
            executor.is_ready(&watched.readiness, readable || ended, writable || ended);
        }
    }
}

struct OfShared(Arc<Shared>);

impl Reactor for OfShared {
    fn wake(&self) {
        self.0.wake();
    }

    fn fire_at(&self, when: Instant) {
        *lock(&self.0.fire_at) = Some(when);
    }

    fn watch(&self, socket: Arc<Socket>, readiness: Arc<Readiness>) -> io::Result<Box<dyn Watch>> {
        let watched = Arc::new(Watched {
            socket,
            readiness,
            writes: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        lock(&self.0.sockets).push(Arc::clone(&watched));
        Ok(Box::new(Watching(watched)))
    }
}

struct Watching(Arc<Watched>);

impl Watch for Watching {
    fn until_writable(&self) {
        self.0.writes.store(true, Ordering::Release);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}
