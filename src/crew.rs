//! Threads for what a disk or a stopped process may hold up: a few for each directory and purpose, so that what one
//! of them hangs on delays no other, nor the engine's thread. They start when there is work and end when there is none.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::event_loop::stay;
use crate::lock::{Error, Result};

/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);
/// What more than so many callers want done at once waits with the callers, who may give up.
const MOST_JOBS: usize = 1024;
/// How many threads read in one directory: a second one, so that what hangs once holds up nobody else.
const FEW_READERS: usize = 2;
/// From so many on, crews that nobody uses are dismissed when another is made.
const FEW: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Crew {
    shared: Arc<Shared>,
    admission: Arc<Semaphore>,
}

struct Shared {
    most: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Whether somebody waited in vain, and nothing of that kind was done since.
    hangs: AtomicBool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    dismissed: bool,
}

impl Crew {
    fn new(most: usize) -> Crew {
        let shared =
            Shared { most, state: Mutex::default(), work: Condvar::new(), hangs: AtomicBool::new(false) };
        let admission = Arc::new(Semaphore::new(MOST_JOBS));
        Crew { shared: Arc::new(shared), admission }
    }

    /// This process's crew for a purpose in a directory: `most` threads, however many users it has.
    pub(crate) fn of(purpose: &'static str, directory: &Path, most: usize) -> Arc<Crew> {
        type Crews = HashMap<(&'static str, PathBuf), Arc<Crew>>;
        static CREWS: LazyLock<Mutex<Crews>> = LazyLock::new(Mutex::default);
        let mut crews = CREWS.lock().unwrap_or_else(PoisonError::into_inner);
        if crews.len() >= FEW {
            // Whatever hangs keeps its crew, so that nobody starts more threads that hang there.
            crews.retain(|_, crew| Arc::strong_count(crew) > 1 || crew.shared.is_busy());
        }
        let crew = crews.entry((purpose, directory.to_owned())).or_insert_with(|| Arc::new(Crew::new(most)));
        Arc::clone(crew)
    }

    /// Has something small read that lies at `path`, or wherever the system looks for it, and answers it.
    ///
    /// # Errors
    /// As [`Crew::run`].
    pub(crate) async fn read<T: Send + 'static>(
        purpose: &'static str,
        path: Option<&Path>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let directory = path.and_then(Path::parent).unwrap_or(Path::new(""));
        Crew::of(purpose, directory, FEW_READERS).run(|| Ok(read())).await
    }

    /// Has `work` done and answers its result. Where the caller has gone meanwhile, the result is dropped on the
    /// crew's thread. Work finds itself in the caller's tokio runtime.
    ///
    /// # Errors
    /// Those of the work; `ServiceUnavailable` when the system grants no thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let admitted = match Arc::clone(&self.admission).try_acquire_owned() {
            Ok(admitted) => admitted,
            Err(_) => Arc::clone(&self.admission).acquire_owned().await.map_err(bug)?,
        };
        let runtime = Handle::current();
        let (answer, answered) = oneshot::channel();
        self.post(move || {
            let _runtime = runtime.enter();
            let _ = answer.send(work());
            drop(admitted);
        })?;
        // The crew's thread wakes whoever waits, also an event loop.
        stay(answered).await.unwrap_or_else(|error| Err(bug(error).unknown()))
    }

    /// Has `work` done for a thread that can wait for so long; `None` when it could not be done in that time, and
    /// at once while earlier work hangs. It is then done later.
    pub(crate) fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let hung = self.shared.hangs.load(Ordering::Relaxed);
        self.post(move || {
            let done = work();
            shared.hangs.store(false, Ordering::Relaxed);
            // Who waited may have given up.
            let _ = answer.send(done);
        })
        .ok()?;
        if hung {
            return None;
        }
        let answer = answered.recv_timeout(limit).ok();
        if answer.is_none() {
            self.shared.hangs.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Has `work` done; nobody waits for it.
    ///
    /// # Errors
    /// `ServiceUnavailable` when the system grants no thread.
    pub(crate) fn post(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.shared.lock();
        state.jobs.push_back(Box::new(work));
        if state.jobs.len() > state.idle && state.threads < self.shared.most {
            let shared = Arc::clone(&self.shared);
            let started =
                std::thread::Builder::new().name("syncguard-file".into()).spawn(move || serve(&shared));
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.jobs.pop_back();
                    let refused = Error::unavailable("the system grants no thread for work on files");
                    return Err(refused.because(error));
                }
                Err(_) => {}
            }
        }
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }
}

fn bug(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("work on a file ended early; this is a bug").because(error)
}

fn serve(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            // A panic is a bug of ours; whoever waits for the answer is told.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = shared.lock();
            continue;
        }
        if state.dismissed {
            break;
        }
        state.idle += 1;
        let (woken, waited) = shared.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if waited.timed_out() && state.jobs.is_empty() {
            break;
        }
    }
    state.threads -= 1;
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.jobs.is_empty() || state.threads > state.idle
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().dismissed = true;
        self.shared.work.notify_all();
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crew")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_takes_a_thread_and_nothing_else() {
        let (crew, other) = (Crew::new(2), Crew::new(1));
        let (let_go, hangs) = channel::<()>();
        crew.post(move || assert!(hangs.recv().is_ok())).unwrap();
        assert_eq!(crew.run(|| Ok(1)).await.unwrap(), 1, "there is a second thread");
        assert_eq!(other.run(|| Ok(2)).await.unwrap(), 2);
        let_go.send(()).unwrap();
    }

    #[tokio::test]
    async fn no_more_threads_start_than_are_allotted() {
        let crew = Crew::new(3);
        let (let_go, hangs) = channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        for _ in 0..20 {
            let hangs = Arc::clone(&hangs);
            crew.post(move || assert!(hangs.lock().unwrap().recv().is_err())).unwrap();
        }
        assert_eq!(crew.shared.lock().threads, 3);
        assert!(crew.run_within(Duration::from_millis(20), || ()).is_none());
        let started = Instant::now();
        assert!(crew.run_within(Duration::from_secs(10), || ()).is_none(), "it hangs already");
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(let_go);
        assert_eq!(crew.run(|| Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn work_is_waited_for_again_once_what_hung_is_done() {
        let crew = Crew::new(1);
        let (let_go, hangs) = channel::<()>();
        let hanging = move || assert!(hangs.recv().is_err());
        assert!(crew.run_within(Duration::from_millis(20), hanging).is_none());
        drop(let_go);
        assert_eq!(crew.run(|| Ok(1)).await.unwrap(), 1, "it is done, and what came after it");
        assert_eq!(crew.run_within(Duration::from_secs(10), || 2), Some(2));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_ends_no_thread() {
        let crew = Crew::new(1);
        let error = crew.run::<()>(|| panic!("a bug")).await.unwrap_err();
        assert_eq!(error.code(), crate::lock::Code::Internal);
        assert_eq!(crew.run(|| Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_dropped_on_the_crews_thread() {
        struct Result(std::sync::mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Result {
            fn drop(&mut self) {
                let _ = self.0.send(std::thread::current().id());
            }
        }
        let crew = Crew::new(1);
        let ((dropped, told), (let_go, hangs)) = (channel(), channel::<()>());
        let call = crew.run(move || {
            let _ = hangs.recv();
            Ok(Result(dropped))
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
        drop(let_go);
        let thread = tokio::task::spawn_blocking(move || told.recv()).await.unwrap().unwrap();
        assert_ne!(thread, std::thread::current().id());
    }

    #[test]
    fn users_of_one_directory_share_its_crew() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let crew = Crew::of("test", a, 1);
        assert!(Arc::ptr_eq(&crew, &Crew::of("test", a, 1)));
        assert!(!Arc::ptr_eq(&crew, &Crew::of("test", b, 1)));
        assert!(!Arc::ptr_eq(&crew, &Crew::of("another", a, 1)));
        for number in 0..2 * FEW {
            Crew::of("test", Path::new(&format!("/many/{number}")), 1);
        }
        assert!(Arc::ptr_eq(&crew, &Crew::of("test", a, 1)), "it is in use");
    }
}
