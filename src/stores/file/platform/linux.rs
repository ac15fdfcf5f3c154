//! What Linux does in its own way.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::clock::steady;
use crate::local::process::time_namespace_offset;

/// Below the home directory, by the XDG base directory specification.
pub(crate) const STATE_DIRECTORY: &str = ".local/state/syncguard/locks";

/// The machine's boot clock, which runs on while it sleeps and which nobody can set. Containers in time
/// namespaces of their own see it shifted; here all see the same.
pub(crate) fn since_boot() -> Duration {
    let nanos = i128::try_from(steady().as_nanos()).unwrap_or(0) - time_namespace_offset();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Filesystems that other machines may share, or of which that can't be told: their OS locks may be local
/// to each machine, or lost with a connection. `f_type` of statfs(2).
const NETWORK: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x786f_4256, "VirtualBox shared folder"),
    (0xbacb_acbc, "VMware shared folder"),
    (0x6a65_6a63, "virtiofs"),
];

/// The name of the network filesystem that a directory lies on; `None` for a local one.
pub(crate) fn network_filesystem(directory: impl AsFd) -> std::io::Result<Option<&'static str>> {
    let kind = rustix::fs::fstatfs(directory)?.f_type;
    // Signed on some architectures and narrower on others: the lower 32 bits are what is documented.
    #[allow(clippy::cast_sign_loss, clippy::cast_lossless, clippy::unnecessary_cast, reason = "see above")]
    let kind = (kind as u64) & 0xffff_ffff;
    Ok(NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_is_local() {
        let here = std::fs::File::open(std::env::temp_dir()).unwrap();
        assert_eq!(network_filesystem(&here).unwrap(), None);
    }

    #[test]
    fn the_boot_clock_rises() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before);
    }
}
