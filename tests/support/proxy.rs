//! A TCP relay between a backend and its server that loses what it is told to lose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    refusing: AtomicBool,
    stopped: AtomicBool,
    accepted: AtomicUsize,
    delay_ms: AtomicU64,
    open: Mutex<Vec<Relay>>,
}

/// One connection's two sockets, and whether its replies vanish.
struct Relay {
    client: TcpStream,
    server: TcpStream,
    muted: Arc<AtomicBool>,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if accepting.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                let muted = Arc::new(AtomicBool::new(false));
                copy(&client, &server, None, &accepting);
                copy(&server, &client, Some(muted.clone()), &accepting);
                accepting.open.lock().unwrap().push(Relay { client, server, muted });
            }
        });
        Proxy { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// From now on requests of the open connections go through, and their replies vanish.
    pub fn mute(&self) {
        self.shared.open.lock().unwrap().iter().for_each(|relay| relay.muted.store(true, Ordering::SeqCst));
    }

    /// How much later everything arrives from now on, in either direction.
    pub fn delay(&self, by: Duration) {
        self.shared.delay_ms.store(by.as_millis().try_into().expect("a short delay"), Ordering::SeqCst);
    }

    /// Says on every open connection that nothing more will come, as a server does that closes it; what the
    /// other side sends still arrives.
    pub fn hang_up(&self) {
        for relay in self.shared.open.lock().unwrap().iter() {
            let _ = relay.client.shutdown(Shutdown::Write);
        }
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, on: bool) {
        self.shared.refusing.store(on, Ordering::SeqCst);
    }

    /// Cuts every connection there is. When this answers, the other sides' systems have heard of it.
    pub fn cut(&self) {
        for relay in self.shared.open.lock().unwrap().drain(..) {
            let _ = relay.client.shutdown(Shutdown::Both);
            let _ = relay.server.shutdown(Shutdown::Both);
            heard(&relay.client);
        }
    }
}

/// Waits until the other side's system has acknowledged the end of a connection, where this system tells.
fn heard(socket: &TcpStream) {
    const FIN_WAIT1: &str = "04";
    let (Ok(here), Ok(there)) = (socket.local_addr(), socket.peer_addr()) else { return };
    let ports = [here, there].map(|address| format!(":{:04X}", address.port()));
    let pending = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        table.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().take(4).collect();
            matches!(fields[..], [_, from, to, FIN_WAIT1] if from.ends_with(&ports[0]) && to.ends_with(&ports[1]))
        })
    };
    for _ in 0..5000 {
        if !pending() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn copy(from: &TcpStream, to: &TcpStream, muted: Option<Arc<AtomicBool>>, shared: &Arc<Shared>) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    let shared = Arc::clone(shared);
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if muted.as_ref().is_some_and(|muted| muted.load(Ordering::SeqCst)) {
                continue;
            }
            let delay = Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst));
            if sender.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
    });
}
