//! The single instance, between real processes.
#![cfg(target_os = "linux")]

#[path = "support/needs.rs"]
mod needs;
#[path = "support/processes.rs"]
mod processes;

#[path = "guard/instances.rs"]
mod instances;
#[path = "guard/leftovers.rs"]
mod leftovers;
#[path = "guard/obstacles.rs"]
mod obstacles;

use std::path::Path;

use syncguard::local::instance::{Guard, Holder, State, guard, state_of};
use syncguard::local::process::ProcessId;
use syncguard::lock::Code;

const NAME: &str = "an-application";

/// Who refuses us.
fn holder(directory: &Path) -> Holder {
    let error = guard(directory, NAME).expect_err("an instance lives");
    assert_eq!(error.code(), Code::AcquisitionTimeout, "{error}");
    assert_eq!(state_of(&error).map(State::as_str), Some("CONFIRMED_TO_NOT_START"));
    let holder = Holder::of(&error).unwrap_or_else(|| panic!("{error}")).clone();
    assert!(error.message().contains(&format!("process {}", holder.pid())), "{error}");
    holder
}

fn claim_of(process: &ProcessId) -> String {
    let ProcessId { pid, start_time, boot_id, pid_namespace } = process;
    format!(
        "{{\"syncguardPid\":{pid},\"startTime\":{start_time},\"bootID\":\"{boot_id}\",\"pidNS\":{pid_namespace},\"sinceMs\":1763683200000}}\n"
    )
}

/// The other side of the tests: starts as an instance and tells what came of it.
#[test]
#[ignore = "a helper process of the other tests"]
fn helper() {
    let mut held: Option<Guard> = None;
    let start = |directory: &str, held: &mut Option<Guard>| match guard(directory, NAME) {
        Ok(guard) => {
            let state = guard.state();
            *held = Some(guard);
            state.as_str().to_owned()
        }
        Err(error) => match Holder::of(&error) {
            Some(holder) => format!("refused by {}", holder.pid()),
            None => error.to_string(),
        },
    };
    processes::serve(|command, rest| match command {
        "start" => start(rest, &mut held),
        "race" => {
            let (directory, moment) = rest.split_once(' ').expect("a directory and a moment");
            processes::wait_for_moment(moment);
            start(directory, &mut held)
        }
        "cleanup" => match held.as_ref().map(Guard::cleanup) {
            Some(Ok(())) => "done".into(),
            Some(Err(error)) => error.to_string(),
            None => "nothing".into(),
        },
        "spawn" => {
            let mut child = std::process::Command::new("sleep");
            child.arg("60").stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            child.spawn().expect("sleep starts").id().to_string()
        }
        "become" => {
            let user = rustix::process::Uid::from_raw(rest.parse().expect("a user id"));
            rustix::thread::set_thread_uid(user).expect("root may");
            "done".into()
        }
        _ => format!("unknown command {command}"),
    });
}
