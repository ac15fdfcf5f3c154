//! When somebody else may take a lease file over.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use syncguard::local::file_lock::{HeldBy, LeaseFile, LeaseFileOptions, ProcessProbe};
use syncguard::local::process::ProcessId;
use syncguard::lock::Code;

use super::needs::run_with;
use super::processes::{Directory, Helper, begin_together, rounds, start_time, wait_until};
use super::{NOBODY, acquire, go_record, holder, our_record, read};

fn set_age(path: &Path, age: Duration) {
    let then = SystemTime::now() - age;
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

fn assert_taken_over(path: &Path) {
    let held = acquire(path).unwrap_or_else(|error| panic!("it is abandoned: {error}"));
    assert_eq!(read(path).pid, u64::from(std::process::id()));
    assert!(held.release().unwrap());
    assert!(!path.exists());
}

#[test]
fn a_killed_holder_is_taken_over_at_once() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut helper = Helper::start();
    assert_eq!(helper.ask(&format!("acquire {}", path.display())), "held");
    assert_eq!(holder(&path).pid(), Some(helper.pid.into()));
    // Not even waited for by its parent: a zombie is dead.
    helper.kill();
    assert_taken_over(&path);
    assert_eq!(directory.names(), [""; 0], "nothing stays behind");
}

#[test]
fn a_record_of_go_is_taken_over_when_its_heartbeat_is_old() {
    let directory = Directory::new();
    let path = directory.join("lease");
    std::fs::write(&path, go_record(1, Duration::from_millis(2500))).unwrap();
    assert_eq!(holder(&path).pid(), Some(1));
    std::fs::write(&path, go_record(1, Duration::from_secs(3))).unwrap();
    assert_taken_over(&path);
}

#[test]
fn a_recycled_pid_does_not_block() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let living = ProcessId::current().unwrap();
    std::fs::write(&path, our_record(living.pid, living.start_time)).unwrap();
    assert_eq!(holder(&path).pid(), Some(living.pid.into()), "the very process");
    std::fs::write(&path, our_record(living.pid, living.start_time - 1000)).unwrap();
    assert_taken_over(&path);
}

/// Every container has a process 1.
#[test]
fn pid_1_holds_only_if_it_is_the_one() {
    let directory = Directory::new();
    let path = directory.join("lease");
    std::fs::write(&path, our_record(1, start_time(1))).unwrap();
    assert_eq!(holder(&path).pid(), Some(1));
    std::fs::write(&path, our_record(1, start_time(1) + 1000)).unwrap();
    assert_taken_over(&path);
}

#[test]
fn whoever_is_elsewhere_is_judged_by_the_heartbeat_alone() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let record = our_record(NOBODY, 1);
    std::fs::write(&path, &record).unwrap();
    assert_taken_over(&path);
    for (name, other) in
        [("bootID\":\"", "bootID\":\"x"), ("pidNS\":", "pidNS\":1"), ("host\":\"", "host\":\"x")]
    {
        std::fs::write(&path, record.replace(name, other)).unwrap();
        let holder = holder(&path);
        assert_eq!((holder.pid(), holder.is_local()), (Some(NOBODY.into()), false), "{other}");
    }
}

#[test]
fn a_probe_answers_in_place_of_the_system() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let with = |alive: bool| {
        let probe: std::sync::Arc<dyn ProcessProbe> = std::sync::Arc::new(move |_| alive);
        LeaseFile::acquire(&path, LeaseFileOptions::default(), Some(probe), None)
    };
    std::fs::write(&path, our_record(NOBODY, 1)).unwrap();
    assert!(with(true).is_err(), "said to be alive");
    let living = ProcessId::current().unwrap();
    std::fs::write(&path, our_record(living.pid, living.start_time)).unwrap();
    assert!(with(false).is_ok(), "said to be dead");
}

/// Cut anywhere, a record says nothing: held while it is new, taken over when it is not.
#[test]
fn a_record_cut_at_any_byte_is_held_until_the_invalid_threshold() {
    let directory = Directory::new();
    let path = directory.join("lease");
    let record = go_record(4242, Duration::ZERO);
    let complete = record.trim_end().len();
    for length in 0..complete {
        std::fs::write(&path, &record.as_bytes()[..length]).unwrap();
        assert_eq!(holder(&path).pid(), None, "{length} bytes, new");
        set_age(&path, Duration::from_millis(900));
        assert_eq!(holder(&path).pid(), None, "{length} bytes, nearly old");
        set_age(&path, Duration::from_millis(1200));
        assert_taken_over(&path);
    }
    std::fs::write(&path, &record.as_bytes()[..complete]).unwrap();
    set_age(&path, Duration::from_secs(100));
    assert_eq!(holder(&path).pid(), Some(4242), "without its newline it is whole");
}

/// The two namespaces share the directory, but a pid of one says nothing in the other.
#[test]
fn another_pid_namespace_is_judged_by_the_heartbeat_alone() {
    if !run_with("namespaces") {
        return;
    }
    let directory = Directory::new();
    let (ours, theirs) = (directory.join("ours"), directory.join("theirs"));
    let mut inside = Helper::start_within(&["unshare", "--pid", "--fork", "--mount-proc"]);

    assert_eq!(inside.ask(&format!("acquire {}", theirs.display())), "held");
    let holder_inside = holder(&theirs);
    assert_eq!((holder_inside.pid(), holder_inside.is_local()), (Some(1), false));

    let mut outside = Helper::start();
    assert_eq!(outside.ask(&format!("acquire {}", ours.display())), "held");
    let pid = outside.pid;
    assert_eq!(inside.ask(&format!("acquire {}", ours.display())), format!("refused by {pid}"));

    outside.kill();
    inside.kill();
    let (last_ours, last_theirs) = (read(&ours).heartbeat, read(&theirs).heartbeat);
    assert_taken_over(&ours);
    assert_eq!(holder(&theirs).pid(), Some(1), "its death can't be seen from here");
    assert!(last_ours > 0);
    wait_until("its heartbeat is old", || acquire(&theirs).is_ok());
    assert!(super::unix_nanos() - last_theirs >= 3_000_000_000);
}

/// What is left behind in each round of the race.
fn leave_behind(round: usize, path: &Path) {
    let living = ProcessId::current().unwrap();
    match round % 4 {
        0 => std::fs::write(path, go_record(1, Duration::from_secs(60))).unwrap(),
        1 => std::fs::write(path, our_record(living.pid, living.start_time - 1000)).unwrap(),
        2 => {
            std::fs::write(path, "{\"version\":1,").unwrap();
            set_age(path, Duration::from_secs(60));
        }
        _ => {}
    }
}

#[test]
fn of_fifty_racing_processes_one_wins() {
    const PROCESSES: usize = 50;
    let directory = Directory::new();
    let path = directory.join("lease");
    let mut helpers: Vec<Helper> = (0..PROCESSES).map(|_| Helper::start()).collect();
    for round in 0..rounds() {
        leave_behind(round, &path);
        let answers = begin_together(&mut helpers, &format!("race {}", path.display()));
        let winners: Vec<usize> = (0..PROCESSES).filter(|number| answers[*number] == "held").collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        let winner = &mut helpers[winners[0]];
        let others = answers.iter().filter(|answer| *answer != "held");
        for answer in others {
            assert_eq!(*answer, format!("refused by {}", winner.pid), "round {round}");
        }
        assert_eq!(winner.ask("held"), "true");
        assert_eq!(winner.ask("losses"), "0");
        if round % 2 == 0 {
            assert_eq!(winner.ask("release"), "true", "round {round}");
            assert_eq!(directory.names(), [""; 0], "nothing stays behind");
        } else {
            // Now it is one that a process left behind by dying.
            winner.kill();
            *winner = Helper::start();
            assert_taken_over(&path);
        }
    }
}

/// Whoever has compared is the one that removes: a rival that came in between would lose its own file to it.
#[test]
fn nobody_else_takes_over_between_the_look_and_the_removal() {
    let directory = Directory::new();
    let path = directory.join("lease");
    for round in 0..3 {
        leave_behind(round, &path);
        let mut stopped = Helper::start_and_stop_before_a_removal();
        stopped.say(&format!("acquire {}", path.display()));
        stopped.wait_until_stopped();
        let error = acquire(&path).expect_err("somebody is taking it over");
        assert_eq!(error.code(), Code::AcquisitionTimeout, "{error}");
        assert!(HeldBy::of(&error).is_none(), "{error}");
        stopped.signal(Signal::CONT);
        assert_eq!(stopped.hear(), "held", "round {round}");
        assert_eq!(holder(&path).pid(), Some(stopped.pid.into()));
        stopped.kill();
        assert_taken_over(&path);
    }
}
