//! One write for many requests.
//!
//! The multiplexer writes as soon as it holds one request, which under load means a system call for each,
//! here and at the server. Whoever is about to write lets the tasks that are ready go first: their requests
//! then leave together. A lone request pays one turn of the scheduler.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

use super::stream::Stream;
use super::traffic::Traffic;
use crate::event_loop::is_here;
use crate::stores::net::tapped::{Tap, Tapped};

pub(in crate::stores::redis) type Corked = Tapped<Box<dyn Stream>, Cork>;

pub(in crate::stores::redis) struct Cork {
    traffic: Arc<Traffic>,
    /// Whether the others have had their turn since the last write.
    gave_way: bool,
    /// When something last came.
    heard: Instant,
}

/// How long after that nobody has hung up yet, as far as an event loop is concerned.
const QUIET: Duration = Duration::from_millis(1);

pub(in crate::stores::redis) fn corked(socket: Box<dyn Stream>, traffic: Arc<Traffic>) -> Corked {
    Tapped { socket, tap: Cork { traffic, gave_way: false, heard: Instant::now() } }
}

impl Cork {
    fn give_way(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gave_way {
            return Poll::Ready(());
        }
        self.gave_way = true;
        // A task that wakes itself while it runs goes to the end of the queue.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Tap<Box<dyn Stream>> for Cork {
    fn write(
        &mut self,
        socket: &mut Box<dyn Stream>,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Box<dyn Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.give_way(cx));
        // What is sent to a peer that has hung up is lost, and whether it was is not known: no request is sent. The
        // end that is there to be read ends the connection. (A handshake does not read while it writes.)
        let asks = !is_here() || self.heard.elapsed() > QUIET;
        if self.traffic.is_awaited() && asks && socket.has_hung_up() {
            return Poll::Pending;
        }
        let written = ready!(write(socket, cx));
        self.gave_way = false;
        if written.is_ok() || !socket.fails_whole() {
            self.traffic.wrote();
        }
        Poll::Ready(written)
    }

    fn read(
        &mut self,
        socket: &mut Box<dyn Stream>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.traffic.read();
            self.heard = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}
