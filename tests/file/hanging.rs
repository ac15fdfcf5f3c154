//! A process that is stopped while it holds an OS lock, and a disk that does not answer: what hangs on them is
//! `NetworkTimeout` in time, and nothing else notices.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syncguard::backend::{BackendExt, LookupBy};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment};
use syncguard::local::file_lock::{HeldLeaseFile, LeaseFile, LeaseFileOptions, Record};
use syncguard::local::instance::{OPERATION_TIMEOUT, guard_async};
use syncguard::lock::{Code, Error};
use syncguard::stores::file::FileFixture;
use tokio::runtime::{Builder, Handle};

use super::child::{LONG, Process, key, open, ttl};
use super::needs::run_with;

const LIMIT: Duration = Duration::from_millis(400);

fn client(directory: &Path) -> Client {
    let options = ClientOptions { operation_timeout: LIMIT };
    Client::new(open(directory, "takeover"), options, Arc::new(NoEnvironment), Handle::current())
}

async fn acquire(client: &Client, name: &str) -> Result<bool, Error> {
    let options = AcquireOptions { key: key(name), ttl: ttl(LONG), keep: None, observer: None };
    let answer = client.acquire(options, None).await?;
    Ok(matches!(answer, syncguard::backend::Acquired::Granted(_)))
}

fn file_lock(path: PathBuf) -> impl Future<Output = Result<HeldLeaseFile, Error>> {
    let options = LeaseFileOptions { operation_timeout: LIMIT, ..LeaseFileOptions::default() };
    LeaseFile::acquire_async(path, options, None, None)
}

/// Everything in another directory, and a name, while something hangs.
async fn nothing_else_hangs(elsewhere: &Path) {
    let other = client(&elsewhere.join("locks"));
    assert!(acquire(&other, "key").await.expect("another directory answers"));
    let held = file_lock(elsewhere.join("lease")).await.expect("a FileLock elsewhere answers");
    assert!(held.release_async().await.expect("and so does its release"));
    let guard = guard_async(elsewhere.into(), "guard".into()).await.expect("a guard elsewhere answers");
    guard.cleanup_async().await.expect("and so does its clean-up");
    let mut addresses = tokio::net::lookup_host(("localhost", 80)).await.expect("a name is resolved");
    assert!(addresses.next().is_some());
}

/// What a call failed with, and after how long.
fn failing<T: Send + 'static>(
    call: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> tokio::task::JoinHandle<(Error, Duration)> {
    let started = Instant::now();
    tokio::spawn(async move {
        let error = call.await.map(|_| ()).expect_err("it hangs");
        (error, started.elapsed())
    })
}

fn is_in_time((error, took): &(Error, Duration), limit: Duration, machine: Duration) {
    assert_eq!(error.code(), Code::NetworkTimeout, "{error}");
    assert!(
        *took < limit + Duration::from_millis(200) + 2 * machine,
        "{error} after {took:?}, {machine:?} late"
    );
}

/// How late this machine's timers are meanwhile, by a thread of its own; and how late the runtime's.
struct Delays {
    over: Arc<std::sync::atomic::AtomicBool>,
    machine: std::thread::JoinHandle<Duration>,
    engine: tokio::task::JoinHandle<Duration>,
}

const TICK: Duration = Duration::from_millis(5);

impl Delays {
    fn measure() -> Delays {
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_over = |over: &Arc<std::sync::atomic::AtomicBool>| {
            let over = Arc::clone(over);
            move || over.load(std::sync::atomic::Ordering::Relaxed)
        };
        let (machine_over, engine_over) = (is_over(&over), is_over(&over));
        let machine = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !machine_over() {
                let started = Instant::now();
                std::thread::sleep(TICK);
                latest = latest.max(started.elapsed().saturating_sub(TICK));
            }
            latest
        });
        let engine = tokio::spawn(async move {
            let mut latest = Duration::ZERO;
            while !engine_over() {
                let started = Instant::now();
                tokio::time::sleep(TICK).await;
                latest = latest.max(started.elapsed().saturating_sub(TICK));
            }
            latest
        });
        Delays { over, machine, engine }
    }

    async fn end(self) -> (Duration, Duration) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        (self.machine.join().expect("it ends"), self.engine.await.expect("it ends"))
    }
}

/// As the addon's, but with a single thread to spare: nobody may take it for long.
fn on_a_narrow_runtime(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async { tokio::spawn(test).await.expect("the test passes") });
    runtime.shutdown_background();
}

#[test]
fn a_stopped_process_with_an_os_lock_holds_up_its_rivals_only() {
    on_a_narrow_runtime(async {
        let (fixture, elsewhere) = (FileFixture::new(), FileFixture::new());
        let here = client(fixture.directory());
        assert!(acquire(&here, "warm").await.expect("it answers"));
        let stopped = Process::start("hold key 60000", fixture.directory(), |command| {
            command.env("SYNCGUARD_TEST_STOP_AT", "grant: written");
        });
        while !is_stopped(stopped.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let delays = Delays::measure();
        let hung: Vec<_> = (0..8)
            .map(|_| {
                let here = here.clone();
                failing(async move { acquire(&here, "key").await })
            })
            .collect();
        std::fs::create_dir_all(elsewhere.directory()).expect("it can be made");
        nothing_else_hangs(elsewhere.directory()).await;
        assert!(acquire(&here, "another").await.expect("another key of the directory answers"));
        let hung = futures_util::future::join_all(hung).await;
        let (machine, _) = delays.end().await;
        hung.into_iter().for_each(|failed| is_in_time(&failed.expect("no panic"), LIMIT, machine));
        stopped.signal(rustix::process::Signal::CONT);
    });
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
}

/// A filesystem in a file, which can be frozen: whatever writes to it then waits in the kernel.
struct Disk {
    image: PathBuf,
    at: PathBuf,
    /// Thaws it in any case: a test whose own thread hangs on it could not.
    rescue: Option<Child>,
}

fn run(program: &str, args: &[&Path]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}

impl Disk {
    fn mount(below: &Path) -> Disk {
        let disk = Disk { image: below.join("image"), at: below.join("disk"), rescue: None };
        std::fs::create_dir_all(&disk.at).expect("it can be made");
        let image = std::fs::File::create(&disk.image).expect("it can be made");
        image.set_len(16 << 20).expect("it can be long");
        run("mkfs.ext4", &[Path::new("-q"), &disk.image]);
        run("mount", &[Path::new("-o"), Path::new("loop"), &disk.image, &disk.at]);
        disk
    }

    fn freeze(&mut self) {
        let rescue =
            Command::new("sh").args(["-c", "sleep 20; fsfreeze --unfreeze \"$0\""]).arg(&self.at).spawn();
        self.rescue = Some(rescue.expect("it starts"));
        run("fsfreeze", &[Path::new("--freeze"), &self.at]);
    }

    fn thaw(&mut self) {
        if let Some(mut rescue) = self.rescue.take() {
            let _ = rescue.kill().and_then(|()| rescue.wait());
            // Fails where the rescue was faster.
            let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.at).status();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn a_disk_that_does_not_answer_holds_up_only_what_is_on_it_and_what_it_grants_late_is_given_back() {
    if !run_with("disks") {
        return;
    }
    on_a_narrow_runtime(async {
        let (fixture, elsewhere) = (FileFixture::new(), FileFixture::new());
        std::fs::create_dir_all(elsewhere.directory()).expect("it can be made");
        let mut disk = Disk::mount(fixture.directory());
        let here = client(&disk.at.join("locks"));
        assert!(acquire(&here, "warm").await.expect("it answers"));
        disk.freeze();
        let delays = Delays::measure();
        let of_key = failing({
            let here = here.clone();
            async move { acquire(&here, "key").await }
        });
        let of_lease = failing(file_lock(disk.at.join("lease")));
        let of_guard = failing(guard_async(disk.at.clone(), "guard".into()));
        nothing_else_hangs(elsewhere.directory()).await;
        let (of_key, of_lease, of_guard) = tokio::join!(of_key, of_lease, of_guard);
        let (machine, engine) = delays.end().await;
        is_in_time(&of_key.expect("no panic"), LIMIT, machine);
        is_in_time(&of_lease.expect("no panic"), LIMIT, machine);
        is_in_time(&of_guard.expect("no panic"), OPERATION_TIMEOUT, machine);
        assert!(
            engine < LIMIT / 2 + 2 * machine,
            "the engine's thread stood still for {engine:?}, {machine:?} of them by the machine"
        );
        disk.thaw();
        // Whoever gave up has nothing, as soon as the disk has done what it was asked to.
        let at = disk.at.clone();
        let deadline = Instant::now() + Duration::from_secs(20);
        while at.join("lease").exists() || at.join("guard").exists() {
            assert!(Instant::now() < deadline, "a claim was left behind");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rival = open(&disk.at.join("locks"), "takeover");
        while rival.lookup(LookupBy::Key(&key("key"))).await.expect("it answers").is_some() {
            assert!(Instant::now() < deadline, "the key was left behind");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(acquire(&here, "key").await.expect("it answers again"));
    });
}

/// What is told of a `FileLock`'s loss, with the age of its heartbeat at that moment.
fn kept(path: PathBuf) -> (impl Future<Output = HeldLeaseFile>, Receiver<(Error, Duration)>) {
    let (tell, told) = channel();
    let at = path.clone();
    let on_lost = Box::new(move |error| {
        tell.send((error, heartbeat_age(&at))).expect("the test listens");
    });
    let options = LeaseFileOptions {
        lease_heartbeat_interval: BEAT,
        lease_stale_threshold: STALE,
        operation_timeout: LIMIT,
        ..LeaseFileOptions::default()
    };
    let taken = async move {
        LeaseFile::acquire_async(path, options, None, Some(on_lost)).await.expect("it is free")
    };
    (taken, told)
}

const BEAT: Duration = Duration::from_millis(50);
const STALE: Duration = Duration::from_millis(1000);
const SLACK: Duration = Duration::from_millis(100);

fn heartbeat(path: &Path) -> i64 {
    let content = std::fs::read(path).expect("it can be read");
    Record::decode(&content).expect("it is a record").heartbeat
}

fn heartbeat_age(path: &Path) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    now.saturating_sub(Duration::from_nanos(heartbeat(path).unsigned_abs()))
}

#[test]
fn a_file_lock_on_a_disk_that_does_not_answer_is_lost_in_time_and_no_other_is() {
    if !run_with("disks") {
        return;
    }
    on_a_narrow_runtime(async {
        let (fixture, elsewhere) = (FileFixture::new(), FileFixture::new());
        let mut disk = Disk::mount(fixture.directory());
        let (frozen, told) = kept(disk.at.join("lease"));
        let (second, second_told) = kept(disk.at.join("second"));
        let (other, other_told) = kept(elsewhere.directory().join("lease"));
        let (frozen, second, other) = tokio::join!(frozen, second, other);
        disk.freeze();
        let (delays, froze_at) = (Delays::measure(), Instant::now());
        let (mut oldest, mut slowest) = (Duration::ZERO, Duration::ZERO);
        while froze_at.elapsed() < STALE + STALE / 2 {
            tokio::time::sleep(TICK).await;
            let asked = Instant::now();
            let (is_held, other_is_held) = (frozen.is_held() || second.is_held(), other.is_held());
            slowest = slowest.max(asked.elapsed());
            assert!(other_is_held && (is_held || froze_at.elapsed() >= STALE - BEAT - SLACK));
            oldest = oldest.max(heartbeat_age(other.path()));
        }
        let (machine, _) = delays.end().await;
        assert!(!frozen.is_held() && !second.is_held());
        let lag = SLACK + 2 * machine;
        assert!(slowest < lag, "whether it is held was told after {slowest:?}");
        assert!(oldest < BEAT + lag, "the heartbeat of another directory was {oldest:?} old");
        for told in [told, second_told] {
            let (error, age) = told.try_recv().expect("the loss is told while the disk hangs");
            assert_eq!(error.code(), Code::LeaseLost, "{error}");
            assert!(age >= STALE && age < STALE + lag, "told at a heartbeat's age of {age:?}");
            assert!(told.recv().is_err(), "it is told once");
        }
        assert!(other_told.try_recv().is_err() && other.release_async().await.expect("it answers"));
        // The disk is asked to remove it as soon as it can.
        let hung = frozen.release_async().await.expect_err("the disk hangs");
        assert_eq!(hung.code(), Code::NetworkTimeout, "{hung}");
        drop(second);
        disk.thaw();
        let deadline = Instant::now() + Duration::from_secs(20);
        while disk.at.join("lease").exists() || disk.at.join("second").exists() {
            assert!(Instant::now() < deadline, "what was lost and released was left behind");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
