//! One write for many requests.
//!
//! The multiplexer writes as soon as it holds one request, which under load means a system call for each,
//! here and at the server. Whoever is about to write lets the tasks that are ready go first: their requests
//! then leave together. A lone request pays one turn of the scheduler.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub(super) struct Batched<S> {
    stream: S,
    /// Whether the others have had their turn since the last write.
    gave_way: bool,
}

impl<S> Batched<S> {
    pub(super) fn new(stream: S) -> Batched<S> {
        Batched { stream, gave_way: false }
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

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.give_way(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.gave_way = false;
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.give_way(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.gave_way = false;
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
