//! Requests of one kind: alone while few are under way, joined into one script while many are, since most
//! of what a script costs the server is not its work.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::script::{Call, Script};
use super::server::Server;
use crate::lock::{Error, Result};
use crate::stores::batch::{self, Joinable};

/// How many scripts of a kind are under way before requests are joined: few enough that they are worth
/// joining, many enough that on a slow network nobody waits long for the next one.
const AT_ONCE: usize = 4;
/// How many requests one script takes: few enough that the server is soon free for others.
const WIDTH: usize = 64;
/// How many arguments the script for one takes, at most.
const MOST_ARGS: usize = 8;

/// A script, and the arguments that all calls of it begin with.
#[derive(Debug)]
pub(super) struct Shared {
    script: &'static Script,
    args: Box<[String]>,
}

impl Shared {
    pub(super) fn new<const N: usize>(script: &'static Script, args: [String; N]) -> Shared {
        Shared { script, args: Box::new(args) }
    }
}

/// What one request adds to a script. Several may name the same keys: the script for many answers them in turn.
#[derive(Debug)]
pub(super) struct Part<const K: usize, const A: usize> {
    pub(super) keys: [String; K],
    pub(super) args: [String; A],
}

/// What a request hears.
#[derive(Debug)]
pub(super) enum Reply {
    /// From the script for one.
    Own(Value),
    /// From the script for many, with the server's time in milliseconds.
    Shared { now: Value, answer: Value },
}

/// The requests of one kind.
#[derive(Debug)]
pub(super) struct Together<const K: usize, const A: usize>(Arc<Inner<K, A>>);

#[derive(Debug)]
struct Inner<const K: usize, const A: usize> {
    /// KEYS and ARGV are those of the one part.
    one: Shared,
    /// KEYS: the first key of each part, then the second of each, and so on. ARGV: the arguments of each part.
    /// Answers the time and one answer for each part, where nil leaves the part to the script for one. So
    /// does failing.
    many: Shared,
    server: Arc<Server>,
    queue: Mutex<Queue<K, A>>,
}

#[derive(Debug)]
struct Queue<const K: usize, const A: usize> {
    under_way: usize,
    /// Whether somebody waits for others to come along.
    gathering: bool,
    jobs: VecDeque<Job<K, A>>,
}

#[derive(Debug)]
struct Job<const K: usize, const A: usize> {
    part: Part<K, A>,
    answer: oneshot::Sender<Result<Joined<K, A>>>,
}

#[derive(Debug)]
enum Joined<const K: usize, const A: usize> {
    Answered(Reply),
    Left(Part<K, A>),
}

/// The place of one script among those under way. When it goes, the next ones come.
struct Turn<const K: usize, const A: usize> {
    inner: Arc<Inner<K, A>>,
    gathers: bool,
}

type Answered<const K: usize, const A: usize> = oneshot::Receiver<Result<Joined<K, A>>>;

/// How a request goes.
enum Way<const K: usize, const A: usize> {
    Ahead(Turn<K, A>, Part<K, A>),
    WithOthers(Answered<K, A>),
}

impl<const K: usize, const A: usize> Together<K, A> {
    pub(super) fn new(one: Shared, many: Shared, server: Arc<Server>) -> Together<K, A> {
        let queue = Mutex::new(Queue { under_way: 0, gathering: false, jobs: VecDeque::new() });
        Together(Arc::new(Inner { one, many, server, queue }))
    }

    /// Sends a request, by itself or with others. Dropping this before it was sent takes it back.
    ///
    /// # Errors
    /// Those of [`Server::eval`].
    pub(super) async fn run(&self, part: Part<K, A>) -> Result<Reply> {
        let answered = match self.enter(part) {
            Way::WithOthers(answered) => answered,
            Way::Ahead(mut turn, part) => {
                // Whoever asks in the same moment comes along.
                tokio::task::yield_now().await;
                if turn.stop_gathering() {
                    return self.alone(&part).await;
                }
                let answered = self.0.queue().add(part);
                drop(turn);
                answered
            }
        };
        match answered.await.unwrap_or_else(|_| Err(Error::internal("a request got lost").unknown()))? {
            Joined::Answered(reply) => Ok(reply),
            Joined::Left(part) => self.alone(&part).await,
        }
    }

    async fn alone(&self, part: &Part<K, A>) -> Result<Reply> {
        let keys = part.keys.each_ref().map(String::as_str);
        let shared = &self.0.one;
        let mut args = [""; MOST_ARGS];
        for (place, arg) in args.iter_mut().zip(shared.args.iter().chain(&part.args)) {
            *place = arg;
        }
        let call = Call { script: shared.script, keys: &keys, args: &args[..shared.args.len() + A] };
        self.0.server.eval(call).await.map(Reply::Own)
    }

    fn enter(&self, part: Part<K, A>) -> Way<K, A> {
        let mut queue = self.0.queue();
        if queue.gathering || queue.under_way >= AT_ONCE {
            return Way::WithOthers(queue.add(part));
        }
        queue.gathering = true;
        queue.under_way += 1;
        Way::Ahead(Turn { inner: Arc::clone(&self.0), gathers: true }, part)
    }
}

impl<const K: usize, const A: usize> Drop for Turn<K, A> {
    fn drop(&mut self) {
        self.stop_gathering();
        let mut queue = self.inner.queue();
        queue.jobs.retain(|job| !job.is_abandoned());
        match Handle::try_current() {
            Ok(runtime) if !queue.jobs.is_empty() => {
                drop(queue);
                let turn = Turn { inner: Arc::clone(&self.inner), gathers: false };
                runtime.spawn(turn.take());
            }
            // Without a runtime nobody waits any more.
            _ => queue.under_way -= 1,
        }
    }
}

impl<const K: usize, const A: usize> Turn<K, A> {
    /// True when nobody came along.
    fn stop_gathering(&mut self) -> bool {
        let mut queue = self.inner.queue();
        if std::mem::take(&mut self.gathers) {
            queue.gathering = false;
        }
        queue.jobs.is_empty()
    }

    async fn take(self) {
        let inner = &self.inner;
        // Only what can be sent at once leaves the queue: whoever gives up before has asked for nothing.
        let connected = inner.server.connected().await;
        let jobs = batch::take(&mut inner.queue().jobs, WIDTH);
        if let Err(error) = connected {
            return jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
        }
        if jobs.is_empty() {
            return;
        }
        match inner.send(&jobs).await {
            Ok(Some((now, answers))) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    match answer {
                        Value::Nil => job.leave(),
                        answer => {
                            job.answer(Ok(Joined::Answered(Reply::Shared { now: now.clone(), answer })));
                        }
                    }
                }
            }
            Ok(None) => jobs.into_iter().for_each(Job::leave),
            Err(error) => jobs.into_iter().for_each(|job| job.answer(Err(error.clone()))),
        }
    }
}

impl<const K: usize, const A: usize> Inner<K, A> {
    fn queue(&self) -> MutexGuard<'_, Queue<K, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where the server refused: which part it minds is found out one by one.
    async fn send(&self, jobs: &[Job<K, A>]) -> Result<Option<(Value, Vec<Value>)>> {
        let keys: Vec<&str> =
            (0..K).flat_map(|n| jobs.iter().map(move |job| job.part.keys[n].as_str())).collect();
        let parts = jobs.iter().flat_map(|job| &job.part.args);
        let args: Vec<&str> = self.many.args.iter().chain(parts).map(String::as_str).collect();
        match self.server.call(Call { script: self.many.script, keys: &keys, args: &args }).await? {
            Value::Array(mut answers) if answers.len() == jobs.len() + 1 => {
                let now = answers.remove(0);
                Ok(Some((now, answers)))
            }
            Value::ServerError(_) => Ok(None),
            other => Err(super::error::unexpected(self.server.place(), &other).unknown()),
        }
    }
}

impl<const K: usize, const A: usize> Queue<K, A> {
    fn add(&mut self, part: Part<K, A>) -> Answered<K, A> {
        let (answer, answered) = oneshot::channel();
        self.jobs.push_back(Job { part, answer });
        answered
    }
}

impl<const K: usize, const A: usize> Joinable for Job<K, A> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

impl<const K: usize, const A: usize> Job<K, A> {
    fn leave(self) {
        let _ = self.answer.send(Ok(Joined::Left(self.part)));
    }

    fn answer(self, answer: Result<Joined<K, A>>) {
        // The caller may have gone.
        let _ = self.answer.send(answer);
    }
}
