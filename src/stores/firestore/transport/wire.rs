//! The connection's bytes, as far as one must know of them: whether any left since a request was handed over,
//! and when the last ones came. Below TLS and HTTP/2, whose errors don't tell.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::Service;

use crate::stores::firestore::clock::Moment;
use crate::stores::net::tapped::{Tap, Tapped};

#[derive(Debug)]
pub(in crate::stores::firestore) struct Wire {
    sent: Mutex<Sent>,
    read_at: Mutex<Moment>,
}

#[derive(Debug, Default)]
struct Sent {
    bytes: u64,
    sealed: bool,
}

impl Wire {
    pub(in crate::stores::firestore) fn new() -> Arc<Wire> {
        Arc::new(Wire { sent: Mutex::default(), read_at: Mutex::new(Moment::now()) })
    }

    /// How many bytes the system has taken to send so far.
    pub(in crate::stores::firestore) fn written(&self) -> u64 {
        self.sent().bytes
    }

    /// Whether nothing has left since so many bytes had. If so, nothing ever will: what still waits in a buffer of a
    /// connection that failed must not leave after it was sent elsewhere.
    pub(in crate::stores::firestore) fn seal(&self, written: u64) -> bool {
        let mut sent = self.sent();
        sent.sealed |= sent.bytes == written;
        sent.bytes == written
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last bytes came; before any, when the wire was made.
    pub(in crate::stores::firestore) fn read_at(&self) -> Moment {
        *self.last_read()
    }

    fn last_read(&self) -> MutexGuard<'_, Moment> {
        self.read_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects over TCP, and counts what passes.
#[derive(Clone)]
pub(in crate::stores::firestore) struct Dial {
    pub(in crate::stores::firestore) tcp: HttpConnector,
    pub(in crate::stores::firestore) wire: Arc<Wire>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Counted>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, wire) = (self.tcp.call(uri), Arc::clone(&self.wire));
        Box::pin(async move {
            let socket = connecting.await?.into_inner();
            Ok(TokioIo::new(Tapped { socket, tap: Counter { wire, ended: false } }))
        })
    }
}

/// A TCP stream.
pub(in crate::stores::firestore) type Counted = Tapped<TcpStream, Counter>;

/// Once the other side has ended it nothing leaves any more: no answer could come, and what is not sent may be sent
/// elsewhere.
pub(in crate::stores::firestore) struct Counter {
    wire: Arc<Wire>,
    ended: bool,
}

impl Tap<TcpStream> for Counter {
    fn write(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut TcpStream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut sent = self.wire.sent();
        if self.ended || sent.sealed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = write(socket, cx);
        if let Poll::Ready(Ok(bytes)) = &written {
            sent.bytes += *bytes as u64;
        }
        written
    }

    fn read(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(socket).poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => *self.wire.last_read() = Moment::now(),
            Poll::Ready(Ok(())) => self.ended |= room,
            Poll::Ready(Err(_)) => self.ended = true,
            Poll::Pending => {}
        }
        read
    }
}
