//! One write for many requests.
//!
//! The multiplexer writes as soon as it holds one request, which under load means a system call for each,
//! here and at the server. Whoever is about to write lets the tasks that are ready go first: their requests
//! then leave together. A lone request pays one turn of the scheduler.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use super::traffic::Traffic;

pub(super) struct Batched {
    stream: Box<dyn Stream>,
    traffic: Arc<Traffic>,
    /// Whether the others have had their turn since the last write.
    gave_way: bool,
}

impl Batched {
    pub(super) fn new(stream: Box<dyn Stream>, traffic: Arc<Traffic>) -> Batched {
        Batched { stream, traffic, gave_way: false }
    }

    /// What is sent to a peer that has hung up is lost, and whether it was is not known: no request is sent. The
    /// end that is there to be read ends the connection. (A handshake does not read while it writes.)
    fn before_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.give_way(cx));
        if self.traffic.is_awaited() && self.stream.has_hung_up() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn after_write(&mut self, written: &io::Result<usize>) {
        self.gave_way = false;
        if written.is_ok() || !self.stream.fails_whole() {
            self.traffic.wrote();
        }
    }

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

impl AsyncRead for Batched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.traffic.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Batched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.after_write(&written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.after_write(&written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
