//! Which process wrote a record.

use std::sync::OnceLock;

use crate::local::process::{Liveness, ProcessId};

/// Which process wrote a record, as far as the record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The name of its machine.
    pub host: Option<String>,
    /// Which boot of that machine.
    pub boot_id: Option<String>,
    /// Where its pid means something.
    pub pid_namespace: Option<u64>,
    /// When it started, so that a pid used again is told apart.
    pub start_time: Option<u64>,
}

impl Origin {
    /// This process; empty where the system does not tell, for instance without `/proc`: then heartbeats
    /// alone decide, as between Go's processes.
    pub fn current() -> Origin {
        let Ok(process) = ProcessId::current() else { return Origin::default() };
        Origin {
            host: host_name().map(ToOwned::to_owned),
            boot_id: Some(process.boot_id.to_string()),
            pid_namespace: Some(process.pid_namespace),
            start_time: Some(process.start_time),
        }
    }

    /// Whether the record tells nothing, as Go's.
    pub fn is_untold(&self) -> bool {
        *self == Origin::default()
    }

    /// Whether the clocks of that process and of this one are the same machine's, started by the same boot.
    pub fn shares_boot_with(&self, here: &Origin) -> bool {
        self.boot_id.is_some() && self.boot_id == here.boot_id
    }

    /// Whether a pid in the record means the same to us: same host, boot and pid namespace.
    pub fn shares_pids_with(&self, here: &Origin) -> bool {
        self.shares_boot_with(here)
            && self.host == here.host
            && self.pid_namespace.is_some()
            && self.pid_namespace == here.pid_namespace
            && self.start_time.is_some()
    }

    /// Whether that process has ended for certain; its pid may belong to another by now.
    pub fn is_dead(&self, pid: u64) -> bool {
        let (Some(boot_id), Some(pid_namespace), Some(start_time)) =
            (&self.boot_id, self.pid_namespace, self.start_time)
        else {
            return false;
        };
        // No process has a pid of more than 32 bits.
        let pid = u32::try_from(pid).unwrap_or(u32::MAX);
        let process = ProcessId { pid, start_time, boot_id: boot_id.as_str().into(), pid_namespace };
        matches!(process.is_alive(), Ok(Liveness::Dead))
    }
}

/// As the kernel names the machine, or the container.
fn host_name() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(read_host_name).as_deref()
}

#[cfg(unix)]
fn read_host_name() -> Option<String> {
    Some(rustix::system::uname().nodename().to_string_lossy().into_owned())
}

#[cfg(not(unix))]
fn read_host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}
