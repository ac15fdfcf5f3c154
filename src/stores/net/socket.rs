//! A connected socket that is watched by whoever polls it: the engine's runtime or an event loop. It moves with the
//! task that has it, and no byte is lost.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::Socket as Raw;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::event_loop::{Readiness, Watch, here, is_here};

/// TCP or unix.
pub(crate) struct Socket(Way);

enum Way {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Watched(Watched),
    /// It could not be moved.
    Lost,
}

/// By an event loop.
struct Watched {
    raw: Arc<Raw>,
    readiness: Arc<Readiness>,
    watch: Box<dyn Watch>,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket(Way::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket(Way::Unix(stream))
    }
}

impl Socket {
    /// Asks the socket itself something.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(socket2::SockRef<'_>) -> T) -> Option<T> {
        match &self.0 {
            Way::Tcp(stream) => Some(ask(socket2::SockRef::from(stream))),
            #[cfg(unix)]
            Way::Unix(stream) => Some(ask(socket2::SockRef::from(stream))),
            Way::Watched(watched) => Some(ask(socket2::SockRef::from(&*watched.raw))),
            Way::Lost => None,
        }
    }

    /// Has it watched by whoever polls.
    fn settle(&mut self) -> io::Result<()> {
        match (&self.0, is_here()) {
            (Way::Watched(_), false) => self.move_to_engine(),
            (Way::Tcp(_), true) => self.move_to_event_loop(),
            #[cfg(unix)]
            (Way::Unix(_), true) => self.move_to_event_loop(),
            (Way::Lost, _) => Err(io::ErrorKind::NotConnected.into()),
            _ => Ok(()),
        }
    }

    fn move_to_event_loop(&mut self) -> io::Result<()> {
        let Some(event_loop) = here() else { return Ok(()) };
        let raw: Raw = match std::mem::replace(&mut self.0, Way::Lost) {
            Way::Tcp(stream) => stream.into_std()?.into(),
            #[cfg(unix)]
            Way::Unix(stream) => stream.into_std()?.into(),
            other => {
                self.0 = other;
                return Ok(());
            }
        };
        let (raw, readiness) = (Arc::new(raw), Arc::new(Readiness::default()));
        // Something may have come before it was watched.
        readiness.set(true, true);
        let watch = event_loop.watch(Arc::clone(&raw), &readiness)?;
        self.0 = Way::Watched(Watched { raw, readiness, watch });
        Ok(())
    }

    fn move_to_engine(&mut self) -> io::Result<()> {
        let Way::Watched(watched) = std::mem::replace(&mut self.0, Way::Lost) else { return Ok(()) };
        // The event loop closes its own share once it runs.
        let own = watched.raw.try_clone()?;
        #[cfg(unix)]
        if own.domain()? == socket2::Domain::UNIX {
            self.0 = Way::Unix(UnixStream::from_std(own.into())?);
            return Ok(());
        }
        self.0 = Way::Tcp(TcpStream::from_std(own.into())?);
        Ok(())
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        engine: impl FnOnce(&mut Way, &mut Context<'_>) -> Poll<io::Result<usize>>,
        mut write: impl FnMut(&mut &Raw) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.settle()?;
        let Way::Watched(watched) = &self.0 else { return engine(&mut self.0, cx) };
        let side = watched.readiness.write();
        loop {
            ready!(side.poll(cx));
            match write(&mut &*watched.raw) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    side.is_exhausted();
                    watched.watch.until_writable();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The event loop's share may be closed much later, and the other side is to hear of the end now.
        if let Way::Watched(watched) = &self.0 {
            let _ = watched.raw.shutdown(Shutdown::Both);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.settle()?;
        match &mut self.0 {
            Way::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(unix)]
            Way::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Way::Watched(watched) => loop {
                let side = watched.readiness.read();
                ready!(side.poll(cx));
                let room = buffer.initialize_unfilled();
                let asked = room.len();
                match (&*watched.raw).read(room) {
                    Ok(read) => {
                        // The loop tells again if that was not all.
                        if read < asked && read > 0 {
                            side.is_exhausted();
                        }
                        buffer.advance(read);
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => side.is_exhausted(),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            },
            Way::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(
            cx,
            |way, cx| match way {
                Way::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
                #[cfg(unix)]
                Way::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
                _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            },
            |raw| raw.write(bytes),
        )
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(
            cx,
            |way, cx| match way {
                Way::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
                #[cfg(unix)]
                Way::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
                _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            },
            |raw| raw.write_vectored(bytes),
        )
    }

    // What is written together is in one piece already.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Way::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Way::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Way::Watched(watched) => Poll::Ready(watched.raw.shutdown(Shutdown::Write)),
            Way::Lost => Poll::Ready(Ok(())),
        }
    }
}
