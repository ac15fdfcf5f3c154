//! The one JSON line of a lease file. What Go's `encoding/json` takes for a valid record is one here.

use std::ops::Range;

use super::go_json;
use super::origin::Origin;

/// A valid record: version 1, a non-blank owner, pid and heartbeat above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds the lease.
    pub owner_id: String,
    /// Its process.
    pub pid: u64,
    /// Unix nanoseconds.
    pub heartbeat: i64,
    /// Where the owner lives, as far as the record tells: Go's do not.
    pub origin: Origin,
}

/// The digits of a heartbeat from September 2001 until the year 2262, when 64 bits are full.
pub const HEARTBEAT_DIGITS: usize = 19;

impl Record {
    /// The line and where in it the heartbeat's digits are, so that they can be overwritten in place.
    pub fn encode(&self) -> (Vec<u8>, Range<usize>) {
        let before = format!(
            "{{\"version\":1,\"ownerID\":{},\"pid\":{},\"lastHeartbeatUnixNano\":",
            quoted(&self.owner_id),
            self.pid
        );
        let digits = before.len()..before.len() + HEARTBEAT_DIGITS;
        let mut line = before;
        line.push_str(&heartbeat_digits(self.heartbeat));
        let Origin { host, boot_id, pid_namespace, start_time } = &self.origin;
        if let Some(host) = host {
            line.push_str(&format!(",\"host\":{}", quoted(host)));
        }
        if let Some(boot_id) = boot_id {
            line.push_str(&format!(",\"bootID\":{}", quoted(boot_id)));
        }
        if let Some(pid_namespace) = pid_namespace {
            line.push_str(&format!(",\"pidNS\":{pid_namespace}"));
        }
        if let Some(start_time) = start_time {
            line.push_str(&format!(",\"startTime\":{start_time}"));
        }
        line.push_str("}\n");
        (line.into_bytes(), digits)
    }

    /// `None` for everything that is no valid record.
    pub fn decode(content: &[u8]) -> Option<Record> {
        let fields = go_json::read(content)?;
        let pid = u64::try_from(fields.pid).ok().filter(|pid| *pid > 0)?;
        let valid = fields.version == 1 && !fields.owner_id.trim().is_empty() && fields.heartbeat > 0;
        valid.then_some(Record {
            owner_id: fields.owner_id,
            pid,
            heartbeat: fields.heartbeat,
            origin: fields.origin,
        })
    }
}

/// Always 19 digits: a clock before 2001 is written as the first moment that has so many.
pub fn heartbeat_digits(heartbeat: i64) -> String {
    heartbeat.max(1_000_000_000_000_000_000).to_string()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            owner_id: "4242-1763683200123456789-1".into(),
            pid: 4242,
            heartbeat: 1_763_683_200_123_456_789,
            origin: Origin::default(),
        }
    }

    #[test]
    fn the_line_is_that_of_go() {
        let (line, digits) = record().encode();
        let expected = "{\"version\":1,\"ownerID\":\"4242-1763683200123456789-1\",\"pid\":4242,\"lastHeartbeatUnixNano\":1763683200123456789}\n";
        assert_eq!(line, expected.as_bytes());
        assert_eq!(&line[digits], b"1763683200123456789");
    }

    #[test]
    fn our_fields_come_behind_and_are_read_back() {
        let origin = Origin {
            host: Some("a \"host\"".into()),
            boot_id: Some("b".into()),
            pid_namespace: Some(4_026_531_836),
            start_time: Some(1_762_541),
        };
        let record = Record { origin, ..record() };
        let (line, digits) = record.encode();
        assert!(line.ends_with(
            b"1763683200123456789,\"host\":\"a \\\"host\\\"\",\"bootID\":\"b\",\"pidNS\":4026531836,\"startTime\":1762541}\n"
        ));
        assert_eq!(digits.len(), HEARTBEAT_DIGITS);
        assert_eq!(Record::decode(&line), Some(record));
    }

    #[test]
    fn a_clock_before_2001_still_has_19_digits() {
        for clock in [i64::MIN, 0, 1, 999_999_999_999_999_999] {
            assert_eq!(heartbeat_digits(clock).len(), HEARTBEAT_DIGITS);
        }
        assert_eq!(heartbeat_digits(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn names_in_any_case_and_repeated_names_are_read_as_go_reads_them() {
        let read = |text: &str| Record::decode(text.as_bytes());
        let expected = Record { owner_id: "x".into(), pid: 2, heartbeat: 3, origin: Origin::default() };
        for text in [
            r#"{"VERSION":1,"OwnerId":"x","PID":2,"lastheartbeatunixnano":3}"#,
            r#"{"version":7,"version":1,"ownerID":"y","ownerID":"x","pid":1,"pid":2,"lastHeartbeatUnixNano":3}"#,
            r#"{"version":1,"version":null,"ownerID":"x","ownerID":null,"pid":2,"lastHeartbeatUnixNano":3,"pid":null}"#,
            "{\"ver\u{17F}ion\":1,\"ownerID\":\"x\",\"pid\":2,\"lastHeartbeatUnixNano\":3}",
            r#"{"\u0076ersion":1,"ownerID":"\u0078","pid":2,"lastHeartbeatUnixNano":3}"#,
        ] {
            assert_eq!(read(text), Some(expected.clone()), "{text}");
        }
        assert!(read(r#"{"version":1.0,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3}"#).is_none());
        assert!(read(r#"{"version":1,"ownerID":"x","pid":2e0,"lastHeartbeatUnixNano":3}"#).is_none());
        // Go reports the wrong type even where a right one follows.
        assert!(
            read(r#"{"version":1,"ownerID":5,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3}"#).is_none()
        );
        let lone = read(r#"{"version":1,"ownerID":"\ud800","pid":2,"lastHeartbeatUnixNano":3,"\udc00":1}"#);
        assert!(lone.is_some(), "half a surrogate pair is replaced");
    }

    #[test]
    fn nothing_in_our_own_fields_makes_a_record_invalid() {
        let text = r#"{"version":1,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3,"host":5,"bootID":{"a":[1e999]},"pidNS":-1,"startTime":"7"}"#;
        let record = Record::decode(text.as_bytes()).expect("it is valid");
        assert_eq!(record.origin, Origin::default());
    }
}
