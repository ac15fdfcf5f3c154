//! macOS and Windows: start times from `sysinfo`; the boot's name from the system's own register of it.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::{Liveness, ProcessId};
use crate::lock::{Error, Result};

pub(super) fn current(pid: u32) -> Result<ProcessId> {
    let start_time = start_time(pid)
        .ok_or_else(|| Error::internal("the system does not tell when this process was started"))?;
    Ok(ProcessId { pid, start_time, boot_id: boot_id()?.trim().into(), pid_namespace: 0 })
}

pub(super) fn liveness(process: &ProcessId) -> Liveness {
    match start_time(process.pid) {
        None => Liveness::Dead,
        // Another user's process may hide its start time.
        Some(0) => Liveness::Alive,
        Some(started) if started.abs_diff(process.start_time) <= 1 => Liveness::Alive,
        Some(_) => Liveness::Dead,
    }
}

/// Nobody else names a boot here.
#[allow(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn check_boot_id(_known: &str) -> Result<()> {
    Ok(())
}

fn start_time(pid: u32) -> Option<u64> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, ProcessRefreshKind::nothing());
    system.process(pid).map(sysinfo::Process::start_time)
}

/// The kernel names each boot by a UUID.
#[cfg(target_os = "macos")]
fn boot_id() -> Result<String> {
    command_output("/usr/sbin/sysctl", &["-n", "kern.bootsessionuuid"])
}

/// Windows counts its boots.
#[cfg(windows)]
fn boot_id() -> Result<String> {
    const KEY: &str =
        r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let output = command_output("reg", &["query", KEY, "/v", "BootId"])?;
    match output.split_ascii_whitespace().last() {
        Some(count) if count.starts_with("0x") => Ok(format!("boot-{}", &count[2..])),
        _ => Err(Error::internal("the registry does not tell the number of this boot")),
    }
}

fn command_output(program: &str, arguments: &[&str]) -> Result<String> {
    let failed = || Error::internal(format!("{program} does not tell which boot of the system this is"));
    let output =
        std::process::Command::new(program).args(arguments).output().map_err(|e| failed().because(e))?;
    let text = String::from_utf8(output.stdout).map_err(|e| failed().because(e))?;
    if output.status.success() && !text.trim().is_empty() { Ok(text) } else { Err(failed()) }
}
