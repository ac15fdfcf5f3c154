//! Containers: processes that can't see each other's pids share a directory.

use std::time::Duration;

use syncguard::backend::{Backend, BackendExt, Owner};
use syncguard::stores::file::FileFixture;

use super::child::{LONG, Process, grant, key, open, request, try_grant};
use super::needs::run_with;

const UNSHARE: &[&str] = &["unshare", "--pid", "--fork", "--kill-child"];
const WITH_PROC: &[&str] = &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

#[tokio::test]
async fn a_pid_of_another_namespace_is_never_probed() {
    if !run_with("namespaces") {
        return;
    }
    for program in [UNSHARE, WITH_PROC] {
        let fixture = FileFixture::new();
        let backend = open(fixture.directory(), "takeover");
        let mut child = Process::start_by(program, "hold key 2000", fixture.directory(), |_| {});
        assert!(child.line().is_some_and(|line| line.starts_with("held")), "{program:?}");
        // Its pid in there is 1: here that is a process which started at another time.
        assert_eq!(try_grant(&backend, &request("key", LONG)).await, None, "{program:?}");
        child.kill();
        assert!(backend.is_locked(&key("key")).await.expect("answers"), "it can't be known to be dead");
        tokio::time::sleep(Duration::from_millis(3100)).await;
        grant(&backend, &request("key", LONG)).await;
    }
}

#[tokio::test]
async fn equal_pids_in_two_namespaces_are_two_processes() {
    if !run_with("namespaces") {
        return;
    }
    for program in [UNSHARE, WITH_PROC] {
        let fixture = FileFixture::new();
        let mut first = Process::start_by(program, "hold key 60000", fixture.directory(), |_| {});
        assert!(first.line().is_some_and(|line| line.starts_with("held")), "{program:?}");
        let mut second = Process::start_by(program, "hold key 60000", fixture.directory(), |_| {});
        assert_eq!(second.line().as_deref(), Some("refused"), "{program:?}");
    }
}

#[tokio::test]
async fn within_one_namespace_a_dead_owner_is_known() {
    if !run_with("namespaces") {
        return;
    }
    let fixture = FileFixture::new();
    // A shell is the first process in there; two children of its follow each other.
    let script = "\"$0\" \"$@\" < /dev/null; exec \"$0\" \"$@\"";
    for unshare in [UNSHARE, WITH_PROC] {
        let program = [unshare, &["sh", "-c", script]].concat();
        let mut child = Process::start_by(&program, "hold key 60000", fixture.directory(), |_| {});
        for turn in ["first", "second"] {
            let line = child.line();
            assert!(
                line.as_ref().is_some_and(|line| line.starts_with("held")),
                "{turn} {unshare:?}: {line:?}"
            );
        }
        child.finish();
        std::fs::remove_dir_all(fixture.directory()).expect("the next one starts afresh");
    }
}

/// A container that was moved while it ran sees another boot clock and other start times than its host.
#[tokio::test]
async fn a_shifted_boot_clock_changes_nothing() {
    const SHIFTED: &[&str] = &["unshare", "--time", "--boottime", "100000", "--fork", "--kill-child"];
    if !run_with("namespaces") {
        return;
    }
    let fixture = FileFixture::new();
    let backend = open(fixture.directory(), "takeover");
    let mut child = Process::start_by(SHIFTED, "hold key 60000", fixture.directory(), |_| {});
    assert!(child.line().is_some_and(|line| line.starts_with("held")));
    assert_eq!(try_grant(&backend, &request("key", LONG)).await, None, "it lives");
    child.kill();
    // The kernel kills the holder when the one that started it is gone.
    let lease = loop {
        if let Some(lease) = try_grant(&backend, &request("key", LONG)).await {
            break lease;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // The other way round: this process holds the key, and it lives.
    let mut child = Process::start_by(SHIFTED, "hold key 60000", fixture.directory(), |_| {});
    assert_eq!(child.line().as_deref(), Some("refused"));
    backend.release(&Owner::from(lease)).await.expect("release answers");

    let mut child = Process::start_by(SHIFTED, "hold key 1000", fixture.directory(), |command| {
        command.env("SYNCGUARD_TEST_OWNER_DEATH", "wait");
    });
    assert!(child.line().is_some_and(|line| line.starts_with("held")));
    assert_eq!(try_grant(&backend, &request("key", LONG)).await, None, "it has not expired");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    grant(&backend, &request("key", LONG)).await;
}

/// System containers have something mounted over `boot_id`; Docker mounts `/proc/sys` anew, as it is.
#[tokio::test]
async fn a_boot_id_that_is_not_the_kernels_own_is_refused() {
    if !run_with("namespaces") {
        return;
    }
    let mount = |script: &str| ["unshare", "--mount", "sh", "-ec", script].map(str::to_owned);
    let fixture = FileFixture::new();
    std::fs::create_dir(fixture.directory()).expect("it can be made");
    let forged = fixture.directory().join("forged");
    std::fs::write(&forged, "00000000-1111-2222-3333-444444444444\n").expect("it can be written");
    let boot_id = "/proc/sys/kernel/random/boot_id";
    let go_on = "exec \"$0\" \"$@\"";
    let covered_by = |what: &str| mount(&format!("mount --bind {what} {boot_id}; {go_on}"));
    let docker = format!("mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys; {go_on}");
    for (program, is_fine) in [
        (covered_by(&forged.display().to_string()), false),
        (covered_by("/proc/sys/kernel/random/uuid"), false),
        (covered_by("/proc/sys/kernel/hostname"), false),
        (mount(&docker), true),
        (mount(&format!("mount -t proc proc /proc; {go_on}")), true),
    ] {
        let words: Vec<&str> = program.iter().map(String::as_str).collect();
        let mut child = Process::start_by(&words, "check", &fixture.directory().join("locks"), |_| {});
        let said = child.line().expect("it answers");
        let refused = said.starts_with("InvalidArgument") && said.contains(boot_id);
        assert!(if is_fine { said == "fine" } else { refused }, "{words:?}: {said}");
    }
}
