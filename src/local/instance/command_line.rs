//! What a process was started as, for people to recognise it by.

use crate::local::process::{Liveness, ProcessId};

/// Longer command lines end with an ellipsis.
const MAX_CHARS: usize = 1000;

/// `None` for a process that has ended, or that can't be seen from here.
pub(super) fn of(process: &ProcessId) -> Option<String> {
    let arguments = read(process)?;
    // Only now is it certain that what was read belongs to that process and not to one that got its pid.
    if !matches!(process.is_alive(), Ok(Liveness::Alive)) {
        return None;
    }
    let line = arguments.join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Some(format!("{}…", &line[..end])),
        None => Some(line),
    }
}

#[cfg(target_os = "linux")]
fn read(process: &ProcessId) -> Option<Vec<String>> {
    // Otherwise `/proc` shows the processes of another namespace under our pids.
    let myself = std::fs::read_link("/proc/self").ok()?;
    if myself.to_str()? != std::process::id().to_string() || !process.is_visible().ok()? {
        return None;
    }
    let content = std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let arguments = content.strip_suffix(b"\0").unwrap_or(&content).split(|byte| *byte == 0);
    Some(arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect())
}

#[cfg(not(target_os = "linux"))]
fn read(process: &ProcessId) -> Option<Vec<String>> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
    if !process.is_visible().ok()? {
        return None;
    }
    let pid = Pid::from_u32(process.pid);
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    let arguments = system.process(pid)?.cmd().iter();
    Some(arguments.map(|argument| argument.to_string_lossy().into_owned()).collect())
}
