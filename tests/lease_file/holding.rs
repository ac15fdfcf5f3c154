//! A lease file that is held, and released.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use syncguard::local::file_lock::{LeaseFile, LeaseFileOptions};
use syncguard::lock::Code;

use super::processes::{Directory, Helper, wait_until};
use super::{NOBODY, acquire, go_record, holder, read};

#[test]
fn a_held_file_refuses_at_once_and_tells_the_pid() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");
    let holder = holder(&path);
    assert_eq!(holder.pid(), Some(helper.pid.into()));
    assert!(holder.is_local());
    let error = acquire(&path).unwrap_err();
    assert!(error.message().contains(&format!("process {}", helper.pid)), "{error}");
    assert!(error.is_retryable());
    assert_eq!(helper.ask("release"), "true");
    assert!(acquire(&path).unwrap().is_held());
}

#[test]
fn a_process_excludes_itself_too() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let held = acquire(&path).unwrap();
    assert_eq!(holder(&path).pid(), Some(std::process::id().into()));
    assert!(held.release().unwrap());
}

#[test]
fn a_released_file_is_gone_and_the_loss_is_never_told() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let losses = Arc::new(AtomicUsize::new(0));
    let options =
        LeaseFileOptions { lease_heartbeat_interval: Duration::from_millis(5), ..Default::default() };
    for drop_it in [false, true] {
        let counted = Arc::clone(&losses);
        let on_lost = Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let held = LeaseFile::acquire(&path, options.clone(), None, Some(on_lost)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(held.is_held() && !held.is_lost());
        if drop_it {
            drop(held);
        } else {
            assert!(held.release().unwrap());
            assert!(!held.is_held() && !held.is_lost());
            assert!(!held.release().unwrap(), "the second time there is nothing to release");
        }
        assert_eq!(directory.names(), [""; 0]);
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(losses.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn it_works_from_a_runtime() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let acquire = || LeaseFile::acquire_async(path.clone(), LeaseFileOptions::default(), None, None);
    let held = acquire().await.unwrap();
    assert_eq!(acquire().await.unwrap_err().code(), Code::AcquisitionTimeout);
    assert!(held.release_async().await.unwrap());
    assert!(!held.release_async().await.unwrap());
    assert!(acquire().await.is_ok());
}

#[test]
fn missing_directories_are_made() {
    let directory = Directory::new();
    let path = directory.join("a").join("b").join("lease");
    assert!(acquire(&path).unwrap().release().unwrap());
    assert!(directory.join("a").join("b").is_dir());
}

#[test]
fn a_fresh_record_of_go_is_held_whatever_its_pid() {
    let directory = Directory::new();
    let path = directory.join("lease");
    for pid in [1, 4242, NOBODY.into(), u64::from(u32::MAX) + 1] {
        let record = go_record(pid, Duration::ZERO);
        std::fs::write(&path, &record).unwrap();
        let holder = holder(&path);
        assert_eq!((holder.pid(), holder.is_local()), (Some(pid), false));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), record);
    }
}

#[test]
fn all_of_many_files_are_kept() {
    const FILES: usize = 300;
    let directory = Directory::new();
    let options =
        LeaseFileOptions { lease_heartbeat_interval: Duration::from_millis(50), ..Default::default() };
    let acquire = |number: usize| {
        let path = directory.join(&number.to_string());
        LeaseFile::acquire(path, options.clone(), None, None).unwrap()
    };
    let held: Vec<_> = (0..FILES).map(acquire).collect();
    let first: Vec<_> = held.iter().map(|held| read(held.path()).heartbeat).collect();
    for (held, first) in held.iter().zip(first) {
        wait_until("a heartbeat", || read(held.path()).heartbeat > first);
    }
    assert!(held.iter().all(|held| held.release().unwrap()));
}

/// Stopped for less than the threshold, a process keeps its file, and nothing is lost when it goes on.
#[test]
fn a_short_stop_loses_nothing() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");
    helper.signal(Signal::STOP);
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_millis(1500) {
        assert_eq!(holder(&path).pid(), Some(helper.pid.into()));
        std::thread::sleep(Duration::from_millis(50));
    }
    helper.signal(Signal::CONT);
    let last = read(&path).heartbeat;
    wait_until("it goes on", || read(&path).heartbeat > last);
    assert_eq!((helper.ask("losses"), helper.ask("release")), ("0".into(), "true".into()));
}
