//! Whether the server process behind a session is the one that answered the log-in. A pooler makes up its
//! own answer, so there the two differ.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Length, code, process id and secret key.
const CANCEL_REQUEST: usize = 16;
const CANCEL_CODE: i32 = 80_877_102;

/// The process id that was told at log-in. The driver hides it, but it goes into the message that cancels a
/// query, which here goes nowhere.
pub(in crate::stores::postgres) async fn announced(token: &CancelToken) -> Option<i32> {
    let (ours, theirs) = tokio::io::duplex(64);
    let (sent, pid) = tokio::join!(token.cancel_query_raw(ours, Passthrough), read(theirs));
    sent.ok()?;
    pid.ok()
}

/// Plays the server: agrees to TLS where it is asked for, and reads one message.
async fn read(mut stream: DuplexStream) -> io::Result<i32> {
    loop {
        let (length, code) = (stream.read_i32().await?, stream.read_i32().await?);
        if code == CANCEL_CODE && usize::try_from(length) == Ok(CANCEL_REQUEST) {
            return stream.read_i32().await;
        }
        stream.write_all(b"S").await?;
    }
}

/// TLS that is none, towards nobody.
struct Passthrough;

struct Plain(DuplexStream);

impl TlsConnect<DuplexStream> for Passthrough {
    type Stream = Plain;
    type Error = io::Error;
    type Future = Ready<io::Result<Plain>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Plain(stream)))
    }
}

impl TlsStream for Plain {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
