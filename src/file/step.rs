//! Where a test can end the process: every step of every change. Nothing of it is in a release.

/// Ends this process by SIGKILL when `SYNCGUARD_TEST_KILL_AT` names this step, which is what a test's
/// child process is started with.
#[cfg(all(any(test, feature = "testing"), unix))]
pub(super) fn reached(step: &str) {
    use std::sync::OnceLock;
    static KILL_AT: OnceLock<Option<String>> = OnceLock::new();
    let kill_at = KILL_AT.get_or_init(|| std::env::var("SYNCGUARD_TEST_KILL_AT").ok());
    if kill_at.as_deref() == Some(step) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(all(any(test, feature = "testing"), unix)))]
pub(super) fn reached(_step: &str) {}
