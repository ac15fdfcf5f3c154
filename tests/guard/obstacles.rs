//! What is in a claim's way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use syncguard::local::instance::{Holder, guard, state_of};
use syncguard::lock::Code;

use super::needs::run_with;
use super::processes::{Directory, Helper};
use super::{NAME, claim_of};

fn refusal(directory: &Directory) -> Code {
    let error = guard(directory.path(), NAME).expect_err("something is in the way");
    assert!(Holder::of(&error).is_none() && state_of(&error).is_none());
    assert!(error.message().contains(directory.join(NAME).to_str().unwrap()), "{error}");
    assert_eq!(directory.names().len(), 1 + usize::from(directory.join("target").exists()));
    error.code()
}

#[test]
fn a_stray_file_stays_as_it_is() {
    let directory = Directory::new();
    let here = syncguard::local::process::ProcessId::current().unwrap();
    let claim = claim_of(&here);
    for content in ["", "\n", "4242\n", "hello", "{}", "null", &claim[..claim.len() - 2], &claim.repeat(2)] {
        std::fs::write(directory.join(NAME), content).unwrap();
        assert_eq!(refusal(&directory), Code::InvalidArgument, "{content:?}");
        assert_eq!(std::fs::read_to_string(directory.join(NAME)).unwrap(), content);
    }
}

#[test]
fn what_is_no_file_is_neither_followed_nor_removed() {
    let directory = Directory::new();
    let (path, target) = (directory.join(NAME), directory.join("target"));

    std::fs::create_dir(&path).unwrap();
    assert_eq!(refusal(&directory), Code::InvalidArgument);
    assert!(path.is_dir());
    std::fs::remove_dir(&path).unwrap();

    std::os::unix::fs::symlink(&target, &path).unwrap();
    for content in [None, Some("{}")] {
        if let Some(content) = content {
            std::fs::write(&target, content).unwrap();
        }
        assert_eq!(refusal(&directory), Code::InvalidArgument);
        assert_eq!(std::fs::read_link(&path).unwrap(), target);
        assert_eq!(std::fs::read_to_string(&target).ok().as_deref(), content);
    }
    std::fs::remove_file(&target).unwrap();
    std::fs::remove_file(&path).unwrap();

    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(refusal(&directory), Code::InvalidArgument);
    assert!(path.exists());
}

#[test]
fn names_that_are_none_are_invalid() {
    let directory = Directory::new();
    for name in ["", ".", "..", "/", "a/b", "a/", "/a", "../a", "a\0b"] {
        let error = guard(directory.path(), name).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name:?}");
        assert!(error.message().starts_with("name must be"), "{error}");
    }
    for dir in ["", "a\0b"] {
        assert_eq!(guard(dir, NAME).unwrap_err().code(), Code::InvalidArgument, "{dir:?}");
    }
    assert_eq!(guard(directory.path(), "x".repeat(300)).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(directory.names(), [""; 0]);
    for name in ["a b", "…", "..a", "-", "*"] {
        guard(directory.path(), name).unwrap_or_else(|error| panic!("{error}")).cleanup().unwrap();
    }
}

#[test]
fn a_missing_directory_is_made() {
    let directory = Directory::new();
    let below = directory.join("a").join("b");
    let guard = guard(&below, NAME).unwrap();
    assert_eq!(guard.path(), below.join(NAME));
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Whoever the other user is, and whatever the umask was.
#[test]
fn another_users_instance_is_seen_and_counts() {
    if !run_with("root") {
        return;
    }
    let directory = Directory::new();
    set_mode(directory.path(), 0o1777);
    let start = format!("start {}", directory.path().display());
    let mut first = Helper::start_within(&["sh", "-c", "umask 077; \"$@\"; :", "sh"]);
    assert_eq!(first.ask(&start), "OK");
    let mut stranger = Helper::start();
    assert_eq!(stranger.ask("become 65534"), "done");
    assert_eq!(stranger.ask(&start), format!("refused by {}", first.pid));
    // In a directory like /tmp only the owner may remove it, but who may is told that it is left over.
    first.kill();
    assert!(stranger.ask(&start).starts_with("AuthFailed"));
    assert_eq!(directory.names(), [NAME]);
    set_mode(directory.path(), 0o777);
    assert_eq!(stranger.ask(&start), "OK_STALE_LOCK_REMOVED");
}

#[test]
fn missing_permission_is_told_and_changes_nothing() {
    if !run_with("root") {
        return;
    }
    let directory = Directory::new();
    set_mode(directory.path(), 0o755);
    let mut stranger = Helper::start();
    assert_eq!(stranger.ask("become 65534"), "done");
    assert!(stranger.ask(&format!("start {}", directory.path().display())).starts_with("AuthFailed"));
    set_mode(directory.path(), 0o700);
    assert!(stranger.ask(&format!("start {}", directory.path().display())).starts_with("AuthFailed"));
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    if !run_with("namespaces") {
        return;
    }
    let directory = Directory::new();
    let place = directory.path().to_str().unwrap();
    let mount = "mount -t tmpfs -o size=64k none \"$0\" && \"$@\"; :";
    let mut helper = Helper::start_within(&["unshare", "--mount", "sh", "-c", mount, place]);
    // Seen from outside, the helper's disk is below its root.
    let disk = format!("/proc/{}/root{place}", helper.pid);
    std::fs::write(format!("{disk}/filler"), vec![0; 1 << 20]).expect_err("the disk is small");
    let answer = helper.ask(&format!("start {place}"));
    assert!(answer.starts_with("ServiceUnavailable") && answer.contains("no space left"), "{answer}");
    let names: Vec<_> = std::fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["filler"]);
    std::fs::remove_file(format!("{disk}/filler")).unwrap();
    assert_eq!(helper.ask(&format!("start {place}")), "OK");
}
