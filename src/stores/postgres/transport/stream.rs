//! Opening the byte stream below a session: TCP or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use super::attentive::{Sent, attentive};
use crate::stores::net::stream::tune;
use crate::stores::postgres::config::host::Host;

/// A stream of either kind.
pub(in crate::stores::postgres) trait Stream:
    AsyncRead + AsyncWrite + Unpin + Send + 'static
{
}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// How much earlier one address of a host is tried than the next (RFC 8305, *Happy Eyeballs*).
const HEAD_START: Duration = Duration::from_millis(250);

/// Where to connect: a name may stand for several addresses.
pub(in crate::stores::postgres) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

pub(in crate::stores::postgres) async fn resolve(host: &Host) -> io::Result<Vec<Address>> {
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
pub(in crate::stores::postgres) async fn open(
    addresses: Vec<Address>,
) -> io::Result<(Box<dyn Stream>, Sent)> {
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
            Ok(attentive(stream))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(attentive(tokio::net::UnixStream::connect(path).await?)),
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
}
