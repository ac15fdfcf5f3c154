//! What macOS does in its own way.

use std::os::fd::AsFd;

pub(crate) use crate::clock::steady as since_boot;

/// Below the home directory.
pub(crate) const STATE_DIRECTORY: &str = "Library/Application Support/syncguard/locks";

/// `MNT_LOCAL` of statfs(2): the filesystem is stored on this machine.
const LOCAL: u32 = 0x1000;

/// Something to call the network filesystem by that a directory lies on; `None` for a local one.
pub(crate) fn network_filesystem(directory: impl AsFd) -> std::io::Result<Option<&'static str>> {
    let is_local = rustix::fs::fstatfs(directory)?.f_flags & LOCAL != 0;
    Ok((!is_local).then_some("a network filesystem"))
}
