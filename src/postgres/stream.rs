//! Opening the byte stream below a session: TCP or a unix socket.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};

use super::host::Host;

/// A stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// How many bytes a connection's socket has taken.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// After this long without a sign of life the kernel asks, and after three unanswered questions it gives up.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the kernel resends what nobody acknowledges. Its default is a quarter of an hour.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much earlier one address of a host is tried than the next (RFC 8305, *Happy Eyeballs*).
const HEAD_START: Duration = Duration::from_millis(250);
/// After this long without traffic, whether the other side is still there is looked up before anything is written.
const QUIET: Duration = Duration::from_millis(1);

/// How the message begins with which a server ends a session.
const ERROR: u8 = b'E';

/// Where to connect: a name may stand for several addresses.
pub(super) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

pub(super) async fn resolve(host: &Host) -> io::Result<Vec<Address>> {
    match host {
        Host::Tcp { name, address, port } => {
            let found = lookup_host((address.as_deref().unwrap_or(name), *port)).await?;
            Ok(found.map(Address::Tcp).collect())
        }
        #[cfg(unix)]
        Host::Unix { directory, port } => Ok(vec![Address::Unix(directory.join(format!(".s.PGSQL.{port}")))]),
        #[cfg(not(unix))]
        Host::Unix { .. } => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

/// The first address that accepts. Each has a head start over the next, so that one that swallows packets
/// hides none.
pub(super) async fn open(addresses: Vec<Address>) -> io::Result<(Box<dyn Stream>, Sent)> {
    let mut later = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match later.next() {
            Some(address) => trying.push(open_one(address)),
            None if trying.is_empty() => return Err(last),
            None => {}
        }
        let outcome = if later.len() > 0 {
            tokio::time::timeout(HEAD_START, trying.next()).await.ok().flatten()
        } else {
            trying.next().await
        };
        match outcome {
            Some(Ok(opened)) => return Ok(opened),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

async fn open_one(address: Address) -> io::Result<(Box<dyn Stream>, Sent)> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            tune(&stream)?;
            Ok(Attentive::over(stream))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Attentive::over(tokio::net::UnixStream::connect(path).await?)),
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(target_os = "windows"))]
    let keepalive = keepalive.with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// A socket that can be asked what has arrived, whatever the runtime has been told of it.
trait Socket: Stream {
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

/// Writes nothing to a connection whose end has already arrived, and counts what it writes: where that is
/// nothing, nothing of a request was sent.
struct Attentive<S> {
    socket: S,
    sent: Sent,
    /// When something last went or came.
    busy: Instant,
    /// What arrived before it was asked for.
    early: Vec<u8>,
}

impl<S: Socket> Attentive<S> {
    fn over(socket: S) -> (Box<dyn Stream>, Sent) {
        let sent = Sent::default();
        let stream = Attentive { socket, sent: sent.clone(), busy: Instant::now(), early: Vec::new() };
        (Box::new(stream), sent)
    }

    /// Whether something arrived that is to be read before anything is written.
    fn has_news(&mut self) -> io::Result<bool> {
        if !self.early.is_empty() || self.busy.elapsed() < QUIET {
            return Ok(false);
        }
        let mut buffer = [0; 1024];
        match self.socket.receive(&mut buffer) {
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

impl<S: Socket> AsyncRead for Attentive<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..count]);
            self.early.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.busy = Instant::now();
        }
        outcome
    }
}

impl<S: Socket> AsyncWrite for Attentive<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_news()? {
            // Whoever drives the connection reads first when it comes back, and learns why it ended.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let outcome = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &outcome {
            self.sent.0.fetch_add(*count as u64, Ordering::Release);
            self.busy = Instant::now();
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_swallows_packets_hides_no_other() {
        // A queue of connections that is full: what comes next gets no answer.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let full_address = full.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(full_address)).await
        {
            queued.push(stream);
        }
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good_address = good.local_addr().unwrap();
        let addresses = || vec![Address::Tcp(full_address), Address::Tcp(good_address)];
        let opening = tokio::time::timeout(Duration::from_secs(5), open(addresses()));
        opening.await.expect("the second is tried").unwrap();
        let refused = [Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)))];
        assert!(open(refused.into()).await.is_err());
        assert!(open(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_written_once_the_other_side_has_ended() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for last_words in ["", "goodbye", "Error"] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp(listener.local_addr().unwrap());
            let (mut stream, sent) = open(vec![address]).await.unwrap();
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
