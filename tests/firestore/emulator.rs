//! The Firestore emulator: one for all tests of this process, or the one that FIRESTORE_EMULATOR_HOST names.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::needs;

/// An emulator that ends with the test process, however that ends: a shell reads from a pipe which nobody
/// writes to, and when the pipe closes it kills the process group that gcloud leads, and its own.
pub struct Emulator {
    pub port: u16,
    child: Child,
}

const SCRIPT: &str = r#"
    gcloud emulators firestore start --host-port="127.0.0.1:$1" </dev/null 2>&1 &
    gcloud=$!
    read -r _
    kill -KILL -"$gcloud" 2>/dev/null
    kill -KILL 0
"#;

impl Emulator {
    pub fn start() -> Emulator {
        Emulator::on(free_port())
    }

    pub fn on(port: u16) -> Emulator {
        for program in ["gcloud", "java"] {
            needs::program("firestore", program);
        }
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "sh", &port.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (ready, started) = std::sync::mpsc::channel();
        // Reads on, so that the emulator never waits for a full pipe.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains("is now running") {
                    let _ = ready.send(());
                }
            }
        });
        let emulator = Emulator { port, child };
        started
            .recv_timeout(Duration::from_secs(60))
            .unwrap_or_else(|_| panic!("gcloud starts no emulator. {}", needs::how_to_get("firestore")));
        emulator
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it without warning; nothing that it held survives.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        // The group is more than the child that was waited for.
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the emulator is that the tests share.
pub fn shared() -> &'static str {
    static SHARED: OnceLock<(Option<Emulator>, String)> = OnceLock::new();
    let (_, host) = SHARED.get_or_init(|| match std::env::var("FIRESTORE_EMULATOR_HOST") {
        Ok(host) if !host.is_empty() => (None, host),
        _ => {
            let emulator = Emulator::start();
            let host = emulator.host();
            (Some(emulator), host)
        }
    });
    host
}

/// A project that no other test uses: a database of its own.
pub fn project() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // An emulator that outlives this process has seen others with its number.
    let salt = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis();
    format!("test-{}-{salt}-{count}", std::process::id())
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Waits until `done`, for ten seconds at most.
pub async fn eventually<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = done().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
