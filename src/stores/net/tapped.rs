//! A stream between a store's protocol and its socket, with a tap that sees what goes and comes, and may hold it back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one store has to know of its bytes, or to say about them.
pub(in crate::stores) trait Tap<S>: Unpin {
    /// Bytes are to be written: `write` hands them to the socket. Not calling it keeps them back; then whoever
    /// writes is woken to try again, or told why not.
    fn write(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>;

    /// Somebody wants to read.
    fn read(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;
}

pub(in crate::stores) struct Tapped<S, T> {
    pub socket: S,
    pub tap: T,
}

impl<S: AsyncRead + Unpin, T: Tap<S>> AsyncRead for Tapped<S, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Tapped { socket, tap } = self.get_mut();
        tap.read(socket, cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, T: Tap<S>> AsyncWrite for Tapped<S, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Tapped { socket, tap } = self.get_mut();
        tap.write(socket, cx, |socket, cx| Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Tapped { socket, tap } = self.get_mut();
        tap.write(socket, cx, |socket, cx| Pin::new(socket).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
