//! What is in a lease file's way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use syncguard::local::file_lock::HeldBy;
use syncguard::lock::Code;

use super::acquire;
use super::needs::run_with;
use super::processes::{Directory, Helper};

/// A tmpfs of 64 KiB at `$1` that only the helper sees, and that goes with it.
const SMALL_DISK: [&str; 6] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=64k none \"$0\" && \"$@\"; :", ""];

fn refusal(path: &Path) -> Code {
    let error = acquire(path).expect_err("something is in the way");
    assert!(HeldBy::of(&error).is_none());
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    error.code()
}

#[test]
fn what_is_no_file_is_neither_followed_nor_removed() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let target = directory.join("target");

    std::fs::create_dir(&path).unwrap();
    assert_eq!(refusal(&path), Code::InvalidArgument);
    assert!(path.is_dir());
    std::fs::remove_dir(&path).unwrap();

    // One that leads nowhere, and one that leads to an abandoned record.
    std::os::unix::fs::symlink(&target, &path).unwrap();
    for content in [None, Some("{}")] {
        if let Some(content) = content {
            std::fs::write(&target, content).unwrap();
        }
        assert_eq!(refusal(&path), Code::InvalidArgument);
        assert_eq!(std::fs::read_link(&path).unwrap(), target);
        assert_eq!(std::fs::read_to_string(&target).ok().as_deref(), content);
    }
    std::fs::remove_file(&path).unwrap();

    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(refusal(&path), Code::InvalidArgument);
    std::fs::remove_file(&path).unwrap();

    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(refusal(&path), Code::InvalidArgument);
    assert!(path.exists());
}

#[test]
fn paths_that_name_no_file_are_invalid() {
    let directory = Directory::new();
    let inside = directory.path().to_str().unwrap();
    std::fs::write(directory.join("file"), "").unwrap();
    let long = "x".repeat(300);
    for path in ["", " ", "/", ".", "..", "a/", "a/..", "a\0b"] {
        assert_eq!(acquire(Path::new(path)).unwrap_err().code(), Code::InvalidArgument, "{path:?}");
    }
    for path in [format!("{inside}/file/lease"), format!("{inside}/{long}")] {
        assert_eq!(acquire(Path::new(&path)).unwrap_err().code(), Code::InvalidArgument, "{path:?}");
    }
    assert_eq!(directory.names(), ["file"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    if !run_with("namespaces") {
        return;
    }
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut wrapper = SMALL_DISK;
    let place = directory.path().to_str().unwrap();
    wrapper[5] = place;
    let mut helper = Helper::start_within(&wrapper);
    // Seen from outside, the helper's disk is below its root.
    let disk = format!("/proc/{}/root{place}", helper.pid);
    std::fs::write(format!("{disk}/filler"), vec![0; 1 << 20]).expect_err("the disk is small");
    let answer = helper.ask(&format!("acquire {}", path.display()));
    assert!(answer.starts_with("ServiceUnavailable") && answer.contains("no space left"), "{answer}");
    let names: Vec<_> = std::fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["filler"]);
    std::fs::remove_file(format!("{disk}/filler")).unwrap();
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");
    // Heartbeats and the release need no space.
    std::fs::write(format!("{disk}/filler"), vec![0; 1 << 20]).expect_err("the disk is small");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!((helper.ask("losses"), helper.ask("release")), ("0".into(), "true".into()));
}

#[test]
fn missing_permission_is_told_and_changes_nothing() {
    if !run_with("root") {
        return;
    }
    let directory = Directory::new();
    let set =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(directory.path(), 0o755);
    let mut stranger = Helper::start();
    assert_eq!(stranger.ask("become 65534"), "done");
    let mut refused = |path: &Path| {
        let answer = stranger.ask(&format!("acquire {}", path.display()));
        assert!(answer.starts_with("AuthFailed") && answer.contains(path.to_str().unwrap()), "{answer}");
    };

    let path = directory.join("lease");
    refused(&path);
    assert_eq!(directory.names(), [""; 0], "not allowed to create");

    std::fs::write(&path, "{}").unwrap();
    set(&path, 0o600);
    refused(&path);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}", "not allowed to read");

    set(&path, 0o644);
    std::fs::write(&path, super::go_record(1, std::time::Duration::from_secs(60))).unwrap();
    refused(&path);
    assert!(path.exists(), "not allowed to remove");

    let closed = directory.join("closed");
    std::fs::create_dir(&closed).unwrap();
    set(&closed, 0o700);
    refused(&closed.join("lease"));
}
