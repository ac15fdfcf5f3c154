//! What lease files cost: acquire and release, a takeover, the heartbeats of many files.
//!
//! `cargo run --release --example lease_file_figures [DIRECTORY]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use syncguard::local::file_lock::{LeaseFile, LeaseFileOptions};
use syncguard::lock::Result;

const PAIRS: u32 = 5000;
const TAKEOVERS: u32 = 500;
const FILES: usize = 1000;
const WATCH: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = parent.join(format!("lease-file-figures-{}", std::process::id()));
    let measured = measure(&directory);
    // Whatever came of it, the directory is ours.
    let _ = std::fs::remove_dir_all(&directory);
    measured
}

fn measure(directory: &Path) -> Result<()> {
    let path = directory.join("lease");
    let acquire = || LeaseFile::acquire(&path, LeaseFileOptions::default(), None, None);

    acquire()?.release()?;
    let pair = each(PAIRS, || acquire()?.release())?;
    println!("acquire and release  {:8.1} µs", micros(pair));

    let held = acquire()?;
    let refusal = each(PAIRS, || {
        assert!(acquire().is_err(), "it is held");
        Ok(())
    })?;
    println!("a refused acquire    {:8.1} µs", micros(refusal));
    let dead = dead_holders_record(&path);
    held.release()?;

    let mut total = Duration::ZERO;
    for _ in 0..TAKEOVERS {
        std::fs::write(&path, &dead).expect("the directory is writable");
        let started = Instant::now();
        let held = acquire()?;
        total += started.elapsed();
        held.release()?;
    }
    println!("takeover             {:8.1} µs", micros(total / TAKEOVERS));

    let keep = |number: usize| {
        let path = directory.join(format!("held-{number}"));
        LeaseFile::acquire(path, LeaseFileOptions::default(), None, None)
    };
    let held = (0..FILES).map(keep).collect::<Result<Vec<_>>>()?;
    let (started, before) = (Instant::now(), processor_time());
    std::thread::sleep(WATCH);
    let share = (processor_time() - before).as_secs_f64() / started.elapsed().as_secs_f64();
    println!("{FILES} held files      {:8.2} % of a core for their heartbeats", share * 100.0);
    for held in held {
        assert!(held.release()?, "it was kept");
    }
    Ok(())
}

/// A record as this process writes them, but of a process with our pid that started earlier: a dead one.
fn dead_holders_record(path: &Path) -> String {
    let record = std::fs::read_to_string(path).expect("it is held by us");
    let (before, start_time) = record.rsplit_once(':').expect("it ends with the start time");
    let start_time: u64 = start_time.trim_end().trim_end_matches('}').parse().expect("it is a number");
    format!("{before}:{}}}\n", start_time - 1000)
}

fn each<T>(times: u32, mut work: impl FnMut() -> Result<T>) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..times {
        work()?;
    }
    Ok(started.elapsed() / times)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Of all threads of this process, in user and kernel mode.
#[cfg(unix)]
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(not(unix))]
fn processor_time() -> Duration {
    Duration::ZERO
}
