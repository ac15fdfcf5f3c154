//! Requests of one kind: alone while a connection is free, joined into one statement while all are busy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::connection::Connection;
use super::detached::Detached;
use super::error::{self, Failure, Kind};
use super::pool::{Lent, Pool, with_connection};
use crate::lock::{Error, Result};
use crate::stores::batch::{Distinct, DistinctQueue, Joinable};

/// How many requests one statement takes.
const WIDTH: usize = 128;

/// A request that can be joined with others of its kind.
pub(super) trait Request: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// Two requests with the same one never share a statement.
    fn identity(&self) -> &str;

    /// All of them in one statement; one answer for each, in order.
    fn send(
        requests: &[&Self],
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Vec<Reply<Self::Answer>>, Failure>> + Send;

    /// One in a transaction that first waits for the key's advisory lock.
    fn send_locked(
        &self,
        key: &str,
        connection: &mut Connection,
    ) -> impl Future<Output = Result<Reply<Self::Answer>, Failure>> + Send;
}

/// What became of a request.
pub(super) enum Reply<A> {
    Answer(Result<A>),
    /// Somebody else is changing this key, so nothing can be said; worth a second look under its lock.
    Busy {
        key: String,
    },
}

/// The queue of one kind of request.
pub(super) struct Lane<R: Request>(Arc<Inner<R>>);

struct Inner<R: Request> {
    pool: Pool,
    queue: Mutex<Queue<R>>,
}

struct Queue<R: Request> {
    jobs: DistinctQueue<Job<R>>,
    /// Whether a task waits for a connection to take jobs with.
    served: bool,
}

struct Job<R: Request> {
    request: R,
    answer: oneshot::Sender<Result<R::Answer>>,
}

impl<R: Request> Lane<R> {
    pub(super) fn new(pool: Pool) -> Lane<R> {
        Lane(Arc::new(Inner {
            pool,
            queue: Mutex::new(Queue { jobs: DistinctQueue::default(), served: false }),
        }))
    }

    /// Sends a request, by itself or with others, and waits for its answer. Once it was sent, dropping this
    /// changes nothing any more.
    pub(super) async fn submit(&self, request: R) -> Result<R::Answer> {
        let free = if self.0.queue().jobs.is_empty() { self.0.pool.try_lend() } else { None };
        match free {
            Some(lent) => {
                let pool = self.0.pool.clone();
                Detached::new(async move { alone(&pool, Some(lent), request).await }).await
            }
            None => self.queue_up(request).await.unwrap_or_else(|_| Err(error::closed())),
        }
    }

    /// The same for several, joined from the start.
    pub(super) async fn submit_all(&self, requests: Vec<R>) -> Vec<Result<R::Answer>> {
        let answers: Vec<_> = requests.into_iter().map(|request| self.enqueue(request)).collect();
        self.serve();
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(answer.await.unwrap_or_else(|_| Err(error::closed())));
        }
        results
    }

    fn queue_up(&self, request: R) -> oneshot::Receiver<Result<R::Answer>> {
        let answer = self.enqueue(request);
        self.serve();
        answer
    }

    fn enqueue(&self, request: R) -> oneshot::Receiver<Result<R::Answer>> {
        let (answer, answered) = oneshot::channel();
        self.0.queue().jobs.push(Job { request, answer });
        answered
    }

    fn serve(&self) {
        Inner::serve(&self.0);
    }
}

impl<R: Request> Inner<R> {
    fn queue(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a task waits for a connection while there are jobs.
    fn serve(self: &Arc<Self>) {
        let mut queue = self.queue();
        if !queue.served && !queue.jobs.is_empty() {
            queue.served = true;
            drop(queue);
            let lane = Arc::clone(self);
            tokio::spawn(async move { lane.take_turn().await });
        }
    }

    async fn take_turn(self: Arc<Self>) {
        match self.pool.lend().await {
            Ok(lent) => {
                let jobs = self.queue().take();
                // What is left waits for the next connection, not for this one.
                self.serve();
                if !jobs.is_empty() {
                    self.together(lent, jobs).await;
                }
            }
            Err(error) => {
                let jobs = self.queue().take_all();
                jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
            }
        }
    }

    /// Several requests in one statement. Where the server refuses the values of one of them, each gets its own.
    async fn together(self: &Arc<Self>, lent: Lent, jobs: Vec<Job<R>>) {
        let pool = &self.pool;
        let requests: Vec<&R> = jobs.iter().map(|job| &job.request).collect();
        let outcome = with_connection!(pool, Some(lent), |connection| R::send(&requests, connection));
        match outcome {
            Ok(replies) if replies.len() == jobs.len() => {
                let mut busy: HashMap<String, Vec<Job<R>>> = HashMap::new();
                for (job, reply) in jobs.into_iter().zip(replies) {
                    match reply {
                        Reply::Answer(answer) => job.answer(answer),
                        Reply::Busy { key } => busy.entry(key).or_default().push(job),
                    }
                }
                for (key, jobs) in busy {
                    let lane = Arc::clone(self);
                    tokio::spawn(async move { lane.look_again(&key, jobs).await });
                }
            }
            Ok(_) => jobs.into_iter().for_each(|job| job.answer(Err(short()))),
            Err(failure) if failure.kind == Kind::Value && jobs.len() > 1 => {
                for Job { request, answer } in jobs {
                    let _ = answer.send(alone(pool, None, request).await);
                }
            }
            Err(failure) => jobs.into_iter().for_each(|job| job.answer(Err(failure.error.clone()))),
        }
    }

    /// The first one of a key looks under its lock. By then the others can be answered together.
    async fn look_again(self: &Arc<Self>, key: &str, jobs: Vec<Job<R>>) {
        let mut jobs = jobs.into_iter();
        if let Some(job) = jobs.next() {
            let answer = locked(&self.pool, key, &job.request).await;
            job.answer(answer);
        }
        jobs.for_each(|job| self.queue().jobs.push(job));
        self.serve();
    }
}

impl<R: Request> Queue<R> {
    /// As many as a statement takes.
    fn take(&mut self) -> Vec<Job<R>> {
        self.served = false;
        self.jobs.take(WIDTH)
    }

    fn take_all(&mut self) -> Vec<Job<R>> {
        self.served = false;
        self.jobs.take_all()
    }
}

impl<R: Request> Joinable for Job<R> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

impl<R: Request> Distinct for Job<R> {
    fn identity(&self) -> &str {
        self.request.identity()
    }
}

impl<R: Request> Job<R> {
    fn answer(self, answer: Result<R::Answer>) {
        // The caller may have gone.
        let _ = self.answer.send(answer);
    }
}

/// One request on a connection that is there, and under the key's lock where somebody else was changing it.
async fn alone<R: Request>(pool: &Pool, lent: Option<Lent>, request: R) -> Result<R::Answer> {
    let outcome = with_connection!(pool, lent, |connection| R::send(&[&request], connection));
    match single(outcome.map_err(|failure| failure.error)?)? {
        Reply::Answer(answer) => answer,
        Reply::Busy { key } => locked(pool, &key, &request).await,
    }
}

/// The second look, under the key's lock.
async fn locked<R: Request>(pool: &Pool, key: &str, request: &R) -> Result<R::Answer> {
    let _turn = pool.wait_turn().await?;
    let outcome = with_connection!(pool, None, |connection| request.send_locked(key, connection));
    match outcome.map_err(|failure| failure.error)? {
        Reply::Answer(answer) => answer,
        Reply::Busy { .. } => Err(Error::unavailable(
            "another client changes this key without taking its advisory lock; try again",
        )),
    }
}

fn single<A>(replies: Vec<Reply<A>>) -> Result<Reply<A>> {
    replies.into_iter().next().ok_or_else(short)
}

fn short() -> Error {
    Error::internal("PostgreSQL answered fewer rows than there were requests").unknown()
}
