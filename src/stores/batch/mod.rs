//! Requests of one kind: alone while trips are free, together while all are taken, since most of what a request costs
//! a server is not its work.

mod backlog;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

pub(super) use self::backlog::{Backlog, Distinct, DistinctBacklog, Waiting};
use crate::event_loop::{self, stay};
use crate::lock::{Error, Result};

/// How one store sends requests of one kind.
pub(super) trait Carrier: Send + Sync + Sized + 'static {
    type Request: Send + Sync + 'static;
    type Answer: Send + 'static;
    /// What a request needs to be on its way: there are only so many.
    type Trip: Send + 'static;
    /// What several requests wait for together where the store asks for patience; [`Infallible`] where it never does.
    ///
    /// [`Infallible`]: std::convert::Infallible
    type Reason: Eq + Hash + Send + Sync + 'static;
    type Backlog: Backlog<Job<Self>> + Send;

    /// How many requests go together.
    const WIDTH: usize;
    /// Whether a request that could go at once first lets those come along that are made in the same moment.
    const GATHERS: bool;

    /// A trip that is free right now.
    fn try_trip(&self) -> Option<Self::Trip>;

    /// Waits for a trip; in order of asking.
    fn trip(&self) -> impl Future<Output = Result<Self::Trip>> + Send;

    /// One request by itself, on a trip that is there or on the next one.
    fn alone(
        &self,
        trip: Option<Self::Trip>,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Answer>> + Send;

    /// Several at once; one reply for each, in order.
    fn together(
        &self,
        trip: Self::Trip,
        requests: &[&Self::Request],
    ) -> impl Future<Output = Result<Vec<Reply<Self>>>> + Send;

    /// The second attempt of a request that was to have patience, for the first one with this reason.
    fn again(
        &self,
        reason: &Self::Reason,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// What became of a request that went with others.
pub(super) enum Reply<C: Carrier> {
    Answer(Result<C::Answer>),
    /// Nothing was done: it is to go by itself.
    Alone,
    /// Nothing was done, and won't be before somebody who is under way has ended.
    Patience(C::Reason),
}

/// The requests of one kind.
pub(super) struct Batch<C: Carrier>(Arc<Inner<C>>);

impl<C: Carrier> fmt::Debug for Batch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batch")
    }
}

struct Inner<C: Carrier> {
    carrier: C,
    state: Mutex<State<C>>,
}

struct State<C: Carrier> {
    jobs: C::Backlog,
    /// Whether somebody waits for others to come along.
    gathering: bool,
    /// Whether a task waits for a trip to take jobs along.
    served: bool,
}

/// A request that waits to go with others.
pub(super) struct Job<C: Carrier> {
    request: C::Request,
    outcome: oneshot::Sender<Result<Settled<C>>>,
}

enum Settled<C: Carrier> {
    Answered(C::Answer),
    Alone(C::Request),
}

type Waits<C> = oneshot::Receiver<Result<Settled<C>>>;

impl<C: Carrier> Batch<C> {
    pub(super) fn new(carrier: C) -> Batch<C> {
        let state = State { jobs: C::Backlog::default(), gathering: false, served: false };
        Batch(Arc::new(Inner { carrier, state: Mutex::new(state) }))
    }

    /// Sends a request, by itself or with others. Dropping this before it was sent takes it back.
    ///
    /// # Errors
    /// Those of the carrier.
    pub(super) async fn submit(&self, request: C::Request) -> Result<C::Answer> {
        let Some(trip) = self.0.enter() else { return self.0.settle(self.join(request)).await };
        if C::GATHERS {
            let gathering = Gathering(&self.0);
            event_loop::yield_now().await;
            if gathering.end() {
                let waits = self.0.state().push(request);
                // Free again, for the task that takes them all.
                drop(trip);
                self.0.serve();
                return self.0.settle(waits).await;
            }
        }
        self.0.carrier.alone(Some(trip), request).await
    }

    /// The same for several, together from the start.
    pub(super) async fn submit_all(&self, requests: Vec<C::Request>) -> Vec<Result<C::Answer>> {
        let waiting: Vec<_> = {
            let mut state = self.0.state();
            requests.into_iter().map(|request| state.push(request)).collect()
        };
        self.0.serve();
        let mut results = Vec::with_capacity(waiting.len());
        for waits in waiting {
            results.push(self.0.settle(waits).await);
        }
        results
    }

    fn join(&self, request: C::Request) -> Waits<C> {
        let waits = self.0.state().push(request);
        self.0.serve();
        waits
    }
}

/// While this is there, others come along.
struct Gathering<'a, C: Carrier>(&'a Arc<Inner<C>>);

impl<C: Carrier> Gathering<'_, C> {
    /// True when somebody came.
    fn end(self) -> bool {
        let mut state = self.0.state();
        state.gathering = false;
        let came = !state.jobs.is_empty();
        drop(state);
        std::mem::forget(self);
        came
    }
}

impl<C: Carrier> Drop for Gathering<'_, C> {
    fn drop(&mut self) {
        self.0.state().gathering = false;
        self.0.serve();
    }
}

impl<C: Carrier> Inner<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A trip for a request that need not wait for others.
    fn enter(&self) -> Option<C::Trip> {
        let mut state = self.state();
        if state.gathering || !state.jobs.is_empty() {
            return None;
        }
        let trip = self.carrier.try_trip()?;
        state.gathering = C::GATHERS;
        Some(trip)
    }

    async fn settle(&self, waits: Waits<C>) -> Result<C::Answer> {
        match stay(waits).await.unwrap_or_else(|_| Err(lost()))? {
            Settled::Answered(answer) => Ok(answer),
            // Rare, and large.
            Settled::Alone(request) => Box::pin(self.carrier.alone(None, request)).await,
        }
    }

    /// Sees to it that a task waits for a trip while there are jobs.
    fn serve(self: &Arc<Self>) {
        let mut state = self.state();
        // Whoever gathers takes them along. Without a runtime nobody waits any more.
        if state.served || state.gathering || state.jobs.is_empty() {
            return;
        }
        state.served = true;
        drop(state);
        let batch = Arc::clone(self);
        if !event_loop::spawn(async move { batch.take_trip().await }) {
            self.state().served = false;
        }
    }

    async fn take_trip(self: Arc<Self>) {
        // Only what can be sent at once leaves the queue: whoever gives up before has asked for nothing.
        match self.carrier.trip().await {
            Ok(trip) => {
                let jobs = self.state().take(C::WIDTH);
                // What is left waits for the next trip, not for the end of this one.
                self.serve();
                if !jobs.is_empty() {
                    self.together(trip, jobs).await;
                }
            }
            Err(error) => {
                let jobs = self.state().take_all();
                jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
            }
        }
    }

    async fn together(self: &Arc<Self>, trip: C::Trip, jobs: Vec<Job<C>>) {
        let requests: Vec<_> = jobs.iter().map(|job| &job.request).collect();
        let replies = match self.carrier.together(trip, &requests).await {
            Ok(replies) if replies.len() == jobs.len() => replies,
            Ok(_) => return jobs.into_iter().for_each(|job| job.answer(Err(lost()))),
            Err(error) => return jobs.into_iter().for_each(|job| job.answer(Err(error.clone()))),
        };
        let mut patient: HashMap<C::Reason, Vec<Job<C>>> = HashMap::new();
        for (job, reply) in jobs.into_iter().zip(replies) {
            match reply {
                Reply::Answer(answer) => job.answer(answer),
                Reply::Alone => job.leave(),
                Reply::Patience(reason) => patient.entry(reason).or_default().push(job),
            }
        }
        for (reason, jobs) in patient {
            let batch = Arc::clone(self);
            event_loop::spawn(async move { batch.try_again(&reason, jobs).await });
        }
    }

    /// Once the first one of a reason has been answered, the others can be, together.
    async fn try_again(self: &Arc<Self>, reason: &C::Reason, jobs: Vec<Job<C>>) {
        let mut jobs = jobs.into_iter();
        if let Some(job) = jobs.next() {
            let answer = self.carrier.again(reason, &job.request).await;
            job.answer(answer);
        }
        jobs.for_each(|job| self.state().jobs.push(job));
        self.serve();
    }
}

impl<C: Carrier> State<C> {
    fn push(&mut self, request: C::Request) -> Waits<C> {
        let (outcome, waits) = oneshot::channel();
        self.jobs.push(Job { request, outcome });
        waits
    }

    fn take(&mut self, width: usize) -> Vec<Job<C>> {
        self.served = false;
        self.jobs.take(width)
    }

    fn take_all(&mut self) -> Vec<Job<C>> {
        self.served = false;
        self.jobs.take_all()
    }
}

impl<C: Carrier> Job<C> {
    fn answer(self, answer: Result<C::Answer>) {
        // The caller may have gone.
        let _ = self.outcome.send(answer.map(Settled::Answered));
    }

    fn leave(self) {
        let _ = self.outcome.send(Ok(Settled::Alone(self.request)));
    }
}

impl<C: Carrier> Waiting for Job<C> {
    fn is_abandoned(&self) -> bool {
        self.outcome.is_closed()
    }
}

impl<C: Carrier> Distinct for Job<C>
where
    C::Request: Distinct,
{
    fn identity(&self) -> &str {
        self.request.identity()
    }
}

fn lost() -> Error {
    Error::internal("a request got lost among those that went with it; this is a bug").unknown()
}
