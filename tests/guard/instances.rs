//! Instances that live keep others out.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use syncguard::local::instance::{State, guard};

use super::needs::run_with;
use super::processes::{Directory, Helper, begin_together, rounds};
use super::{NAME, holder};

#[test]
fn one_instance_until_it_cleans_up() {
    let directory = Directory::new();
    let first = guard(directory.path(), NAME).unwrap();
    assert_eq!(first.state(), State::Ok);
    assert_eq!(first.state().as_str(), "OK");
    assert_eq!(directory.names(), [NAME]);
    // Another thread of this process is another instance too.
    let refused_by = std::thread::scope(|threads| threads.spawn(|| holder(directory.path())).join().unwrap());
    assert_eq!(refused_by.pid(), std::process::id());
    assert_eq!(directory.names(), [NAME], "who loses leaves nothing");
    first.cleanup().unwrap();
    first.cleanup().unwrap();
    assert_eq!(directory.names(), [""; 0]);
    let second = guard(directory.path(), NAME).unwrap();
    assert_eq!(second.state(), State::Ok);
    first.cleanup().unwrap();
    assert_eq!(directory.names(), [NAME], "the first one has nothing left to clean up");
    drop(second);
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn names_do_not_get_in_each_others_way() {
    let directory = Directory::new();
    let one = guard(directory.path(), "one").unwrap();
    let other = guard(directory.path(), "other").unwrap();
    assert_eq!(directory.names(), ["one", "other"]);
    drop((one, other));
}

#[test]
fn the_error_tells_pid_time_and_command_line() {
    let directory = Directory::new();
    let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let before = now();
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("start {}", directory.path().display())), "OK");
    let holder = holder(directory.path());
    assert_eq!(holder.pid(), helper.pid);
    assert!(holder.is_local());
    assert!((before..=now()).contains(&holder.since().as_millis()));
    let command_line = holder.command_line().expect("it can be seen");
    assert!(
        command_line.ends_with("helper --exact --ignored --nocapture --test-threads=1"),
        "{command_line}"
    );
    let error = guard(directory.path(), NAME).unwrap_err();
    assert!(error.message().contains(command_line), "{error}");
    let year = 1970 + now() / 31_556_952_000;
    assert!(error.message().contains(&format!("since {year}-")), "{error}");
}

/// Unlike in the original, where another command line is another application and takes the lock.
#[test]
fn another_command_line_is_the_same_application() {
    let directory = Directory::new();
    let mut first = Helper::start();
    assert_eq!(first.ask(&format!("start {}", directory.path().display())), "OK");
    let mut second = Helper::start_within(&["env", "A=1"]);
    let pid = first.pid;
    assert_eq!(second.ask(&format!("start {}", directory.path().display())), format!("refused by {pid}"));
    assert_eq!(holder(directory.path()).pid(), pid, "and neither is this process, with yet another");
}

#[test]
fn a_stopped_instance_lives() {
    let directory = Directory::new();
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("start {}", directory.path().display())), "OK");
    helper.signal(Signal::STOP);
    assert_eq!(holder(directory.path()).pid(), helper.pid);
    helper.signal(Signal::CONT);
    assert_eq!(helper.ask("cleanup"), "done");
    assert!(guard(directory.path(), NAME).is_ok());
}

#[test]
fn a_killed_instance_frees_it_at_once() {
    let directory = Directory::new();
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("start {}", directory.path().display())), "OK");
    // What the instance started goes on, and holds nothing.
    let child = helper.ask("spawn").parse().unwrap();
    helper.kill();
    let guard = guard(directory.path(), NAME).unwrap();
    assert_eq!(guard.state(), State::StaleLockRemoved);
    assert_eq!(guard.state().as_str(), "OK_STALE_LOCK_REMOVED");
    assert_eq!(directory.names(), [NAME]);
    assert!(!super::processes::has_ended(child), "the child lives");
    let child = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::KILL).unwrap();
}

#[test]
fn instances_in_two_pid_namespaces_exclude_each_other() {
    if !run_with("namespaces") {
        return;
    }
    let directory = Directory::new();
    let start = format!("start {}", directory.path().display());
    let mut inside = Helper::start_within(&["unshare", "--pid", "--fork", "--mount-proc"]);
    assert_eq!(inside.ask(&start), "OK");
    let holder = holder(directory.path());
    assert_eq!((holder.pid(), holder.is_local(), holder.command_line()), (1, false, None));
    inside.kill();
    // Here, unlike by pid, its death can be told.
    let outside = guard(directory.path(), NAME).unwrap();
    assert_eq!(outside.state(), State::StaleLockRemoved);
    let mut inside = Helper::start_within(&["unshare", "--pid", "--fork", "--mount-proc"]);
    assert_eq!(inside.ask(&start), format!("refused by {}", std::process::id()));
    // A process 1 of another namespace is not that process 1.
    outside.cleanup().unwrap();
    assert_eq!(inside.ask(&start), "OK");
}

#[test]
fn of_fifty_racing_processes_one_starts() {
    const PROCESSES: usize = 50;
    let directory = Directory::new();
    let mut helpers: Vec<Helper> = (0..PROCESSES).map(|_| Helper::start()).collect();
    let mut left_behind = false;
    for round in 0..rounds() {
        let answers = begin_together(&mut helpers, &format!("race {}", directory.path().display()));
        let winners: Vec<usize> =
            (0..PROCESSES).filter(|number| answers[*number].starts_with("OK")).collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        let winner = &mut helpers[winners[0]];
        for answer in answers.iter().filter(|answer| !answer.starts_with("OK")) {
            assert_eq!(*answer, format!("refused by {}", winner.pid), "round {round}");
        }
        assert_eq!(directory.names(), [NAME]);
        if !left_behind {
            assert_eq!(answers[winners[0]], "OK");
        }
        left_behind = round % 2 == 0;
        if left_behind {
            winner.kill();
            *winner = Helper::start();
        } else {
            assert_eq!(winner.ask("cleanup"), "done");
            assert_eq!(directory.names(), [""; 0]);
        }
    }
}
