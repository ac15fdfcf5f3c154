//! Which process somebody is, and whether it still lives: a pid alone says neither, because pids are
//! used again, differ between pid namespaces and mean nothing after a reboot.

use std::sync::{Arc, OnceLock};

use crate::lock::Result;

#[cfg(target_os = "linux")]
#[path = "boot_id.rs"]
mod boot_id;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "linux")]
pub(crate) use boot_id::check_boot_id;
#[cfg(not(target_os = "linux"))]
pub(crate) use system::check_boot_id;
#[cfg(target_os = "linux")]
pub(crate) use system::time_namespace_offset;
#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod system;

/// One process of one boot of one machine. Equal identities are the same process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// As its own pid namespace counts.
    pub pid: u32,
    /// When it was started. On Linux clock ticks since boot (field 22 of `/proc/PID/stat`, without the
    /// offset of a time namespace), elsewhere Unix seconds. Only meaningful together with `boot_id`.
    pub start_time: u64,
    /// The kernel's random name of this boot. It tells machines apart too, but not containers of one.
    pub boot_id: Arc<str>,
    /// The inode of its pid namespace; 0 where the platform has none.
    pub pid_namespace: u64,
}

/// Whether a process still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It runs, or it can't be told from one that runs (`hidepid`, another user's).
    Alive,
    /// It has ended: no such pid, a zombie, or the pid now belongs to a process that started at another time.
    Dead,
    /// Nothing here can tell: it belongs to another boot, another machine or another pid namespace.
    Unknown,
}

impl ProcessId {
    /// This process. Cheap after the first call.
    ///
    /// # Errors
    /// `Internal` when the system does not tell, for instance where `/proc` is not mounted.
    pub fn current() -> Result<ProcessId> {
        static CURRENT: OnceLock<ProcessId> = OnceLock::new();
        let pid = std::process::id();
        match CURRENT.get() {
            Some(current) if current.pid == pid => Ok(current.clone()),
            // A forked child has its parent's memory, but is another process.
            Some(_) => system::current(pid),
            None => system::current(pid).map(|current| CURRENT.get_or_init(|| current).clone()),
        }
    }

    /// Whether this process can look for that one by its pid: same boot, same pid namespace.
    ///
    /// # Errors
    /// As [`ProcessId::current`].
    pub fn is_visible(&self) -> Result<bool> {
        let current = ProcessId::current()?;
        Ok(self.boot_id == current.boot_id && self.pid_namespace == current.pid_namespace)
    }

    /// Whether the process lives. Never `Dead` by mistake: what can't be told counts as alive or unknown.
    /// About 10 µs.
    ///
    /// # Errors
    /// As [`ProcessId::current`].
    pub fn is_alive(&self) -> Result<Liveness> {
        if !self.is_visible()? {
            return Ok(Liveness::Unknown);
        }
        Ok(system::liveness(self))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("sleep starts")
    }

    #[test]
    fn this_process_lives_and_is_itself_every_time() {
        let current = ProcessId::current().unwrap();
        assert_eq!(current, ProcessId::current().unwrap());
        assert_eq!(current.is_alive().unwrap(), Liveness::Alive);
        assert_eq!(current.boot_id.len(), 36);
    }

    #[test]
    fn a_child_is_alive_then_a_zombie_then_gone() {
        let mut child = sleeper();
        let current = ProcessId::current().unwrap();
        let start_time = (0..=u64::MAX)
            .skip(usize::try_from(current.start_time).unwrap())
            .find(|ticks| {
                let child = ProcessId { pid: child.id(), start_time: *ticks, ..current.clone() };
                child.is_alive().unwrap() == Liveness::Alive
            })
            .unwrap();
        // One tick of tolerance: the search found the tick before the true one.
        let process = ProcessId { pid: child.id(), start_time: start_time + 1, ..current };
        assert_eq!(process.is_alive().unwrap(), Liveness::Alive);
        child.kill().unwrap();
        while process.is_alive().unwrap() == Liveness::Alive {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(process.is_alive().unwrap(), Liveness::Dead);
    }

    #[test]
    fn a_pid_that_was_used_again_is_dead() {
        let current = ProcessId::current().unwrap();
        let recycled = ProcessId { start_time: current.start_time.wrapping_sub(1000), ..current };
        assert_eq!(recycled.is_alive().unwrap(), Liveness::Dead);
    }

    #[test]
    fn other_boots_and_namespaces_can_not_be_told() {
        let current = ProcessId::current().unwrap();
        let other_boot = ProcessId { boot_id: "another".into(), ..current.clone() };
        assert_eq!(other_boot.is_alive().unwrap(), Liveness::Unknown);
        let other_namespace = ProcessId { pid_namespace: current.pid_namespace + 1, ..current };
        assert_eq!(other_namespace.is_alive().unwrap(), Liveness::Unknown);
    }

    #[test]
    fn impossible_pids_are_dead() {
        let current = ProcessId::current().unwrap();
        for pid in [0, u32::MAX, i32::MAX.unsigned_abs()] {
            let process = ProcessId { pid, ..current.clone() };
            assert_eq!(process.is_alive().unwrap(), Liveness::Dead, "{pid}");
        }
    }
}
