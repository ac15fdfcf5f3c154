//! What differs between operating systems: files by name in an open directory, OS locks, the boot clock,
//! kinds of filesystem, the account's home. The rest of this backend is the same everywhere.

#[cfg(target_os = "linux")]
#[path = "platform/linux.rs"]
mod own;
#[cfg(target_os = "linux")]
#[path = "platform/linux_wake.rs"]
mod wake;

#[cfg(unix)]
#[path = "platform/unix.rs"]
mod files;

pub(super) use files::{Dir, Distrust, account_home, is_linked, lock, path_of_url, try_lock, unlock};
pub(super) use own::{STATE_DIRECTORY, is_network, since_boot};
pub(super) use wake::{Bells, Death};
