//! Records as they stand in the file.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use serde_json::Value;
use syncguard::local::file_lock::Record;

use super::{acquire, processes::Directory, processes::wait_until, read, unix_nanos};

#[test]
fn vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../__test__/vectors/lease-files.json"))
        .expect("the vectors are JSON");
    let cases = vectors["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 35, "the file is whole");
    for case in cases {
        let why = case["why"].as_str().expect("a reason");
        let record = Record::decode(case["content"].as_str().expect("a text").as_bytes());
        assert_eq!(record.is_some(), case["valid"].as_bool().expect("a flag"), "{why}");
        if let Some(record) = record {
            assert_eq!(record.owner_id, case["ownerID"].as_str().expect("a text"), "{why}");
            assert_eq!(Some(record.pid), case["pid"].as_u64(), "{why}");
            assert_eq!(record.heartbeat.to_string(), case["heartbeat"].as_str().expect("a text"), "{why}");
        }
    }
}

#[test]
fn the_line_has_the_fields_of_go_then_ours() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let before = unix_nanos();
    let held = acquire(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let pid = std::process::id();
    assert!(text.starts_with(&format!("{{\"version\":1,\"ownerID\":\"{pid}-")), "{text}");
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    let mut expected =
        ["version", "ownerID", "pid", "lastHeartbeatUnixNano", "host", "bootID", "pidNS", "startTime"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let record = read(&path);
    assert_eq!(record.pid, u64::from(pid));
    assert!((before..=unix_nanos()).contains(&record.heartbeat));
    let parts: Vec<&str> = record.owner_id.split('-').collect();
    assert_eq!(parts.len(), 3, "PID-UNIXNANO-SEQ");
    assert!(parts.iter().all(|part| part.parse::<u64>().is_ok()));
    assert_eq!(held.path(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o022, 0o644);
}

#[test]
fn a_heartbeat_overwrites_its_digits_and_nothing_else() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let held = acquire(&path).unwrap();
    let (first, inode) = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().ino());
    let digits = {
        let text = String::from_utf8(first.clone()).unwrap();
        let start = text.find("Nano\":").expect("it has a heartbeat") + 6;
        start..start + 19
    };
    let mut last = read(&path).heartbeat;
    for _ in 0..3 {
        wait_until("the next heartbeat", || read(&path).heartbeat > last);
        last = read(&path).heartbeat;
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content[..digits.start], first[..digits.start]);
        assert_eq!(content[digits.end..], first[digits.end..]);
        assert!(content[digits.clone()].iter().all(u8::is_ascii_digit));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert!(held.is_held());
}

/// A reader that never rests finds a whole record each time, and never two heartbeats mixed up.
#[test]
fn no_reader_sees_half_of_a_record() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let options = syncguard::local::file_lock::LeaseFileOptions {
        lease_heartbeat_interval: Duration::from_millis(1),
        ..Default::default()
    };
    let end = std::time::Instant::now() + Duration::from_millis(500);
    let reads = std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let mut reads = 0;
            while std::time::Instant::now() < end {
                match std::fs::read(&path) {
                    Ok(content) => assert!(Record::decode(&content).is_some(), "{content:?}"),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                }
                reads += 1;
            }
            reads
        });
        while std::time::Instant::now() < end {
            let held =
                syncguard::local::file_lock::LeaseFile::acquire(&path, options.clone(), None, None).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            assert!(held.release().unwrap());
        }
        reader.join().expect("it read whole records only")
    });
    assert!(reads > 100, "{reads} reads");
}
