//! How a lease file is acquired and kept, read from settings.

use std::time::Duration;

use crate::lock::{Error, Result};
use crate::stores::target::Settings;

/// How a lease file is acquired and kept. The defaults are those of Go's `vormadev/vorma/kit/lockfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFileOptions {
    /// How often an attempt is repeated after it met another process that was taking the file away.
    pub acquire_retry_limit: u32,
    /// The time between those attempts (the first repetition comes at once).
    pub acquire_retry_delay: Duration,
    /// How old a file must be, by its modification time, to be taken away though its content says nothing.
    pub invalid_lock_stale_threshold: Duration,
    /// How often a holder writes its heartbeat.
    pub lease_heartbeat_interval: Duration,
    /// How old a heartbeat must be for its file to be taken over; and for how long a holder may fail to
    /// write its own before it counts as lost.
    pub lease_stale_threshold: Duration,
    /// How long an asynchronous acquire or release may take: a disk that hangs is `NetworkTimeout` then.
    pub operation_timeout: Duration,
    /// Permissions of the file, subject to the umask.
    pub file_mode: u32,
    /// Permissions of directories that are made, subject to the umask.
    pub directory_mode: u32,
}

impl Default for LeaseFileOptions {
    fn default() -> Self {
        LeaseFileOptions {
            acquire_retry_limit: 12,
            acquire_retry_delay: Duration::from_millis(20),
            invalid_lock_stale_threshold: Duration::from_millis(1200),
            lease_heartbeat_interval: Duration::from_millis(250),
            lease_stale_threshold: Duration::from_millis(3000),
            operation_timeout: Duration::from_secs(5),
            file_mode: 0o644,
            directory_mode: 0o755,
        }
    }
}

impl LeaseFileOptions {
    const MOST_RETRIES: u32 = 1_000_000;

    /// Reads `acquireRetryLimit`, `acquireRetryDelayMs`, `invalidLockStaleThresholdMs`,
    /// `leaseHeartbeatIntervalMs`, `leaseStaleThresholdMs`, `operationTimeoutMs`, `fileMode` and `directoryMode`;
    /// what is not there has its default.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong type or range, for an unknown name, and for a heartbeat that would come too
    /// late to keep the file: its interval may be half the stale threshold at most.
    pub fn from_settings(mut settings: Settings) -> Result<LeaseFileOptions> {
        let defaults = LeaseFileOptions::default();
        let options = LeaseFileOptions {
            acquire_retry_limit: settings
                .take_count("acquireRetryLimit", 0, Self::MOST_RETRIES)?
                .unwrap_or(defaults.acquire_retry_limit),
            acquire_retry_delay: settings
                .take_millis("acquireRetryDelayMs")?
                .unwrap_or(defaults.acquire_retry_delay),
            invalid_lock_stale_threshold: settings
                .take_millis("invalidLockStaleThresholdMs")?
                .unwrap_or(defaults.invalid_lock_stale_threshold),
            lease_heartbeat_interval: settings
                .take_millis("leaseHeartbeatIntervalMs")?
                .unwrap_or(defaults.lease_heartbeat_interval),
            lease_stale_threshold: settings
                .take_millis("leaseStaleThresholdMs")?
                .unwrap_or(defaults.lease_stale_threshold),
            operation_timeout: settings
                .take_millis("operationTimeoutMs")?
                .unwrap_or(defaults.operation_timeout),
            file_mode: mode(&mut settings, "fileMode", 0o600)?.unwrap_or(defaults.file_mode),
            directory_mode: mode(&mut settings, "directoryMode", 0o700)?.unwrap_or(defaults.directory_mode),
        };
        settings.finish()?;
        options.check()?;
        Ok(options)
    }

    /// A heartbeat may fail once before others take the file for abandoned.
    fn check(&self) -> Result<()> {
        let (interval, threshold) = (self.lease_heartbeat_interval, self.lease_stale_threshold);
        if interval <= threshold / 2 {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "leaseHeartbeatIntervalMs must be at most half of leaseStaleThresholdMs, or others would take the file of a holder that lives; {} and {} were given",
            interval.as_millis(),
            threshold.as_millis()
        )))
    }
}

/// Permission bits, among them those without which the owner itself could not work.
fn mode(settings: &mut Settings, name: &'static str, needed: u32) -> Result<Option<u32>> {
    match settings.take_count(name, 0, 0o7777)? {
        Some(mode) if mode & needed != needed => Err(Error::invalid(format!(
            "{name} must let the owner work with it, so it must contain 0o{needed:o}; 0o{mode:o} was given"
        ))),
        mode => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Code;
    use crate::stores::target::Setting;

    fn read(settings: &[(&str, f64)]) -> Result<LeaseFileOptions> {
        let settings = settings.iter().map(|(name, number)| ((*name).to_owned(), Setting::Number(*number)));
        LeaseFileOptions::from_settings(settings.collect())
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        assert_eq!(read(&[]).unwrap(), LeaseFileOptions::default());
    }

    #[test]
    fn every_option_is_read() {
        let options = read(&[
            ("acquireRetryLimit", 0.0),
            ("acquireRetryDelayMs", 1.0),
            ("invalidLockStaleThresholdMs", 2.0),
            ("leaseHeartbeatIntervalMs", 3.0),
            ("leaseStaleThresholdMs", 6.0),
            ("operationTimeoutMs", 7.0),
            ("fileMode", f64::from(0o600)),
            ("directoryMode", f64::from(0o700)),
        ]);
        let expected = LeaseFileOptions {
            acquire_retry_limit: 0,
            acquire_retry_delay: Duration::from_millis(1),
            invalid_lock_stale_threshold: Duration::from_millis(2),
            lease_heartbeat_interval: Duration::from_millis(3),
            lease_stale_threshold: Duration::from_millis(6),
            operation_timeout: Duration::from_millis(7),
            file_mode: 0o600,
            directory_mode: 0o700,
        };
        assert_eq!(options.unwrap(), expected);
    }

    #[test]
    fn bad_values_are_named() {
        let bad = [
            ("acquireRetryLimit", -1.0),
            ("acquireRetryLimit", 1.5),
            ("acquireRetryDelayMs", 0.0),
            ("leaseStaleThresholdMs", f64::NAN),
            ("leaseHeartbeatIntervalMs", f64::INFINITY),
            ("invalidLockStaleThresholdMs", 3_153_600_000_001.0),
            ("fileMode", f64::from(0o400)),
            ("fileMode", f64::from(0o10000)),
            ("directoryMode", f64::from(0o600)),
            ("heldError", 1.0),
        ];
        for (name, number) in bad {
            let error = read(&[(name, number)]).expect_err(name);
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn a_heartbeat_that_would_come_too_late_is_refused() {
        let read = |interval: f64, threshold: f64| {
            read(&[("leaseHeartbeatIntervalMs", interval), ("leaseStaleThresholdMs", threshold)])
        };
        assert!(read(1500.0, 3000.0).is_ok() && read(250.0, 3000.0).is_ok());
        for (interval, threshold) in [(1501.0, 3000.0), (5000.0, 3000.0), (1.0, 1.0)] {
            let error = read(interval, threshold).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            for named in ["leaseHeartbeatIntervalMs", "leaseStaleThresholdMs"] {
                assert!(error.message().contains(named), "{error}");
            }
        }
    }
}
