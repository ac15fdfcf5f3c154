//! Helper processes: this very test executable, started anew to run its ignored test `helper`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Marks the lines that are meant for us among those of the test harness.
const MARK: &str = "helper> ";

pub struct Helper {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// As this namespace counts; not that of a wrapper such as `unshare`.
    pub pid: u32,
}

impl Helper {
    pub fn start() -> Helper {
        Helper::start_within(&[])
    }

    /// Below another program, for instance `unshare`, which must not fork more than once.
    pub fn start_within(wrapper: &[&str]) -> Helper {
        let executable = std::env::current_exe().expect("this executable has a path");
        let mut words = wrapper.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.push(executable);
        words
            .extend(["helper", "--exact", "--ignored", "--nocapture", "--test-threads=1"].map(PathBuf::from));
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own, so that nobody's signals reach it by accident.
            .process_group(0)
            .spawn()
            .expect("the helper starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut helper = Helper { pid: process.id(), process, input, output };
        assert_eq!(helper.hear(), "ready");
        if !wrapper.is_empty() {
            helper.pid = child_of(helper.pid).unwrap_or(helper.pid);
        }
        helper
    }

    pub fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the helper listens");
    }

    pub fn hear(&mut self) -> String {
        loop {
            let line = self.output.next().expect("the helper answers").expect("it is text");
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.hear()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("it is a pid");
        kill_process(pid, signal).expect("the helper lives");
    }

    /// One that stops itself once it has compared what it is about to remove with what is there.
    pub fn start_and_stop_before_a_removal() -> Helper {
        Helper::start_within(&["env", "SYNCGUARD_TEST_STOP_AT=claim: compared"])
    }

    pub fn wait_until_stopped(&self) {
        wait_until("the helper stops", || stat_field(self.pid, 3).is_some_and(|state| state == "T"));
    }

    /// Ends it as nothing can be caught; it stays a zombie until it is dropped.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        wait_until("the helper has ended", || has_ended(self.pid));
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The helper itself first: a wrapper may pass nothing on. Errors mean that it has ended.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The helper's side: answers each line of standard input, until it ends.
pub fn serve(mut answer: impl FnMut(&str, &str) -> String) {
    println!("\n{MARK}ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("it is text");
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        println!("\n{MARK}{}", answer(command, rest).replace('\n', " "));
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(field - 3).map(ToOwned::to_owned)
}

pub fn has_ended(pid: u32) -> bool {
    let only_thread = || stat_field(pid, 20).is_none_or(|threads| threads == "1" || threads == "0");
    // After SIGKILL the main thread is a zombie while the others are still ending.
    stat_field(pid, 3).is_none_or(|state| (state == "Z" || state == "X") && only_thread())
}

/// In clock ticks since boot.
pub fn start_time(pid: u32) -> u64 {
    stat_field(pid, 22).expect("the process is there").parse().expect("it is a number")
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Processes that wait for one moment to begin all at once.
pub fn begin_together(helpers: &mut [Helper], command: &str) -> Vec<String> {
    let moment = monotonic_nanos() + 5_000_000;
    for helper in helpers.iter_mut() {
        helper.say(&format!("{command} {moment}"));
    }
    helpers.iter_mut().map(Helper::hear).collect()
}

pub fn wait_for_moment(moment: &str) {
    let moment: i64 = moment.parse().expect("it is a number");
    while monotonic_nanos() < moment {
        std::hint::spin_loop();
    }
}

fn monotonic_nanos() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// How often to repeat a race: a few times by default, `SYNCGUARD_TEST_ROUNDS` for more.
pub fn rounds() -> usize {
    std::env::var("SYNCGUARD_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(25)
}

/// A directory that is removed with all that is in it.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let name = format!("syncguard-test-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary directory is writable");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("it is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("it can be read").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
