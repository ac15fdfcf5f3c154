//! Linux: everything is in `/proc`, which may show the pids of another namespace than ours.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, test_kill_process};

use super::{Liveness, ProcessId};
use crate::lock::{Error, Result};

/// The unit of field 22 of `/proc/PID/stat`: USER_HZ is 100 on every architecture that Node.js runs on.
const NANOS_PER_TICK: i128 = 10_000_000;

pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn current(pid: u32) -> Result<ProcessId> {
    let stat = Stat::read("self").map_err(|error| unreadable("/proc/self/stat", error))?;
    let boot_id = fs::read_to_string(BOOT_ID).map_err(|error| unreadable(BOOT_ID, error))?;
    let namespace =
        fs::read_link("/proc/self/ns/pid").map_err(|error| unreadable("/proc/self/ns/pid", error))?;
    let pid_namespace = namespace.to_str().and_then(inode).ok_or_else(|| {
        Error::internal("/proc/self/ns/pid does not name a pid namespace; is /proc that of the kernel?")
    })?;
    Ok(ProcessId { pid, start_time: stat.start_time, boot_id: boot_id.trim().into(), pid_namespace })
}

/// The caller has made sure that the pid is one of our namespace.
pub(super) fn liveness(process: &ProcessId) -> Liveness {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return Liveness::Dead;
    };
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Liveness::Dead;
    }
    if !proc_shows_our_namespace() {
        // The pid exists; whose it is can't be seen.
        return Liveness::Alive;
    }
    match Stat::read(&process.pid.to_string()) {
        Ok(stat) if stat.has_ended || !same_start(stat.start_time, process.start_time) => Liveness::Dead,
        Ok(_) => Liveness::Alive,
        // Gone since, or hidden from us (hidepid).
        Err(_) if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) => Liveness::Dead,
        Err(_) => Liveness::Alive,
    }
}

/// A time namespace's offset need not be whole ticks, so two namespaces may round one start differently.
fn same_start(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= 1
}

/// What we need of `/proc/PID/stat`, see proc_pid_stat(5).
struct Stat {
    has_ended: bool,
    start_time: u64,
}

impl Stat {
    fn read(pid: &str) -> io::Result<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not the format of proc_pid_stat(5)");
        Stat::parse(&text, time_namespace_offset()).ok_or_else(malformed)
    }

    fn parse(text: &[u8], offset_nanos: i128) -> Option<Stat> {
        // The command name, field 2, may hold spaces and parentheses: count from the last one.
        let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[end_of_name + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
        let [state, .., threads, _, start_time] = fields.as_slice() else { return None };
        let threads: u32 = threads.parse().ok()?;
        let seen: u64 = start_time.parse().ok()?;
        let ticks = i128::from(seen) - offset_nanos.div_euclid(NANOS_PER_TICK);
        Some(Stat {
            // A zombie whose other threads still run is one whose main thread has left early.
            has_ended: matches!(*state, "Z" | "X" | "x") && threads <= 1,
            start_time: u64::try_from(ticks).ok().filter(|_| fields.len() == 20)?,
        })
    }
}

/// How far this process's boot clock is ahead of the machine's, in nanoseconds: not 0 in a time
/// namespace only (a container that was moved while it ran).
pub fn time_namespace_offset() -> i128 {
    static OFFSET: OnceLock<i128> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        // Absent on kernels without time namespaces.
        let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        parse_offset(&text).unwrap_or(0)
    })
}

fn parse_offset(text: &str) -> Option<i128> {
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<i128>);
    let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(seconds * 1_000_000_000 + nanos)
}

/// `/proc` may have been mounted for an outer namespace (`unshare --pid` without `--mount-proc`). It lists
/// our pids from its own namespace down to ours: one pid means that it is the same.
fn proc_shows_our_namespace() -> bool {
    static SHOWS: OnceLock<bool> = OnceLock::new();
    *SHOWS.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        pids.is_some_and(|pids| pids.split_ascii_whitespace().count() == 1)
    })
}

/// The number in `pid:[4026531836]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

fn unreadable(path: &str, error: io::Error) -> Error {
    Error::internal(format!("{path} can't be read, so this process can't be told from others; mount /proc"))
        .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = b"42 (a) R (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 8675 1000 1";
        let stat = Stat::parse(text, 0).expect("it is well-formed");
        assert_eq!((stat.has_ended, stat.start_time), (false, 8675));
    }

    #[test]
    fn a_zombie_has_ended_unless_its_other_threads_run() {
        let text =
            |threads: u32| format!("42 (a) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 8675");
        assert!(Stat::parse(text(1).as_bytes(), 0).is_some_and(|stat| stat.has_ended));
        assert!(Stat::parse(text(2).as_bytes(), 0).is_some_and(|stat| !stat.has_ended));
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_taken_off_the_start_time() {
        let offset = parse_offset("monotonic           0         0\nboottime     86400   500000000\n");
        assert_eq!(offset, Some(86_400_500_000_000));
        let text = b"42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 8640150 1000 1";
        assert_eq!(Stat::parse(text, offset.unwrap()).map(|stat| stat.start_time), Some(100));
    }

    #[test]
    fn what_is_cut_short_is_not_understood() {
        let text = b"42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 8675";
        let last_field = text.len() - 5;
        for length in 0..=last_field {
            assert!(Stat::parse(&text[..length], 0).is_none(), "{length} bytes");
        }
    }
}
