//! Lease files, between real processes.
#![cfg(target_os = "linux")]

#[path = "support/needs.rs"]
mod needs;
#[path = "support/processes.rs"]
mod processes;

#[path = "lease_file/holding.rs"]
mod holding;
#[path = "lease_file/losing.rs"]
mod losing;
#[path = "lease_file/obstacles.rs"]
mod obstacles;
#[path = "lease_file/records.rs"]
mod records;
#[path = "lease_file/taking_over.rs"]
mod taking_over;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use syncguard::local::file_lock::{HeldBy, HeldLeaseFile, LeaseFile, LeaseFileOptions, Record};
use syncguard::local::process::ProcessId;
use syncguard::lock::{Code, Result};

fn acquire(path: &Path) -> Result<HeldLeaseFile> {
    LeaseFile::acquire(path, LeaseFileOptions::default(), None, None)
}

/// Who refuses us.
fn holder(path: &Path) -> HeldBy {
    let error = acquire(path).expect_err("somebody holds it");
    assert_eq!(error.code(), Code::AcquisitionTimeout, "{error}");
    HeldBy::of(&error).unwrap_or_else(|| panic!("{error}")).clone()
}

fn read(path: &Path) -> Record {
    let content = std::fs::read(path).expect("it can be read");
    Record::decode(&content).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&content)))
}

fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    i64::try_from(since.as_nanos()).expect("it fits until 2262")
}

/// What a Go process writes.
fn go_record(pid: u64, heartbeat_age: Duration) -> String {
    let heartbeat = unix_nanos() - i64::try_from(heartbeat_age.as_nanos()).expect("it fits");
    format!(
        "{{\"version\":1,\"ownerID\":\"{pid}-{heartbeat}-1\",\"pid\":{pid},\"lastHeartbeatUnixNano\":{heartbeat}}}\n"
    )
}

/// What one of our processes writes, with a fresh heartbeat.
fn our_record(pid: u32, start_time: u64) -> String {
    let here = ProcessId::current().expect("the system tells");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let go = go_record(pid.into(), Duration::ZERO);
    let go = go.trim_end().trim_end_matches('}');
    let (boot_id, pid_namespace) = (here.boot_id, here.pid_namespace);
    format!(
        "{go},\"host\":\"{host}\",\"bootID\":\"{boot_id}\",\"pidNS\":{pid_namespace},\"startTime\":{start_time}}}\n"
    )
}

/// A pid that no process has.
const NOBODY: u32 = 0x7FFF_FFFF;

/// The other side of the tests: acquires, releases and tells what came of it.
#[test]
#[ignore = "a helper process of the other tests"]
fn helper() {
    let losses = Arc::new(AtomicUsize::new(0));
    let mut held: Option<HeldLeaseFile> = None;
    let attempt = |path: &str, held: &mut Option<HeldLeaseFile>| {
        let counted = Arc::clone(&losses);
        let on_lost = Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        match LeaseFile::acquire(path, LeaseFileOptions::default(), None, Some(on_lost)) {
            Ok(file) => {
                *held = Some(file);
                "held".to_owned()
            }
            Err(error) => match HeldBy::of(&error) {
                Some(holder) => format!("refused by {}", holder.pid().unwrap_or(0)),
                None => error.to_string(),
            },
        }
    };
    processes::serve(|command, rest| match command {
        "acquire" => attempt(rest, &mut held),
        "race" => {
            let (path, moment) = rest.split_once(' ').expect("a path and a moment");
            processes::wait_for_moment(moment);
            attempt(path, &mut held)
        }
        "release" => match held.as_ref().map(HeldLeaseFile::release) {
            Some(Ok(released)) => released.to_string(),
            Some(Err(error)) => error.to_string(),
            None => "nothing".into(),
        },
        "held" => held.as_ref().is_some_and(HeldLeaseFile::is_held).to_string(),
        "losses" => losses.load(Ordering::SeqCst).to_string(),
        "become" => {
            let user = rustix::process::Uid::from_raw(rest.parse().expect("a user id"));
            rustix::thread::set_thread_uid(user).expect("root may");
            "done".into()
        }
        _ => format!("unknown command {command}"),
    });
}
