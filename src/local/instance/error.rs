//! The instance that lives, as the cause of a refusal.

use std::fmt;
use std::path::Path;

use super::command_line;
use super::record::Record;
use crate::lock::{Code, Error, Timestamp};

/// The instance that lives: the cause of the error with which `guard` refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: u32,
    since: Timestamp,
    command_line: Option<String>,
    is_local: bool,
}

impl Holder {
    fn new(record: &Record) -> Holder {
        Holder {
            pid: record.process.pid,
            since: record.since,
            command_line: command_line::of(&record.process),
            is_local: record.process.is_visible().unwrap_or(false),
        }
    }

    /// Who is meant by an error of `guard`; `None` when it is another kind of error.
    pub fn of(error: &Error) -> Option<&Holder> {
        error.cause()?.downcast_ref()
    }

    /// As its own pid namespace counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it became the only instance, by the clock of its time.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// What it was started as; `None` where that can't be seen, as in another pid namespace or container
    /// or with `hidepid`.
    pub fn command_line(&self) -> Option<&str> {
        self.command_line.as_deref()
    }

    /// Whether the pid is one of this process's own pid namespace.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.is_local {
            f.write_str(" of another pid namespace")?;
        }
        write!(f, " since {}", utc(self.since))?;
        match &self.command_line {
            Some(command_line) => write!(f, " ({command_line})"),
            None => f.write_str(" (its command line can't be seen from here)"),
        }
    }
}

impl std::error::Error for Holder {}

pub(super) fn held(path: &Path, record: &Record) -> Error {
    let holder = Holder::new(record);
    let message =
        format!("another instance is running, so this one must not start: {holder} holds {}", path.display());
    Error::new(Code::AcquisitionTimeout, message).retryable().because(holder)
}

pub(super) fn outrun(path: &Path) -> Error {
    let path = path.display();
    Error::new(
        Code::AcquisitionTimeout,
        format!("{path} was being taken over by others all the time; try again when they have settled it"),
    )
    .retryable()
}

pub(super) fn stray(path: &Path) -> Error {
    Error::invalid(format!(
        "{} is a file that no guard made, so it stays as it is; use another directory or name, or move it away",
        path.display()
    ))
}

/// `2025-11-21T00:00:00.123Z`, by the proleptic Gregorian calendar.
fn utc(time: Timestamp) -> String {
    let (seconds, millis) = (time.as_millis() / 1000, time.as_millis() % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*, `civil_from_days`, for days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_iso_8601() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_683_200_123, "2025-11-21T00:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(Timestamp::from_millis(millis)), text);
        }
    }
}
