//! Opening the byte stream: TCP, TLS over it, or a unix socket.

use std::io;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::stores::net::socket::Socket;
use crate::stores::net::stream::tune;
use crate::stores::redis::config::endpoint::Address;
use crate::stores::redis::config::tls::Tls;

/// A stream of any of the three kinds.
pub(in crate::stores::redis) trait Stream:
    AsyncRead + AsyncWrite + Unpin + Send + Sync
{
    /// Whether the other side will send nothing any more, also where there is something left to read.
    fn has_hung_up(&self) -> bool;

    /// Whether a write that fails has sent nothing.
    fn fails_whole(&self) -> bool {
        true
    }
}

impl Stream for Socket {
    fn has_hung_up(&self) -> bool {
        self.with(hung_up).unwrap_or(true)
    }
}

impl Stream for TlsStream<Socket> {
    fn has_hung_up(&self) -> bool {
        self.get_ref().0.has_hung_up()
    }

    /// Some records may have gone before the one that failed.
    fn fails_whole(&self) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
fn hung_up(socket: SockRef<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut asked = [PollFd::new(&*socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok_and(|count| count > 0)
}

#[cfg(not(target_os = "linux"))]
fn hung_up(socket: SockRef<'_>) -> bool {
    match socket.peek(&mut [std::mem::MaybeUninit::uninit()]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

pub(in crate::stores::redis) async fn open(
    address: &Address,
    tls: Option<&Tls>,
) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            tune(&stream)?;
            match tls {
                None => Ok(Box::new(Socket::from(stream))),
                Some(tls) => {
                    let connector = tokio_rustls::TlsConnector::from(tls.client_config().await?);
                    Ok(Box::new(connector.connect(tls.server_name(host)?, Socket::from(stream)).await?))
                }
            }
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Box::new(Socket::from(tokio::net::UnixStream::connect(path).await?))),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}
