//! The time that no setting of the wall clock moves and that runs on while the machine sleeps, as leases do.

use std::time::Duration;

// CLOCK_MONOTONIC stops while Linux sleeps, and with it std's and tokio's clocks; macOS's runs on.
#[cfg(target_os = "linux")]
const RUNNING: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(target_os = "macos")]
const RUNNING: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// Counts from boot.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn steady() -> Duration {
    let time = rustix::time::clock_gettime(RUNNING);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Counts from an hour before the first reading, so that there is a past. The counter behind Windows' `Instant`
/// runs on during sleep.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn steady() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    const AHEAD: Duration = Duration::from_secs(3600);
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    AHEAD + START.elapsed()
}
