//! The stored record, read on this side of the wire. The scripts read it by the same rules (record.lua).

use serde::Deserialize;

use crate::lock::{Fence, Key, Lease, LockId, Timestamp};

/// What an error says should have been there.
pub(super) const EXPECTED: &str = "a string with JSON {lockId: 22 characters of base64url, expiresAtMs, acquiredAtMs: whole milliseconds, key: a non-empty string, fence: up to 15 digits}";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    lock_id: String,
    expires_at_ms: f64,
    acquired_at_ms: f64,
    key: String,
    fence: String,
}

/// `None` when the bytes are no record.
pub(super) fn parse(bytes: &[u8]) -> Option<Lease> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    Some(Lease {
        key: Key::new(&record.key).ok()?,
        lock_id: LockId::parse(&record.lock_id).ok()?,
        fence: Fence::parse(&record.fence)?,
        acquired_at: time(record.acquired_at_ms)?,
        expires_at: time(record.expires_at_ms)?,
    })
}

/// Doubles are what the scripts count in as well: exact up to 2^53.
fn time(millis: f64) -> Option<Timestamp> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if !(0.0..=LARGEST).contains(&millis) || millis.fract() != 0.0 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Some(Timestamp::from_millis(millis as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"lockId":"AAAAAAAAAAAAAAAAAAAAAA","expiresAtMs":1763683230000,"acquiredAtMs":1763683200000,"key":"a","fence":"017636832000000"}"#;

    #[test]
    fn reads_what_is_written_and_foreign_layouts() {
        let lease = parse(GOOD.as_bytes()).expect("the canonical form");
        assert_eq!(lease.expires_at.as_millis(), 1_763_683_230_000);
        assert_eq!(lease.fence.value(), 17_636_832_000_000);
        let foreign = r#" {"fence":"1", "key":"a\/b", "extra":null, "acquiredAtMs":1.76e12,"expiresAtMs":1763683230000,"lockId":"AAAAAAAAAAAAAAAAAAAAAA"}"#;
        assert_eq!(parse(foreign.as_bytes()).expect("foreign order").key.as_str(), "a/b");
    }

    #[test]
    fn rejects_what_is_no_record() {
        for (from, to) in [
            ("1763683230000", "-1"),
            ("1763683230000", "1.5"),
            ("1763683230000", "1e400"),
            ("1763683230000", "9007199254740993"),
            ("1763683230000", "\"1763683230000\""),
            ("\"a\"", "\"\""),
            ("\"017636832000000\"", "17636832000000"),
            ("\"017636832000000\"", "\"0176368320000001\""),
            ("AAAAAAAAAAAAAAAAAAAAAA", "A"),
            ("\"fence\"", "\"fance\""),
            ("}", ""),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
