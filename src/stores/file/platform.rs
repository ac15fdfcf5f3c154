//! What differs between operating systems: files by name in an open directory, OS locks, the boot clock,
//! kinds of filesystem, the account's home, hints. The rest of this backend is the same everywhere.

#[cfg(unix)]
#[path = "platform/unix.rs"]
mod files;
#[cfg(windows)]
#[path = "platform/windows.rs"]
mod files;

#[cfg(target_os = "linux")]
#[path = "platform/linux.rs"]
mod own;
#[cfg(target_os = "macos")]
#[path = "platform/macos.rs"]
mod own;
#[cfg(windows)]
use files as own;

#[cfg(target_os = "linux")]
#[path = "platform/linux_wake.rs"]
mod wake;
#[cfg(not(target_os = "linux"))]
#[path = "platform/other_wake.rs"]
mod wake;

pub(super) use files::{Dir, Distrust, account_home, is_linked, lock, path_of_url, try_lock, unlock};
pub(super) use own::{STATE_DIRECTORY, network_filesystem, since_boot};
pub(super) use wake::{Bells, Death};
