//! What a record says, as one line of JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::clock::Now;
use crate::lock::{Fence, Key, Lease, LockId, Timestamp, is_live};

/// The largest number that JSON's readers agree on.
const LARGEST: u64 = (1 << 53) - 1;
/// No record is longer: a key of 512 bytes takes at most 3072 when each is escaped.
pub(super) const LONGEST: usize = 8192;

/// A lease, the boot clock's time at which it ends, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) lease: Lease,
    /// Milliseconds since boot.
    pub(super) deadline: Timestamp,
    /// Whose death frees the key at once; `None` where the lease outlives its process.
    pub(super) owner: Option<Holder>,
}

/// A process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) pid_namespace: u64,
}

/// `key` stays the first field: an index is read without a lock, perhaps while the file gets its next
/// record, and what comes before the changes is the same in both.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    version: u32,
    #[serde(borrow)]
    lock_id: Cow<'a, str>,
    #[serde(borrow)]
    fence: Cow<'a, str>,
    acquired_at_ms: u64,
    expires_at_ms: u64,
    deadline_boot_ms: u64,
    owner: Option<Holder>,
}

impl Record {
    pub(super) fn to_line(&self) -> String {
        let Lease { key, lock_id, fence, acquired_at, expires_at } = &self.lease;
        let stored = Stored {
            key: key.as_str().into(),
            version: 1,
            lock_id: lock_id.as_str().into(),
            fence: fence.to_string().into(),
            acquired_at_ms: acquired_at.as_millis(),
            expires_at_ms: expires_at.as_millis(),
            deadline_boot_ms: self.deadline.as_millis(),
            owner: self.owner,
        };
        let mut line = serde_json::to_string(&stored).unwrap_or_default();
        line.push('\n');
        line
    }

    /// `None` unless every field is there and possible, and nothing else but the line.
    pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
        let stored: Stored<'_> = serde_json::from_slice(bytes.strip_suffix(b"\n")?).ok()?;
        let times = [stored.acquired_at_ms, stored.expires_at_ms, stored.deadline_boot_ms];
        if stored.version != 1 || stored.fence.len() != Fence::DIGITS || times.iter().any(|t| *t > LARGEST) {
            return None;
        }
        let key = Key::new(&stored.key).ok().filter(|key| key.as_str() == stored.key)?;
        Some(Record {
            lease: Lease {
                key,
                lock_id: LockId::parse(&stored.lock_id).ok()?,
                fence: Fence::parse(&stored.fence)?,
                acquired_at: Timestamp::from_millis(stored.acquired_at_ms),
                expires_at: Timestamp::from_millis(stored.expires_at_ms),
            },
            deadline: Timestamp::from_millis(stored.deadline_boot_ms),
            owner: stored.owner,
        })
    }

    pub(super) fn is_live(&self, now: Now) -> bool {
        is_live(self.deadline, now.boot())
    }

    /// The lease with its expiry in today's time of day.
    pub(super) fn lease(&self, now: Now) -> Lease {
        let expires_at = now.translate(self.deadline, self.lease.expires_at);
        Lease { expires_at, ..self.lease.clone() }
    }
}

/// The key alone, from a record that may just be changing behind it.
pub(super) fn parse_key(bytes: &[u8]) -> Option<Key> {
    let rest = bytes.strip_prefix(br#"{"key":"#)?;
    let text = serde_json::Deserializer::from_slice(rest).into_iter::<String>().next()?.ok()?;
    Key::new(&text).ok().filter(|key| key.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str) -> Record {
        Record {
            lease: Lease {
                key: Key::new(key).unwrap(),
                lock_id: LockId::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap(),
                fence: Fence::new(17_000_000_000_000).unwrap(),
                acquired_at: Timestamp::from_millis(1_700_000_000_000),
                expires_at: Timestamp::from_millis(1_700_000_030_000),
            },
            deadline: Timestamp::from_millis(45_000),
            owner: Some(Holder { pid: 42, start_time: 8675, pid_namespace: 4_026_531_836 }),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for key in ["a", "\u{1}\"\\/\n😀", &"\u{7}".repeat(512)] {
            let record = record(key);
            let line = record.to_line();
            assert!(line.len() <= LONGEST);
            assert_eq!(Record::parse(line.as_bytes()), Some(record.clone()));
            assert_eq!(parse_key(line.as_bytes()), Some(record.lease.key));
            let no_owner = Record { owner: None, ..super::tests::record(key) };
            assert_eq!(Record::parse(no_owner.to_line().as_bytes()), Some(no_owner));
        }
    }

    #[test]
    fn a_record_cut_short_at_any_byte_is_unreadable() {
        let line = record("some key").to_line();
        for length in 0..line.len() {
            assert_eq!(Record::parse(&line.as_bytes()[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn impossible_records_are_unreadable() {
        let line = record("some key").to_line();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"some key\"", "\"\""),
            ("\"some key\"", "7"),
            ("AAAAAAAAAAAAAAAAAAAAAA", "short"),
            ("017000000000000", "17000000000000"),
            ("017000000000000", "01700000000000x"),
            ("1700000030000", "-1"),
            ("1700000030000", "1.5"),
            ("1700000030000", "1e300"),
            ("45000", "99999999999999999999"),
            ("45000", "9007199254740992"),
            ("\"pid\":42", "\"pid\":\"42\""),
            ("\n", "\n{}\n"),
        ] {
            let broken = line.replacen(from, to, 1);
            assert_ne!(broken, line, "{from} is in the line");
            assert_eq!(Record::parse(broken.as_bytes()), None, "{from} -> {to}");
        }
    }
}
