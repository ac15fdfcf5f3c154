//! Requests of one kind that many have under way, joined into one script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use redis::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::scripts::{Call, Script};
use super::transport::server::Server;
use crate::event_loop::stay;
use crate::lock::{Error, Result};
use crate::stores::batch::{Carrier, Job, Reply};

/// How many scripts of a kind are under way before requests are joined: few enough that they are worth
/// joining, many enough that on a slow network nobody waits long for the next one.
const AT_ONCE: usize = 4;
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
pub(super) enum Heard {
    /// From the script for one.
    Own(Value),
    /// From the script for many, with the server's time in milliseconds.
    Shared { now: Value, answer: Value },
}

/// The scripts for one kind of request.
#[derive(Debug)]
pub(super) struct Joined<const K: usize, const A: usize> {
    /// KEYS and ARGV are those of the one part.
    one: Shared,
    /// KEYS: the first key of each part, then the second of each, and so on. ARGV: the arguments of each part.
    /// Answers the time and one answer for each part, where nil leaves the part to the script for one. So
    /// does failing.
    many: Shared,
    server: Arc<Server>,
    trips: Arc<Semaphore>,
}

impl<const K: usize, const A: usize> Joined<K, A> {
    pub(super) fn new(one: Shared, many: Shared, server: Arc<Server>) -> Joined<K, A> {
        Joined { one, many, server, trips: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl<const K: usize, const A: usize> Carrier for Joined<K, A> {
    type Request = Part<K, A>;
    type Answer = Heard;
    type Trip = OwnedSemaphorePermit;
    type Reason = Infallible;
    type Backlog = VecDeque<Job<Self>>;

    /// Few enough that the server is soon free for others.
    const WIDTH: usize = 64;
    const GATHERS: bool = true;

    fn try_trip(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.trips).try_acquire_owned().ok()
    }

    async fn trip(&self) -> Result<OwnedSemaphorePermit> {
        let trip = stay(Arc::clone(&self.trips).acquire_owned()).await;
        let trip = trip.map_err(|_| Error::internal("nobody closes this semaphore; this is a bug"))?;
        self.server.connected().await?;
        Ok(trip)
    }

    async fn alone(&self, _trip: Option<OwnedSemaphorePermit>, part: Part<K, A>) -> Result<Heard> {
        let keys = part.keys.each_ref().map(String::as_str);
        let shared = &self.one;
        let mut args = [""; MOST_ARGS];
        for (place, arg) in args.iter_mut().zip(shared.args.iter().chain(&part.args)) {
            *place = arg;
        }
        let call = Call { script: shared.script, keys: &keys, args: &args[..shared.args.len() + A] };
        self.server.eval(call).await.map(Heard::Own)
    }

    async fn together(&self, _trip: OwnedSemaphorePermit, parts: &[&Part<K, A>]) -> Result<Vec<Reply<Self>>> {
        let keys: Vec<&str> =
            (0..K).flat_map(|n| parts.iter().map(move |part| part.keys[n].as_str())).collect();
        let each = parts.iter().flat_map(|part| &part.args);
        let args: Vec<&str> = self.many.args.iter().chain(each).map(String::as_str).collect();
        match self.server.call(Call { script: self.many.script, keys: &keys, args: &args }).await? {
            Value::Array(answers) if answers.len() == parts.len() + 1 => {
                let mut answers = answers.into_iter();
                let now = answers.next().unwrap_or_default();
                Ok(answers.map(|answer| reply(&now, answer)).collect())
            }
            // Which part it minds is found out one by one.
            Value::ServerError(_) => Ok(parts.iter().map(|_| Reply::Alone).collect()),
            other => Err(super::error::unexpected(self.server.place(), &other).unknown()),
        }
    }

    async fn again(&self, reason: &Infallible, _part: &Part<K, A>) -> Result<Heard> {
        match *reason {}
    }
}

fn reply<const K: usize, const A: usize>(now: &Value, answer: Value) -> Reply<Joined<K, A>> {
    match answer {
        Value::Nil => Reply::Alone,
        answer => Reply::Answer(Ok(Heard::Shared { now: now.clone(), answer })),
    }
}
