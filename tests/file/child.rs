//! Other processes: this test program, started again with one task.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use syncguard::backend::{AcquireRequest, Acquired, Backend, HandOver, Owner, Yield};
use syncguard::lock::{Lease, LockId};
use syncguard::stores::file::{FileBackend, FileConfig};
use syncguard::stores::target::{Setting, Settings};

pub use crate::asking::{key, ttl};

pub const LONG: u64 = 60_000;

pub fn request(name: &str, millis: u64) -> AcquireRequest {
    AcquireRequest { key: key(name), lock_id: LockId::mint(), ttl: ttl(millis) }
}

/// A backend as a process of its own opens it. `owner_death` is "takeover" or "wait".
pub fn open(directory: &Path, owner_death: &str) -> Arc<FileBackend> {
    let options: Settings =
        [("ownerDeath".to_owned(), Setting::Text(owner_death.to_owned()))].into_iter().collect();
    Arc::new(FileBackend::new(FileConfig::in_directory(directory, options).expect("valid options")))
}

pub async fn try_grant(backend: &FileBackend, request: &AcquireRequest) -> Option<Lease> {
    match backend.acquire(request).await.expect("acquire answers") {
        Acquired::Granted(lease) => Some(lease),
        Acquired::Held { .. } => None,
    }
}

pub async fn grant(backend: &FileBackend, request: &AcquireRequest) -> Lease {
    try_grant(backend, request).await.expect("the key is free")
}

/// A child process with a task; killed when dropped.
pub struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts `task` (see [`run`]) in `directory`, after `adjust` has had its way with the command.
    pub fn start(task: &str, directory: &Path, adjust: impl FnOnce(&mut Command)) -> Process {
        Process::start_by(&[], task, directory, adjust)
    }

    /// The same by way of another program, such as `unshare`.
    pub fn start_by(
        program: &[&str],
        task: &str,
        directory: &Path,
        adjust: impl FnOnce(&mut Command),
    ) -> Process {
        let this = std::env::current_exe().expect("this program has a path");
        let mut command = match program {
            [] => Command::new(&this),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&this);
                command
            }
        };
        command
            .args(["child::run", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("SYNCGUARD_TEST_TASK", task)
            .env("SYNCGUARD_TEST_DIRECTORY", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped"));
        let input = child.stdin.take();
        Process { child, lines, input }
    }

    /// The next line that the task wrote; `None` at its end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("its output is text") == 0 {
                return None;
            }
            // The test harness writes, too, and its first line may have no end of its own.
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    pub fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the child is there");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets a task go on that waits for it.
    pub fn go_on(&mut self) {
        drop(self.input.take());
    }

    /// The same, and waits for its end.
    pub fn finish(&mut self) -> ExitStatus {
        self.go_on();
        self.child.wait().expect("the child ends")
    }

    /// That it ended by SIGKILL, its own or ours.
    pub fn was_killed(&mut self) -> bool {
        self.finish().signal() == Some(9)
    }

    /// Kills it without waiting for its end.
    pub fn signal_kill(&mut self) {
        let _ = self.child.kill();
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the child is there");
        self.child.wait().expect("the child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "> {line}").and_then(|()| output.flush()).expect("the parent listens");
}

fn say_lease(what: &str, lease: &Lease) {
    let Lease { lock_id, fence, expires_at, .. } = lease;
    say(&format!("{what} {fence} {} {}", lock_id.as_str(), expires_at.as_millis()));
}

pub fn wait_for_parent() {
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

/// Not a test: what a child process does.
#[tokio::test]
#[ignore = "a task of the tests' child processes"]
async fn run() {
    let Ok(task) = std::env::var("SYNCGUARD_TEST_TASK") else { return };
    let directory = std::env::var_os("SYNCGUARD_TEST_DIRECTORY").expect("the parent names a directory");
    let owner_death = std::env::var("SYNCGUARD_TEST_OWNER_DEATH").unwrap_or_else(|_| "takeover".into());
    let backend = open(Path::new(&directory), &owner_death);
    let words: Vec<&str> = task.split(' ').collect();
    match words.as_slice() {
        ["check"] => match backend.check().await {
            Ok(()) => say("fine"),
            Err(error) => say(&format!("{} {}", error.code().as_str(), error.message())),
        },
        ["hold", name, millis] => {
            match try_grant(&backend, &request(name, millis.parse().expect("a TTL"))).await {
                Some(lease) => say_lease("held", &lease),
                None => say("refused"),
            }
            wait_for_parent();
        }
        ["release", name] => {
            let lease = grant(&backend, &request(name, LONG)).await;
            say_lease("held", &lease);
            wait_for_parent();
            backend.release(&Owner::from(lease)).await.expect("release answers");
            // It lives on: its death must not be what wakes the waiter.
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        }
        ["turns", name] => super::waiting::take_turns(name, Path::new(&directory)).await,
        ["steps", name] => steps(&backend, name).await,
        ["contend", name] => super::contention::contend(&backend, name, Path::new(&directory)).await,
        _ => panic!("there is no task {task:?}"),
    }
}

/// Every change there is, each told before it begins and after it is done.
async fn steps(backend: &FileBackend, name: &str) {
    let first = request(name, LONG);
    say(&format!("acquiring {}", first.lock_id.as_str()));
    let lease = grant(backend, &first).await;
    say_lease("acquired", &lease);
    say("extending");
    let extended = backend.extend(&Owner::from(lease.clone()), ttl(2 * LONG)).await;
    say(&format!("extended {extended:?}"));
    let next = request(name, LONG);
    say(&format!("handing {}", next.lock_id.as_str()));
    let owner = Owner::from(lease);
    let handed = backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await;
    let Some(Acquired::Granted(lease)) = handed.expect("hand_over answers").next else {
        panic!("the lease is handed over")
    };
    say_lease("handed", &lease);
    say("releasing");
    let released = backend.release(&Owner::from(lease)).await;
    say(&format!("released {released:?}"));
}
