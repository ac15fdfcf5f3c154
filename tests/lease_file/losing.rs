//! How a holder learns that its file is gone or not its own any more.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use syncguard::local::file_lock::{HeldLeaseFile, LeaseFile, LeaseFileOptions};
use syncguard::lock::{Code, Error};

use super::processes::{Directory, Helper, wait_until};
use super::{acquire, go_record, read};

/// Held with a quick heartbeat, and what is told of its loss.
fn watched(path: &Path) -> (HeldLeaseFile, Receiver<Error>) {
    let options =
        LeaseFileOptions { lease_heartbeat_interval: Duration::from_millis(10), ..Default::default() };
    let (tell, told) = channel();
    let on_lost = Box::new(move |error| tell.send(error).expect("the test listens"));
    (LeaseFile::acquire(path, options, None, Some(on_lost)).unwrap(), told)
}

/// The loss is told once, and the release that follows leaves what is there alone.
fn assert_lost(held: &HeldLeaseFile, told: &Receiver<Error>) {
    let error = told.recv_timeout(Duration::from_secs(10)).expect("the loss is told");
    assert_eq!(error.code(), Code::LeaseLost, "{error}");
    assert!(held.is_lost() && !held.is_held());
    let before = std::fs::read(held.path()).ok();
    assert!(!held.release().unwrap());
    assert_eq!(std::fs::read(held.path()).ok(), before);
    // The sender is gone with the callback: it can't be told a second time.
    assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
}

#[test]
fn a_removed_file_is_lost() {
    let directory = Directory::new();
    let (held, told) = watched(&directory.join("lease"));
    std::fs::remove_file(held.path()).unwrap();
    assert_lost(&held, &told);
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_file_in_its_place_is_lost_even_with_the_same_content() {
    let directory = Directory::new();
    let (held, told) = watched(&directory.join("lease"));
    std::fs::copy(held.path(), directory.join("copy")).unwrap();
    std::fs::rename(directory.join("copy"), held.path()).unwrap();
    assert_lost(&held, &told);
}

#[test]
fn another_owner_in_the_same_file_is_lost() {
    let directory = Directory::new();
    let (held, told) = watched(&directory.join("lease"));
    let record = go_record(4242, Duration::ZERO);
    std::fs::write(held.path(), &record).unwrap();
    assert_lost(&held, &told);
    assert_eq!(std::fs::read_to_string(held.path()).unwrap(), record);
}

#[test]
fn a_truncated_file_is_lost_and_not_filled_up() {
    let directory = Directory::new();
    for length in [0, 1, 40, 100] {
        let path = directory.join(&length.to_string());
        let (held, told) = watched(&path);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        assert_lost(&held, &told);
        assert_eq!(std::fs::metadata(&path).unwrap().size(), length);
    }
}

#[test]
fn a_directory_or_symlink_in_its_place_is_lost() {
    let directory = Directory::new();
    let (held, told) = watched(&directory.join("lease"));
    std::fs::remove_file(held.path()).unwrap();
    std::fs::create_dir(held.path()).unwrap();
    assert_lost(&held, &told);
    assert!(held.path().is_dir());
    let (held, told) = watched(&directory.join("other"));
    std::fs::rename(held.path(), directory.join("moved")).unwrap();
    std::os::unix::fs::symlink(directory.join("moved"), held.path()).unwrap();
    assert_lost(&held, &told);
    assert!(std::fs::symlink_metadata(held.path()).unwrap().is_symlink());
}

/// Whether or not a heartbeat noticed: the release looks for itself.
#[test]
fn a_release_leaves_another_owners_file_alone() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let slow = LeaseFileOptions { lease_heartbeat_interval: Duration::from_secs(3600), ..Default::default() };
    let hold = || LeaseFile::acquire(&path, slow.clone(), None, None).unwrap();
    let record = go_record(4242, Duration::ZERO);

    let held = hold();
    std::fs::write(&path, &record).unwrap();
    assert!(!held.release().unwrap(), "changed in place");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), record);
    std::fs::remove_file(&path).unwrap();

    let held = hold();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &record).unwrap();
    drop(held);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), record, "replaced");
}

/// A callback that panics takes no other file's heartbeat with it.
#[test]
fn a_panic_in_the_callback_stays_there() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let other = acquire(&directory.join("other")).unwrap();
    let options =
        LeaseFileOptions { lease_heartbeat_interval: Duration::from_millis(10), ..Default::default() };
    let on_lost = Box::new(|_| panic!("a callback that fails"));
    let held = LeaseFile::acquire(&path, options, None, Some(on_lost)).unwrap();
    std::fs::remove_file(&path).unwrap();
    wait_until("it is lost", || held.is_lost());
    let last = read(other.path()).heartbeat;
    wait_until("the other one is kept", || read(other.path()).heartbeat > last);
}

/// The largest file that a process may write: below the heartbeat's place, every heartbeat fails.
fn limit_files(helper: &Helper, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(helper.pid).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).expect("the helper is ours");
}

#[test]
fn a_failed_heartbeat_is_not_a_loss_until_the_stale_threshold() {
    let directory = Directory::new();
    let path = directory.join("lease");
    // A write beyond the limit is answered by a signal, unless that is ignored: then by an error.
    let mut helper = Helper::start_within(&["sh", "-c", "trap '' XFSZ; \"$@\"; :", "sh"]);
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");

    limit_files(&helper, Some(10));
    std::thread::sleep(Duration::from_millis(600));
    let last = read(&path).heartbeat;
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(read(&path).heartbeat, last, "none is written");
    assert_eq!((helper.ask("losses"), helper.ask("held")), ("0".into(), "true".into()));
    limit_files(&helper, None);
    wait_until("it goes on", || read(&path).heartbeat > last);
    assert_eq!(helper.ask("losses"), "0");

    limit_files(&helper, Some(10));
    wait_until("it is lost", || helper.ask("losses") == "1");
    let age = super::unix_nanos() - read(&path).heartbeat;
    assert!(age >= 3_000_000_000, "lost after {age} ns");
    limit_files(&helper, None);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!((helper.ask("losses"), helper.ask("held")), ("1".into(), "false".into()));
}

/// Stopped for longer than the threshold, a process finds out when it goes on; its successor's file stays.
#[test]
fn a_stopped_holder_is_taken_over_after_the_threshold_and_told() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");
    helper.signal(Signal::STOP);
    let last = read(&path).heartbeat;
    let mut taken = None;
    wait_until("it is taken over", || {
        taken = acquire(&path).ok();
        taken.is_some()
    });
    assert!(super::unix_nanos() - last >= 3_000_000_000, "not sooner than the threshold");
    helper.signal(Signal::CONT);
    wait_until("it is told", || helper.ask("losses") == "1");
    assert_eq!((helper.ask("held"), helper.ask("release")), ("false".into(), "false".into()));
    assert_eq!(read(&path).pid, u64::from(std::process::id()));
    assert!(taken.expect("it was taken").release().unwrap());
    assert_eq!(helper.ask("losses"), "1");
}
