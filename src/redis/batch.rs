//! Joins the requests that are ready at the same time into one write to the socket.
//!
//! A task that wakes the connection's writer hands it the processor next, so without this each request of
//! a busy process costs a system call of its own, which is most of what a request costs.

use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::oneshot;

/// Gathers the requests of one connection.
pub(super) struct Batcher {
    requests: MultiplexedConnection,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    waiting: Vec<Waiting>,
    /// Whether a task is about to send what waits.
    sending: bool,
}

struct Waiting {
    command: Cmd,
    reply: oneshot::Sender<RedisResult<Value>>,
}

impl Batcher {
    pub(super) fn new(requests: MultiplexedConnection) -> Arc<Batcher> {
        Arc::new(Batcher { requests, gathered: Mutex::default() })
    }

    /// Sends a request together with those that are ready now. Cancel safe: the reply is thrown away.
    ///
    /// `None` when the connection ended without a word.
    pub(super) async fn request(self: &Arc<Self>, command: Cmd) -> Option<RedisResult<Value>> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.waiting.push(Waiting { command, reply });
            !std::mem::replace(&mut gathered.sending, true)
        };
        if first {
            // A task of its own, so that the others' requests go out when this caller goes away.
            tokio::spawn(Arc::clone(self).send());
        }
        answer.await.ok()
    }

    async fn send(self: Arc<Self>) {
        // Everything that is ready runs first and adds its request.
        tokio::task::yield_now().await;
        let waiting = {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.sending = false;
            std::mem::take(&mut gathered.waiting)
        };
        // The connection takes each before its writer runs, and answers each as its reply arrives.
        let answered = waiting.into_iter().map(|Waiting { command, reply }| {
            let mut requests = self.requests.clone();
            async move {
                let _ = reply.send(requests.send_packed_command(&command).await);
            }
        });
        futures_util::future::join_all(answered).await;
    }
}
