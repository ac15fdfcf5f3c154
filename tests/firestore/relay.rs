//! A TCP relay before the emulator whose connections end or hang as a network's do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Fin,
    Reset,
}

#[derive(Default)]
struct Connection {
    ended: CancellationToken,
    by_reset: AtomicBool,
    frozen: AtomicBool,
}

#[derive(Clone)]
pub struct Relay {
    pub port: u16,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

impl Relay {
    pub async fn to(server: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let connections = Arc::<Mutex<Vec<Arc<Connection>>>>::default();
        let (accepting, server) = (Arc::clone(&connections), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the emulator accepts");
                let connection = Arc::new(Connection::default());
                accepting.lock().unwrap().push(Arc::clone(&connection));
                tokio::spawn(pass(client, server, connection));
            }
        });
        Relay { port, connections }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Ends every connection there is, to both sides.
    pub fn cut(&self, how: End) {
        for connection in self.connections.lock().unwrap().iter() {
            connection.by_reset.store(how == End::Reset, Ordering::SeqCst);
            connection.ended.cancel();
        }
    }

    /// Nothing passes any more on the connections that there are; new ones are good.
    pub fn freeze(&self) {
        self.connections.lock().unwrap().iter().for_each(|it| it.frozen.store(true, Ordering::SeqCst));
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, connection: Arc<Connection>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket");
    }
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = connection.ended.cancelled() => {}
            () = copy(from_client, to_server, &connection) => {}
            () = copy(from_server, to_client, &connection) => {}
        }
    }
    if connection.by_reset.load(Ordering::SeqCst) {
        for stream in [&client, &server] {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, connection: &Connection) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        while connection.frozen.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
