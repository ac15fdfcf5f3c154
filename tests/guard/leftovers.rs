//! Claims whose process is gone are replaced.

use rustix::process::Signal;
use syncguard::local::instance::{Holder, State, guard};
use syncguard::local::process::ProcessId;

use super::processes::{Directory, Helper, start_time};
use super::{NAME, claim_of, holder};

/// A claim whose lock is free, made by that process.
fn leave(directory: &Directory, process: &ProcessId) {
    std::fs::write(directory.join(NAME), claim_of(process)).unwrap();
}

fn assert_replaced(directory: &Directory) {
    let guard = guard(directory.path(), NAME).unwrap_or_else(|error| panic!("it is left over: {error}"));
    assert_eq!(guard.state(), State::StaleLockRemoved);
    guard.cleanup().unwrap();
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_recycled_pid_does_not_block() {
    let directory = Directory::new();
    let here = ProcessId::current().unwrap();
    for pid in [1, here.pid] {
        leave(&directory, &ProcessId { pid, start_time: start_time(pid) + 1000, ..here.clone() });
        assert_replaced(&directory);
    }
}

#[test]
fn a_claim_of_another_boot_or_namespace_without_a_lock_is_left_over() {
    let directory = Directory::new();
    let here = ProcessId::current().unwrap();
    leave(&directory, &ProcessId { boot_id: "another".into(), ..here.clone() });
    assert_replaced(&directory);
    leave(&directory, &ProcessId { pid_namespace: 1, ..here });
    assert_replaced(&directory);
}

/// Where locks are not shared between all who see the file, the record still names its holder.
#[test]
fn a_process_that_lives_holds_even_without_the_lock() {
    let directory = Directory::new();
    let helper = Helper::start();
    let here = ProcessId::current().unwrap();
    let process = ProcessId { pid: helper.pid, start_time: start_time(helper.pid), ..here };
    leave(&directory, &process);
    assert_eq!(holder(directory.path()).pid(), helper.pid);
    helper.kill();
    assert_replaced(&directory);
}

/// A process that replaced itself by `exec` has the same identity, but no lock any more.
#[test]
fn ones_own_claim_without_the_lock_is_left_over() {
    let directory = Directory::new();
    leave(&directory, &ProcessId::current().unwrap());
    assert_replaced(&directory);
}

#[test]
fn a_cleanup_leaves_what_somebody_put_there_instead() {
    let directory = Directory::new();
    let guard = guard(directory.path(), NAME).unwrap();
    std::fs::remove_file(guard.path()).unwrap();
    std::fs::write(guard.path(), "mine").unwrap();
    guard.cleanup().unwrap();
    assert_eq!(std::fs::read_to_string(guard.path()).unwrap(), "mine");
}

/// Whoever has compared is the one that removes: a rival that came in between would lose its own claim to it.
#[test]
fn nobody_else_replaces_a_claim_between_the_look_and_the_removal() {
    let directory = Directory::new();
    let here = ProcessId::current().unwrap();
    leave(&directory, &ProcessId { start_time: here.start_time + 1000, ..here });
    let mut stopped = Helper::start_and_stop_before_a_removal();
    stopped.say(&format!("start {}", directory.path().display()));
    stopped.wait_until_stopped();
    let error = guard(directory.path(), NAME).expect_err("somebody is replacing it");
    assert!(Holder::of(&error).is_none(), "{error}");
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.hear(), "OK_STALE_LOCK_REMOVED");
    assert_eq!(holder(directory.path()).pid(), stopped.pid);
}
