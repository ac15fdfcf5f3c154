//! Whether `boot_id` is the kernel's own. Managers of system containers (LXC, systemd-nspawn) mount a file of
//! theirs over it, so that one kernel has several names at once, and none of them says which locks are alive.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

use super::system::BOOT_ID as PATH;
use crate::lock::{Error, Result};

/// Its path within a procfs.
const OWN_PATH: &str = "/sys/kernel/random/boot_id";

/// # Errors
/// `InvalidArgument` when `boot_id` is something else than the kernel's, or that can't be told.
pub(crate) fn check_boot_id(known: &str) -> Result<()> {
    let mut file = File::open(PATH).map_err(|error| untold().because(error))?;
    let filesystem = rustix::fs::fstatfs(file.as_fd()).map_err(|error| untold().because(error))?;
    let read = |path: &str| fs::read_to_string(path).map_err(|error| untold().because(error));
    let descriptor = read(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mounts = read("/proc/self/mountinfo")?;
    let place = mount_of(&descriptor).and_then(|mount| place_in_filesystem(&mounts, mount));
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| untold().because(error))?;
    let is_procfs = filesystem.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if is_procfs && place.as_deref() == Some(OWN_PATH) && text.trim() == known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{PATH} is not the kernel's own (containers of LXC and systemd-nspawn have something mounted over it), so it can't be told which locks in a directory are of this boot; use a server, or unmount what covers it"
    )))
}

fn untold() -> Error {
    Error::invalid(format!(
        "it can't be told whether {PATH} is the kernel's own, on which locks in a directory rest; mount /proc, or use a server"
    ))
}

/// The mount that an open file was reached by, see proc_pid_fdinfo(5).
fn mount_of(descriptor: &str) -> Option<&str> {
    descriptor.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim)
}

/// Where `boot_id` lies in its filesystem, by proc_pid_mountinfo(5). Parts of a procfs are mounted anew in every
/// container of Docker (`/proc/sys`, to be read only); there the path within it stays the same.
fn place_in_filesystem(mounts: &str, mount: &str) -> Option<String> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&mount) && fields.len() > 4)?;
    let (root, at) = (found[3].trim_end_matches('/'), found[4].trim_end_matches('/'));
    let rest = PATH.strip_prefix(at).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(format!("{root}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boots_id_is_the_kernels() {
        let known = fs::read_to_string(PATH).unwrap();
        check_boot_id(known.trim()).unwrap();
        assert!(check_boot_id("another").is_err(), "what was read before is what counts");
    }

    #[test]
    fn the_place_in_a_procfs_is_told_from_its_mounts() {
        let mounts = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
63 45 0:21 /sys/kernel/random/uuid /proc/sys/kernel/random/boot_id rw,relatime - proc proc rw
64 45 0:21 /sys /proc/sys ro,relatime - proc proc rw
65 45 0:30 / / rw - ext4 /dev/vda rw
";
        assert_eq!(mount_of("pos:\t0\nflags:\t0100000\nmnt_id:\t64\nino:\t9591\n"), Some("64"));
        for (mount, place) in [
            ("22", Some(OWN_PATH)),
            ("63", Some("/sys/kernel/random/uuid")),
            ("64", Some(OWN_PATH)),
            ("65", Some(PATH)),
            ("6", None),
        ] {
            assert_eq!(place_in_filesystem(mounts, mount).as_deref(), place, "{mount}");
        }
    }
}
