//! Where a test can end or stop the process: every step of every change of files. Nothing of it is in a release.

/// Sends this process a signal when the environment names this step, which is what a test's child process
/// is started with: `SYNCGUARD_TEST_KILL_AT` or `SYNCGUARD_TEST_STOP_AT`.
#[cfg(all(any(test, feature = "testing"), unix))]
pub(crate) fn reached(step: &str) {
    use std::sync::LazyLock;

    use rustix::process::{Signal, getpid, kill_process};

    static AT: LazyLock<[(Option<String>, Signal); 2]> = LazyLock::new(|| {
        [("SYNCGUARD_TEST_KILL_AT", Signal::KILL), ("SYNCGUARD_TEST_STOP_AT", Signal::STOP)]
            .map(|(variable, signal)| (std::env::var(variable).ok(), signal))
    });
    for (at, signal) in &*AT {
        if at.as_deref() == Some(step) {
            let _ = kill_process(getpid(), *signal);
            // Another thread may take the signal for the process, and this one run on until it is told.
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
    }
}

#[cfg(not(all(any(test, feature = "testing"), unix)))]
pub(crate) fn reached(_step: &str) {}
