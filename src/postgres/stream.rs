//! Opening the byte stream below a session: TCP or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use super::host::Host;

/// A stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// After this long without a sign of life the kernel asks, and after three unanswered questions it gives up.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the kernel resends what nobody acknowledges. Its default is a quarter of an hour.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

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

pub(super) async fn open(address: Address) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            tune(&stream)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
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
