//! A redis-server process of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{TempDir, free_port, needs, redis_6};

pub struct RedisServer {
    child: Child,
    pub port: u16,
    pub dir: TempDir,
    args: Vec<String>,
    program: PathBuf,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::with(|_| Vec::new())
    }

    /// With further arguments, which may name files in the server's directory.
    pub fn with(args: impl FnOnce(&TempDir) -> Vec<String>) -> RedisServer {
        RedisServer::of(current(), args)
    }

    /// A server of version 6.2.
    pub fn old(args: &[&str]) -> RedisServer {
        RedisServer::of(redis_6::program(), |_| args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    fn of(program: PathBuf, args: impl FnOnce(&TempDir) -> Vec<String>) -> RedisServer {
        let dir = TempDir::new();
        let args = args(&dir);
        let port = free_port();
        let child = spawn(&program, port, &dir, &args);
        RedisServer { child, port, dir, args, program }
    }

    /// A sentinel, from its configuration file, which it rewrites.
    pub fn sentinel(port: u16, dir: TempDir, config: String) -> RedisServer {
        let args = vec![config, "--sentinel".into(), "--port".into(), port.to_string()];
        let program = current();
        let child = run(&program, &dir, &args, "+monitor");
        RedisServer { child, port, dir, args, program }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// With `user:password@` before the host.
    pub fn url_for(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, self.port, &self.dir, &self.args);
    }

    /// A plain connection of the test's own.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url())
            .and_then(|client| client.get_connection())
            .expect("the test's connection")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn current() -> PathBuf {
    needs::program("redis", "redis-server")
}

fn spawn(program: &Path, port: u16, dir: &TempDir, args: &[String]) -> Child {
    let path = dir.path().to_str().expect("temporary paths are UTF-8");
    let mut all: Vec<String> =
        ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            .map(str::to_owned)
            .to_vec();
    all.extend(["--dir".to_owned(), path.to_owned()]);
    all.extend_from_slice(args);
    run(program, dir, &all, "Ready to accept connections")
}

/// Starts a process and waits until its log says that it is ready.
fn run(program: &Path, dir: &TempDir, args: &[String], ready: &str) -> Child {
    let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
    let mut child = Command::new(program)
        .args(args)
        .stdout(Stdio::from(log))
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        if log.contains(ready) {
            return child;
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("redis-server ended with {status}: {log}");
        }
        assert!(Instant::now() < deadline, "redis-server does not start: {log}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
