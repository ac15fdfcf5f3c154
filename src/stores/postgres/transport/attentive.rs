//! A stream that knows what it has sent, and that its other side has ended before the runtime does.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::stream::Stream;
use crate::stores::net::tapped::{Tap, Tapped};

/// After this long without traffic, whether the other side is still there is looked up before anything is written.
const QUIET: Duration = Duration::from_millis(1);
/// How the message begins with which a server ends a session.
const ERROR: u8 = b'E';

/// How many bytes a connection's socket has taken.
#[derive(Clone, Default)]
pub(in crate::stores::postgres) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(in crate::stores::postgres) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A socket that can be asked what has arrived, whatever the runtime has been told of it.
pub(in crate::stores::postgres) trait Socket: Stream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Socket for TcpStream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self)).read(buffer)
    }
}

#[cfg(unix)]
impl Socket for tokio::net::UnixStream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self)).read(buffer)
    }
}

/// Lets nothing be written to a connection whose end has already arrived, and counts what is: where that is nothing,
/// nothing of a request was sent.
pub(in crate::stores::postgres) struct Attentive {
    sent: Sent,
    /// When something last went or came.
    busy: Instant,
    /// What arrived before it was asked for.
    early: Vec<u8>,
}

pub(in crate::stores::postgres) fn attentive(socket: impl Socket) -> (Box<dyn Stream>, Sent) {
    let sent = Sent::default();
    let tap = Attentive { sent: sent.clone(), busy: Instant::now(), early: Vec::new() };
    (Box::new(Tapped { socket, tap }), sent)
}

impl Attentive {
    /// Whether something arrived that is to be read before anything is written.
    fn has_news(&mut self, socket: &impl Socket) -> io::Result<bool> {
        if !self.early.is_empty() || self.busy.elapsed() < QUIET {
            return Ok(false);
        }
        let mut buffer = [0; 1024];
        match socket.receive(&mut buffer) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            // Between two requests an error is the server's last word, and its end may still be on its way.
            Ok(_) if buffer[0] == ERROR => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Ok(count) => {
                self.early.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.busy = Instant::now();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl<S: Socket> Tap<S> for Attentive {
    fn write(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.has_news(socket)? {
            // Whoever drives the connection reads first when it comes back, and learns why it ended.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let outcome = write(socket, cx);
        if let Poll::Ready(Ok(count)) = &outcome {
            self.sent.0.fetch_add(*count as u64, Ordering::Release);
            self.busy = Instant::now();
        }
        outcome
    }

    fn read(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..count]);
            self.early.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(socket).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.busy = Instant::now();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_is_written_once_the_other_side_has_ended() {
        for last_words in ["", "goodbye", "Error"] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (mut stream, sent) = attentive(TcpStream::connect(address).await.unwrap());
            stream.write_all(b"hello").await.unwrap();
            let (mut other, _) = listener.accept().unwrap();
            let mut heard = [0; 5];
            std::io::Read::read_exact(&mut other, &mut heard).unwrap();
            std::io::Write::write_all(&mut other, last_words.as_bytes()).unwrap();
            drop(other);
            // This thread does nothing else, so the runtime has heard of none of it.
            std::thread::sleep(Duration::from_millis(20));
            let mut all = String::new();
            if last_words.is_empty() || last_words.starts_with('E') {
                stream.write_all(b"lost").await.unwrap_err();
            } else {
                // As the driver: reads before it writes again.
                let writing = std::future::poll_fn(|cx| {
                    Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"lost").is_pending())
                });
                assert!(writing.await, "what has arrived is read first");
            }
            stream.read_to_string(&mut all).await.unwrap();
            assert_eq!(sent.bytes(), 5, "nothing but what came before");
            assert!(all == last_words || last_words.starts_with('E'));
        }
    }
}
