//! Disks that are full or read-only, and users without permission.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use syncguard::backend::{Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::lock::Code;
use syncguard::stores::file::FileFixture;

use super::child::{LONG, Process, grant, open, request, try_grant, ttl};
use super::needs::run_with;

const NOBODY: u32 = 65534;

/// A small filesystem in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where it is left out by name.
    fn mount(at: &Path, options: &str) -> Option<Disk> {
        if !run_with("namespaces") {
            return None;
        }
        fs::create_dir_all(at).expect("it can be made");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(status.is_ok_and(|status| status.success()), "it can be mounted");
        Some(Disk(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "it can be mounted otherwise");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let fixture = FileFixture::new();
    // Room for few blocks; and plenty of blocks, but few files.
    for options in ["size=256k,mode=700", "size=4m,nr_inodes=40,mode=700"] {
        let Some(disk) = Disk::mount(&fixture.directory().join("disk"), options) else { return };
        let backend = open(&disk.0, "takeover");
        let mut held = Vec::new();
        let error = loop {
            match backend.acquire(&request(&format!("key-{}", held.len()), LONG)).await {
                Ok(syncguard::backend::Acquired::Granted(lease)) => held.push(lease),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
            assert!(held.len() < 1000, "the disk is never full");
        };
        assert_eq!(error.code(), Code::ServiceUnavailable, "{error}");
        assert!(error.is_retryable() && !error.is_unknown(), "{error:?}");
        assert!(!held.is_empty());
        let refused = format!("key-{}", held.len());
        let rival = open(&disk.0, "takeover");
        for lease in &held {
            let found = rival.lookup(LookupBy::Key(&lease.key)).await.expect("it can be read");
            assert_eq!(found.as_ref(), Some(lease), "{options}");
            // An extend may need room; it changes all or nothing.
            match backend.extend(&Owner::from(lease.clone()), ttl(2 * LONG)).await {
                Ok(Mutation::Done(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert_eq!(error.code(), Code::ServiceUnavailable, "{error}"),
            }
            assert_eq!(try_grant(&rival, &request(lease.key.as_str(), LONG)).await, None);
        }
        for lease in held.drain(..) {
            let released = backend.release(&Owner::from(lease.lock_id)).await;
            assert_eq!(released.expect("a release needs no room"), Mutation::Done(()));
            // What was used once can be used again.
            let again = request(lease.key.as_str(), LONG);
            match backend.acquire(&again).await {
                Ok(syncguard::backend::Acquired::Granted(next)) => {
                    assert!(next.fence > lease.fence);
                    backend.release(&Owner::from(next)).await.expect("release answers");
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert_eq!(error.code(), Code::ServiceUnavailable, "{error}"),
            }
        }
        disk.remount("size=8m,nr_inodes=1000");
        let lease = grant(&backend, &request(&refused, LONG)).await;
        assert_eq!(rival.release(&Owner::from(lease.lock_id)).await.expect("answers"), Mutation::Done(()));
    }
}

#[tokio::test]
async fn a_full_disk_at_the_start_is_said() {
    let fixture = FileFixture::new();
    let Some(disk) = Disk::mount(&fixture.directory().join("disk"), "nr_inodes=2,mode=700") else { return };
    fs::write(disk.0.join("filler"), "").expect("one file fits");
    let error = open(&disk.0, "takeover").check().await.expect_err("there is no room");
    assert_eq!(error.code(), Code::ServiceUnavailable, "{error}");
}

#[tokio::test]
async fn a_read_only_disk_is_said_and_loses_nothing() {
    let fixture = FileFixture::new();
    let Some(disk) = Disk::mount(&fixture.directory().join("disk"), "mode=700") else { return };
    let backend = open(&disk.0, "takeover");
    let lease = grant(&backend, &request("key", LONG)).await;
    disk.remount("ro");
    for error in [
        backend.acquire(&request("other", LONG)).await.map(|_| ()).expect_err("it can't be written"),
        backend.release(&Owner::from(lease.clone())).await.map(|_| ()).expect_err("it can't be written"),
    ] {
        assert_eq!(error.code(), Code::ServiceUnavailable, "{error}");
        assert!(error.message().contains("read-only") && !error.is_unknown(), "{error}");
    }
    disk.remount("rw");
    assert_eq!(backend.release(&Owner::from(lease)).await.expect("answers"), Mutation::Done(()));
    disk.remount("ro");
    let missing = open(&disk.0.join("below"), "takeover");
    let error = missing.check().await.expect_err("it can't be made");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("read-only"), "{error}");
}

fn as_nobody(command: &mut Command) {
    command.uid(NOBODY).gid(NOBODY);
}

/// What `check` says to a user without special rights. The test program itself must be readable to it.
fn check_as_nobody(directory: &Path) -> Option<String> {
    let this = std::env::current_exe().expect("this program has a path");
    let copy = std::env::temp_dir().join(format!("syncguard-test-program-{}", std::process::id()));
    // By a program of its own: a file that is open to write here can't be started while another test forks.
    let copied = Command::new("cp").arg(this).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()), "it can be copied");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    let path = copy.to_str().expect("text").to_owned();
    // `env` runs the copy in place of this program, whose path comes last and is not looked at.
    let script = format!("exec {path} \"$@\"");
    let mut child = Process::start_by(&["sh", "-c", &script], "check", directory, |command| {
        as_nobody(command);
        command.current_dir(std::env::temp_dir());
    });
    let line = child.line();
    let _ = fs::remove_file(copy);
    line
}

#[tokio::test]
async fn a_user_without_permission_is_told_so() {
    if !run_with("root") {
        return;
    }
    let fixture = FileFixture::new();
    let directory = fixture.directory();
    fs::create_dir(directory).expect("it can be made");
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it can");

    set(directory, 0o755);
    let said = check_as_nobody(directory).expect("it answers");
    assert!(said.starts_with("InvalidArgument") && said.contains("another user"), "{said}");
    let said = check_as_nobody(&directory.join("below")).expect("it answers");
    assert!(said.starts_with("InvalidArgument") && said.contains("permission denied"), "{said}");

    chown(directory, Some(NOBODY), Some(NOBODY)).expect("it can be given away");
    set(directory, 0o500);
    let said = check_as_nobody(directory).expect("it answers");
    assert!(said.starts_with("InvalidArgument") && said.contains("permission denied"), "{said}");
    set(directory, 0o700);
    assert_eq!(check_as_nobody(directory).as_deref(), Some("fine"));
    let error = open(directory, "takeover").check().await.expect_err("it belongs to somebody else");
    assert_eq!(error.code(), Code::InvalidArgument, "root is no exception: {error}");
}
